"""Measures of the stack on pictures with known plates."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from src.datasets.truth import TruePicture, TruePlate
from src.geometry import box_iou, box_to_corners, xyxy_to_box
from src.stack.pipeline import Stack, StackResult
from src.utils import evaluation

_WARM_UP = 5


class Truth(Iterable[TruePicture], Sized, Protocol):
    """Pictures with known plates: TruthFile, PreparedTruth."""

    has_corners: bool
    has_text: bool


@dataclass(frozen=True)
class Scores:
    """What came out of a set of pictures.

    Attributes:
        results: one for each picture.
        table: a row for each true plate: picture (its number), name, plate, text, confidence, iou,
            error (of the corners in pixels), height, angle, size_of_angle, text_on_truth (what the
            reader reads at the true corners), right, right_on_truth. What is not known is None
            or not a number; a plate of a picture whose one result is another plate has the text "".
        precision: mean average precision of the boxes.
        notes: what a reader of the measures must know.
    """

    results: list[StackResult]
    table: pd.DataFrame
    precision: dict[str, float]
    notes: list[str]


def score(stack: Stack, truth: Truth) -> Scores:
    """Run the stack over pictures, and its reader once more at the true corners.

    A reader that takes corners cannot be judged by upright boxes (a turned plate cut out by its box
    looks like nothing it has learnt), so without true corners it is not; one that takes boxes can.
    """
    notes = []
    judge_reader = truth.has_corners or stack.reader.rectification == "box"
    if not truth.has_corners:
        notes.append(
            "no corners are given: heights are those of the boxes, and there are no angles"
        )
        if not judge_reader:
            notes.append(
                "lost_by_localizer and lost_by_reader are left out: this reader takes corners"
            )
    if not truth.has_text:
        notes.append("no text is given: the boxes alone are measured")
    results: list[StackResult] = []
    rows: list[dict[str, Any]] = []
    boxes: list[NDArray[np.floating]] = []
    for batch in _batches(truth, stack.batch_size):
        found = stack.read_batch([item.picture for item in batch])
        for number, (item, result) in enumerate(zip(batch, found, strict=True), len(results)):
            rows += _compare(number, item, result)
            boxes.append(np.stack([plate.box for plate in item.plates]))
        if judge_reader and truth.has_text:
            pairs = [(item.picture, _corners(plate)) for item in batch for plate in item.plates]
            pictures, corners = zip(*pairs, strict=True)
            on_truth = stack.read(pictures, corners)
            for row, reading in zip(rows[-len(pairs) :], on_truth, strict=True):
                row["text_on_truth"] = reading.text
        results += found
    table = pd.DataFrame(rows)
    table = table.assign(
        size_of_angle=table["angle"].abs(),
        right=table["text"] == table["plate"],
        right_on_truth=table["text_on_truth"] == table["plate"],
    )
    precision = evaluation.average_precision(
        [np.array([result.box]) for result in results],
        [np.array([result.score]) for result in results],
        boxes,
    )
    return Scores(results, table, precision, notes)


def _batches(truth: Truth, size: int) -> Iterator[list[TruePicture]]:
    batch: list[TruePicture] = []
    for item in tqdm(truth, total=len(truth), unit=" pictures", desc="stack", mininterval=0.5):
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _corners(plate: TruePlate) -> NDArray[np.floating]:
    """``(4, 2)`` true corners; those of the upright box where no others are known."""
    return box_to_corners(xyxy_to_box(plate.box)) if plate.corners is None else plate.corners


def _compare(number: int, item: TruePicture, result: StackResult) -> list[dict[str, Any]]:
    true = np.stack([plate.box for plate in item.plates])
    ious = box_iou(xyxy_to_box(np.array([result.box])), xyxy_to_box(true))
    # The stack gives one plate a picture: it answers for the one it covers best.
    nearest = int(ious.argmax())
    rows = []
    for index, plate in enumerate(item.plates):
        answered = index == nearest
        height, angle = _size(plate)
        rows.append(
            {
                "picture": number,
                "name": item.name,
                "plate": plate.text,
                "text": result.reading.text if answered else "",
                "confidence": result.reading.confidence if answered else 0.0,
                "iou": float(ious[index]) if answered else 0.0,
                "error": float(evaluation.corner_errors(result.corners, plate.corners))
                if answered and plate.corners is not None
                else np.nan,
                "height": height,
                "angle": angle,
                "text_on_truth": None,
            }
        )
    return rows


def _size(plate: TruePlate) -> tuple[float, float]:
    """Height in pixels (mean of the left and right edge), angle of the top edge in degrees."""
    if plate.corners is None:
        return float(plate.box[3] - plate.box[1]), np.nan
    top_left, top_right, bottom_right, bottom_left = plate.corners
    left, right = np.linalg.norm([bottom_left - top_left, bottom_right - top_right], axis=1)
    along = top_right - top_left
    return float((left + right) / 2), float(np.degrees(np.arctan2(along[1], along[0])))


def summarise(scores: Scores) -> dict[str, Any]:
    """The metrics, nested; what was not measured is None or absent."""
    table = scores.table
    metrics: dict[str, Any] = {"val_acc": None}
    measures = {"mean_iou": "iou"}
    texts = table[table["plate"].notna()]
    if len(texts):
        low, high = evaluation.wilson(int(texts["right"].sum()), len(texts))
        read, true = texts["text"].tolist(), texts["plate"].tolist()
        metrics = {
            "val_acc": float(texts["right"].mean()),
            "val_acc_95": {"low": low, "high": high},
            "character_error_rate": evaluation.character_error_rate(read, true),
            **_losses(texts),
        }
        measures["accuracy"] = "right"
    broken_down = texts if len(texts) else table
    metrics |= {
        "count": len(table),
        "count_with_text": len(texts),
        "pictures": len(scores.results),
        **evaluation.iou_measures(table["iou"].to_numpy()),
        **scores.precision,
        "by_height": evaluation.by_bins(broken_down, "height", evaluation.HEIGHT_EDGES, measures),
    }
    if (errors := table["error"].dropna()).size:
        metrics["corner_error_px"] = evaluation.spread(errors.to_numpy())
        metrics["by_angle"] = evaluation.by_bins(
            broken_down, "size_of_angle", evaluation.ANGLE_EDGES, measures
        )
    return metrics | {"notes": scores.notes}


def _losses(texts: pd.DataFrame) -> dict[str, float | None]:
    """Shares of all plates, which add up to those not right: by whose fault.

    A failure is the reader's where it fails at the true corners as well, else the localizer's.
    """
    if texts["text_on_truth"].isna().any():
        return {"lost_by_localizer": None, "lost_by_reader": None, "acc_on_true_corners": None}
    lost = ~texts["right"]
    return {
        "lost_by_localizer": float((lost & texts["right_on_truth"]).mean()),
        "lost_by_reader": float((lost & ~texts["right_on_truth"]).mean()),
        "acc_on_true_corners": float(texts["right_on_truth"].mean()),
    }


def latency(stack: Stack, pictures: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Time of single pictures, and rate of batches, of ``(H, W)`` uint8 pictures in memory.

    The first calls, in which the models' kernels are chosen and loaded, are not counted.
    """
    for picture in pictures[:_WARM_UP]:
        stack.read_batch([picture])
    singles = [_seconds(stack, [picture]) for picture in pictures]
    batch = [pictures[i % len(pictures)] for i in range(stack.batch_size)]
    _seconds(stack, batch)
    fastest = min(_seconds(stack, batch) for _ in range(3))
    return {
        "median_ms": 1000 * float(np.median(singles)),
        "p95_ms": 1000 * float(np.percentile(singles, 95)),
        "pictures_per_second": len(batch) / fastest,
        "batch_size": len(batch),
        "device": stack.device.type,
    }


def _seconds(stack: Stack, pictures: Sequence[NDArray[np.uint8]]) -> float:
    start = time.perf_counter()
    stack.read_batch(pictures)
    return time.perf_counter() - start
