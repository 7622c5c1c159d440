"""Tell whether a frame differs from the last one that was read: reading costs a hundred times as much.

Frames are compared with the last one that was read, not with the one before, so that slow changes add up
until they count.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.images import Pixels

SIZE = (160, 90)
"""Width and height in pixels at which frames are compared."""
CHANGE = 10
"""Difference of grey values, of 255, from which on a pixel counts as changed. Noise is mostly averaged out
at this size."""
LEAST_PIXELS = 10
"""Number of changed pixels from which on something moves: of a plate 100 pixels wide in a frame of
1280 x 720, the thumbnail shows about 12 x 3, and a vehicle is larger."""
HOLD = 3
"""Number of frames that are read after the last change: what stands still is sharpest."""


class MotionGate:
    """Gate that lets frames through while something moves."""

    def __init__(self) -> None:
        self._last: NDArray[np.uint8] | None = None
        self._left = 0

    def opens(self, image: Pixels) -> bool:
        """Return whether a frame is worth reading.

        Args:
            image: Frame ``(H, W, 3)``.
        """
        small = cv2.cvtColor(
            cv2.resize(image, SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY
        )
        if self._last is None or self._changed(small):
            self._left = HOLD
        elif self._left:
            self._left -= 1
        else:
            return False
        self._last = small
        return True

    def _changed(self, small: NDArray[np.uint8]) -> bool:
        difference = cv2.absdiff(small, self._last)
        return int(np.count_nonzero(difference >= CHANGE)) >= LEAST_PIXELS
