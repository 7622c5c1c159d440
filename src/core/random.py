"""Random numbers that depend on (seed, stream, sample index) alone.

A counter-based generator: draw *k* of sample *i* is a hash of (seed, stream, i, k), so that any
sample can be made anywhere, alone or in a block, in any order and by any number of workers. The hash
is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014, with the constants of David Stafford's variant 13).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Draws for a block of samples; each call takes fresh numbers, the same for every block.

    Args:
        seed: of the set.
        stream: what the numbers are for; two streams of one seed are independent.
        indices: ``(n,)`` sample numbers, non-negative.
    """

    def __init__(self, seed: int, stream: str, indices: ArrayLike) -> None:
        # The stream's bytes are folded into the seed so that "val" and "train" never share numbers.
        key = np.array([seed % 2**64], dtype=np.uint64)
        with np.errstate(over="ignore"):
            for byte in stream.encode():
                key = _mix(key * np.uint64(257) + np.uint64(byte) + _GOLDEN_GAMMA)
            self._keys = _mix(key + _mix(np.asarray(indices, dtype=np.uint64)) * _GOLDEN_GAMMA)
        self._taken = 0

    def __len__(self) -> int:
        return len(self._keys)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """``(n, *shape)`` numbers in [low, high)."""
        count = int(np.prod(shape, dtype=np.int64))
        counters = np.arange(self._taken + 1, self._taken + count + 1, dtype=np.uint64)
        self._taken += count
        with np.errstate(over="ignore"):
            bits = _mix(self._keys[:, None] + counters[None, :] * _GOLDEN_GAMMA)
        unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit.reshape(len(self), *shape)

    def within(self, bounds: Sequence[float]) -> NDArray[np.float64]:
        """``(n,)`` numbers in [bounds[0], bounds[1])."""
        low, high = bounds
        return self.uniform(low, high)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """``(n, *shape)`` integers in [low, high], both ends included."""
        return np.floor(self.uniform(low, high + 1, shape)).astype(np.int64)

    def choice(self, weights: Sequence[float]) -> NDArray[np.int64]:
        """``(n,)`` indices into ``weights``, drawn in their proportion."""
        cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.searchsorted(cumulative / cumulative[-1], self.uniform(), side="right")

    def chance(self, probability: float) -> NDArray[np.bool_]:
        """``(n,)`` booleans, true with ``probability``."""
        return self.uniform() < probability

    def normal(self, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """``(n, *shape)`` standard normal numbers (Box and Muller, 1958)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(shape=shape)))
        return radius * np.cos(2.0 * np.pi * self.uniform(shape=shape))
