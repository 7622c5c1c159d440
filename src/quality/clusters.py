"""Clusters of the network's features: what kinds of pictures there are, and which ones a set lacks."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .base import Evidence, Scores
from .coverage import balance

LEAST_SAMPLES = 50
EXAMPLES = 3
BEYOND_CHANCE = 4.0
"""Standard deviations."""
LEAST_SHARE = 0.6
"""Clusters of two sets never coincide, so that what one lacks is part of one of both."""
_FIRST = 99.0


def clusters(evidence: Evidence) -> Scores:
    """k-means of features of length 1, which is by their cosine, of this set and another one together.

    Scores by the distance from the nearest centre, 1 being that of the 99th percentile of the other
    set (or of this one, alone): a sample beyond the threshold is unlike all clusters. What is compared
    with the limit is the number of clusters that this set lacks: it has far fewer of its pictures than
    it would have if it were like the other.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

    against, seed = evidence.against, evidence.params.SEED
    parts = [evidence]
    if against and len(against.samples) >= LEAST_SAMPLES:
        parts.append(against)
    compared = parts[-1]
    # Centred: all pictures have most of their features in common, whose direction is no difference.
    centre = compared.features.mean(axis=0)
    points = [_directions(part.features - centre) for part in parts]
    total = len(points[0])
    count = min(evidence.params.CLUSTERS, total // 10)
    # Threads that wait for each other take minutes where others use the processor too.
    with threadpool_limits(1):
        means = KMeans(count, n_init=2, random_state=seed).fit(_balanced(points, seed))
    distances = [means.transform(part) for part in points]
    nearest = [part.argmin(axis=1) for part in distances]
    sizes = np.bincount(nearest[0], minlength=count)
    expected = np.bincount(nearest[-1], minlength=count) * total / len(nearest[-1])
    # Beyond chance: about the standard deviation of the difference of two counts.
    deficit = (expected - sizes) / np.sqrt(expected + sizes + 1)
    lacking = (deficit > BEYOND_CHANCE) & (sizes < LEAST_SHARE * expected)
    least = [part.min(axis=1) for part in distances]
    values = least[0] / max(np.percentile(least[-1], _FIRST), 1e-12)
    order = np.argsort(distances[0], axis=0, kind="stable")
    return Scores(
        values,
        lambda row: f"{values[row]:.2f} times as far from all clusters as 99 % of the pictures",
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
            f"cluster {number}: {sizes[number]} pictures, {expected[number]:.0f} expected; those of "
            f"{compared.name} are in its report"
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
    """Equally many of each part, so that the larger set does not make all clusters its own."""
    least = min(len(part) for part in parts)
    draws = np.random.default_rng(seed)
    return np.concatenate([part[draws.permutation(len(part))[:least]] for part in parts])
