"""Random numbers that depend on (seed, stream, sample index) alone.

A counter-based generator: draw *k* of sample *i* is a hash of (seed, stream, i, k), so that any
sample can be made anywhere, alone or in a block, in any order and by any number of workers. The hash
is the finalizer of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
OOPSLA 2014, with the constants of David Stafford's variant 13).
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
            self.keys = _mix(key + _mix(np.asarray(indices, dtype=np.uint64)) * _GOLDEN_GAMMA)
        self._taken = 0

    def __len__(self) -> int:
        return len(self.keys)

    def uniform(
        self, low: float = 0.0, high: float = 1.0, shape: tuple[int, ...] = ()
    ) -> NDArray[np.float64]:
        """``(n, *shape)`` numbers in [low, high)."""
        count = int(np.prod(shape, dtype=np.int64))
        counters = np.arange(self._taken + 1, self._taken + count + 1, dtype=np.uint64)
        self._taken += count
        with np.errstate(over="ignore"):
            bits = _mix(self.keys[:, None] + counters[None, :] * _GOLDEN_GAMMA)
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

    def split(self, reserved: int) -> list[SampleDraws]:
        """Return a generator of single values for each sample, which begins where this one is now.

        This one goes on ``reserved`` numbers later, so that it shares none with them. A sample that takes
        more gets numbers of its own all the same, from far behind.

        Args:
            reserved: Numbers that a sample usually takes at most.
        """
        start, rows = self._taken, self.uniform(shape=(reserved,))
        return [SampleDraws(self.keys[i : i + 1], start, rows[i]) for i in range(len(self.keys))]


_FAR = 2**40
"""Number at which a sample goes on that has taken all that was reserved for it."""
_CHUNK = 256
"""Numbers that are made at once."""


class SampleDraws:
    """Random draws of one sample, value by value, where drawing by blocks would not read well.

    ``draws_of`` and ``Draws.split`` make them.

    Args:
        key: ``(1,)`` key of the sample.
        start: Numbers of the sample that are taken already.
        reserved: ``(n,)`` the next ones, after which it goes on far behind; None: it goes on as it is.
    """

    def __init__(
        self, key: NDArray[np.uint64], start: int, reserved: NDArray[np.float64] | None = None
    ) -> None:
        self._key, self._start, self._reserved = key, start, reserved
        self._count = 0 if reserved is None else len(reserved)
        self._position = 0
        self._made: list[float] | None = None
        """Numbers from ``_first`` on, made in advance."""
        self._first = 0

    def copy(self) -> SampleDraws:
        """Return a generator that begins where this one began."""
        return SampleDraws(self._key, self._start, self._reserved)

    def _units(self, count: int) -> NDArray[np.float64]:
        """The next numbers in [0, 1), which are then taken."""
        positions = np.arange(self._position, self._position + count, dtype=np.uint64)
        self._position += count
        counters = positions + np.uint64(self._start + 1)
        if self._reserved is not None:
            counters = np.where(positions < self._count, counters, positions + np.uint64(_FAR))
        with np.errstate(over="ignore"):
            bits = _mix(self._key + counters * _GOLDEN_GAMMA)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        if self._made is None:
            # Not before: of most blocks few samples are painted.
            self._made = self._reserved.tolist() if self._reserved is not None else []
        at = self._position - self._first
        if not 0 <= at < len(self._made):
            self._first, at = self._position, 0
            self._made = self._units(_CHUNK).tolist()
            self._position = self._first
        self._position += 1
        return low + (high - low) * self._made[at]

    def integer(self, low: int, high: int) -> int:
        """An integer in [low, high], both ends included."""
        return math.floor(self.uniform(low, high + 1))

    def chance(self, probability: float) -> bool:
        """Whether something of a probability happens."""
        return self.uniform() < probability

    def index(self, weights: Sequence[float]) -> int:
        """An index into ``weights``, drawn in their proportion."""
        cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
        return int(np.searchsorted(cumulative / cumulative[-1], self.uniform(), side="right"))

    def pick(self, values: Sequence[Value]) -> Value:
        """One of the values, all equally likely."""
        return values[self.integer(0, len(values) - 1)]

    def field(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """``shape`` numbers in [0, 1)."""
        return self._units(math.prod(shape)).reshape(shape).astype(np.float32)


def draws_of(seed: int, stream: str, index: int) -> SampleDraws:
    """Return a generator of single values of sample ``index``; arguments as of ``Draws``."""
    return SampleDraws(Draws(seed, stream, [index]).keys, 0)
