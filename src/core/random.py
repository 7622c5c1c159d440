"""Random numbers that depend only on (seed, stream, sample index).

The generator is counter-based: random number *k* of sample *i* is a hash of (seed, stream, i, k), so
that any sample can be generated anywhere, alone or in a block, in any order and by any number of
workers. The hash is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
Number Generators, OOPSLA 2014, with the constants of David Stafford's variant 13).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Value = TypeVar("Value")

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Draws:
    """Random generator for a block of samples.

    Each call uses new numbers. Those of a sample are the same in every block.

    Args:
        seed: Random seed of the set.
        stream: Name of the purpose of the numbers; two streams of one seed are independent.
        indices: Non-negative sample indices, shape ``(n,)``.
    """

    def __init__(self, seed: int, stream: str, indices: ArrayLike) -> None:
        # Hash the stream's bytes into the seed, so that "val" and "train" never share numbers.
        key = np.array([seed % 2**64], dtype=np.uint64)
        with np.errstate(over="ignore"):
            for byte in stream.encode():
                key = _mix(key * np.uint64(257) + np.uint64(byte) + _GOLDEN_GAMMA)
            self.keys = _mix(key + _mix(np.asarray(indices, dtype=np.uint64)) * _GOLDEN_GAMMA)
        self._taken = 0

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """Return ``(n, *shape)`` uniform numbers in [low, high)."""
        count = int(np.prod(shape, dtype=np.int64))
        counters = np.arange(self._taken + 1, self._taken + count + 1, dtype=np.uint64)
        self._taken += count
        with np.errstate(over="ignore"):
            bits = _mix(self.keys[:, None] + counters[None, :] * _GOLDEN_GAMMA)
        unit = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return low + (high - low) * unit.reshape(len(self), *shape)

    def within(self, bounds: Sequence[float]) -> NDArray[np.float64]:
        """Return ``(n,)`` uniform numbers in [bounds[0], bounds[1])."""
        low, high = bounds
        return self.uniform(low, high)

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """Return ``(n, *shape)`` integers in [low, high], both ends included."""
        return np.floor(self.uniform(low, high + 1, shape)).astype(np.int64)

    def choice(self, weights: Sequence[float]) -> NDArray[np.int64]:
        """Return ``(n,)`` indices into ``weights``, drawn in proportion to them."""
        cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
        return np.searchsorted(cumulative / cumulative[-1], self.uniform(), side="right")

    def chance(self, probability: float) -> NDArray[np.bool_]:
        """Return ``(n,)`` booleans that are true with ``probability``."""
        return self.uniform() < probability

    def normal(self, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """Return ``(n, *shape)`` standard normal numbers (Box and Muller, 1958)."""
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(shape=shape)))
        return radius * np.cos(2.0 * np.pi * self.uniform(shape=shape))

    def split(self, reserved: int) -> list[SampleDraws]:
        """Return a generator of single values for each sample, starting at the current position.

        This generator skips ``reserved`` numbers, so that it shares none with them. A sample that needs
        more still gets numbers of its own, from a distant part of its sequence.

        Args:
            reserved: Maximum count of numbers that a sample usually needs.
        """
        start, rows = self._taken, self.uniform(shape=(reserved,))
        return [SampleDraws(self.keys[i : i + 1], start, rows[i]) for i in range(len(self.keys))]


_FAR = 2**40
"""Offset at which a sample continues once it has used all of its reserved numbers."""
_CHUNK = 256
"""Count of numbers generated at once."""


class SampleDraws:
    """Random generator of single values for one sample, for code that blocks would make hard to read.

    ``draws_of`` and ``Draws.split`` create it.

    Args:
        key: Key of the sample, shape ``(1,)``.
        start: Count of the sample's numbers that are already used.
        reserved: The next numbers, shape ``(n,)``, after which the generator continues at a distant
            offset. If None, it continues without a jump.
    """

    def __init__(
        self, key: NDArray[np.uint64], start: int, reserved: NDArray[np.float64] | None = None
    ) -> None:
        self._key, self._start, self._reserved = key, start, reserved
        self._position = 0
        self._made: list[float] | None = None
        """Numbers generated in advance, from position ``_first`` on."""
        self._first = 0

    def copy(self) -> SampleDraws:
        """Return a new generator that starts where this one started."""
        return SampleDraws(self._key, self._start, self._reserved)

    def _units(self, count: int) -> NDArray[np.float64]:
        """Return the next ``count`` numbers in [0, 1) and advance past them."""
        positions = np.arange(self._position, self._position + count, dtype=np.uint64)
        self._position += count
        counters = positions + np.uint64(self._start + 1)
        if self._reserved is not None:
            counters = np.where(
                positions < len(self._reserved), counters, positions + np.uint64(_FAR)
            )
        with np.errstate(over="ignore"):
            bits = _mix(self._key + counters * _GOLDEN_GAMMA)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a uniform number in [low, high)."""
        if self._made is None:
            # Filled on first use: only a few samples of most blocks are rendered.
            self._made = self._reserved.tolist() if self._reserved is not None else []
        at = self._position - self._first
        if not 0 <= at < len(self._made):
            self._first, at = self._position, 0
            self._made = self._units(_CHUNK).tolist()
            self._position = self._first
        self._position += 1
        return low + (high - low) * self._made[at]

    def integer(self, low: int, high: int) -> int:
        """Return an integer in [low, high], both ends included."""
        return math.floor(self.uniform(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Return True with ``probability``."""
        return self.uniform() < probability

    def index(self, weights: Sequence[float]) -> int:
        """Return an index into ``weights``, drawn in proportion to them."""
        cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
        return int(np.searchsorted(cumulative / cumulative[-1], self.uniform(), side="right"))

    def pick(self, values: Sequence[Value]) -> Value:
        """Return one of the values, all equally likely."""
        return values[self.integer(0, len(values) - 1)]

    def field(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return an array of uniform numbers in [0, 1) with the given shape."""
        return self._units(math.prod(shape)).reshape(shape).astype(np.float32)


def draws_of(seed: int, stream: str, index: int) -> SampleDraws:
    """Return a generator of single values for sample ``index``; see ``Draws`` for the arguments."""
    return SampleDraws(Draws(seed, stream, [index]).keys, 0)
