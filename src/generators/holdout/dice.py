"""Single random values of one sample, where drawing block by block (Draws) would not read well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.random import Draws

T = TypeVar("T")


class Dice:
    """Values that depend on (seed, stream, index) alone, and on how many were drawn before.

    Args:
        seed, stream, index: as those of Draws.
    """

    def __init__(self, seed: int, stream: str, index: int) -> None:
        self._draws = Draws(seed, stream, [index])

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return float(self._draws.uniform(low, high)[0])

    def integer(self, low: int, high: int) -> int:
        """In [low, high], both ends included."""
        return int(self._draws.integers(low, high)[0])

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def index(self, weights: Sequence[float]) -> int:
        """An index into ``weights``, in their proportion."""
        return int(self._draws.choice(weights)[0])

    def pick(self, values: Sequence[T]) -> T:
        """One of the values, all alike."""
        return values[self.integer(0, len(values) - 1)]

    def field(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """``shape`` uniform numbers in [0, 1)."""
        return self._draws.uniform(shape=shape)[0].astype(np.float32)

    def clouds(self, shape: tuple[int, int], octaves: int) -> NDArray[np.float32]:
        """Smooth fractal noise ``shape``, in [0, 1]: octaves of half the size and strength each."""
        total = np.zeros(shape, np.float32)
        for octave in range(octaves):
            cells = 2 ** (octave + 1)
            grid = self.field((cells + 1, cells + 1))
            size = shape[::-1]
            total += cv2.resize(grid, size, interpolation=cv2.INTER_CUBIC) / 2**octave
        low, high = float(total.min()), float(total.max())
        return (total - low) / max(high - low, 1e-6)
