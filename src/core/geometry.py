"""Boxes, corners and rectification (NumPy and OpenCV, without torch).

Corners are ``(..., 4, 2)`` arrays of (x, y), clockwise from the plate's own top left. Boxes are
``(cx, cy, w, h)`` normalised to [0, 1], or ``(x1, y1, x2, y2)`` in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

Rectification = Literal["corners", "box"]
"""How a crop is cut out of an image: rectified by its corners, or as its upright box, resized."""

PAD_GREY = 114
"""Grey value that pads a localizer's input beyond the image's edge, in training and in inference."""

BOX_COLUMNS = ["cx", "cy", "w", "h"]
CORNER_COLUMNS = [f"{axis}{corner}" for corner in range(4) for axis in "xy"]
SEEN_COLUMNS = ["seen_x1", "seen_y1", "seen_x2", "seen_y2"]
"""Columns of the label tables."""


def corners_to_box(corners: FloatArray) -> FloatArray:
    """Return the upright boxes around corners: ``(..., 4, 2)`` to ``(..., 4)`` as cx, cy, w, h."""
    low, high = corners.min(axis=-2), corners.max(axis=-2)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def box_to_corners(box: FloatArray) -> FloatArray:
    """Return the corners of upright boxes: ``(..., 4)`` as cx, cy, w, h to ``(..., 4, 2)``."""
    centre, half = box[..., None, :2], box[..., None, 2:] / 2
    return centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=box.dtype)


def box_to_xyxy(box: FloatArray) -> FloatArray:
    """Convert ``(..., 4)`` boxes from cx, cy, w, h to x1, y1, x2, y2 in the same unit."""
    return np.concatenate([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def xyxy_to_box(xyxy: FloatArray) -> FloatArray:
    """Convert ``(..., 4)`` boxes from x1, y1, x2, y2 to cx, cy, w, h in the same unit."""
    return np.concatenate(
        [(xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]], axis=-1
    )


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the elementwise intersection over union (IoU) of boxes, shape ``(...)``.

    Both arguments hold boxes as cx, cy, w, h, shape ``(..., 4)``.

    Two boxes without area have an IoU of 0.
    """
    a, b = box_to_xyxy(first), box_to_xyxy(second)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.clip(overlap, 0, None).prod(axis=-1)
    union = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def edge_lengths(corners: FloatArray) -> FloatArray:
    """Return the lengths of a plate's edges: top, right, bottom, left.

    Args:
        corners: Plate corners in any unit, shape ``(..., 4, 2)``.

    Returns:
        Lengths in the same unit, shape ``(..., 4)``.
    """
    return np.linalg.norm(np.roll(corners, -1, axis=-2) - corners, axis=-1)


def plate_height(corners: FloatArray) -> FloatArray:
    """Return the height of plates: the mean length of the left and right edges, shape ``(...)``.

    Args:
        corners: Plate corners in any unit, shape ``(..., 4, 2)``.
    """
    return edge_lengths(corners)[..., [1, 3]].mean(axis=-1)


def plate_width(corners: FloatArray) -> FloatArray:
    """Return the width of plates: the mean length of the top and bottom edges, shape ``(...)``.

    Args:
        corners: Plate corners in any unit, shape ``(..., 4, 2)``.
    """
    return edge_lengths(corners)[..., [0, 2]].mean(axis=-1)


def plate_angle(corners: FloatArray) -> FloatArray:
    """Return the angle of the top edge in degrees, clockwise on the screen, shape ``(...)``.

    Args:
        corners: Plate corners in any unit, shape ``(..., 4, 2)``.
    """
    along = corners[..., 1, :] - corners[..., 0, :]
    return np.degrees(np.arctan2(along[..., 1], along[..., 0]))


_TWO_LINE_ASPECT = 2.6
"""Aspect ratio (width over height) below which a plate has two lines.

Two-line formats have 0.7 to 1.9, one-line formats 3.75 to 4.5 (VZV Art. 83)."""


def likely_lines(corners: FloatArray) -> int:
    """Return the number of text lines, 1 or 2, that the aspect ratio of one plate suggests.

    Args:
        corners: Plate corners in any unit, shape ``(4, 2)``.
    """
    return 2 if plate_width(corners) < _TWO_LINE_ASPECT * plate_height(corners) else 1


def plate_axes(corners: FloatArray) -> FloatArray:
    """Return the plates' own axes, which express corner errors independently of plate size and angle.

    Their unit is the plate size, defined as half the geometric mean of a plate's sides: the height of a
    plate that is four times as long as high. Measured in plate heights, a localizer's error is twice as
    large on one-line plates as on two-line plates, which are as long and twice as high; measured in
    plate sizes, it is 1.2 times as large.

    Args:
        corners: Plate corners in pixels, shape ``(..., 4, 2)``.

    Returns:
        Axes of shape ``(..., 2, 2)``: the vector (x, y) along the plate, then the one down it, each one
        plate size long. ``errors @ plate_axes(corners)`` thus converts ``(..., 4, 2)`` errors from plate
        sizes to pixels.
    """
    along = corners[..., [1, 2], :] - corners[..., [0, 3], :]
    down = corners[..., [3, 2], :] - corners[..., [0, 1], :]
    size = np.sqrt(plate_width(corners) * plate_height(corners))[..., None, None] / 2
    axes = np.stack([along.sum(axis=-2), down.sum(axis=-2)], axis=-2)
    norms = np.linalg.norm(axes, axis=-1, keepdims=True)
    # A plate without length has no direction; its axis is zero, so that nothing moves along it.
    return np.divide(axes, norms, out=np.zeros_like(axes), where=norms > 0) * size


class Part(NamedTuple):
    """Rectified part of a plate, or a rectified plate with its surroundings.

    Attributes:
        size: Height and width of the part in pixels.
        place: Box x1, y1, x2, y2 of the whole plate in pixels of the part; it may extend beyond it.
    """

    size: tuple[int, int]
    place: tuple[float, float, float, float]


def rectify(
    image: NDArray[np.uint8],
    corners: FloatArray,
    size: tuple[int, int],
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Cut the quadrilateral ``corners`` out of ``image`` and rectify it.

    Args:
        image: Image of shape ``(H, W)`` or ``(H, W, C)``, uint8.
        corners: Plate corners in pixels, shape ``(4, 2)``. The edges of the image are at 0 and at W or H
            (pixel centres lie at halves).
        size: Height and width of the result in pixels.
        margin: Margin around the plate on each side, as a fraction of the result's size.

    Returns:
        Rectified image of shape ``(height, width)`` or ``(height, width, C)``, uint8. Beyond the edge of
        the image, its edge pixels are repeated.
    """
    height, width = size
    left, top = margin * width, margin * height
    return rectify_parts(image, corners, [Part(size, (left, top, width - left, height - top))])[0]


def rectify_parts(
    image: NDArray[np.uint8], corners: FloatArray, parts: Sequence[Part]
) -> list[NDArray[np.uint8]]:
    """Rectify several parts of a plate, all at the same scale; otherwise like ``rectify``.

    Where the image has a higher resolution than the parts, its pixels are averaged: bilinear
    interpolation uses four pixels and skips the others, which would break strokes and cause moiré.
    """
    (right_x, right_y), (down_x, down_y) = _steps(corners.tolist(), parts[0].place)
    # Sampling twice as finely and averaging pairs has a quarter of the error and takes twice as long.
    finer = (
        2 if math.hypot(right_x, right_y) > _COARSE else 1,
        2 if math.hypot(down_x, down_y) > _COARSE else 1,
    )
    # Shrink much larger plates by powers of two first, but leave two or more shrunk pixels to a pixel of
    # the result: the grid of the shrunk image is not aligned with that of the parts.
    shrink_x, shrink_y = math.hypot(right_x, down_x) / 2, math.hypot(right_y, down_y) / 2
    if max(shrink_x, shrink_y) >= 2:
        image, corners = _shrunk(image, corners, (shrink_x, shrink_y), parts)
    # OpenCV puts pixel centres at integers.
    points = np.asarray(corners, np.float32) - np.float32(0.5)
    results = []
    for (height, width), place in parts:
        matrix = cv2.getPerspectiveTransform(_target(place, finer), points)
        part = cv2.warpPerspective(
            image,
            matrix,
            (width * finer[0], height * finer[1]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if finer != (1, 1):
            part = cv2.resize(part, (width, height), interpolation=_HALVING)
        results.append(part)
    return results


_COARSE = 1.25
"""Image pixels per pixel of the result above which they are averaged."""
_HALVING = cv2.INTER_LINEAR
"""When halving, it averages two pixels as ``INTER_AREA`` does, but is faster on a single axis."""


def _steps(
    corners: list[list[float]], place: tuple[float, float, float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the image steps of a pixel to the right and of one down, averaged over the plate."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    across, down = 2 * (place[2] - place[0]), 2 * (place[3] - place[1])
    return (
        ((x1 - x0 + x2 - x3) / across, (y1 - y0 + y2 - y3) / across),
        ((x3 - x0 + x2 - x1) / down, (y3 - y0 + y2 - y1) / down),
    )


@lru_cache(maxsize=256)
def _target(
    place: tuple[float, float, float, float], finer: tuple[int, int]
) -> NDArray[np.float32]:
    """Return the plate's ``(4, 2)`` corners in a part enlarged by ``finer``, in OpenCV coordinates."""
    left, top, right, bottom = place
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return (np.array(corners) * finer - 0.5).astype(np.float32)


def _shrunk(
    image: NDArray[np.uint8],
    corners: FloatArray,
    factors: tuple[float, float],
    parts: Sequence[Part],
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Crop the surroundings of a plate and shrink them; return them and the plate's corners in them."""
    reach = max(
        max(left, width - right) / (right - left) + max(top, height - bottom) / (bottom - top)
        for (height, width), (left, top, right, bottom) in parts
    )
    low, high = corners.min(axis=0), corners.max(axis=0)
    reached = np.maximum(reach, 0) * (high - low)
    # Halving repeatedly is several times as fast as a single step.
    halvings = [max(0, math.frexp(min(factor, 2**14))[1] - 1) for factor in factors]
    slices, starts = [], []
    for axis, halved in enumerate(halvings):
        side, factor = image.shape[1 - axis], 2**halved
        # Crop more than the parts cover: perspective magnifies the near side.
        start = min(int(max(0, low[axis] - reached[axis] - 2 * factor)), side - 1)
        end = math.ceil(min(side, high[axis] + reached[axis] + 2 * factor))
        slices.append(slice(start, start + max((end - start) // factor, 1) * factor))
        starts.append(start)
    image = image[slices[1], slices[0]]
    for step in range(max(halvings)):
        width, height = (
            max(side // 2, 1) if step < halved else side
            for side, halved in zip(image.shape[1::-1], halvings, strict=True)
        )
        image = cv2.resize(image, (width, height), interpolation=_HALVING)
    return image, (corners - starts) / [2**halved for halved in halvings]
