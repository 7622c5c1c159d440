"""Boxes, corners and rectification (numpy and OpenCV, no torch).

Corners are ``(..., 4, 2)`` arrays of (x, y), clockwise from the plate's own top left. Boxes are
``(cx, cy, w, h)`` normalised to [0, 1], or ``(x1, y1, x2, y2)`` in pixels.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]

Rectification = Literal["corners", "box"]
"""How a crop is cut out of a picture: straightened by its corners, or squeezed upright box."""

BOX_COLUMNS = ["cx", "cy", "w", "h"]
CORNER_COLUMNS = [f"{axis}{corner}" for corner in range(4) for axis in "xy"]
"""Columns of labels."""


def corners_to_box(corners: FloatArray) -> FloatArray:
    """The upright box around corners: ``(..., 4, 2)`` to ``(..., 4)`` as cx, cy, w, h."""
    low, high = corners.min(axis=-2), corners.max(axis=-2)
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def box_to_corners(box: FloatArray) -> FloatArray:
    """The corners of upright boxes: ``(..., 4)`` as cx, cy, w, h to ``(..., 4, 2)``."""
    centre, half = box[..., None, :2], box[..., None, 2:] / 2
    return centre + half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=box.dtype)


def box_to_xyxy(box: FloatArray) -> FloatArray:
    """``(..., 4)`` boxes from cx, cy, w, h to x1, y1, x2, y2 in the same unit."""
    return np.concatenate([box[..., :2] - box[..., 2:] / 2, box[..., :2] + box[..., 2:] / 2], -1)


def xyxy_to_box(xyxy: FloatArray) -> FloatArray:
    """``(..., 4)`` boxes from x1, y1, x2, y2 to cx, cy, w, h in the same unit."""
    return np.concatenate(
        [(xyxy[..., :2] + xyxy[..., 2:]) / 2, xyxy[..., 2:] - xyxy[..., :2]], axis=-1
    )


def box_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Intersection over union of ``(..., 4)`` cx, cy, w, h boxes, pair by pair; shape ``(...)``.

    Two boxes without area have an IoU of 0.
    """
    a, b = box_to_xyxy(first), box_to_xyxy(second)
    overlap = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.clip(overlap, 0, None).prod(axis=-1)
    union = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def rectify(
    image: NDArray[np.uint8],
    corners: FloatArray,
    size: tuple[int, int],
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Cut the quadrilateral ``corners`` out of ``image`` and straighten it.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` uint8.
        corners: ``(4, 2)`` in pixels, edges of the picture at 0 and at W or H (pixel centres lie at
            halves).
        size: ``(height, width)`` of the result.
        margin: share of the result's size that is kept free on each side around the plate.

    Returns:
        ``(height, width)`` or ``(height, width, C)`` uint8; outside of the picture its edge goes on.
    """
    height, width = size
    left, top = margin * width, margin * height
    target = np.array(
        [[left, top], [width - left, top], [width - left, height - top], [left, height - top]],
        dtype=np.float32,
    )
    # OpenCV puts pixel centres at integers.
    matrix = cv2.getPerspectiveTransform(
        target - np.float32(0.5), np.asarray(corners, np.float32) - np.float32(0.5)
    )
    return cv2.warpPerspective(
        image,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
