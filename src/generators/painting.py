"""What both kinds of scenes paint with: a plate's grey texture, and its paste into a picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

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

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601), as OpenCV and Pillow have them."""
_GREYS = [(float(_LUMA @ colour.ground), float(_LUMA @ colour.ink)) for colour in COLOURS]
_FRAME_GREY, _EDGE_GREY, _SCREW_GREY = 35, 8, 140


class Drawable(Protocol):
    """What can be pasted: PlateSpec and RowsSpec."""

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
    """Paint ``source`` over ``target`` in place, by ``alpha`` of 0 to 255."""
    # Whole numbers throughout: on pictures this small, conversions would cost more than the blending.
    over = cv2.multiply(source, alpha, scale=1 / 255)
    under = cv2.multiply(target, cv2.bitwise_not(alpha), scale=1 / 255)
    cv2.add(over, under, target)


def matmul(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Product of two 3x3 matrices as nine numbers; for one pair faster than NumPy."""
    a, b, c, d, e, f, g, h, i = second
    rows = (first[0:3], first[3:6], first[6:9])
    product: list[float] = []
    for x, y, z in rows:
        product += (x * a + y * d + z * g, x * b + y * e + z * h, x * c + y * f + z * i)
    return product


def apply(matrices: Floats, points: Floats) -> Floats:
    """``(n, 3, 3)`` homographies on ``(n, p, 2)`` points."""
    homogeneous = np.concatenate([points, np.ones((*points.shape[:2], 1))], axis=2)
    mapped = homogeneous @ matrices.transpose(0, 2, 1)
    return mapped[..., :2] / mapped[..., 2:]


def stack_matrices(rows: list[list[Floats | float]], count: int) -> Floats:
    """``(count, 3, 3)`` of rows whose entries are numbers or ``(count,)`` arrays."""
    result = np.empty((count, 3, 3))
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            result[:, r, c] = value
    return result


def outline_corners(specs: Sequence[Drawable]) -> Floats:
    """``(n, 4, 2)`` corners of what is drawn, in millimetres."""
    x1, y1, x2, y2 = np.array([spec.outline for spec in specs]).T
    return np.stack([x1, y1, x2, y1, x2, y2, x1, y2], axis=1).reshape(-1, 4, 2)


def plate_corners(specs: Sequence[Drawable]) -> Floats:
    """``(n, 4, 2)`` what counts as the corners, in millimetres: without a frame, but with the black
    line around the plate, as the original's boxes hold it.
    """
    x2, y2 = np.array([[spec.width, spec.height] for spec in specs]).T
    edge = np.array([spec.edge for spec in specs])
    low, x2, y2 = -edge, x2 + edge, y2 + edge
    return np.stack([low, low, x2, low, x2, y2, low, y2], axis=1).reshape(-1, 4, 2)


@lru_cache(maxsize=64)
def round_outline(outline: tuple[float, float, float, float]) -> Floats:
    """``(16, 2)`` points of an outline with the round corners of plates."""
    return rounded_outline(*outline, CORNER_RADIUS, steps=3)


def plate_texture(
    spec: Drawable,
    tiles: AtlasTiles,
    ground: float = 1.0,
    emboss: float = 0.0,
    name: str = "",
    names: AtlasTiles | None = None,
) -> tuple[Gray, tuple[float, float]]:
    """The grey texture of what is drawn, and the millimetres of its top left corner.

    Args:
        spec: a plate.
        tiles: glyphs, at the resolution that the texture gets.
        ground: factor on the ground's grey.
        emboss: contrast of the lit and of the shaded edges of the characters, 0 to 1.
        name: of the dealer, on the lower side of the frame.
        names: glyphs at the name's size; without them the name is a row of dashes.
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
    # Light from the upper left: the step of the ink towards it is bright, the one away from it dark.
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
    picture: Gray,
    texture: Gray,
    to_picture: Sequence[float],
    outline: NDArray[np.float32],
    aliased: bool = False,
) -> None:
    """Paint a texture into a picture, in place.

    Args:
        picture: ``(H, W)``.
        texture: ``(h, w)``.
        to_picture: homography of the texture's pixels (centres at integers) to the picture's, nine
            numbers.
        outline: ``(p, 2)`` of what is painted, in the picture's pixels (centres at integers).
        aliased: to the nearest pixel and with a hard edge, as the original project pastes.
    """
    x, y, width, height = cv2.boundingRect(outline)
    x, y = max(x - 1, 0), max(y - 1, 0)
    region = picture[y : y + height + 2, x : x + width + 2]
    height, width = region.shape
    if not height or not width:
        return
    shift = (1, 0, -x, 0, 1, -y, 0, 0, 1)
    warped = cv2.warpPerspective(
        texture,
        np.array(matmul(shift, to_picture), np.float64).reshape(3, 3),
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
    """Warp a texture several times in a row, to the nearest pixel each time.

    That is how the original project turns, sizes and shears a plate; each warp tears thin strokes.

    Args:
        texture: ``(h, w)``.
        steps: ``(3, 3)`` homographies of pixels, the first is applied first; the last is not applied.

    Returns:
        The texture after all steps but the last, and the homography of its pixels to where the last
        step leads.
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
