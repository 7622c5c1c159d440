"""Clusters of network features: which kinds of images exist, and which of them a set lacks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .base import Evidence, NotCheckedError, Scores
from .coverage import balance

LEAST_SAMPLES = 50
EXAMPLES = 3
BEYOND_CHANCE = 4.0
"""Number of standard deviations by which a count must fall short to count as lacking."""
LEAST_SHARE = 0.6
"""A set lacks a cluster only if it holds less than this fraction of the expected count.

The clusters of two sets never coincide, so the images that one set lacks are only part of a joint
cluster.
"""
_FIRST = 99.0


def clusters(evidence: Evidence) -> Scores:
    """Cluster the features of a set, and report clusters that it lacks compared with another set.

    k-means runs on L2-normalised features (so it compares by cosine) of both sets together. The score
    of a sample is its distance from the nearest centre, divided by the 99th percentile of those
    distances in the other set (or in this set, if there is no other): a sample above the threshold is
    unlike all clusters. The value compared with the limit is the number of clusters that this set
    lacks, that is, of which it has far fewer images than it would have if it resembled the other set.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

    against, seed = evidence.against, evidence.params.SEED
    parts = [evidence]
    if against and len(against.samples) >= LEAST_SAMPLES:
        parts.append(against)
    compared = parts[-1]
    # Centre the features: all images share a large common component, which distinguishes none of them.
    centre = compared.features.mean(axis=0)
    points = [_directions(part.features - centre) for part in parts]
    total, drawn = len(points[0]), _balanced(points, seed)
    # Copies of an image are a single point, and as many clusters as points are the most there can be.
    count = min(evidence.params.CLUSTERS, total // 10, len(np.unique(drawn.round(6), axis=0)))
    if count < 2:
        raise NotCheckedError("all images have the same features")
    # On a busy CPU, threads that wait for each other take minutes.
    with threadpool_limits(1):
        means = KMeans(count, n_init=2, random_state=seed).fit(drawn)
    distances = [means.transform(part) for part in points]
    nearest = [part.argmin(axis=1) for part in distances]
    sizes = np.bincount(nearest[0], minlength=count)
    expected = np.bincount(nearest[-1], minlength=count) * total / len(nearest[-1])
    # The divisor approximates the standard deviation of the difference of two counts.
    deficit = (expected - sizes) / np.sqrt(expected + sizes + 1)
    lacking = (deficit > BEYOND_CHANCE) & (sizes < LEAST_SHARE * expected)
    least = [part.min(axis=1) for part in distances]
    values = least[0] / max(np.percentile(least[-1], _FIRST), 1e-12)
    order = np.argsort(distances[0], axis=0, kind="stable")
    return Scores(
        values,
        lambda row: f"distance to nearest cluster: {values[row]:.2f} times the 99th percentile",
        value=float(lacking.sum()),
        measures={
            "clusters": count,
            "entropy": balance(pd.Series(sizes)),
            "largest": float(sizes.max() / total),
            "smallest": float(sizes.min() / total),
        },
        tables={
            "clusters": pd.DataFrame(
                {
                    "cluster": np.arange(count),
                    "count": sizes,
                    "expected": expected,
                    "lacking": lacking,
                }
            )
        },
        explanation=[
            f"cluster {number}: {sizes[number]} images, {expected[number]:.0f} expected; for examples "
            f"see the report on {compared.name}"
            for number in np.flatnonzero(lacking).tolist()
        ],
        groups={
            f"cluster {number}: {sizes[number]}": [
                int(row) for row in order[:EXAMPLES, number] if nearest[0][row] == number
            ]
            for number in np.argsort(-sizes).tolist()
        },
    )


def _directions(points: np.ndarray) -> np.ndarray:
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)


def _balanced(parts: list[np.ndarray], seed: int) -> np.ndarray:
    """Draw equally many points of each part, so that the larger set does not dominate the clusters."""
    least = min(len(part) for part in parts)
    draws = np.random.default_rng(seed)
    return np.concatenate([part[draws.permutation(len(part))[:least]] for part in parts])
