"""Confidence intervals of proportions (without torch)."""

from __future__ import annotations

import math

_NORMAL_95 = 1.959964


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval (Wilson, 1927), which also holds near 0 and 1.

    With a ``count`` of 0 the proportion is unknown and the interval is (0, 1).
    """
    if not count:
        return 0.0, 1.0
    share, square = right / count, _NORMAL_95**2
    centre = share + square / (2 * count)
    half = _NORMAL_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    scale = 1 + square / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
