"""Synthetic street scenes in grey: Swiss plates of all formats, foreign plates, signs, or nothing.

A pinhole camera looks at the plate. The panels and edges of a car surround it, and light, shadow, lens,
sensor and JPEG degrade the whole image. ``draw_streets`` draws the vectorised part of a block of
samples; ``StreetRenderer`` paints one sample at a time, with the sample's own random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config.plates import StreetPlateParams
from ..config.scenes import StreetParams
from ..core.charset import MAX_DIGITS
from ..core.geometry import PAD_GREY, edge_lengths
from ..core.random import Draws, SampleDraws
from . import degrade, lettering
from .atlas import CAP_SIZES, Atlas
from .labels import make_labels
from .lettering import RowsSpec
from .obstacles import Covers, draw_covers, paint_obstacle
from .painting import (
    apply,
    ground_greys,
    matmul,
    outline_corners,
    paste,
    plate_corners,
    plate_texture,
    round_outline,
    stack_matrices,
)
from .plate import DIPLOMATIC, PlateSpec
from .scene import draw_plates
from .structure import structure_bank

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

STYLE = "street"
KINDS = ("swiss", "foreign", "sign", "nothing")
_SWISS, _FOREIGN, _SIGN, _NOTHING = range(4)
_SUFFIXES = "UZ"
_TALL = 0.72
"""Scale factor of plates with two lines, whose height would otherwise fill the scene."""
_NUMBERS = 260
"""Maximum number of random numbers used to paint one scene."""
_FAR = 4.0
"""Maximum distance that panels reach around a plate, in plate lengths."""
_MOSAIC = (2, 3, 4)
"""Possible numbers of images per row of a mosaic."""
_FONTS = tuple(range(4))
"""OpenCV's line fonts, used for words on bodywork and walls."""

Degradations = Literal["train", "shifted"]


@dataclass(frozen=True)
class StreetBlock:
    """Contents of a block of ``n`` scenes, before any pixel is drawn.

    Attributes:
        specs: Plate or sign of each scene; for kind "nothing", the one that would be drawn.
        kinds: Kind of each scene, an index into ``KINDS``, shape ``(n,)``.
        variants: Glyph variant of the atlas for each scene, shape ``(n,)``.
        matrices: Homographies from millimetres to coordinates normalised to the scene, shape
            ``(n, 3, 3)``.
        corners: Corners of the plates, normalised to the scene, shape ``(n, 4, 2)``.
        caps: Cap heights of the characters, normalised to the scene, shape ``(n,)``.
        outlines: Outlines of the pasted regions, normalised to the scene, shape ``(n, p, 2)``.
        grounds: Factors on the brightness of the plates' ground, shape ``(n,)``.
        numbers: Random generators for painting, one per scene.
        covers: Obstacles in front of the plates.
    """

    specs: list[PlateSpec | RowsSpec]
    kinds: list[int]
    variants: list[int]
    matrices: Floats
    corners: Floats
    caps: list[float]
    outlines: NDArray[np.float32]
    grounds: list[float]
    numbers: list[SampleDraws]
    covers: Covers

    def __len__(self) -> int:
        return len(self.specs)

    def labels(self, windows: Floats | None = None) -> pd.DataFrame:
        """Return one row of labels per scene; ``windows`` is that of ``make_labels``."""
        texts, formats = [], []
        for spec, kind in zip(self.specs, self.kinds, strict=True):
            if kind != _SWISS or not isinstance(spec, PlateSpec):
                formats.append(KINDS[kind])
                texts.append("")
                continue
            formats.append(spec.format.name)
            texts.append(spec.readable)
        return make_labels(
            self.corners,
            texts,
            formats,
            [spec.colour for spec in self.specs],
            [spec.lines for spec in self.specs],
            np.isin(self.kinds, (_SWISS, _FOREIGN)),
            STYLE,
            self.covers.visible(windows),
            windows,
        )


def draw_streets(
    draws: Draws,
    plate: StreetPlateParams,
    street: StreetParams,
    width: tuple[float, float],
    inside: bool,
    atlas: Atlas,
    obstacles: float = 0.0,
    least_size: tuple[float, float] = (1.0, 1.0),
) -> StreetBlock:
    """Draw the plates, their poses and the random generators of a block of scenes.

    Args:
        draws: Random generator of the samples.
        plate: Ranges of the plates.
        street: Ranges of the scenes.
        width: Range of the longer side of a plate's box, normalised to the scene; all sizes are equally
            likely on a log scale.
        inside: Whether plates lie entirely in the scene. Otherwise a plate may extend beyond it, but its
            centre may not.
        atlas: Atlas with the glyph variants.
        obstacles: Share of Swiss plates with an obstacle in front of them.
        least_size: Smallest factors on the width, as far as the text leaves room, and on the height of
            plates. Half of the plates keep their size.
    """
    kinds = draws.choice(street.KIND_WEIGHTS).tolist()
    swiss = draw_plates(plate, draws)
    suffixed = draws.chance(street.SUFFIX_PROBABILITY).tolist()
    suffixes = draws.integers(0, len(_SUFFIXES) - 1).tolist()
    additions = _draw_additions(street, swiss, draws)
    rimless = draws.chance(street.NO_RIM_PROBABILITY).tolist()
    letters = draws.split(lettering.NUMBERS)
    specs: list[PlateSpec | RowsSpec] = []
    for i, (kind, spec) in enumerate(zip(kinds, swiss, strict=True)):
        if kind == _FOREIGN:
            specs.append(lettering.draw_foreign(letters[i]))
        elif kind == _SIGN:
            specs.append(lettering.draw_sign(letters[i]))
        else:
            suffix = suffixed[i] and len(spec.digits) < MAX_DIGITS and spec.format.name != "moped"
            specs.append(
                replace(
                    spec,
                    suffix=_SUFFIXES[suffixes[i]] if suffix else "",
                    rim=not rimless[i],
                    **additions[i],
                )
            )
    if least_size != (1.0, 1.0):
        specs = _tightened(specs, least_size, draws)
    matrices = _pose(specs, street, width, inside, draws)
    sizes = np.array([[spec.width, spec.height] for spec in specs])
    corners = apply(matrices, plate_corners(specs))
    finest = (edge_lengths(corners) / np.tile(sizes, 2)).max(axis=1)
    caps = finest * [spec.cap_height for spec in specs]
    outlines = np.stack([round_outline(spec.outline) for spec in specs])
    variants = np.floor(draws.uniform(0, plate.GLYPH_VARIANTS)).astype(int).tolist()
    grounds = draws.within(plate.GROUND).tolist()
    numbers = draws.split(_NUMBERS)
    greys = ground_greys(specs, grounds)
    return StreetBlock(
        specs=specs,
        kinds=kinds,
        variants=variants,
        matrices=matrices,
        corners=corners,
        caps=caps.tolist(),
        outlines=apply(matrices, outlines).astype(np.float32),
        grounds=grounds,
        numbers=numbers,
        covers=draw_covers(atlas, specs, variants, greys, matrices, corners, obstacles, draws),
    )


def _draw_additions(
    street: StreetParams, plates: Sequence[PlateSpec], draws: Draws
) -> list[dict[str, Any]]:
    """Draw what is on plates beside their number: bars of provisional ones, diplomatic fields, vignettes."""
    provisional = draws.chance(street.PROVISIONAL_PROBABILITY)
    diplomatic = draws.chance(street.DIPLOMATIC_PROBABILITY)
    has_month, years = draws.chance(0.4), draws.integers(20, 35)
    months, fields = draws.integers(1, 12), draws.integers(0, len(DIPLOMATIC) - 1)
    vignettes = draws.integers(10_000, 999_999)
    additions: list[dict[str, Any]] = []
    for i, plate in enumerate(plates):
        if plate.format.name == "moped":
            additions.append({"vignette": f"{years[i]}{vignettes[i]}"})
        elif plate.is_army:
            additions.append({})
        elif diplomatic[i] and 3 <= len(plate.digits) <= 6:
            additions.append({"diplomatic": DIPLOMATIC[fields[i]], "colour_index": 0})
        elif provisional[i] and len(plate.digits) <= _MOST_BESIDE_BAR[plate.format.name]:
            month = {"month": str(months[i])} if has_month[i] else {}
            additions.append({"provisional": str(years[i]), **month})
        else:
            additions.append({})
    return additions


_SIZE_STEP = 0.04
"""Step of the factors on the width and height of plates: layouts and empty plates are cached."""


def _tightened(
    specs: Sequence[PlateSpec | RowsSpec], least_size: tuple[float, float], draws: Draws
) -> list[PlateSpec | RowsSpec]:
    """Return half of the Swiss plates narrower, as far as their text leaves room, and lower."""
    widths, heights = (draws.uniform(least, 1.0).tolist() for least in least_size)
    chosen = draws.chance(0.5).tolist()
    tightened: list[PlateSpec | RowsSpec] = []
    for spec, width, height, is_chosen in zip(specs, widths, heights, chosen, strict=True):
        if not is_chosen or not isinstance(spec, PlateSpec) or spec.is_army or _has_fields(spec):
            tightened.append(spec)
            continue
        narrow = _in_steps(max(width, spec.least_width / spec.width))
        tightened.append(replace(spec, narrow=narrow, low=_in_steps(height)))
    return tightened


def _in_steps(factor: float) -> float:
    return min(1.0, float(np.ceil(factor / _SIZE_STEP)) * _SIZE_STEP)


def _has_fields(spec: PlateSpec) -> bool:
    """Return whether something else than the text and the arms needs room on a plate."""
    return bool(spec.provisional or spec.diplomatic)


_MOST_BESIDE_BAR = {"front": 5, "front_long": 6, "rear_long": 5, "rear_high": 5, "motorcycle": 4}
"""Maximum number of digits that leave room for a provisional bar, by format."""


def _pose(
    specs: list[PlateSpec | RowsSpec],
    street: StreetParams,
    width: tuple[float, float],
    inside: bool,
    draws: Draws,
) -> Floats:
    """Draw the poses of plates in front of a pinhole camera.

    Returns:
        Homographies from millimetres to coordinates normalised to the scene, shape ``(n, 3, 3)``.
    """
    n = len(specs)
    sizes = np.array([[spec.width, spec.height] for spec in specs])
    # The mean of two uniform numbers, so that most plates are seen nearly from the front.
    yaw = np.radians(street.YAW) * (draws.uniform(-1, 1) + draws.uniform(-1, 1)) / 2
    low, high = np.radians(street.PITCH)
    pitch = (draws.uniform(low, high) + draws.uniform(low, high)) / 2
    roll = np.radians(street.ROLL) * (draws.uniform(-1, 1) + draws.uniform(-1, 1)) / 2
    distance = draws.within(street.DISTANCE) * sizes.max(axis=1)
    target = np.exp(draws.uniform(np.log(width[0]), np.log(width[1])))
    shift = draws.uniform(shape=(2,))
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    zero, one = np.zeros(n), np.ones(n)
    turn_y = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], axis=1).reshape(n, 3, 3)
    turn_x = np.stack([one, zero, zero, zero, cp, -sp, zero, sp, cp], axis=1).reshape(n, 3, 3)
    turn_z = np.stack([cr, -sr, zero, sr, cr, zero, zero, zero, one], axis=1).reshape(n, 3, 3)
    turned = turn_z @ turn_x @ turn_y
    camera = np.stack([turned[:, :, 0], turned[:, :, 1], np.stack([zero, zero, distance], 1)], 2)
    centre = stack_matrices([[1, 0, -sizes[:, 0] / 2], [0, 1, -sizes[:, 1] / 2], [0, 0, 1]], n)
    matrices = camera @ centre
    drawn = apply(matrices, outline_corners(specs))
    low_point, high_point = drawn.min(axis=1), drawn.max(axis=1)
    extent = high_point - low_point
    target = target * np.where(extent[:, 1] > 0.4 * extent[:, 0], _TALL, 1.0)
    scale = target / extent.max(axis=1)
    if inside:
        scale = np.minimum(scale, 0.98 / extent.max(axis=1))
        free = np.maximum(1 - extent * scale[:, None], 0)
        middle = extent * scale[:, None] / 2 + shift * free
    else:
        middle = 0.06 + 0.88 * shift
    origin = middle - (low_point + high_point) / 2 * scale[:, None]
    moved = stack_matrices([[scale, 0, origin[:, 0]], [0, scale, origin[:, 1]], [0, 0, 1]], n)
    return moved @ matrices


def _grey(numbers: SampleDraws) -> int:
    return int(numbers.uniform(0, 256))


@dataclass(frozen=True)
class StreetRenderer:
    """Renderer of the scenes of a block.

    Args:
        street: Ranges of the scenes.
        atlas: Atlas with the glyph variants.
        backgrounds: Background images, uint8, shape ``(b, 32, 32)``.
        textures: Indices of the textures of the structure bank that may be used.
        side: Side of the whole scene in pixels.
        degradations: Degradations to apply: those of training ("train"), or others that training never
            sees ("shifted").
    """

    street: StreetParams
    atlas: Atlas
    backgrounds: Gray
    textures: range
    side: int
    degradations: Degradations = "train"

    def render(
        self, block: StreetBlock, i: int, window: tuple[int, int, int, int] | None = None
    ) -> Gray:
        """Paint sample ``i`` of a block; arguments and result are those of ``SceneRenderer.render``."""
        # Use a copy, because a scene may be painted again.
        numbers = block.numbers[i].copy()
        painted = block.kinds[i] != _NOTHING
        cap = block.caps[i] * self.side
        image = self._background(numbers)
        if painted and numbers.chance(self.street.SURROUND_PROBABILITY):
            self._surround(image, block, i, numbers)
        if numbers.chance(self.street.FITTINGS_PROBABILITY):
            self._fittings(image, numbers)
        self._words(image, numbers)
        if painted:
            self._paste(image, block, i, cap, numbers)
        image = self._light(image, block, i, numbers)
        if self.degradations == "train":
            image = self._degrade(image, cap, numbers)
        else:
            image = _degrade_otherwise(image, cap, self.street, numbers)
        if painted and numbers.chance(self.street.CUT_PROBABILITY):
            self._cut(image, block, i, numbers)
        if window is None:
            return image
        x1, y1, x2, y2 = window
        return np.ascontiguousarray(image[y1:y2, x1:x2])

    def _background(self, numbers: SampleDraws) -> Gray:
        side, street = self.side, self.street
        kind, first = numbers.uniform(), numbers.uniform()
        share = street.PLAIN_PROBABILITY
        if kind < share:
            return np.full((side, side), _grey(numbers), np.uint8)
        share += street.STATIC_PROBABILITY
        if kind < share:
            return _static(side, numbers)
        share += street.TEXTURE_PROBABILITY
        if kind < share:
            image = self._texture(first, numbers).copy()
        elif kind < share + street.MOSAIC_PROBABILITY:
            count = round(_MOSAIC[int(first * len(_MOSAIC))] * max(side / 128, 1.0))
            # Consecutive images in the file are unrelated.
            start = int(numbers.uniform() * len(self.backgrounds))
            tiles = self.backgrounds[np.arange(start, start + count**2) % len(self.backgrounds)]
            mosaic = tiles.reshape(count, count, 32, 32).swapaxes(1, 2).reshape(count * 32, -1)
            image = cv2.resize(np.ascontiguousarray(mosaic), (side, side))
        else:
            tile = self.backgrounds[int(first * len(self.backgrounds))]
            crop = int(numbers.uniform(10, 33))
            x, y = (int(numbers.uniform() * (33 - crop)) for _ in range(2))
            image = cv2.resize(tile[y : y + crop, x : x + crop], (side, side))
        if numbers.chance(street.OVERLAY_PROBABILITY):
            texture = self._texture(numbers.uniform(), numbers)
            image = cv2.addWeighted(image, 0.5, texture, 0.5, 0)
        return image

    def _texture(self, chosen: float, numbers: SampleDraws) -> Gray:
        side = self.side
        bank = structure_bank(min(side / 250, 1.0))
        texture = bank[self.textures[int(chosen * len(self.textures))]]
        # Crop half to all of the texture, which varies the scale of the structure.
        cut = int(numbers.uniform(0.5, 1.0) * texture.shape[0])
        top, left = (int(numbers.uniform() * (texture.shape[0] - cut)) for _ in range(2))
        return cv2.resize(texture[top : top + cut, left : left + cut], (side, side))

    def _surround(self, image: Gray, block: StreetBlock, i: int, numbers: SampleDraws) -> None:
        """Paint panels, edges and a sticker around the plate, in its own plane."""
        spec, matrix = block.specs[i], block.matrices[i]
        x1, y1, x2, y2 = spec.outline
        length = spec.width
        for reach in (_FAR, 0.8, 0.25):
            margins = [numbers.uniform(0.02, reach) * length for _ in range(4)]
            grey, soft = _grey(numbers), numbers.uniform()
            if numbers.chance(1 - self.street.PANEL_PROBABILITY):
                continue
            points = np.array(
                [
                    [x1 - margins[0], y1 - margins[1] * 0.6],
                    [x2 + margins[2], y1 - margins[1] * 0.6],
                    [x2 + margins[2], y2 + margins[3] * 0.6],
                    [x1 - margins[0], y2 + margins[3] * 0.6],
                ]
            )
            placed = self._project(matrix, points)
            if placed is not None:
                cv2.fillConvexPoly(image, placed, grey, cv2.LINE_AA, 4)
                if soft < self.street.PANEL_EDGE_PROBABILITY:
                    cv2.polylines(
                        image,
                        [placed],
                        True,
                        int(grey * soft * 2),
                        1 + int(soft * 6),
                        cv2.LINE_AA,
                        4,
                    )
        for _ in range(int(numbers.uniform() * 5)):
            y = numbers.uniform(-2.5, 3.5) * spec.height
            grey, thickness = _grey(numbers), 1 + int(numbers.uniform() * self.side / 40)
            if -0.3 * spec.height < y < 1.3 * spec.height:
                continue
            line = self._project(matrix, np.array([[-2 * length, y], [3 * length, y]]))
            if line is not None:
                cv2.polylines(image, [line], False, grey, thickness, cv2.LINE_AA, 4)
        if numbers.chance(self.street.STICKER_PROBABILITY):
            self._country_sticker(image, spec, matrix, numbers)

    def _country_sticker(
        self, image: Gray, spec: PlateSpec | RowsSpec, matrix: Floats, numbers: SampleDraws
    ) -> None:
        height = 110.0
        away = numbers.uniform(0.1, 0.6) * spec.width
        x = -away - height if numbers.uniform() < 0.5 else spec.width + away
        y = numbers.uniform(-0.8, 0.6) * height
        angles = np.linspace(0, 2 * np.pi, 17)[:-1]
        ring = np.stack([np.cos(angles) * 0.8, np.sin(angles) * 0.55], axis=1) + np.array(
            [0.8, 0.55]
        )
        placed = self._project(matrix, ring * height + np.array([x, y]))
        if placed is None:
            return
        cv2.fillConvexPoly(image, placed, 235, cv2.LINE_AA, 4)
        cv2.polylines(image, [placed], True, 20, 1, cv2.LINE_AA, 4)
        low, high = placed.min(axis=0) / 16, placed.max(axis=0) / 16
        size = (high - low)[1] / 45
        start = (int(low[0] + (high - low)[0] * 0.2), int(high[1] - (high - low)[1] * 0.3))
        cv2.putText(image, "CH", start, 0, size, 15, max(round(size * 2), 1), cv2.LINE_AA)

    def _project(self, matrix: Floats, points: Floats) -> NDArray[np.int32] | None:
        """Project millimetres to sixteenths of a pixel; None if a point is behind the camera."""
        homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
        if (homogeneous[:, 2] <= 0.05 * homogeneous[:, 2].max()).any():
            return None
        placed = homogeneous[:, :2] / homogeneous[:, 2:] * self.side - 0.5
        return np.round(placed.clip(-2000, 2000) * 16).astype(np.int32)

    def _fittings(self, image: Gray, numbers: SampleDraws) -> None:
        """Paint parts of vehicles that are as wide and low as plates: lamps, reflectors and grilles."""
        for _ in range(numbers.integer(1, 3)):
            wide = numbers.uniform(0.08, 0.6) * self.side
            tall = wide * numbers.uniform(0.12, 0.6)
            centre = np.array([numbers.uniform(), numbers.uniform()]) * self.side
            angle = np.radians(numbers.uniform(-15, 15))
            across = np.array([np.cos(angle), np.sin(angle)]) * wide / 2
            down = np.array([-np.sin(angle), np.cos(angle)]) * tall / 2
            dark, light = sorted((_grey(numbers), _grey(numbers)))
            kind = numbers.integer(0, 2)
            if kind == 0:
                axes = (round(wide * 8), round(tall * 8))
                place = tuple(round(16 * value) for value in centre)
                turn = float(np.degrees(angle))
                cv2.ellipse(image, place, axes, turn, 0, 360, light, -1, cv2.LINE_AA, 4)
                for share in (0.45, -0.45):
                    bulb = tuple(round(16 * value) for value in centre + share * across)
                    radius = round(tall * numbers.uniform(3, 7))
                    cv2.circle(image, bulb, radius, dark, -1, cv2.LINE_AA, 4)
                continue
            corners = [centre - across - down, centre + across - down,
                       centre + across + down, centre - across + down]  # fmt: skip
            cv2.fillConvexPoly(
                image, np.round(np.array(corners) * 16).astype(np.int32), dark, cv2.LINE_AA, 4
            )
            # The bars of a grille lie along it; the cells of a reflector stand across.
            bars = numbers.integer(3, 12)
            along, step = (across, down) if kind == 1 else (down * 0.8, across)
            thick = max(round(float(np.hypot(*step)) / bars * numbers.uniform(0.4, 1.2)), 1)
            for k in range(bars):
                middle = centre + step * (2 * (k + 0.5) / bars - 1)
                ends = np.round(np.array([middle - along, middle + along]) * 16).astype(np.int32)
                cv2.polylines(image, [ends], False, light, thick, cv2.LINE_AA, 4)

    def _words(self, image: Gray, numbers: SampleDraws) -> None:
        """Paint badges and lettering: up to three words anywhere."""
        for _ in range(max(int(numbers.uniform() * 6) - 2, 0)):
            count = 2 + int(numbers.uniform() * 8)
            word = "".join(chr(48 + int(numbers.uniform() * 43)) for _ in range(count))
            x, y = (int(numbers.uniform() * self.side) for _ in range(2))
            # Most are small; the name of a firm on a van, or of the police, is large.
            size = (0.2 + 2.2 * numbers.uniform() ** 2) * self.side / 120
            font, grey = _FONTS[int(numbers.uniform() * len(_FONTS))], _grey(numbers)
            thickness = 1 + int(numbers.uniform() * size * 3)
            cv2.putText(image, word, (x, y), font, size, grey, thickness, cv2.LINE_AA)

    def _paste(
        self, image: Gray, block: StreetBlock, i: int, cap: float, numbers: SampleDraws
    ) -> None:
        spec, side = block.specs[i], self.side
        tiles = self.atlas.tiles(block.variants[i], cap)
        ground = block.grounds[i]
        emboss = numbers.uniform(*self.street.EMBOSS) if tiles.cap_pixels >= 14 else 0.0
        name = "".join(
            chr(65 + int(numbers.uniform() * 26)) for _ in range(4 + int(numbers.uniform() * 9))
        )
        small = [size for size in CAP_SIZES if size <= tiles.cap_pixels * 0.22]
        names = self.atlas.tiles(block.variants[i], small[-1]) if small else None
        texture, (origin_x, origin_y) = plate_texture(spec, tiles, ground, emboss, name, names)
        fine = spec.cap_height / tiles.cap_pixels
        if numbers.chance(self.street.DIRT_PROBABILITY):
            texture = _dirty(texture, numbers)
        to_plate = (fine, 0, fine / 2 + origin_x, 0, fine, fine / 2 + origin_y, 0, 0, 1)
        to_image = (side, 0, -0.5, 0, side, -0.5, 0, 0, 1)
        matrix = matmul(to_image, matmul(block.matrices[i].ravel().tolist(), to_plate))
        paste(image, texture, matrix, block.outlines[i] * side - 0.5)
        if numbers.chance(self.street.OCCLUSION_PROBABILITY):
            self._occlude(image, spec, block.matrices[i], numbers)
        if (obstacle := block.covers.obstacles[i]) is not None:
            to_pixels = np.diag([side, side, 1.0]) @ block.matrices[i]
            paint_obstacle(image, obstacle, to_pixels)

    def _occlude(
        self, image: Gray, spec: PlateSpec | RowsSpec, matrix: Floats, numbers: SampleDraws
    ) -> None:
        """Paint a bumper's edge or a hook over the margin of the plate, not over its characters."""
        depth = numbers.uniform(0.02, 0.1) * spec.height
        top = numbers.uniform() < 0.5
        y1, y2 = (-spec.height, depth) if top else (spec.height - depth, 2 * spec.height)
        x1, x2 = sorted(numbers.uniform(-0.3, 1.3) * spec.width for _ in range(2))
        placed = self._project(matrix, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
        if placed is not None:
            cv2.fillConvexPoly(image, placed, _grey(numbers), cv2.LINE_AA, 4)

    def _light(self, image: Gray, block: StreetBlock, i: int, numbers: SampleDraws) -> Gray:
        street, side = self.street, self.side
        factor = _ramp(side, numbers.uniform(*street.SHADE), numbers.uniform())
        if numbers.chance(street.SHADOW_PROBABILITY):
            factor = factor * _shadow(side, numbers)
        image = np.clip(image * factor, 0, 255).astype(np.uint8)
        if numbers.chance(street.GLARE_PROBABILITY):
            centre = block.corners[i].mean(axis=0) * side
            x, y = (centre + [numbers.uniform(-0.3, 0.3) * side for _ in range(2)]).tolist()
            radius = numbers.uniform(0.05, 0.4) * side
            image = cv2.add(image, _spot(side, x, y, radius, numbers.uniform(60, 220)))
        return image

    def _degrade(self, image: Gray, cap: float, numbers: SampleDraws) -> Gray:
        street, side = self.street, self.side
        image = _lens(image, numbers.uniform(*street.BLUR) * cap)
        if numbers.chance(street.MOTION_PROBABILITY):
            length = numbers.uniform(*street.MOTION) * cap
            image = _motion(image, length, numbers.uniform())
        contrast = (
            street.CONTRAST[1] - (street.CONTRAST[1] - street.CONTRAST[0]) * numbers.uniform() ** 2
        )
        image = _expose(image, contrast, numbers.uniform(), _log(numbers, street.GAMMA))
        if numbers.chance(street.CLEAN_PROBABILITY):
            return image
        if numbers.chance(street.RESAMPLE_PROBABILITY):
            # Keep eight pixels of cap height: below that nothing could be read.
            least = min(max(8 / cap, 0.35), 1.0)
            smaller = max(round(numbers.uniform(least, 1.0) * side), 8)
            how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)[int(numbers.uniform() * 3)]
            back = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[int(numbers.uniform() * 3)]
            image = cv2.resize(image, (smaller, smaller), interpolation=how)
            image = cv2.resize(image, (side, side), interpolation=back)
        grain = 1 + 2 * int(numbers.uniform() ** 2 * 3)
        weight = numbers.uniform() ** 2 * (street.NOISE[1] - street.NOISE[0]) + street.NOISE[0]
        # Low contrast lowers the noise too, because the noise precedes the grey curve.
        weight *= contrast
        image = degrade.add_noise(
            image, _grain(grain, side), (numbers.uniform(), numbers.uniform()), weight
        )
        if numbers.chance(street.SHARPEN_PROBABILITY):
            image = degrade.sharpen(image, numbers.uniform(1.0, 3.0), 1.0)
        if numbers.chance(street.JPEG_PROBABILITY):
            low, high = street.JPEG_QUALITY
            quality = int(numbers.uniform(low, high + 1))
            image = _encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
        return image

    def _cut(self, image: Gray, block: StreetBlock, i: int, numbers: SampleDraws) -> None:
        """End the image near the plate, as in a crop, with padding beyond."""
        drawn = block.outlines[i] * self.side
        low, high = drawn.min(axis=0), drawn.max(axis=0)
        height = float((high - low)[1])
        # A margin may be slightly negative, but cuts into the plate's rim at most.
        margins = [(numbers.uniform(0, 1) ** 2 * 1.5 - 0.04) * height for _ in range(4)]
        x1, y1 = (round(max(low[k] - margins[k], 0)) for k in range(2))
        x2, y2 = (round(min(high[k] + margins[k + 2], self.side)) for k in range(2))
        image[:y1] = image[y2:] = PAD_GREY
        image[:, :x1] = image[:, x2:] = PAD_GREY


def _log(numbers: SampleDraws, bounds: list[float]) -> float:
    return float(np.exp(numbers.uniform(np.log(bounds[0]), np.log(bounds[1]))))


@lru_cache(maxsize=8)
def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return row and column coordinates normalised to the side, from -0.5 to 0.5."""
    line = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    return line[:, None], line[None]


def _ramp(side: int, fall: float, direction: float) -> NDArray[np.float32]:
    rows, columns = _grid(side)
    angle = 2 * np.pi * direction
    return (
        1 - fall / 2 + np.float32(fall) * (rows * np.sin(angle) + columns * np.cos(angle))
    ).astype(np.float32)


def _shadow(side: int, numbers: SampleDraws) -> NDArray[np.float32]:
    """Return the brightness factor of a shadow whose edge is a straight, more or less soft line."""
    rows, columns = _grid(side)
    angle = 2 * np.pi * numbers.uniform()
    distance = rows * np.sin(angle) + columns * np.cos(angle) - numbers.uniform(-0.3, 0.3)
    softness = numbers.uniform(0.005, 0.08)
    depth = numbers.uniform(0.3, 0.75)
    lit = np.clip(distance / softness + 0.5, 0, 1)
    return (1 - depth + depth * lit).astype(np.float32)


def _static(side: int, numbers: SampleDraws) -> Gray:
    """Return noise whose grain is a single pixel, which looks like small plates at full resolution."""
    # A mean of uniform numbers is nearly normal; a single one is uniform.
    count = 1 if numbers.chance(0.5) else 3
    field = sum(numbers.field((side, side)) for _ in range(count)) / count - 0.5
    level, contrast = numbers.uniform(40, 215), numbers.uniform(20, 255) * count**0.5
    return np.clip(level + contrast * field, 0, 255).astype(np.uint8)


def _spot(side: int, x: float, y: float, radius: float, strength: float) -> Gray:
    rows, columns = _grid(side)
    squared = ((rows + 0.5) * side - y) ** 2 + ((columns + 0.5) * side - x) ** 2
    spot = strength * np.exp(-squared / (2 * (radius / 2) ** 2))
    return np.asarray(spot, np.uint8)


def _dirty(texture: Gray, numbers: SampleDraws) -> Gray:
    """Add patches of mud through which the plate shows."""
    grain = degrade.noise_texture(19, 1.0)
    height, width = texture.shape
    top = int(numbers.uniform() * (grain.shape[0] - 64))
    left = int(numbers.uniform() * (grain.shape[1] - 128))
    patches = cv2.resize(grain[top : top + 64, left : left + 128], (width, height))
    # The noise is narrowly distributed around its mean; values above the mean become patches.
    cover = cv2.convertScaleAbs(cv2.subtract(patches, 122), alpha=numbers.uniform(2, 8))
    cover = cv2.min(cover, int(numbers.uniform(60, 150)))
    mud = np.full_like(texture, int(numbers.uniform(40, 150)))
    over = cv2.multiply(mud, cover, scale=1 / 255)
    under = cv2.multiply(texture, cv2.bitwise_not(cover), scale=1 / 255)
    return np.asarray(cv2.add(over, under), np.uint8)


def _lens(image: Gray, sigma: float) -> Gray:
    if sigma < 0.3:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _motion(image: Gray, length: float, direction: float) -> Gray:
    size = int(length) // 2 * 2 + 1
    if size < 3:
        return image
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    reach = np.array([np.cos(np.pi * direction), np.sin(np.pi * direction)]) * length / 2
    start = np.round((middle - reach) * 16).astype(int).tolist()
    end = np.round((middle + reach) * 16).astype(int).tolist()
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _expose(image: Gray, contrast: float, level: float, gamma: float) -> Gray:
    """Apply a grey curve.

    Args:
        image: Grey image, uint8, shape ``(H, W)``.
        contrast: Fraction of the grey range that is used.
        level: Position of that fraction within the range, from 0 (dark) to 1 (bright).
        gamma: Exponent of the curve.
    """
    black = (1 - contrast) * level
    values = np.linspace(0, 1, 256) ** gamma * contrast + black
    return np.asarray(cv2.LUT(image, (values * 255).astype(np.uint8)), np.uint8)


@lru_cache(maxsize=32)
def _grain(box: int, side: int) -> Gray:
    """Return noise of one grain size, whose contrast does not fall as the grain gets larger."""
    noise = degrade.noise_texture(box, 1.0).astype(np.float32)
    noise = (noise - noise.mean()) / noise.std() * 60 + 128
    texture = np.clip(noise, 0, 255).astype(np.uint8)
    if side >= texture.shape[0]:
        count = side // texture.shape[0] + 1
        texture = np.tile(texture, (count, count))[: side + 64, : side + 64]
    texture.setflags(write=False)
    return texture


def _encode(image: Gray, suffix: str, options: list[int]) -> Gray:
    _, data = cv2.imencode(suffix, image, options)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def _degrade_otherwise(image: Gray, cap: float, street: StreetParams, numbers: SampleDraws) -> Gray:
    """Degrade an image in ways that training never sees.

    These are defocus, rolling bands, vignetting, posterisation, rain and WebP.
    """
    side = len(image)
    radius = numbers.uniform(0.0, 0.16) * cap
    if radius >= 0.75:
        size = int(np.ceil(radius)) * 2 + 1
        disc = np.zeros((size, size), np.float32)
        cv2.circle(disc, (size // 2 * 16,) * 2, round(radius * 16), 1.0, -1, cv2.LINE_8, 4)
        image = np.asarray(cv2.filter2D(image, -1, disc / disc.sum()), np.uint8)
    rows, columns = _grid(side)
    factor = np.ones((side, side), np.float32)
    if numbers.chance(street.BANDS_PROBABILITY):
        waves, phase = numbers.uniform(2, 12), 2 * np.pi * numbers.uniform()
        factor *= 1 + numbers.uniform(0.05, 0.25) * np.sin(2 * np.pi * waves * rows + phase)
    if numbers.chance(street.VIGNETTE_PROBABILITY):
        factor *= 1 - numbers.uniform(0.5, 1.4) * (rows**2 + columns**2)
    image = np.clip(image * factor, 0, 255).astype(np.uint8)
    if numbers.chance(street.POSTERISE_PROBABILITY):
        step = int(numbers.uniform(8, 40))
        levels = np.arange(256) // step * step + step // 2
        image = np.asarray(cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)), np.uint8)
    if numbers.chance(street.RAIN_PROBABILITY):
        for _ in range(int(numbers.uniform() * 20)):
            x, y = (int(numbers.uniform() * side) for _ in range(2))
            length = int(numbers.uniform(0.02, 0.15) * side)
            cv2.line(image, (x, y), (x + length // 4, y + length), 220, 1, cv2.LINE_AA)
    image = _expose(image, numbers.uniform(0.25, 1.0), numbers.uniform(), _log(numbers, [0.5, 2]))
    if numbers.chance(street.WEBP_PROBABILITY):
        quality = int(numbers.uniform(5, 80))
        image = _encode(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])
    return image
