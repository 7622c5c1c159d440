"""Obstacles in front of a plate, and which of its characters they leave legible.

A tow bar, a bollard, snow, a sticker, a hand, a bumper's edge or glare may hide characters, and so may the
edge of the image. Every prefix of a Swiss number is a number, so a reader must learn to tell a plate that
it sees as a whole from one that it does not: obstacles therefore come in pairs of equal shapes, some that
hide a character and some that lie beside all of them.

Obstacles are polygons in the plane of the plate. How much of a character's ink they cover is measured on
the plate's own ink, before any perspective.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.layout import ILLEGIBLE, LEGIBLE
from ..core.random import Draws, SampleDraws
from .atlas import Atlas, AtlasTiles
from .painting import Drawable
from .plate import PlateInk, PlateSpec

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

NUMBERS = 240
"""Maximum count of random numbers that ``draw_obstacle`` uses."""
RASTER_CAP = 16.0
"""Cap height in pixels at which covered ink is measured."""

_TRIES = 8
"""Maximum number of obstacles that are drawn until one hides characters, or none, as wanted."""
_MOST_HIDDEN = 0.7
"""Maximum fraction of the plate that an obstacle hides: of more, no localizer could tell the place."""
_LEAST_HIDDEN = 0.02
"""Minimum fraction of the plate that an obstacle hides; otherwise it lies beside the plate."""
_MOSTLY = 0.6
"""Fraction of a row or column that is hidden from which on it does not count as seen."""
_KINDS = ("end", "bar", "edge", "blob", "patch", "glare")
_KIND_WEIGHTS = (0.36, 0.16, 0.14, 0.16, 0.12, 0.06)


@dataclass(frozen=True)
class Obstacle:
    """An object in front of a plate.

    Attributes:
        points: Outline in millimetres of the plate, from its top left, shape ``(p, 2)``.
        grey: Grey value, 0 to 255.
        shade: Grey value of its rim, or of one of its sides.
        softness: Width of its blurred rim in millimetres; 0 for a sharp outline.
        is_round: Whether the shade lies along both long sides, as on a tube; otherwise on the rim.
        kind: Name of the kind of obstacle.
    """

    points: Floats
    grey: int
    shade: int
    softness: float = 0.0
    is_round: bool = False
    kind: str = ""


class Visibility(NamedTuple):
    """What can be seen of a plate.

    Attributes:
        characters: Fraction of the ink of each character that is covered or outside of the image; empty
            where the whole plate can be seen.
        seen: Part of the plate that can be seen, x1, y1, x2, y2 relative to its width and height.
        obstacle: Kind of the obstacle, ``IMAGE_EDGE`` where the image ends within the plate, or "".
    """

    characters: tuple[float, ...]
    seen: tuple[float, float, float, float]
    obstacle: str = ""

    @property
    def covered(self) -> float:
        """Largest fraction of a character that cannot be seen."""
        return max(self.characters, default=0.0)


IMAGE_EDGE = "image edge"
WHOLE = Visibility((), (0.0, 0.0, 1.0, 1.0))


@dataclass(frozen=True)
class Covers:
    """The obstacles of a block of n samples, and what they leave visible.

    Attributes:
        atlas: Atlas with the glyph variants.
        specs: Plates; anything but a Swiss plate counts as wholly visible.
        variants: Glyph variant of each plate.
        matrices: Homographies from millimetres to coordinates normalised to the scene, shape
            ``(n, 3, 3)``.
        corners: Corners of the plates, normalised to the scene, shape ``(n, 4, 2)``.
        obstacles: Obstacle in front of each plate, or None.
    """

    atlas: Atlas
    specs: Sequence[Drawable]
    variants: Sequence[int]
    matrices: Floats
    corners: Floats
    obstacles: Sequence[Obstacle | None]

    def visible(self, windows: Floats | None) -> list[Visibility]:
        """Return what can be seen of all plates; ``windows`` is that of ``make_labels``."""
        return [
            self.visibility(i) if windows is None else self.visibility(i, windows[i].tolist())
            for i in range(len(self.specs))
        ]

    def visibility(self, i: int, window: Sequence[float] = (0.0, 0.0, 1.0, 1.0)) -> Visibility:
        """Return what can be seen of plate ``i``.

        Args:
            i: Position of the sample in the block.
            window: Edges x1, y1, x2, y2 of the image, normalised to the scene.
        """
        spec, obstacle, corners = self.specs[i], self.obstacles[i], self.corners[i]
        x1, y1, x2, y2 = window
        is_inside = (corners.min(axis=0) >= (x1, y1)).all() and (
            corners.max(axis=0) <= (x2, y2)
        ).all()
        if not isinstance(spec, PlateSpec) or (obstacle is None and is_inside):
            return WHOLE
        tiles = self.atlas.tiles(self.variants[i], RASTER_CAP)
        composed = spec.compose(tiles.cap_pixels, tiles)
        mask = np.zeros(composed.ink.shape, np.uint8)
        if not is_inside:
            mask = beyond(composed, spec, self.matrices[i], window)
        if obstacle is not None:
            mask = np.maximum(mask, cover(composed, spec, obstacle))
        kind = IMAGE_EDGE if obstacle is None else obstacle.kind
        return Visibility(tuple(hidden_ink(composed, mask)), _seen(mask), kind)


def draw_covers(
    atlas: Atlas,
    specs: Sequence[Drawable],
    variants: Sequence[int],
    grounds: Sequence[float],
    matrices: Floats,
    corners: Floats,
    share: float,
    draws: Draws,
) -> Covers:
    """Draw obstacles in front of a share of the Swiss plates, half of which hide a character.

    Args:
        atlas: Atlas with the glyph variants.
        specs: Plates.
        variants: Glyph variant of each plate.
        grounds: Grey value of each plate's ground.
        matrices: Homographies from millimetres to coordinates normalised to the scene, shape
            ``(n, 3, 3)``.
        corners: Corners of the plates, normalised to the scene, shape ``(n, 4, 2)``.
        share: Share of the plates with an obstacle; without any, no random number is used.
        draws: Random generator of the samples.
    """
    obstacles: list[Obstacle | None] = [None] * len(specs)
    if share:
        has, hides = draws.chance(share).tolist(), draws.chance(0.5).tolist()
        numbers = draws.split(NUMBERS)
        for i, spec in enumerate(specs):
            if has[i] and isinstance(spec, PlateSpec):
                tiles = atlas.tiles(variants[i], RASTER_CAP)
                obstacles[i] = draw_obstacle(spec, tiles, grounds[i], hides[i], numbers[i])
    return Covers(atlas, specs, variants, matrices, corners, obstacles)


def _seen(mask: Gray) -> tuple[float, float, float, float]:
    """Return the bounding box of what a mask leaves visible, relative to its sides."""
    bounds = []
    for axis in (0, 1):
        visible = np.flatnonzero(mask.mean(axis=axis) < 255 * _MOSTLY)
        if not len(visible):
            return (0.0, 0.0, 0.0, 0.0)
        bounds.append((visible[0] / mask.shape[1 - axis], (visible[-1] + 1) / mask.shape[1 - axis]))
    (left, right), (top, bottom) = bounds
    return float(left), float(top), float(right), float(bottom)


def hidden_ink(composed: PlateInk, mask: Gray) -> list[float]:
    """Return the fraction of each character's ink that a mask covers.

    Args:
        composed: Composed plate, whose ``marks`` are the characters of the text.
        mask: Cover of the plate, shape of ``composed.ink``, uint8; 255 is opaque.
    """
    shares = []
    height, width = mask.shape
    for tile, left, top in composed.marks:
        x, y = max(left, 0), max(top, 0)
        right, bottom = min(left + tile.shape[1], width), min(top + tile.shape[0], height)
        ink = tile[y - top : bottom - top, x - left : right - left]
        total = int(ink.sum(dtype=np.int64))
        cover = cv2.multiply(ink, mask[y:bottom, x:right], scale=1 / 255)
        shares.append(int(cover.sum(dtype=np.int64)) / total if total else 1.0)
    return shares


def beyond(composed: PlateInk, spec: Drawable, matrix: Floats, window: Sequence[float]) -> Gray:
    """Return the part of a plate that lies outside of the image.

    Args:
        composed: Composed plate.
        spec: Plate.
        matrix: Homography from millimetres to coordinates of the image, shape ``(3, 3)``.
        window: Edges x1, y1, x2, y2 of the image in the same coordinates.

    Returns:
        Mask of the shape of ``composed.ink``, uint8: 255 outside of the image.
    """
    rows, columns = composed.ink.shape
    x = (np.arange(columns) + 0.5) * spec.width / columns
    y = (np.arange(rows) + 0.5) * spec.height / rows
    points = matrix[:, 0, None, None] * x + matrix[:, 1, None, None] * y[:, None]
    points = points + matrix[:, 2, None, None]
    u, v = points[0] / points[2], points[1] / points[2]
    x1, y1, x2, y2 = window
    outside = (u < x1) | (u > x2) | (v < y1) | (v > y2)
    return outside.astype(np.uint8) * np.uint8(255)


def cover(composed: PlateInk, spec: Drawable, obstacle: Obstacle) -> Gray:
    """Return how far an obstacle covers a plate: a mask of the shape of ``composed.ink``, uint8."""
    scale = composed.ink.shape[1] / spec.width
    mask = np.zeros(composed.ink.shape, np.uint8)
    points = np.round((obstacle.points * scale - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, 4)
    if obstacle.softness:
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), obstacle.softness * scale / 2), np.uint8)
    return mask


def draw_obstacle(
    spec: Drawable, tiles: AtlasTiles, ground: float, hides: bool, numbers: SampleDraws
) -> Obstacle | None:
    """Draw an obstacle that hides a character of a plate, or one beside all of them.

    Args:
        spec: Plate.
        tiles: Glyph tiles of the plate at ``RASTER_CAP``.
        ground: Grey value of the plate's ground, which some obstacles share.
        hides: Whether a character is to be illegible; otherwise all are legible.
        numbers: Random generator of the sample.

    Returns:
        The obstacle; None if none was found.
    """
    composed = spec.compose(tiles.cap_pixels, tiles)
    for _ in range(_TRIES):
        kind = _KINDS[numbers.index(_KIND_WEIGHTS)]
        obstacle = replace(_draw(kind, spec, composed, ground, hides, numbers), kind=kind)
        mask = cover(composed, spec, obstacle)
        share = float(mask.mean()) / 255
        most = max(hidden_ink(composed, mask))
        wanted = most >= ILLEGIBLE if hides else most <= LEGIBLE
        if wanted and _LEAST_HIDDEN <= share <= _MOST_HIDDEN:
            return obstacle
    return None


def _draw(
    kind: str,
    spec: Drawable,
    composed: PlateInk,
    ground: float,
    hides: bool,
    numbers: SampleDraws,
) -> Obstacle:
    width, height = spec.width, spec.height
    grey, shade = int(numbers.uniform(0, 256)), int(numbers.uniform(0, 256))
    if kind in ("bar", "blob", "patch") and numbers.chance(0.2):
        # Snow, paper or tape as bright as the plate: only the layout tells that something is missing.
        grey = shade = int(ground)
    place = _place(spec, composed, hides, numbers)
    slant = numbers.uniform(-0.25, 0.25) * height if numbers.chance(0.6) else 0.0
    above, below = numbers.uniform(0.02, 1.5) * height, numbers.uniform(0.02, 1.5) * height
    if kind == "end":
        return Obstacle(_end(spec, composed, hides, slant, above, below, numbers), grey, shade)
    if kind == "bar":
        half = numbers.uniform(0.02, 0.14) * width
        x = place[0]
        points = [
            [x - half + slant, -above], [x + half + slant, -above],
            [x + half - slant, height + below], [x - half - slant, height + below],
        ]  # fmt: skip
        return Obstacle(np.array(points), grey, shade, is_round=numbers.chance(0.5))
    if kind == "edge":
        reach = numbers.uniform(0.08, 0.75) * height
        if not hides:
            reach = min(reach, _free_rows(spec, composed) * height)
        return Obstacle(_edge(spec, reach, numbers), grey, shade)
    radius = numbers.uniform(0.12, 0.5) * min(height, 120.0)
    if kind == "patch":
        tall = radius * numbers.uniform(0.6, 1.4)
        turn = numbers.uniform(-0.3, 0.3)
        corners = np.array([[-radius, -tall], [radius, -tall], [radius, tall], [-radius, tall]])
        rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        return Obstacle(corners @ rotation + place, grey, shade)
    angles = np.linspace(0, 2 * np.pi, 13)[:-1]
    if kind == "glare":
        ring = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius
        return Obstacle(ring * [numbers.uniform(0.8, 2.0), 1.0] + place, 255, 255, radius / 2)
    radii = radius * np.array([numbers.uniform(0.6, 1.3) for _ in angles])
    ring = np.stack([np.cos(angles) * numbers.uniform(0.8, 2.2), np.sin(angles)], axis=1)
    softness = numbers.uniform(0, 6.0) if numbers.chance(0.5) else 0.0
    return Obstacle(ring * radii[:, None] + place, grey, shade, softness)


def _boxes(spec: Drawable, composed: PlateInk) -> Floats:
    """Return the boxes x1, y1, x2, y2 of the characters in millimetres, shape ``(n, 4)``."""
    scale = spec.width / composed.ink.shape[1]
    return scale * np.array(
        [
            [left, top, left + tile.shape[1], top + tile.shape[0]]
            for tile, left, top in composed.marks
        ],
        dtype=np.float64,
    )


def _place(spec: Drawable, composed: PlateInk, hides: bool, numbers: SampleDraws) -> Floats:
    """Draw where an obstacle is centred, in millimetres: on a character, or anywhere on the plate."""
    boxes = _boxes(spec, composed)
    chosen = boxes[numbers.integer(0, len(boxes) - 1)]
    anywhere = np.array([numbers.uniform(0, spec.width), numbers.uniform(0, spec.height)])
    if not hides:
        return anywhere
    share = np.array([numbers.uniform(0.2, 0.8), numbers.uniform(0.2, 0.8)])
    return np.asarray(chosen[:2] + share * (chosen[2:] - chosen[:2]))


def _end(
    spec: Drawable,
    composed: PlateInk,
    hides: bool,
    slant: float,
    above: float,
    below: float,
    numbers: SampleDraws,
) -> Floats:
    """Return the outline of an obstacle that hides one end of the plate, as a bollard or a wall does.

    Most of those that hide characters hide one or two: what is left of the plate then looks most like a
    whole one.
    """
    right = numbers.chance(0.7)
    if hides:
        boxes = _boxes(spec, composed)
        ends = np.sort(boxes[:, [0, 2]].mean(axis=1))[:: -1 if right else 1]
        first = ends[min(int(len(ends) * numbers.uniform() ** 2.5), len(ends) - 1)]
        x = float(first) + numbers.uniform(-0.35, 0.35) * float(np.diff(boxes[:, [0, 2]]).mean())
    else:
        x = numbers.uniform(0, 0.3) * spec.width
        x = spec.width - x if right else x
    far = (spec.width if right else 0.0) + (1 if right else -1) * numbers.uniform(
        0, 0.8
    ) * spec.height
    return np.array(
        [[x + slant, -above], [far + slant, -above], [far - slant, spec.height + below],
         [x - slant, spec.height + below]]
    )  # fmt: skip


def _free_rows(spec: Drawable, composed: PlateInk) -> float:
    """Return the height of the strip without characters above or below them, relative to the plate."""
    boxes = _boxes(spec, composed)
    return float(max(min(boxes[:, 1].min(), spec.height - boxes[:, 3].max()), 1.0)) / spec.height


def _edge(spec: Drawable, reach: float, numbers: SampleDraws) -> Floats:
    """Return the outline of an edge that hides rows from above or from below: a bumper, or snow."""
    wavy = numbers.chance(0.5)
    first, last = sorted(
        (numbers.uniform(-0.3, 1.3) * spec.width, numbers.uniform(-0.3, 1.3) * spec.width)
    )
    if last - first < 0.3 * spec.width:
        first, last = -0.2 * spec.width, 1.2 * spec.width
    x = np.linspace(first, last, 9)
    y = reach * np.array([numbers.uniform(0.75, 1.0) if wavy else 1.0 for _ in x])
    away = -spec.height
    if numbers.chance(0.5):
        y, away = spec.height - y, 2 * spec.height
    return np.concatenate([np.stack([x, y], axis=1), [[last, away], [first, away]]])


def paint_obstacle(
    image: Gray, obstacle: Obstacle, matrix: Floats, offset: Sequence[float] = (0.0, 0.0)
) -> None:
    """Paint an obstacle into an image, in place.

    Args:
        image: Image to paint into, shape ``(H, W)``.
        obstacle: Obstacle in millimetres of its plate.
        matrix: Homography from millimetres to pixels of the whole scene (pixel centres at halves),
            shape ``(3, 3)``.
        offset: Position x, y of the image within the scene in pixels.
    """
    points = np.column_stack([obstacle.points, np.ones(len(obstacle.points))]) @ matrix.T
    if (points[:, 2] <= 0.05 * points[:, 2].max()).any():
        return
    seen = points[:, :2] / points[:, 2:] - offset - 0.5
    fixed = np.round(seen.clip(-4000, 4000) * 16).astype(np.int32)
    middle = np.linalg.norm(matrix[:2, 0] / points[:, 2].mean())
    soft = obstacle.softness * float(middle)
    if soft >= 1:
        mask = np.zeros(image.shape, np.uint8)
        cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
        mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), soft / 2), np.uint8)
        over = cv2.multiply(np.full_like(image, obstacle.grey), mask, scale=1 / 255)
        cv2.add(over, cv2.multiply(image, cv2.bitwise_not(mask), scale=1 / 255), image)
        return
    cv2.fillPoly(image, [fixed], obstacle.grey, cv2.LINE_AA, 4)
    if obstacle.shade == obstacle.grey:
        return
    if obstacle.is_round:
        # Darker or brighter along one side, as light falls on a tube.
        side = np.stack(
            [fixed[0], (2 * fixed[0] + fixed[1]) // 3, (2 * fixed[3] + fixed[2]) // 3, fixed[3]]
        )
        cv2.fillPoly(image, [side], (obstacle.grey + obstacle.shade) // 2, cv2.LINE_AA, 4)
    else:
        cv2.polylines(image, [fixed], True, obstacle.shade, 1, cv2.LINE_AA, 4)
