"""Cover plates in an image, by their corners and some room around them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import cv2
import numpy as np

from ..core.geometry import FloatArray, plate_height
from ..core.images import Pixels

Method = Literal["fill", "pixelate"]
"""How plates are covered: with one colour, or with large pixels.

Large pixels look better and hide less: whoever knows how they were made can compare them with those of every
number. Of one colour, nothing of the number is left.
"""
MARGIN = 0.5
"""Room around a plate that is covered too, in heights of the plate: corners are found a little off, and of
plates without a border only the characters are found (bench/blur.py)."""
CELL = 0.7
"""Side of a large pixel in heights of the plate."""
_LEAST_CELL = 6


def cover(image: Pixels, plates: Iterable[FloatArray], method: Method) -> None:
    """Cover plates in an image, in place.

    Args:
        image: Pixels, ``(H, W)`` or ``(H, W, C)``, uint8. An alpha channel is left as it is.
        plates: Corners of each plate in pixels, shape ``(4, 2)``, clockwise; they may lie outside.
        method: How they are covered.
    """
    for corners in plates:
        outline = grown(np.asarray(corners, np.float64), MARGIN)
        high = np.ceil(outline.max(axis=0)).clip(0, image.shape[1::-1]).astype(int)
        low = np.floor(outline.min(axis=0)).clip(0, high).astype(int)
        part = image[low[1] : high[1], low[0] : high[0]]
        if not part.size:
            continue
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, np.round(outline - low - 0.5).astype(np.int32), 255)
        inside = mask > 0
        channels = part[..., None] if part.ndim == 2 else part[..., :3]
        if method == "fill":
            new = np.broadcast_to(channels[inside].mean(axis=0), channels.shape)
        else:
            side = max(CELL * float(plate_height(corners)), _LEAST_CELL)
            cells = [max(1, round(length / side)) for length in part.shape[1::-1]]
            small = cv2.resize(np.ascontiguousarray(channels), cells, interpolation=cv2.INTER_AREA)
            new = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        channels[inside] = np.asarray(new).reshape(channels.shape)[inside]


def grown(corners: FloatArray, margin: float) -> FloatArray:
    """Return the corners of a plate with room around it.

    Args:
        corners: Corners, shape ``(4, 2)``, clockwise from the plate's own top left.
        margin: Room on each side, in heights of the plate.
    """
    along = _unit(corners[[1, 2]] - corners[[0, 3]])
    down = _unit(corners[[3, 2]] - corners[[0, 1]])
    room = margin * float(plate_height(corners))
    outward = np.stack(
        [-along[0] - down[0], along[0] - down[1], along[1] + down[1], down[0] - along[1]]
    )
    return corners + room * outward


def _unit(vectors: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9))
