"""What the evaluations share: measures over whole sets, their tables and their files.

Every measure is summed over samples; none is an average of batches. torchmetrics takes seconds to import, so
only the two measures that need it do.
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
"""Bins of a plate's height in pixels."""
ANGLE_EDGES = (0, 10, 20, 30, 40, math.inf)
"""Bins of the size of a plate's angle in degrees."""
NOTHING = "(none)"
"""Stands in the confusion matrix for a character that is on one side only."""

SHEET = 16
"""Most pictures on a sheet of failures."""

CALIBRATION_BINS = 15

_DECIMALS = 5
FloatArray = NDArray[np.floating]
wilson = intervals.wilson


def iou_measures(iou: FloatArray) -> dict[str, float]:
    """Mean and recalls of ``(N,)`` intersections over union, one for each true plate."""
    recalls = {f"recall_{round(100 * at)}": float((iou >= at).mean()) for at in RECALL_AT}
    return {"mean_iou": float(iou.mean()), **recalls}


def average_precision(
    found: Sequence[FloatArray], scores: Sequence[FloatArray], true: Sequence[FloatArray]
) -> dict[str, float]:
    """COCO's mean average precision of boxes.

    Args:
        found: for each picture ``(P, 4)`` boxes x1, y1, x2, y2 in pixels.
        scores: for each picture ``(P,)``.
        true: for each picture ``(K, 4)`` boxes.
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
    """Mean distance of each plate's corners: two ``(N, 4, 2)`` to ``(N,)``, in their unit."""
    return np.linalg.norm(found - true, axis=-1).mean(axis=-1)


def spread(values: FloatArray) -> dict[str, float]:
    """Mean, median and 95th percentile of ``(N,)`` values."""
    return {
        "mean": float(np.mean(values)),
        "median": float(np.median(values)),
        "p95": float(np.percentile(values, 95)),
    }


def share(right: int, count: int) -> dict[str, float | int | None]:
    """A share with its count and its 95 % interval, for the metrics; of nothing it is None."""
    low, high = wilson(right, count)
    return {"share": right / count if count else None, "low": low, "high": high, "count": count}


def brier(confidence: FloatArray, right: NDArray[np.bool_]) -> float:
    """Mean square of what ``(N,)`` probabilities are off (Brier, 1950)."""
    return float(np.mean((confidence - right) ** 2))


def reliability(
    confidence: FloatArray, right: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> pd.DataFrame:
    """How often readings of about one probability are right.

    The bins hold equally many readings, so that they are narrow where the probabilities lie (nearly
    all of them near 1) and none of them is nearly empty: the adaptive choice of Nguyen and O'Connor
    (Posterior calibration, EMNLP 2015). torchmetrics' BinaryCalibrationError has bins of equal width.
    Equal probabilities are in one bin, so that the order of the readings does not matter.

    Args:
        confidence: ``(N,)`` probabilities.
        right: ``(N,)``.
        bins: how many; there are fewer where probabilities are equal.

    Returns:
        a row a bin: confidence (mean), accuracy, low and high (its 95 % interval), count.
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
    """Expected calibration error over bins of equally many readings (``reliability``).

    Mean distance of the bins' mean probability from their accuracy, weighted by their counts.
    """
    table = reliability(confidence, right, bins)
    distance = (table["confidence"] - table["accuracy"]).abs()
    return float((distance * table["count"]).sum() / table["count"].sum())


def risk_coverage(confidence: FloatArray, right: NDArray[np.bool_]) -> pd.DataFrame:
    """The share of wrong readings among the most certain ones, for each share of readings.

    Among readings of equal probability the wrong ones are spread evenly: any order would do.

    Args:
        confidence: ``(N,)`` anything that is higher where a reading is more certain.
        right: ``(N,)``.

    Returns:
        ``N`` rows, the most certain first: coverage, risk, confidence (the least that is covered).
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


def doubt(confidence: FloatArray, right: NDArray[np.bool_]) -> dict[str, Any]:
    """How much ``(N,)`` probabilities that readings are right are worth.

    brier_constant is the score of the best constant, which is the share of right readings; aurc the
    area below the risk-coverage curve (Geifman and El-Yaniv, 2017), and excess_aurc what it is above
    that of the best order, in which all wrong readings come last (Geifman, Uziel, El-Yaniv, 2019).
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
    """Edit distance of all texts together over the number of true characters."""
    from torchmetrics.functional.text import char_error_rate

    return float(char_error_rate(list(read), list(true)))


def align(true: Sequence[str], read: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a true and a read character by least edit distance; NOTHING where one is missing."""
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
    """Counts of (actual, predicted) characters of plates' texts; a canton is one character."""
    counts: Counter[tuple[str, str]] = Counter()
    for actual, predicted in zip(true, read, strict=True):
        first, second = [[text[:2], *text[2:]] for text in (actual, predicted)]
        counts.update(zip(first, second, strict=True) if first == second else align(first, second))
    rows = [(*pair, count) for pair, count in sorted(counts.items())]
    return pd.DataFrame(rows, columns=["actual", "predicted", "count"])


def by_bins(
    frame: pd.DataFrame, column: str, edges: Sequence[float], measures: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Means of measures over the samples of each bin; empty bins are left out.

    Args:
        frame: a row a sample.
        column: whose values are put into bins.
        edges: of the bins; the lower one belongs to a bin.
        measures: names in the result, and the columns they are the means of.
    """
    names = [
        f"{low:g}+" if math.isinf(high) else f"{low:g}-{high:g}" for low, high in pairwise(edges)
    ]
    bins = pd.cut(frame[column], list(edges), right=False, labels=names)
    return by_value(frame.assign(_bin=bins), "_bin", measures)


def by_value(
    frame: pd.DataFrame, column: str, measures: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Means of measures over the samples of each value of a column, with their count."""
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
    """For a plot: means of measures at the middle of each bin of ``step``, with their count."""
    middle = (np.floor(frame[column] / step) + 0.5) * step
    groups = frame.assign(_middle=middle).groupby("_middle")
    means = groups[list(measures.values())].mean().set_axis(list(measures), axis=1)
    return means.assign(count=groups.size()).rename_axis(column).reset_index()


def batches(count: int, size: int) -> Iterator[range]:
    """The numbers 0 to ``count`` in batches."""
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def rounded(value: Any) -> Any:
    """Nested plain values, floats rounded so that differences in git stay readable.

    What is no number (a mean of nothing) becomes None, as JSON has no NaN.
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
    """A folder to write results into, with ``plots/images``; it appears when all is written.

    Raises:
        StageError: the disk is full, or the folder cannot be written.
    """
    with complete_folder(folder) as temporary:
        (temporary / "plots" / "images").mkdir(parents=True)
        yield temporary


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Write ``metrics.json`` into a folder of results."""
    text = json.dumps(rounded(metrics), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")


def write_plot(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a table as ``plots/NAME.csv`` into a folder of results, for ``dvc plots``."""
    table.round(_DECIMALS).to_csv(folder / "plots" / f"{name}.csv", index=False)


def chosen(count: int, seed: int, wanted: int = 10) -> list[int]:
    """Numbers of ``wanted`` of ``count`` samples, drawn by a seed; fewer where there are fewer."""
    if not count:
        return []
    generator = np.random.default_rng(seed)
    return generator.choice(count, min(wanted, count), replace=False).tolist()


def worst(frame: pd.DataFrame, failed: pd.Series, by: str, ascending: bool) -> list[int]:
    """Row numbers of the worst failures, at most a sheet's.

    Args:
        frame: a row a sample, numbered from 0.
        failed: ``(N,)`` whether a sample is a failure.
        by: column to sort by.
        ascending: whether the lowest is the worst.
    """
    failures = frame[failed].sort_values(by=by, ascending=ascending, kind="stable")
    return failures.index[:SHEET].tolist()
