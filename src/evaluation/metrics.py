"""Metrics over whole sets, and the tables and files that the evaluations share.

Every metric is computed over samples, and none is an average of batches. torchmetrics takes seconds to
import, so only the two metrics that need it import it.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import intervals
from ..core.files import complete_folder

RECALL_AT = (0.5, 0.7, 0.9)
HEIGHT_EDGES = (0, 10, 15, 20, 25, 30, 40, 60, 100, math.inf)
"""Bin edges of a plate's height in pixels."""
ANGLE_EDGES = (0, 10, 20, 30, 40, math.inf)
"""Bin edges of the absolute value of a plate's angle in degrees."""
NOTHING = "(none)"
"""Placeholder in the confusion matrix for a character that has no counterpart."""

SHEET = 16
"""Maximum number of images on a sheet of failures."""

CALIBRATION_BINS = 15

_DECIMALS = 5
FloatArray = NDArray[np.floating]
wilson = intervals.wilson


def iou_measures(iou: FloatArray) -> dict[str, float]:
    """Return the mean and recalls of IoU values ``(N,)``, one per annotated plate."""
    recalls = {f"recall_{round(100 * at)}": float((iou >= at).mean()) for at in RECALL_AT}
    return {"mean_iou": float(iou.mean()), **recalls}


def average_precision(
    found: Sequence[FloatArray], scores: Sequence[FloatArray], true: Sequence[FloatArray]
) -> dict[str, float]:
    """Return COCO's mean average precision of boxes.

    Args:
        found: Detected boxes of each image as x1, y1, x2, y2 in pixels, shape ``(P, 4)``.
        scores: Scores of the detected boxes of each image, shape ``(P,)``.
        true: Annotated boxes of each image as x1, y1, x2, y2 in pixels, shape ``(K, 4)``.
    """
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox")
    metric.update(
        [
            {
                "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "scores": torch.as_tensor(score, dtype=torch.float32),
                "labels": torch.zeros(len(boxes), dtype=torch.int64),
            }
            for boxes, score in zip(found, scores, strict=True)
        ],
        [
            {
                "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "labels": torch.zeros(len(boxes), dtype=torch.int64),
            }
            for boxes in true
        ],
    )
    result = metric.compute()
    return {name: float(result[name]) for name in ("map", "map_50", "map_75")}


def corner_errors(found: FloatArray, true: FloatArray) -> FloatArray:
    """Return each plate's mean corner distance: from two ``(N, 4, 2)`` to ``(N,)``, in the same unit."""
    return np.linalg.norm(found - true, axis=-1).mean(axis=-1)


def spread(values: FloatArray) -> dict[str, float]:
    """Return the mean, median and 95th percentile of values ``(N,)``."""
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
    }


def share(right: int, count: int) -> dict[str, float | int | None]:
    """Return a share with its count and its 95 % interval; the share is None if the count is 0."""
    low, high = wilson(right, count)
    return {"share": right / count if count else None, "low": low, "high": high, "count": count}


def brier(confidence: FloatArray, right: NDArray[np.bool_]) -> float:
    """Return the Brier score, the mean squared error of probabilities ``(N,)`` (Brier, 1950)."""
    return float(np.mean((confidence - right) ** 2))


def reliability(
    confidence: FloatArray, right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> pd.DataFrame:
    """Return the accuracy of readings in bins of their probability.

    All bins hold the same number of readings, so that they are narrow where most probabilities lie
    (nearly all are close to 1) and none is almost empty. These are the adaptive bins of Nguyen and
    O'Connor (Posterior calibration, EMNLP 2015); torchmetrics' BinaryCalibrationError uses bins of equal
    width. Equal probabilities share a bin, so that the order of the readings does not matter.

    Args:
        confidence: Probability of each reading, shape ``(N,)``.
        right: Whether each reading is right, shape ``(N,)``.
        bins: Number of bins; there are fewer if probabilities are equal.

    Returns:
        One row per bin, with the columns confidence (mean), accuracy, low and high (its 95 % interval)
        and count.
    """
    if not len(right):
        names = ["confidence", "accuracy", "low", "high", "count"]
        return pd.DataFrame(columns=names, dtype=float)
    ordered = np.sort(confidence)
    starts = ordered[np.arange(1, bins) * len(ordered) // bins]
    frame = pd.DataFrame({"confidence": confidence, "right": right})
    groups = frame.groupby(np.searchsorted(starts, confidence, side="right"))
    table = groups.mean().set_axis(["confidence", "accuracy"], axis=1)
    counts, hits = groups.size().tolist(), groups["right"].sum().astype(int).tolist()
    intervals = [wilson(hit, count) for hit, count in zip(hits, counts, strict=True)]
    table[["low", "high"]] = np.array(intervals).reshape(-1, 2)
    return table.assign(count=counts).reset_index(drop=True)


def calibration_error(
    confidence: FloatArray, right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float:
    """Return the expected calibration error over the bins of ``reliability``.

    It is the mean absolute difference of the bins' mean probability and accuracy, weighted by their
    counts.
    """
    table = reliability(confidence, right, bins)
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float((distance * table["count"]).sum() / table["count"].sum())


def risk_coverage(confidence: FloatArray, right: NDArray[np.bool_]) -> pd.DataFrame:
    """Return the risk-coverage curve: the error rate among the most confident readings.

    The wrong readings among those of equal confidence are spread evenly, as their order is arbitrary.

    Args:
        confidence: Any value that is higher for more confident readings, shape ``(N,)``.
        right: Whether each reading is right, shape ``(N,)``.

    Returns:
        ``N`` rows by descending confidence, with the columns coverage, risk and confidence (the lowest
        one covered).
    """
    if not len(right):
        return pd.DataFrame(columns=["coverage", "risk", "confidence"], dtype=float)
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    wrong = np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    taken = np.arange(1, len(ordered) + 1)
    spread_evenly = np.interp(taken, [0, *(ends + 1)], [0, *wrong[ends]])
    return pd.DataFrame(
        {"coverage": taken / len(taken), "risk": spread_evenly / taken, "confidence": ordered}
    )


def uncertainty(confidence: FloatArray, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the uncertainty metrics of probabilities ``(N,)`` that readings are right.

    ``brier_constant`` is the Brier score of the best constant, which is the share of right readings.
    ``aurc`` is the area under the risk-coverage curve (Geifman and El-Yaniv, 2017). ``excess_aurc`` is
    the excess of ``aurc`` over that of the best order, in which all wrong readings come last (Geifman,
    Uziel, El-Yaniv, 2019).
    """
    if not len(right):
        names = ("accuracy", "brier", "brier_constant", "ece", "aurc", "excess_aurc")
        return {"count": 0, **dict.fromkeys(names)}
    accuracy = float(right.mean())
    aurc = float(risk_coverage(confidence, right)["risk"].mean())
    best = float(risk_coverage(right.astype(float), right)["risk"].mean())
    return {
        "count": len(right),
        "accuracy": accuracy,
        "brier": brier(confidence, right),
        "brier_constant": accuracy * (1 - accuracy),
        "ece": calibration_error(confidence, right),
        "aurc": aurc,
        "excess_aurc": aurc - best,
    }


def character_error_rate(read: Sequence[str], true: Sequence[str]) -> float:
    """Return the total edit distance of all texts, divided by the number of annotated characters."""
    from torchmetrics.functional.text import char_error_rate

    return float(char_error_rate(list(read), list(true)))


def align(true: Sequence[str], read: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the characters of two texts by minimum edit distance; ``NOTHING`` stands for a gap."""
    costs = np.zeros((len(true) + 1, len(read) + 1), dtype=int)
    costs[:, 0], costs[0] = np.arange(len(true) + 1), np.arange(len(read) + 1)
    for i, actual in enumerate(true, start=1):
        for j, predicted in enumerate(read, start=1):
            costs[i, j] = min(
                costs[i - 1, j - 1] + (actual != predicted),
                costs[i - 1, j] + 1,
                costs[i, j - 1] + 1,
            )
    pairs = []
    i, j = len(true), len(read)
    while i or j:
        if i and j and costs[i, j] == costs[i - 1, j - 1] + (true[i - 1] != read[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((true[i], read[j]))
        elif i and costs[i, j] == costs[i - 1, j] + 1:
            i -= 1
            pairs.append((true[i], NOTHING))
        else:
            j -= 1
            pairs.append((NOTHING, read[j]))
    return pairs[::-1]


def confusion(true: Sequence[str], read: Sequence[str]) -> pd.DataFrame:
    """Count the pairs of actual and predicted characters of plates; a canton is one character."""
    counts: Counter[tuple[str, str]] = Counter()
    for actual, predicted in zip(true, read, strict=True):
        first, second = [[text[:2], *text[2:]] for text in (actual, predicted)]
        counts.update(zip(first, second, strict=True) if first == second else align(first, second))
    rows = [(*pair, count) for pair, count in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["actual", "predicted", "count"])


def by_bins(
    frame: pd.DataFrame, column: str, edges: Sequence[float], measures: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return the means of metrics over the samples in each bin; empty bins are left out.

    Args:
        frame: Table with one row per sample.
        column: Column whose values are binned.
        edges: Edges of the bins; a bin includes its lower edge.
        measures: Columns to average, by their name in the result.
    """
    names = [
        f"{low:g}+" if math.isinf(high) else f"{low:g}-{high:g}" for low, high in pairwise(edges)
    ]
    bins = pd.cut(frame[column], list(edges), right=False, labels=names)
    return by_value(frame.assign(_bin=bins), "_bin", measures)


def by_value(
    frame: pd.DataFrame, column: str, measures: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return the means of metrics over the samples of each value of a column, with their count."""
    return {
        str(value): {
            "count": len(group),
            **{name: float(group[source].mean()) for name, source in measures.items()},
        }
        for value, group in frame.groupby(column, observed=True, sort=True)
    }


def curve(
    frame: pd.DataFrame, column: str, step: float, measures: Mapping[str, str]
) -> pd.DataFrame:
    """Return the means of metrics and the count at the centre of each bin of ``step``, for a plot."""
    middle = (np.floor(frame[column] / step) + 0.5) * step
    groups = frame.assign(_middle=middle).groupby("_middle")
    means = groups[list(measures.values())].mean().set_axis(list(measures), axis=1)
    return means.assign(count=groups.size()).rename_axis(column).reset_index()


def batches(count: int, size: int) -> Iterator[range]:
    """Yield the indices of ``count`` samples in batches of ``size``."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def rounded(value: Any) -> Any:
    """Return nested plain values with rounded floats, so that differences in Git stay readable.

    NaN (the mean of no values) and infinity become None, as JSON has neither.
    """
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return round(float(value), _DECIMALS) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value


@contextmanager
def results_folder(folder: Path) -> Iterator[Path]:
    """Open a results folder with ``plots/images``, which appears only once all files are written.

    Raises:
        StageError: The disk is full, or the folder cannot be written.
    """
    with complete_folder(folder) as temporary:
        (temporary / "plots" / "images").mkdir(parents=True)
        yield temporary


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write ``metrics.json`` into a results folder."""
    text = json.dumps(rounded(metrics), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def write_plot(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a table as ``plots/NAME.csv`` into a results folder, for ``dvc plots``."""
    table.round(_DECIMALS).to_csv(folder / "plots" / f"{name}.csv", index=False)


def chosen(count: int, seed: int, wanted: int = 10) -> list[int]:
    """Return indices of up to ``wanted`` of ``count`` samples, chosen at random by a seed."""
    if not count:
        return []
    generator = np.random.default_rng(seed)
    return generator.choice(count, min(wanted, count), replace=False).tolist()


def worst(frame: pd.DataFrame, failed: pd.Series, by: str, ascending: bool) -> list[int]:
    """Return the row indices of the worst failures, at most as many as fit on a sheet.

    Args:
        frame: Table with one row per sample, indexed from 0.
        failed: Whether each sample is a failure, shape ``(N,)``.
        by: Column to sort by.
        ascending: Whether the lowest value is the worst.
    """
    failures = frame[failed].sort_values(by=by, ascending=ascending, kind="stable")
    return failures.index[:SHEET].tolist()
