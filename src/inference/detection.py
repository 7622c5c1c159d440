"""From a localizer's maps to plates (numpy, no torch).

Maps are ``(N, 10, h, w)`` arrays as ``Localizer`` in src/models/base.py describes them: for each place
of a coarse grid the logit of a plate, the logit of two lines, and the four corners in pixels. Places
around a plate's centre all vote for its corners, and the mean of their votes is better than any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.intp]

SURE = 0.5
"""Score from which on a plate counts as found in measures."""

# The nearest place and those around it; src/models/losses.py trains the mean of the same votes.
_WINDOW = 1
_SIDE = 2 * _WINDOW + 1
_SELF = _SIDE * _SIDE // 2
# Of places outside of the picture: no chance, whose exponential is a double, so that nothing overflows.
_OUTSIDE = -700.0
# Votes whose centre is farther from the peak's than this share of its shorter side are another
# plate's; this many pixels apart they are one's at any rate.
_AGREEING = 0.5
_AGREEING_PIXELS = 2.0
# Two boxes are one plate from this IoU on, ...
_SAME_IOU = 0.3
# ... or where one has this share of the smaller one's area and its centre, as a plate and its half.
_SAME_SHARE = 0.7


@dataclass(frozen=True)
class Detections:
    """The P plates of a picture, best first.

    Attributes:
        corners: ``(P, 4, 2)`` in pixels of the localizer's input, clockwise from the plate's own top
            left.
        score: ``(P,)`` probability that there is a plate.
        two_lines: ``(P,)`` probability that it has two lines.
    """

    corners: FloatArray
    score: FloatArray
    two_lines: FloatArray


def detect(maps: FloatArray, threshold: float, keep: int) -> list[Detections]:
    """The plates of each picture: places that are the largest among their neighbours.

    Args:
        maps: ``(N, 10, h, w)``.
        threshold: least score, above 0.
        keep: at most so many plates a picture.
    """
    pictures, grid = len(maps), _Grid(maps)
    level = math.log(threshold / (1 - threshold)) if threshold < 1 else math.inf
    found = np.flatnonzero(grid.maps[:, 0] > level)
    place = found + found // grid.size * (grid.channels - 1) * grid.size
    # Of two equal neighbours the first is the peak.
    place = place[grid.around(place).argmax(axis=1) == _SELF]
    corners, score, two_lines = grid.vote(place)
    picture = place // (grid.channels * grid.size)
    order = np.lexsort((-score, picture))
    corners, score, two_lines = corners[order], score[order], two_lines[order]
    ends = np.searchsorted(picture[order], np.arange(1, pictures + 1)).tolist()
    detections, start = [], 0
    for end in ends:
        part = slice(start, min(end, start + keep))
        detections.append(Detections(corners[part], score[part], two_lines[part]))
        start = end
    return detections


def best(maps: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The best plate of each picture, whatever its score.

    Args:
        maps: ``(N, 10, h, w)``.

    Returns:
        corners ``(N, 4, 2)``, score ``(N,)``, two_lines ``(N,)``; as in ``Detections``.
    """
    grid = _Grid(maps)
    peak = grid.maps[:, 0].reshape(len(maps), -1).argmax(axis=1)
    return grid.vote(np.arange(len(maps)) * (grid.channels * grid.size) + peak)


class _Grid:
    """Maps with a border, in which a place is its number in the flat array of all.

    Args:
        maps: ``(N, 10, h, w)``.
    """

    def __init__(self, maps: FloatArray) -> None:
        number, self.channels, height, width = maps.shape
        height, width = height + 2 * _WINDOW, width + 2 * _WINDOW
        self.size = height * width
        self.maps = np.full((number, self.channels, height, width), _OUTSIDE)
        self.maps[:, :, _WINDOW:-_WINDOW, _WINDOW:-_WINDOW] = maps
        self._flat = self.maps.reshape(-1)
        steps = np.arange(-_WINDOW, _WINDOW + 1)
        self._offsets = (steps[:, None] * width + steps).reshape(-1)

    def around(self, place: IntArray) -> FloatArray:
        """Logits ``(P, 9)`` of places ``(P,)`` and their neighbours, row by row."""
        return self._flat.take(place[:, None] + self._offsets)

    def vote(self, place: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Corners ``(P, 4, 2)``, score ``(P,)`` and two_lines ``(P,)`` of peaks ``(P,)``."""
        channels = (np.arange(self.channels) * self.size)[:, None]
        values = self._flat.take(place[:, None, None] + channels + self._offsets)
        chance = 1 / (1 + np.exp(-values[:, 0]))
        corners = values[:, 2:].reshape(-1, 4, 2, _SIDE * _SIDE)
        peak = corners[..., _SELF]
        apart = corners.sum(axis=1) / 4
        apart -= apart[..., _SELF, None]
        sides = peak[:, 1::2] - peak[:, :1]
        limit = np.square(sides).sum(axis=2).min(axis=1) * _AGREEING**2
        limit = np.maximum(limit, _AGREEING_PIXELS**2)
        shares = chance * (np.square(apart).sum(axis=1) <= limit[:, None])
        shares /= shares.sum(axis=1, keepdims=True)
        means = (values @ shares[..., None])[..., 0]
        two_lines = 1 / (1 + np.exp(-means[:, 1]))
        return means[:, 2:].reshape(-1, 4, 2), chance[:, _SELF], two_lines


def suppress(corners: FloatArray, score: FloatArray) -> IntArray:
    """Leave out what was found twice, as at two sizes of a picture.

    Upright boxes are compared. From the best score down, a plate goes if a better one that stays
    overlaps it by an IoU above 0.3, or holds most of it (or is held by it) together with its centre.

    Args:
        corners: ``(P, 4, 2)``.
        score: ``(P,)``.

    Returns:
        Positions of those that stay, best first.
    """
    order = np.argsort(-score, kind="stable")
    low, high = corners.min(axis=1)[order], corners.max(axis=1)[order]
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.maximum(overlap, 0).prod(axis=2)
    area = (high - low).prod(axis=1)
    centre = (low + high) / 2
    # Whether box i holds the centre of box j.
    holds = ((low[:, None] <= centre) & (centre <= high[:, None])).all(axis=2)
    same = shared > _SAME_IOU * (area[:, None] + area - shared)
    same |= (holds | holds.T) & (shared > _SAME_SHARE * np.minimum(area[:, None], area))
    stays = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= ~same[i, i + 1 :]
    return order[stays]


def quality(iou: FloatArray, score: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
    """How well each picture was dealt with, from 0 to 1: ``(N,)``.

    Where there is a plate it is the IoU of the best one found, 0 if its score is too low; where there
    is none it is 1 unless something was found.

    Args:
        iou: ``(N,)`` of the best plate found with the true one; anything where there is none.
        score: ``(N,)`` of the best plate found.
        present: ``(N,)`` whether there is a plate.
    """
    found = score >= SURE
    return np.where(present, np.where(found, iou, 0.0), ~found)
