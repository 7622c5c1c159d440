"""Cut the recognizer's crops, in the same way in training, evaluation and inference (no torch).

A two-line plate is split in the middle and laid out as one line, so that it reads like any other:
canton, then digits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import (
    FloatArray,
    Part,
    Rectification,
    box_to_corners,
    corners_to_box,
    plate_height,
    plate_width,
    rectify,
    rectify_parts,
)

# Margin on each side of the plate, as a fraction of the crop: room for corners that are slightly off.
# The upright box of a rotated plate already has such room.
MARGINS = {"corners": 0.06, "box": 0.0}

UPPER = (49 / 128, 0.02)
"""Place of the upper line: fraction of the crop's width given to it (12 of a recognizer's 32 time steps),
and where it begins, as a fraction of the plate's width.

Both lines are drawn at the same scale. The lower line, which may have seven digits, is thus shown at
full length and as large as the digits of a long plate; of the upper line the part is shown where the two
letters stand, in the middle between the arms or, on mopeds, at the left. The arms right of them are cut
off, as they tell nothing that the letters do not.
"""
OVERLAP = 0.05
"""How far each half extends beyond the middle, as a fraction of the plate's height. The lines are 8 %
apart on the tightest format: this leaves room for corners that are off, and shows hardly any of the
other line."""
TALL = 0.9
"""Width over height below which a plate of two lines is read in a closer cut too. On mopeds' plates, which
are the only ones that are higher than wide, the digits have a quarter of the height, and in the usual cut
half as many rows as on other plates."""
CLOSER = (0.663, 0.013, 1.0)
"""Cut of the lower line then, as in ``moved``: it shows 48 to 89 % of the plate's height."""


def is_tall(corners: FloatArray) -> NDArray[np.bool_]:
    """Return whether plates are read in a closer cut too; corners ``(..., 4, 2)`` give ``(...)``."""
    return np.asarray(plate_width(corners) < TALL * plate_height(corners))


def moved(corners: FloatArray, higher: float, down: float, wider: float) -> FloatArray:
    """Return corners ``(4, 2)`` made higher and wider by factors, and moved down by a part of the height."""
    left_right = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    top_bottom = corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
    outward_y = (higher - 1) / 2 * np.array([[-1.0], [-1.0], [1.0], [1.0]]) + down
    outward_x = (wider - 1) / 2 * np.array([[-1.0], [1.0], [1.0], [-1.0]])
    return corners + outward_y * top_bottom + outward_x * left_right


def crop_quad(corners: FloatArray, rectification: Rectification) -> FloatArray:
    """Return the quadrilateral ``(4, 2)`` to cut a crop by: the corners or their upright box."""
    return corners if rectification == "corners" else box_to_corners(corners_to_box(corners))


def cut(
    image: NDArray[np.uint8],
    quad: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
    lines: int = 1,
    margin: float | None = None,
    upper: tuple[float, float] = UPPER,
    closer: bool = False,
) -> NDArray[np.uint8]:
    """Cut a quadrilateral out of an image as input of the recognizer.

    Args:
        image: Grey image ``(H, W)``, uint8.
        quad: Quadrilateral in pixels of the image, shape ``(4, 2)``.
        rectification: Rectification of the recognizer.
        input_shape: Input shape of the recognizer, (1, height, width).
        lines: Number of text lines.
        margin: Margin around the plate, as a fraction of the crop; by default that of ``MARGINS``.
        upper: Place of the upper line, as in ``UPPER``.
        closer: Whether the lower one of two lines is cut closer, as ``CLOSER`` says.

    Returns:
        Crop ``(height, width)``, uint8.
    """
    size = input_shape[1:]
    around = MARGINS[rectification] if margin is None else margin
    if lines == 1 or rectification == "box":
        return rectify(image, quad, size, around)
    halves = _halves(size, around, upper)
    first, second = rectify_parts(image, quad, halves)
    if closer:
        _, second = rectify_parts(image, moved(quad, *CLOSER), halves)
    return np.concatenate([first, second], axis=1)


def recognizer_crop(
    image: NDArray[np.uint8],
    corners: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
    lines: int = 1,
    margin: float | None = None,
    upper: tuple[float, float] = UPPER,
    closer: bool = False,
) -> NDArray[np.uint8]:
    """Cut out a plate as the recognizer reads it.

    Args:
        image: Grey image ``(H, W)``, uint8.
        corners: Plate corners in pixels, shape ``(4, 2)``, clockwise from the plate's own top left.
        rectification: Rectification of the recognizer: "corners" straightens the plate, "box" squeezes
            the upright box.
        input_shape: Input shape of the recognizer, (1, height, width).
        lines: Number of text lines. Two are laid side by side, except for a recognizer that takes the
            upright box.
        margin: Margin around the plate, as a fraction of the crop; by default that of ``MARGINS``.
        upper: Place of the upper line, as in ``UPPER``.
        closer: Whether the lower one of two lines is cut closer, as ``CLOSER`` says.

    Returns:
        Crop ``(height, width)``, uint8.
    """
    quad = crop_quad(corners, rectification)
    return cut(image, quad, rectification, input_shape, lines, margin, upper, closer)


@lru_cache
def _halves(size: tuple[int, int], margin: float, upper: tuple[float, float]) -> tuple[Part, Part]:
    """Return the upper and the lower half of a plate as they are placed side by side in a crop."""
    height, width = size
    left = round(upper[0] * width)
    # Margin around a plate that fills the rest of the crop, as a fraction of the plate's own size.
    around = margin / (1 - 2 * margin)
    down = height / (around + 0.5 + OVERLAP)
    across = (width - left) / (1 + 2 * around)
    top = around * down
    bottom = height - top
    return (
        Part((height, left), (-upper[1] * across, top, (1 - upper[1]) * across, top + down)),
        Part(
            (height, width - left), (around * across, bottom - down, (1 + around) * across, bottom)
        ),
    )
