"""Painting shared by both kinds of scenes: a plate's greyscale texture and its pasting into an image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .atlas import AtlasTiles
from .plate import (
    COLOURS,
    CORNER_RADIUS,
    FRAME_BOTTOM,
    FRAME_SIDE,
    PlateInk,
    Tiles,
    draw_screws,
    rounded_outline,
)

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in greyscale (ITU-R BT.601), as used by OpenCV and Pillow."""
_GREYS = [(float(LUMA @ colour.ground), float(LUMA @ colour.ink)) for colour in COLOURS]
_FRAME_GREY, _EDGE_GREY, _SCREW_GREY = 35, 8, 140


class Drawable(Protocol):
    """Protocol of objects that can be pasted into an image: ``PlateSpec`` and ``RowsSpec``."""

    @property
    def width(self) -> float: ...
    @property
    def height(self) -> float: ...
    @property
    def cap_height(self) -> float: ...
    @property
    def colour_index(self) -> int: ...
    @property
    def outline(self) -> tuple[float, float, float, float]: ...
    @property
    def edge(self) -> float: ...
    @property
    def frame(self) -> bool: ...
    @property
    def screws(self) -> bool: ...

    def compose(self, cap_pixels: float, tiles: Tiles) -> PlateInk: ...


def blend(source: Gray, alpha: Gray, target: Gray) -> None:
    """Blend ``source`` over ``target`` in place, weighted by ``alpha`` from 0 to 255."""
    # Integers throughout: on images this small, conversions would cost more than the blending.
    over = cv2.multiply(source, alpha, scale=1 / 255)
    under = cv2.multiply(target, cv2.bitwise_not(alpha), scale=1 / 255)
    cv2.add(over, under, target)


def matmul(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Multiply two 3x3 matrices given as nine numbers each; faster than NumPy for a single pair."""
    a, b, c, d, e, f, g, h, i = second
    rows = (first[0:3], first[3:6], first[6:9])
    product: list[float] = []
    for x, y, z in rows:
        product += (x * a + y * d + z * g, x * b + y * e + z * h, x * c + y * f + z * i)
    return product


def apply(matrices: Floats, points: Floats) -> Floats:
    """Apply ``(n, 3, 3)`` homographies to ``(n, p, 2)`` points."""
    homogeneous = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=2)
    mapped = homogeneous @ matrices.transpose(0, 2, 1)
    return mapped[..., :2] / mapped[..., 2:]


def stack_matrices(rows: list[list[Floats | float]], count: int) -> Floats:
    """Stack rows whose entries are numbers or ``(count,)`` arrays into ``(count, 3, 3)`` matrices."""
    result = np.empty((count, 3, 3))
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            result[:, r, c] = value
    return result


def outline_corners(specs: Sequence[Drawable]) -> Floats:
    """Return the ``(n, 4, 2)`` corners of the drawn areas in millimetres."""
    x1, y1, x2, y2 = np.array([spec.outline for spec in specs]).T
    return np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)


def plate_corners(specs: Sequence[Drawable]) -> Floats:
    """Return the ``(n, 4, 2)`` annotated plate corners in millimetres.

    They exclude the frame but include the black line around the plate, as the original's boxes do.
    """
    x2, y2 = np.array([[spec.width, spec.height] for spec in specs]).T
    edge = np.array([spec.edge for spec in specs])
    low, x2, y2 = -edge, x2 + edge, y2 + edge
    return np.stack([low, low, x2, low, x2, y2, low, y2], axis=1).reshape(-1, 4, 2)


def ground_greys(specs: Sequence[Drawable], grounds: ArrayLike) -> list[float]:
    """Return the grey values of the plates' grounds, whose brightness has the factors ``grounds``."""
    greys = np.array([_GREYS[spec.colour_index][0] for spec in specs])
    return np.asarray(greys * np.asarray(grounds)).tolist()


@lru_cache(maxsize=64)
def round_outline(outline: tuple[float, float, float, float]) -> Floats:
    """Return the ``(16, 2)`` points of an outline with the rounded corners of plates."""
    return rounded_outline(*outline, CORNER_RADIUS, steps=3)


def plate_texture(
    spec: Drawable,
    tiles: AtlasTiles,
    ground: float = 1.0,
    emboss: float = 0.0,
    name: str = "",
    names: AtlasTiles | None = None,
) -> tuple[Gray, tuple[float, float]]:
    """Draw the greyscale texture of a plate.

    Args:
        spec: Plate to draw.
        tiles: Glyph tiles; their size sets the resolution of the texture.
        ground: Scale factor of the ground's grey value.
        emboss: Contrast of the lit and shaded edges of the characters, 0 to 1.
        name: Dealer's name on the lower side of the frame.
        names: Glyph tiles at the size of the name; without them, the name is a row of dashes.

    Returns:
        Texture, shape ``(h, w)``, uint8, and the position (x, y) of its top left corner in millimetres.
    """
    cap_pixels = tiles.cap_pixels
    composed = spec.compose(cap_pixels, tiles)
    ground_grey, ink_grey = _GREYS[spec.colour_index]
    ground_grey *= ground
    # grey = ground + (ink - ground) * coverage
    texture = cv2.convertScaleAbs(
        composed.ink, alpha=(ink_grey - ground_grey) / 255, beta=ground_grey
    )
    for colours, alpha, left, top in composed.shields:
        place = texture[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        height, width = place.shape
        blend(colours[:height, :width], alpha[:height, :width], place)
    if emboss:
        _emboss(texture, composed.ink, emboss, max(cap_pixels // 20, 1))
    scale = cap_pixels / spec.cap_height
    if spec.screws:
        draw_screws(texture, scale, (_SCREW_GREY,))
    left_mm = spec.outline[0]
    if left_mm == 0:
        return texture, (0.0, 0.0)
    if not spec.frame:
        edge = max(round(-left_mm * scale), 1)
        framed = cv2.copyMakeBorder(
            texture, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=_EDGE_GREY
        )
        return framed, (-edge / scale, -edge / scale)
    side, bottom = max(round(FRAME_SIDE * scale), 1), max(round(FRAME_BOTTOM * scale), 1)
    framed = cv2.copyMakeBorder(
        texture, side, bottom, side, side, cv2.BORDER_CONSTANT, value=_FRAME_GREY
    )
    _write_name(framed, bottom, name, names)
    return framed, (-side / scale, -side / scale)


def _emboss(texture: Gray, ink: Gray, strength: float, shift: int) -> None:
    # The light comes from the upper left: ink edges facing it are bright, those facing away are dark.
    step = cv2.subtract(ink[shift:, shift:], ink[:-shift, :-shift])
    back = cv2.subtract(ink[:-shift, :-shift], ink[shift:, shift:])
    part = texture[shift:, shift:]
    cv2.add(part, cv2.convertScaleAbs(step, alpha=0.6 * strength), part)
    cv2.subtract(part, cv2.convertScaleAbs(back, alpha=0.5 * strength), part)


def _write_name(framed: Gray, bottom: int, name: str, names: AtlasTiles | None) -> None:
    middle = framed.shape[0] - bottom // 2
    if names is None or bottom < 5:
        length = max(bottom // 2, 1)
        start, stop = framed.shape[1] // 4, framed.shape[1] * 3 // 4
        for x in range(start, stop, length + max(length // 2, 1)):
            end = (x + length - 1, middle + bottom // 4)
            cv2.rectangle(framed, (x, middle - bottom // 4), end, 200, -1)
        return
    parts = [names.glyph(char) for char in name]
    x = max((framed.shape[1] - sum(part.shape[1] + 1 for part in parts)) // 2, 0)
    top = min(middle - parts[0].shape[0] // 2, framed.shape[0] - parts[0].shape[0])
    for part in parts:
        place = framed[top : top + part.shape[0], x : x + part.shape[1]]
        cv2.max(place, cv2.convertScaleAbs(part[:, : place.shape[1]], alpha=0.8), place)
        x += part.shape[1] + 1


def paste(
    image: Gray,
    texture: Gray,
    to_image: Sequence[float],
    outline: NDArray[np.float32],
    aliased: bool = False,
) -> None:
    """Paint a texture into an image, in place.

    Args:
        image: Image to paint into, shape ``(H, W)``.
        texture: Texture to paint, shape ``(h, w)``.
        to_image: Homography from texture pixels to image pixels (centres at integers), as nine
            numbers.
        outline: Outline of the painted area in image pixels (centres at integers), shape ``(p, 2)``.
        aliased: Whether to sample the nearest pixel and paint a hard edge, as the original project does.
    """
    x, y, width, height = cv2.boundingRect(outline)
    x, y = max(x - 1, 0), max(y - 1, 0)
    region = image[y : y + height + 2, x : x + width + 2]
    height, width = region.shape
    if not height or not width:
        return
    shift = (1, 0, -x, 0, 1, -y, 0, 0, 1)
    warped = cv2.warpPerspective(
        texture,
        np.array(matmul(shift, to_image), np.float64).reshape(3, 3),
        (width, height),
        flags=cv2.INTER_NEAREST if aliased else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = np.zeros((height, width), np.uint8)
    points = ((outline - (x, y)) * 16).round().astype(np.int32)
    if aliased:
        cv2.fillConvexPoly(mask, points, 255, cv2.LINE_8, 4)
        cv2.copyTo(warped, mask, region)
    else:
        cv2.fillConvexPoly(mask, points, 255, cv2.LINE_AA, 4)
        blend(warped, mask, region)


def warp_in_steps(texture: Gray, steps: Sequence[Floats]) -> tuple[Gray, Floats]:
    """Warp a texture several times in a row, with nearest-neighbour interpolation each time.

    The original project rotates, resizes and shears a plate this way; each warp breaks thin strokes.

    Args:
        texture: Texture to warp, shape ``(h, w)``.
        steps: Homographies of pixels in order of application, shape ``(3, 3)`` each; the last one is
            not applied.

    Returns:
        Texture after all steps but the last, and the homography from its pixels to the result of the
        last step.
    """
    origin = np.eye(3)
    for step, _ in pairwise(steps):
        height, width = texture.shape
        ends = np.array([[[-1, -1], [width, -1], [width, height], [-1, height]]], np.float64)
        matrix = step @ origin
        found = apply(matrix[None], ends)[0]
        low = np.floor(found.min(axis=0))
        size = np.ceil(found.max(axis=0)) - low + 1
        shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
        texture = cv2.warpPerspective(
            texture,
            shift @ matrix,
            (int(size[0]), int(size[1])),
            flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_REPLICATE,
        )
        origin = np.linalg.inv(shift)
    return texture, steps[-1] @ origin
