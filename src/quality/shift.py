"""Distribution shift between two sets, such as training and feedback, or two versions of a set."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .base import Evidence, NotCheckedError, Scores
from .clusters import LEAST_SAMPLES

FOLDS = 5
_IMAGE = ("brightness", "contrast", "blurry", "entropy")
_LABEL = ("width", "height", "plate_height", "angle", "w", "h")


def shift(evidence: Evidence) -> Scores:
    """Test whether two sets differ in distribution.

    The test is a classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017), along with tests of single
    statistics. A logistic regression on features tells this set's samples from the other's; it predicts
    on folds that it was not trained on. The value compared with the limit is its area under the ROC
    curve, 0.5 if the sets do not differ. This is an effect size and not a p-value, because in large sets
    any difference is significant. The score of a sample is its probability of belonging to this set:
    samples above the threshold are unlike the other set.
    """
    against = evidence.against
    if against is None:
        raise NotCheckedError("there is no other set")
    if len(against.samples) < LEAST_SAMPLES:
        raise NotCheckedError(
            f"the other set has {len(against.samples)} samples; {LEAST_SAMPLES} are needed"
        )
    chances, area, p = _told_apart(evidence.features, against.features, evidence.params.SEED)
    statistics = _statistics(evidence, against)
    return Scores(
        chances,
        lambda row: f"distinguished from {against.name} with probability {chances[row]:.2f}",
        value=area,
        measures={
            "against": against.name,
            "p": p,
            "shifted_statistics": int((statistics["p"] < 0.001).sum()),
            "largest_ks": float(statistics["ks"].max()) if len(statistics) else None,
        },
        tables={"statistics": statistics},
    )


def _told_apart(mine: np.ndarray, theirs: np.ndarray, seed: int) -> tuple[np.ndarray, float, float]:
    """Return the probabilities of belonging to this set, shape ``(n,)``, the ROC AUC and its p-value."""
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # no stubs

    points = np.concatenate([mine, theirs])
    is_mine = np.arange(len(points)) < len(mine)
    # Balance the classes, so that the smaller set counts as much as the larger one.
    regression = LogisticRegression(C=0.1, max_iter=200, class_weight="balanced")
    model = make_pipeline(StandardScaler(), regression)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    with threadpool_limits(1):
        chances = cross_val_predict(model, points, is_mine, cv=folds, method="predict_proba")[:, 1]
    test = mannwhitneyu(chances[is_mine], chances[~is_mine], alternative="greater")
    area = float(test.statistic / len(mine) / len(theirs))
    return chances[: len(mine)], area, float(test.pvalue)


def _statistics(mine: Evidence, theirs: Evidence) -> pd.DataFrame:
    """Return the Kolmogorov-Smirnov distance, the p-value and both means of each statistic.

    The p-values are adjusted for all statistics together by the method of Benjamini and Hochberg: a
    threshold on them limits the expected fraction of false positives among the significant ones.
    """
    from scipy.stats import false_discovery_control, ks_2samp

    tables = [_values(item) for item in (mine, theirs)]
    rows = []
    for name in tables[0]:
        values = [table[name].dropna().to_numpy(np.float64) for table in tables]
        if min(len(part) for part in values) >= 20:
            test = ks_2samp(*values, method="asymp")
            rows.append((name, test.statistic, test.pvalue, values[0].mean(), values[1].mean()))
    table = pd.DataFrame(rows, columns=["statistic", "ks", "p", "mean", "mean_of_other"])
    if len(table):
        table["p"] = false_discovery_control(table["p"])
    return table.sort_values("ks", ascending=False, ignore_index=True)


def _values(evidence: Evidence) -> pd.DataFrame:
    labels = evidence.samples.labels
    counts = {
        "digits": (labels["plate"].str.len() - 2).where(labels["plate"] != ""),
        "lines": labels["lines"].where(labels["lines"] > 0),
    }
    return pd.concat([evidence.images[list(_IMAGE)], labels[list(_LABEL)].assign(**counts)], axis=1)
