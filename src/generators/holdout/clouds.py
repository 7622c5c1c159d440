"""Smooth fractal noise, the basis of clouds, plaster and dirt."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.random import SampleDraws


def clouds(draws: SampleDraws, shape: tuple[int, int], octaves: int) -> NDArray[np.float32]:
    """Return fractal noise of ``shape`` in [0, 1]; each octave has half the size and strength."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        cells = 2 ** (octave + 1)
        grid = draws.field((cells + 1, cells + 1))
        size = shape[::-1]
        total += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC) / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)
