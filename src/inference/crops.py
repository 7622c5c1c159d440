"""What a reader gets to see of a picture: the same cut in training, evaluation and use (no torch).

A plate of two lines is cut in the middle and laid out as one line, so that it reads as any other:
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
    rectify,
    rectify_parts,
)

# Around the plate, on each side, as a share of the crop: room for corners that are a little off.
# The box of a plate that is turned has room already.
MARGINS = {"corners": 0.06, "box": 0.0}

UPPER_SHARE = 44 / 128
"""Share of the crop's width that the upper line gets: 11 of a reader's 32 steps.

Both lines are drawn at one scale. So the lower one, which may have seven digits, is shown in its whole
length and as large as those of a long plate; of the upper one it is the middle 60 % of the plate, where
the two letters stand. The arms beside them, which tell nothing that the letters do not, fall away.
"""
OVERLAP = 0.05
"""How far each half reaches beyond the middle, as a share of the plate's height. The lines are 8 %
apart on the tightest format: this much shows where the corners are off, and hardly the other line."""


def crop_quad(corners: FloatArray, rectification: Rectification) -> FloatArray:
    """The quadrilateral ``(4, 2)`` that a reader's crop is cut by: the corners or their upright box."""
    return corners if rectification == "corners" else box_to_corners(corners_to_box(corners))


def cut(
    image: NDArray[np.uint8],
    quad: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
    lines: int = 1,
) -> NDArray[np.uint8]:
    """Cut ``quad``, ``(4, 2)`` in pixels, out of ``image``: ``(height, width)`` of the input shape."""
    size = input_shape[1:]
    if lines == 1 or rectification == "box":
        return rectify(image, quad, size, MARGINS[rectification])
    return np.concatenate(rectify_parts(image, quad, _halves(size, MARGINS[rectification])), axis=1)


def recognizer_crop(
    image: NDArray[np.uint8],
    corners: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
    lines: int = 1,
) -> NDArray[np.uint8]:
    """The crop that a reader reads.

    Args:
        image: ``(H, W)`` uint8.
        corners: ``(4, 2)`` of the plate in pixels, clockwise from its own top left.
        rectification: the reader's: "corners" straightens the plate, "box" squeezes the upright box.
        input_shape: the reader's, (1, height, width).
        lines: of the plate; two are laid side by side, but for a reader that takes the upright box.

    Returns:
        ``(height, width)`` uint8.
    """
    return cut(image, crop_quad(corners, rectification), rectification, input_shape, lines)


@lru_cache
def _halves(size: tuple[int, int], margin: float) -> tuple[Part, Part]:
    """The upper and the lower half of a plate, as they stand side by side in a crop."""
    height, width = size
    left = round(UPPER_SHARE * width)
    # A plate that fills the crop but for its margin: so much of its own size is around it.
    around = margin / (1 - 2 * margin)
    down = height / (around + 0.5 + OVERLAP)
    across = (width - left) / (1 + 2 * around)
    top = around * down
    bottom = height - top
    return (
        Part((height, left), ((left - across) / 2, top, (left + across) / 2, top + down)),
        Part(
            (height, width - left), (around * across, bottom - down, (1 + around) * across, bottom)
        ),
    )
