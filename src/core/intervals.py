"""Confidence intervals of shares (no torch)."""

from __future__ import annotations

import math

_NORMAL_95 = 1.959964


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), which holds near 0 and 1 too.

    Nothing was counted: the share may be anything.
    """
    if not count:
        return 0.0, 1.0
    share, square = right / count, _NORMAL_95**2
    centre = share + square / (2 * count)
    half = _NORMAL_95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    scale = 1 + square / count
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
