"""Exact and near duplicates of images, such as copies saved again as JPEG or shifted by some pixels.

CleanVision defines near duplicates as images with the same perceptual hash. That hash usually changes
when an image is saved again and shifted by two of 84 pixels (bench/quality.py counts how often), so
src/quality/fingerprints.py uses another method.

An image that is identical to another one is an exact duplicate and no near one. So each image is flagged by
one of the two checks, and many copies of an image do not take the places of candidates that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from .base import Evidence, NotCheckedError, Scores
from .fingerprints import matches, nearest, nearest_earlier
from .samples import FloatArray, ImageArray, Samples

CANDIDATES = 6
"""Number of nearest images that each image is compared with."""


def in_set(evidence: Evidence) -> Scores:
    """Score 1 for an image that repeats an earlier one of the set; the first of equal images is kept."""
    samples, before = evidence.whole, evidence.first_equal
    values = _is_copy(evidence).astype(float)
    return Scores(values, lambda row: f"the same image as {samples.where(int(before[row]))}")


def _is_copy(evidence: Evidence) -> NDArray[np.bool_]:
    """Return whether each row of the whole set repeats the image of an earlier row."""
    images = evidence.whole.images
    # Several plates of one image share it, which makes no duplicate.
    return np.asarray(images != images[evidence.first_equal])


def leaked(evidence: Evidence) -> Scores:
    """Score 1 for an image that another set contains too."""
    if not evidence.others:
        raise NotCheckedError("there is no other set")
    places = [(other, row) for other in evidence.others for row in range(len(other.whole))]
    digests = np.concatenate([other.digests for other in evidence.others])
    order = np.argsort(digests, kind="stable")
    found = order[np.searchsorted(digests[order], evidence.digests).clip(max=len(order) - 1)]

    def why(row: int) -> str:
        other, place = places[found[row]]
        return f"the same image as {other.whole.where(place)}"

    return Scores((digests[found] == evidence.digests).astype(float), why)


def nearly_in_set(evidence: Evidence) -> Scores:
    """Score each image by its highest correlation with an earlier image of the set; 0 for exact copies."""
    samples, shown = evidence.samples, evidence.representatives
    distinct = np.unique(shown)
    near = nearest_earlier(evidence.signatures[distinct], CANDIDATES)
    pairs = [
        (row, int(distinct[other]))
        for row, candidates in zip(distinct.tolist(), near.tolist(), strict=True)
        for other in candidates
        if other >= 0
    ]
    values, best = _likest(samples, samples.image, pairs)
    # All plates of an image have its score.
    values, best = values[shown], best[shown]
    values[_is_copy(evidence)[evidence.rows]] = 0
    return _similarity(values, lambda row: samples.where(int(best[row])))


def nearly_leaked(evidence: Evidence) -> Scores:
    """Score each image by its highest correlation with an image of another set; 0 for exact copies."""
    is_copy = leaked(evidence).each[evidence.rows] > 0
    others = [other for other in evidence.others if len(other.samples)]
    if not others:
        raise NotCheckedError("no other set has an image that can be read")
    distinct = [np.unique(other.representatives) for other in others]
    places = [
        (other, row) for other, rows in zip(others, distinct, strict=True) for row in rows.tolist()
    ]
    signatures = np.concatenate(
        [other.signatures[rows] for other, rows in zip(others, distinct, strict=True)]
    )
    near = nearest(evidence.signatures, signatures, CANDIDATES)
    pairs = [(row, other) for row, candidates in enumerate(near.tolist()) for other in candidates]

    def image(number: int) -> ImageArray:
        other, row = places[number]
        return other.samples.image(row)

    values, best = _likest(evidence.samples, image, pairs)
    values[is_copy] = 0

    def where(row: int) -> str:
        other, place = places[int(best[row])]
        return other.samples.where(place)

    return _similarity(values, where)


def _likest(
    samples: Samples, image: Callable[[int], ImageArray], pairs: Sequence[tuple[int, int]]
) -> tuple[FloatArray, NDArray[np.intp]]:
    """Return the highest similarity of each sample, and the number of the image that it is to.

    Args:
        samples: Samples that are compared.
        image: Function that returns the image of a number.
        pairs: Row of a sample and number of the image that it is compared with.
    """
    values = np.zeros(len(samples))
    best = np.zeros(len(values), dtype=np.intp)
    alike = matches(samples.image, image, pairs)
    for (row, other), value in zip(pairs, alike, strict=True):
        if value > values[row]:
            values[row], best[row] = value, other
    return values, best


def _similarity(values: FloatArray, where: Callable[[int], str]) -> Scores:
    return Scores(values, lambda row: f"similarity of {values[row]:.2f} to {where(row)}")
