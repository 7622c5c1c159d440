"""What a reader gets to see of a picture: the same cut in training, evaluation and use (no torch)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from src.geometry import FloatArray, Rectification, box_to_corners, corners_to_box, rectify

# Around the plate, on each side, as a share of the crop: room for corners that are a little off.
# The box of a plate that is turned has room already.
MARGINS = {"corners": 0.06, "box": 0.0}


def crop_quad(corners: FloatArray, rectification: Rectification) -> FloatArray:
    """The quadrilateral ``(4, 2)`` that a reader's crop is cut by: the corners or their upright box."""
    return corners if rectification == "corners" else box_to_corners(corners_to_box(corners))


def cut(
    image: NDArray[np.uint8],
    quad: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """Cut ``quad``, ``(4, 2)`` in pixels, out of ``image``: ``(height, width)`` of the input shape."""
    return rectify(image, quad, input_shape[1:], MARGINS[rectification])


def reader_crop(
    image: NDArray[np.uint8],
    corners: FloatArray,
    rectification: Rectification,
    input_shape: tuple[int, int, int],
) -> NDArray[np.uint8]:
    """The crop that a reader reads.

    Args:
        image: ``(H, W)`` uint8.
        corners: ``(4, 2)`` of the plate in pixels, clockwise from its own top left.
        rectification: the reader's: "corners" straightens the plate, "box" squeezes the upright box.
        input_shape: the reader's, (1, height, width).

    Returns:
        ``(height, width)`` uint8.
    """
    return cut(image, crop_quad(corners, rectification), rectification, input_shape)
