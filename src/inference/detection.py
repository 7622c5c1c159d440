"""Convert a localizer's maps to plates (numpy, no torch).

Maps are ``(N, 10, h, w)`` arrays as described by ``Localizer`` in src/models/base.py: for each cell of a
coarse grid, the logit of a plate, the logit of two lines, and the four corners in pixels. All cells
around a plate's centre vote for its corners, and the mean of their votes is better than any single one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
IntArray = NDArray[np.intp]

SURE = 0.5
"""Minimum score at which metrics count a plate as found."""

# The nearest cell and those around it; src/models/losses.py trains the mean of the same votes.
_WINDOW = 1
_SIDE = 2 * _WINDOW + 1
_SELF = _SIDE * _SIDE // 2
# Logit of cells outside the image: no probability, but its exponential is a double, so that nothing
# overflows.
_OUTSIDE = -700.0
# Votes whose centre is farther from the peak's than this fraction of its shorter side belong to another
# plate; within this many pixels they always belong to the same one.
_AGREEING = 0.5
_AGREEING_PIXELS = 2.0
# Two boxes are the same plate from this IoU on, ...
_SAME_IOU = 0.3
# ... or where they share this fraction of the smaller area and one holds the other's centre, as with a
# plate and its half.
_SAME_SHARE = 0.7


@dataclass(frozen=True)
class Detections:
    """The P plates of an image, sorted by descending score.

    Attributes:
        corners: Plate corners in pixels of the localizer's input, shape ``(P, 4, 2)``, clockwise from
            the plate's own top left.
        score: Probability that there is a plate, shape ``(P,)``.
        two_lines: Probability that the plate has two lines, shape ``(P,)``.
    """

    corners: FloatArray
    score: FloatArray
    two_lines: FloatArray


def detect(maps: FloatArray, threshold: float, keep: int) -> list[Detections]:
    """Return the plates of each image: cells with the largest score among their neighbours.

    Args:
        maps: Maps of the localizer, shape ``(N, 10, h, w)``.
        threshold: Minimum score, above 0.
        keep: Maximum number of plates per image.
    """
    images, grid = len(maps), _Grid(maps)
    level = math.log(threshold / (1 - threshold)) if threshold < 1 else math.inf
    found = np.flatnonzero(grid.maps[:, 0] > level)
    place = found + found // grid.size * (grid.channels - 1) * grid.size
    # Of two equal neighbours the first is the peak.
    place = place[grid.around(place).argmax(axis=1) == _SELF]
    corners, score, two_lines = grid.vote(place)
    image = place // (grid.channels * grid.size)
    order = np.lexsort((-score, image))
    corners, score, two_lines = corners[order], score[order], two_lines[order]
    ends = np.searchsorted(image[order], np.arange(1, images + 1)).tolist()
    detections, start = [], 0
    for end in ends:
        part = slice(start, min(end, start + keep))
        detections.append(Detections(corners[part], score[part], two_lines[part]))
        start = end
    return detections


def best(maps: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the best plate of each image, whatever its score.

    Args:
        maps: Maps of the localizer, shape ``(N, 10, h, w)``.

    Returns:
        Corners ``(N, 4, 2)``, scores ``(N,)`` and probabilities of two lines ``(N,)``, as in
        ``Detections``.
    """
    grid = _Grid(maps)
    peak = grid.maps[:, 0].reshape(len(maps), -1).argmax(axis=1)
    return grid.vote(np.arange(len(maps)) * (grid.channels * grid.size) + peak)


class _Grid:
    """Maps with a border, whose cells are addressed by their index in the flattened array.

    Args:
        maps: Maps of the localizer, shape ``(N, 10, h, w)``.
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
        """Return the logits ``(P, 9)`` of cells ``(P,)`` and their neighbours, row by row."""
        return self._flat.take(place[:, None] + self._offsets)

    def vote(self, place: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return corners ``(P, 4, 2)``, scores ``(P,)`` and two_lines ``(P,)`` of peaks ``(P,)``."""
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
    """Remove duplicate plates, such as those found at two sizes of an image.

    Upright boxes are compared. In order of descending score, a plate is removed if a better one that is
    kept overlaps it by an IoU above 0.3, or contains most of it (or is contained by it) together with
    its centre.

    Args:
        corners: Plate corners, shape ``(P, 4, 2)``.
        score: Score of each plate, shape ``(P,)``.

    Returns:
        Indices of the plates that are kept, sorted by descending score.
    """
    order = np.argsort(-score, kind="stable")
    low, high = corners.min(axis=1)[order], corners.max(axis=1)[order]
    overlap = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    shared = np.maximum(overlap, 0).prod(axis=2)
    area = (high - low).prod(axis=1)
    centre = (low + high) / 2
    # Whether box i contains the centre of box j.
    holds = ((low[:, None] <= centre) & (centre <= high[:, None])).all(axis=2)
    same = shared > _SAME_IOU * (area[:, None] + area - shared)
    same |= (holds | holds.T) & (shared > _SAME_SHARE * np.minimum(area[:, None], area))
    stays = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if stays[i]:
            stays[i + 1 :] &= ~same[i, i + 1 :]
    return order[stays]


def quality(iou: FloatArray, score: FloatArray, present: NDArray[np.bool_]) -> FloatArray:
    """Return how well each image was handled, from 0 to 1, shape ``(N,)``.

    Where there is a plate, this is the IoU of the best one found, or 0 if its score is too low; where
    there is none, it is 1 unless something was found.

    Args:
        iou: IoU of the best plate found with the annotated one, shape ``(N,)``; any value where there is
            no plate.
        score: Score of the best plate found, shape ``(N,)``.
        present: Whether there is a plate, shape ``(N,)``.
    """
    found = score >= SURE
    return np.where(present, np.where(found, iou, 0.0), ~found)
