"""Exact and near duplicates of images, such as copies saved again as JPEG or shifted by some pixels.

CleanVision defines near duplicates as images with the same perceptual hash. That hash usually changes
when an image is saved again and shifted by two of 84 pixels (bench/quality.py counts how often), so
src/quality/fingerprints.py uses another method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .base import Evidence, NotCheckedError, Scores
from .fingerprints import matches, nearest
from .samples import ImageArray

CANDIDATES = 6
"""Number of nearest images that each image is compared with."""


def in_set(evidence: Evidence) -> Scores:
    """Score 1 for an image that repeats an earlier one of the set; the first of equal images is kept."""
    samples = evidence.whole
    _, first, group = np.unique(evidence.digests, return_index=True, return_inverse=True)
    before = first[group]
    # Several plates of one image share it, which makes no duplicate.
    values = (samples.images != samples.images[before]).astype(float)
    return Scores(values, lambda row: f"the same image as {samples.where(int(before[row]))}")


def leaked(evidence: Evidence) -> Scores:
    """Score 1 for an image that another set contains too."""
    digests, places = _of_others(evidence, lambda other: other.digests, whole=True)
    order = np.argsort(digests, kind="stable")
    found = order[np.searchsorted(digests[order], evidence.digests).clip(max=len(order) - 1)]

    def why(row: int) -> str:
        other, place = places[found[row]]
        return f"the same image as {other.whole.where(place)}"

    return Scores((digests[found] == evidence.digests).astype(float), why)


def nearly_in_set(evidence: Evidence) -> Scores:
    """Score each image by its highest correlation with an earlier image of the set."""
    samples = evidence.samples
    near = nearest(evidence.signatures, evidence.signatures, CANDIDATES, skip_self=True)
    pairs = {
        (max(row, other), min(row, other))
        for row, candidates in enumerate(near.tolist())
        for other in candidates
        if samples.images[row] != samples.images[other]
    }
    return _likest(evidence, samples.image, sorted(pairs), samples.where)


def nearly_leaked(evidence: Evidence) -> Scores:
    """Score each image by its highest correlation with an image of another set."""
    signatures, places = _of_others(evidence, lambda other: other.signatures, whole=False)
    near = nearest(evidence.signatures, signatures, CANDIDATES, skip_self=False)
    pairs = [(row, other) for row, every in enumerate(near.tolist()) for other in every]

    def image(number: int) -> ImageArray:
        other, row = places[number]
        return other.samples.image(row)

    def where(number: int) -> str:
        other, row = places[number]
        return other.samples.where(row)

    return _likest(evidence, image, pairs, where)


def _of_others(
    evidence: Evidence, what: Callable[[Evidence], np.ndarray], whole: bool
) -> tuple[np.ndarray, list[tuple[Evidence, int]]]:
    """Return the concatenated arrays of all other sets, and for each row its set and its row there."""
    if not evidence.others:
        raise NotCheckedError("there is no other set")
    places = [
        (other, row)
        for other in evidence.others
        for row in range(len(other.whole if whole else other.samples))
    ]
    return np.concatenate([what(other) for other in evidence.others]), places


def _likest(
    evidence: Evidence,
    image: Callable[[int], ImageArray],
    pairs: Sequence[tuple[int, int]],
    where: Callable[[int], str],
) -> Scores:
    """Score the first image of each pair by its best match among the second ones, given by ``image``."""
    values = np.zeros(len(evidence.samples))
    best = np.zeros(len(values), dtype=int)
    alike = matches(evidence.samples.image, image, pairs)
    for (row, other), value in zip(pairs, alike, strict=True):
        if value > values[row]:
            values[row], best[row] = value, other
    return Scores(values, lambda row: f"similarity of {values[row]:.2f} to {where(int(best[row]))}")
