"""Evaluation of the whole stack on annotated images.

A detection is matched to the annotated plate that it overlaps best, with an intersection over union of
at least ``MATCH``; if several detections overlap the same plate, the most confident one is matched. A
text is *given* if its probability reaches a threshold. It is right if it is the text of the matched
plate, and wrong otherwise: on a plate without a Swiss text, outside of all plates, and on a plate that
another detection is matched to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ..core.geometry import (
    FloatArray,
    box_iou,
    box_to_corners,
    plate_angle,
    plate_height,
    xyxy_to_box,
)
from ..core.layout import ILLEGIBLE, LEGIBLE
from ..datasets.annotations import AnnotatedImage, AnnotatedPlate
from ..inference.decoding import Reading
from ..inference.detection import SURE
from . import metrics as evaluation

MATCH = 0.5
"""Minimum intersection over union of a detection and the annotated plate it is matched to."""
BATCH_SIZE = 64
CONFUSED = 30
"""Maximum number of character pairs in a table of confusions."""

_WARM_UP = 5
_PLATE_COLUMNS = (
    "image", "name", "number", "plate", "found", "text", "confidence", "iou", "error", "height",
    "angle", "format", "lines", "colour", "digits", "text_on_truth",
)  # fmt: skip
_FOUND_COLUMNS = ("image", "found", "row", "plate", "text", "confidence", "score")

ImageArray = NDArray[np.uint8]
T = TypeVar("T")


class FoundPlate(Protocol):
    """A plate found by the stack; src/inference/reader.py documents the fields."""

    @property
    def text(self) -> str: ...
    @property
    def confidence(self) -> float: ...
    @property
    def score(self) -> float: ...
    @property
    def box(self) -> tuple[float, float, float, float]: ...
    @property
    def corners(self) -> tuple[tuple[float, float], ...]: ...


class Stack(Protocol):
    """Anything that finds and reads plates, such as ``PlateReader``."""

    @property
    def threshold(self) -> float: ...
    @property
    def rectification(self) -> Literal["corners", "box"]: ...
    @property
    def runtime(self) -> str: ...

    def read(self, image: ImageArray) -> Sequence[FoundPlate]:
        """Return the plates in an image."""
        ...

    def read_batch(
        self, images: Sequence[ImageArray], min_confidence: float | None = None
    ) -> Sequence[Sequence[FoundPlate]]:
        """Return the plates in each image."""
        ...

    def read_at(self, image: ImageArray, corners: FloatArray, lines: int) -> Reading:
        """Read the plate at the given corners, ``(4, 2)`` in pixels."""
        ...


class AnnotatedSet(Iterable[AnnotatedImage], Sized, Protocol):
    """Annotated images, such as an ``AnnotationFile`` or ``PreparedAnnotations``."""

    has_corners: bool
    has_text: bool


@dataclass(frozen=True)
class Scores:
    """Results of the stack on a set of annotated images.

    Attributes:
        found: Detections in each image.
        table: One row per annotated plate, with the columns image (index of the image), name, number
            (index within the image), plate (the annotated text, None if there is no text to read), found
            (index in ``found`` of the matched detection, or -1) with its text, confidence, iou and error
            (of the corners, in pixels), height, angle, size_of_angle, format, lines, colour, digits,
            text_on_truth (what the recognizer reads at the annotated corners), right and right_on_truth.
            Unknown values are None or NaN. If no detection is matched, text is "" and iou is that of the
            best unmatched detection.
        answers: One row per detection, with the columns image, found (index in ``found``), row (of
            ``table``, or -1), plate (the text that would be right, or None), text, confidence, score and
            right.
        boxes: Annotated boxes of each image as x1, y1, x2, y2, shape ``(K, 4)``.
        has_text: Whether texts are annotated.
        notes: Remarks needed to interpret the metrics.
    """

    found: list[Sequence[FoundPlate]]
    table: pd.DataFrame
    answers: pd.DataFrame
    boxes: list[FloatArray]
    has_text: bool
    notes: list[str]


def match(found: FloatArray, confidence: FloatArray, true: FloatArray) -> NDArray[np.intp]:
    """Match detections to annotated plates.

    In order of descending confidence, each detection takes the plate that it overlaps best among those
    that are left.

    Args:
        found: Detected boxes as x1, y1, x2, y2, shape ``(P, 4)``.
        confidence: Confidence of each detection, shape ``(P,)``.
        true: Annotated boxes as x1, y1, x2, y2, shape ``(K, 4)``.

    Returns:
        Index of the plate that each detection is matched to, or -1, shape ``(P,)``.
    """
    taken = np.full(len(found), -1)
    overlap = _overlap(found, true)
    for number in np.argsort(-confidence, kind="stable"):
        if not overlap.size:
            break
        best = int(overlap[number].argmax())
        if overlap[number, best] >= MATCH:
            taken[number] = best
            overlap[:, best] = 0
    return taken


def _overlap(found: FloatArray, true: FloatArray) -> NDArray[np.float64]:
    """Return the IoU ``(P, K)`` of boxes ``(P, 4)`` and boxes ``(K, 4)``, given as x1, y1, x2, y2."""
    pairs = np.broadcast_arrays(
        xyxy_to_box(found.reshape(-1, 1, 4)), xyxy_to_box(true.reshape(1, -1, 4))
    )
    return np.asarray(box_iou(*pairs), dtype=np.float64)


def score(
    stack: Stack, annotated: AnnotatedSet, name: str = "stack", *, reads_true_corners: bool = True
) -> Scores:
    """Run the stack over annotated images, and its recognizer once more at the annotated corners.

    A recognizer that rectifies by corners cannot be evaluated on upright boxes, as a rotated plate
    cropped by its box looks like nothing it was trained on. Its second run is therefore skipped
    if corners are not annotated; that of a recognizer that takes boxes is not.

    Args:
        stack: Stack to evaluate.
        annotated: Annotated images to run the stack over.
        name: Name of the set, shown in the progress bar.
        reads_true_corners: Whether to run the recognizer at the annotated corners as well. Without this,
            errors are not attributed to the localizer or the recognizer.
    """
    judged = annotated.has_text and (annotated.has_corners or stack.rectification == "box")
    judged &= reads_true_corners
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    found: list[Sequence[FoundPlate]] = []
    boxes: list[FloatArray] = []
    for batch in _batches(annotated, name):
        results = stack.read_batch([item.image for item in batch], min_confidence=0.0)
        for item, plates in zip(batch, results, strict=True):
            true = np.array([plate.box for plate in item.plates], dtype=float).reshape(-1, 4)
            new, taken = _compare(len(found), item, plates, true)
            for plate, row in zip(item.plates, new, strict=True):
                if judged and plate.text:
                    reading = stack.read_at(item.image, _corners(plate), plate.lines or 1)
                    row["text_on_truth"] = reading.text
            answers += [
                {
                    "image": len(found),
                    "found": place,
                    "row": len(rows) + number if number >= 0 else -1,
                    "plate": item.plates[number].text if number >= 0 else None,
                    "text": plate.text,
                    "confidence": plate.confidence,
                    "score": plate.score,
                }
                for place, (plate, number) in enumerate(zip(plates, taken.tolist(), strict=True))
            ]
            rows += new
            found.append(plates)
            boxes.append(true)
    return Scores(
        found,
        _plates_table(rows),
        _answers_table(answers),
        boxes,
        annotated.has_text,
        _notes(annotated, judged),
    )


def _notes(annotated: AnnotatedSet, judged: bool) -> list[str]:
    notes = []
    if not annotated.has_corners:
        notes.append(
            "corners are not annotated: heights are those of the boxes, and angles are unknown"
        )
        if annotated.has_text and not judged:
            notes.append(
                "lost_by_localizer and lost_by_recognizer are omitted: this recognizer needs corners"
            )
    if not annotated.has_text:
        notes.append("texts are not annotated: only the boxes are evaluated")
    return notes


def _plates_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(_PLATE_COLUMNS))
    floats = ["confidence", "iou", "error", "height", "angle"]
    table = table.astype(dict.fromkeys(floats, float))
    known = table["plate"].notna()
    return table.assign(
        size_of_angle=table["angle"].abs(),
        right=known & (table["text"] == table["plate"]),
        right_on_truth=known & (table["text_on_truth"] == table["plate"]),
    )


def _answers_table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(_FOUND_COLUMNS))
    table = table.astype({"confidence": float, "score": float})
    return table.assign(right=table["plate"].notna() & (table["text"] == table["plate"]))


def _batches(annotated: AnnotatedSet, name: str) -> Iterator[list[AnnotatedImage]]:
    batch: list[AnnotatedImage] = []
    for item in tqdm(annotated, total=len(annotated), unit=" images", desc=name, mininterval=0.5):
        batch.append(item)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _corners(plate: AnnotatedPlate) -> FloatArray:
    """Return the annotated corners ``(4, 2)``, or those of the upright box if there are none."""
    return box_to_corners(xyxy_to_box(plate.box)) if plate.corners is None else plate.corners


def _compare(
    image: int, item: AnnotatedImage, plates: Sequence[FoundPlate], true: FloatArray
) -> tuple[list[dict[str, Any]], NDArray[np.intp]]:
    """Return a row per annotated plate, and the plate that each detection is matched to, or -1."""
    boxes = np.array([plate.box for plate in plates], dtype=float).reshape(-1, 4)
    taken = match(boxes, np.array([plate.confidence for plate in plates], dtype=float), true)
    overlap = _overlap(boxes, true)
    left = overlap[taken < 0]
    rows = []
    for number, plate in enumerate(item.plates):
        standing = np.flatnonzero(taken == number)
        answer = plates[standing[0]] if len(standing) else None
        height, angle = _size(plate)
        iou = float(overlap[standing[0], number]) if answer else left[:, number].max(initial=0.0)
        error = np.nan
        if answer and plate.corners is not None:
            error = float(evaluation.corner_errors(np.array(answer.corners), plate.corners))
        rows.append(
            {
                "image": image,
                "name": item.name,
                "number": number,
                "plate": plate.text,
                "found": int(standing[0]) if answer else -1,
                "text": answer.text if answer else "",
                "confidence": answer.confidence if answer else 0.0,
                "iou": iou,
                "error": error,
                "height": height,
                "angle": angle,
                "format": plate.format,
                "lines": plate.lines,
                "colour": plate.colour,
                "digits": len(plate.text) - 2 if plate.text else None,
                "text_on_truth": None,
            }
        )
    return rows, taken


def _size(plate: AnnotatedPlate) -> tuple[float, float]:
    """Return the height in pixels (mean of left and right edge) and the top edge's angle in degrees."""
    if plate.corners is None:
        return float(plate.box[3] - plate.box[1]), np.nan
    return float(plate_height(plate.corners)), float(plate_angle(plate.corners))


def texts_of(scores: Scores) -> pd.DataFrame:
    """Return the rows of ``table`` whose plate has an annotated text."""
    return scores.table[scores.table["plate"].notna()]


def summarise(scores: Scores, threshold: float, accuracy: str = "accuracy") -> dict[str, Any]:
    """Return the metrics of a set, nested; those that were not measured are None or absent.

    Args:
        scores: Results on the set.
        threshold: Probability from which a text is given.
        accuracy: Metric name for the share of plates whose text is right, whatever its probability.
    """
    table, texts = scores.table, texts_of(scores)
    metrics: dict[str, Any] = {accuracy: None}
    measures = {"mean_iou": "iou"}
    if len(texts):
        low, high = evaluation.wilson(int(texts["right"].sum()), len(texts))
        read, true = texts["text"].tolist(), texts["plate"].tolist()
        metrics = {
            accuracy: float(texts["right"].mean()),
            f"{accuracy}_95": {"low": low, "high": high},
            "character_error_rate": evaluation.character_error_rate(read, true),
            **_losses(texts),
        }
        measures["accuracy"] = "right"
    metrics |= {
        "count": len(table),
        "count_with_text": len(texts),
        "images": len(scores.found),
        "at_threshold": at_threshold(scores, threshold),
    }
    if len(texts):
        metrics["uncertainty"] = uncertainty(scores)
        metrics["uncertainty_everywhere"] = uncertainty(scores, everywhere=True)
    if len(table):
        metrics |= evaluation.iou_measures(table["iou"].to_numpy())
        metrics |= _breakdowns(texts if len(texts) else table, measures)
    if (errors := table["error"].dropna()).size:
        metrics["corner_error_px"] = evaluation.spread(errors.to_numpy())
    if any(not len(true) for true in scores.boxes):
        metrics["without_plate"] = without_plate(scores, threshold)
    return metrics | {"notes": scores.notes}


def _breakdowns(table: pd.DataFrame, measures: dict[str, str]) -> dict[str, Any]:
    """Return metrics by height, angle and other properties that may make a plate hard to read."""
    parts = {"by_height": evaluation.by_bins(table, "height", evaluation.HEIGHT_EDGES, measures)}
    if table["angle"].notna().any():
        edges = evaluation.ANGLE_EDGES
        parts["by_angle"] = evaluation.by_bins(table, "size_of_angle", edges, measures)
    table = table.assign(canton=table["plate"].str[:2])
    for column in ("format", "lines", "colour", "digits", "canton"):
        known = table[table[column].notna() & (table[column] != "")]
        if len(set(known[column])) > 1:
            # A column of integers with missing values would be float.
            kind = int if column in ("lines", "digits") else str
            parts[f"by_{column}"] = evaluation.by_value(
                known.astype({column: kind}), column, measures
            )
    return parts


def _losses(texts: pd.DataFrame) -> dict[str, float | None]:
    """Attribute the plates that were not read to the localizer or the recognizer.

    An error is the recognizer's if it fails at the annotated corners as well, and the localizer's
    otherwise. Both values are shares of all plates, and add up to the share of plates misread or missed.
    """
    if texts["text_on_truth"].isna().any():
        return {"lost_by_localizer": None, "lost_by_recognizer": None, "acc_on_true_corners": None}
    lost = ~texts["right"]
    return {
        "lost_by_localizer": float((lost & texts["right_on_truth"]).mean()),
        "lost_by_recognizer": float((lost & ~texts["right_on_truth"]).mean()),
        "acc_on_true_corners": float(texts["right_on_truth"].mean()),
    }


def given(scores: Scores, threshold: float) -> pd.DataFrame:
    """Return the rows of ``answers`` whose text is given."""
    answers = scores.answers
    return answers[(answers["text"] != "") & (answers["confidence"] >= threshold)]


def at_threshold(scores: Scores, threshold: float) -> dict[str, Any]:
    """Return the metrics of the texts that are given, which are what a user sees.

    ``coverage`` is the share of plates with an annotated text for which a text is given, right or wrong.
    ``wrong`` is the share of given texts that are wrong. ``images_with_text`` is the share of images
    in which at least one text is given.
    """
    texts = given(scores, threshold)
    images = evaluation.share(texts["image"].nunique(), len(scores.found))
    measures: dict[str, Any] = {"threshold": threshold, "images_with_text": images}
    if scores.has_text:
        read = int(texts["plate"].notna().sum())
        wrong = int((~texts["right"]).sum())
        measures["coverage"] = evaluation.share(read, len(texts_of(scores)))
        measures["wrong"] = evaluation.share(wrong, len(texts))
    return measures


def uncertainty(scores: Scores, everywhere: bool = False) -> dict[str, Any]:
    """Return the uncertainty metrics of the probabilities (``metrics.uncertainty``).

    Args:
        scores: Results on the set.
        everywhere: Whether to include detections on which no text could be right, instead of only those
            matched to a plate with a text. These are all that a user sees, but many of the additional
            ones are easy to reject, which makes the metrics look better.
    """
    answers = scores.answers[scores.answers["text"] != ""]
    if not everywhere:
        answers = answers[answers["plate"].notna()]
    return evaluation.uncertainty(answers["confidence"].to_numpy(), answers["right"].to_numpy(bool))


def without_plate(scores: Scores, threshold: float) -> dict[str, Any]:
    """Return the shares of plate-free images in which a text is given, and in which a box is shown."""
    empty = {number for number, true in enumerate(scores.boxes) if not len(true)}
    texts = set(given(scores, threshold)["image"])
    # Detections with a lower score are candidates, which are not shown to users.
    boxed = set(scores.answers.loc[scores.answers["score"] >= SURE, "image"]) | texts
    return {
        "with_text": evaluation.share(len(empty & texts), len(empty)),
        "with_box": evaluation.share(len(empty & boxed), len(empty)),
    }


def summarise_clutter(scores: Scores, threshold: float) -> dict[str, Any]:
    """Return the metrics of images without a Swiss plate, some of which show other plates.

    Any text in them is a false positive; a box is one only in images without a plate of any country.
    """
    texts = given(scores, threshold)
    metrics: dict[str, Any] = {
        "images": len(scores.found),
        "with_text": evaluation.share(texts["image"].nunique(), len(scores.found)),
        "without_plate": without_plate(scores, threshold),
    }
    if len(scores.table):
        metrics["other_plates"] = {
            "count": len(scores.table),
            **evaluation.iou_measures(scores.table["iou"].to_numpy()),
        }
    return metrics


def summarise_occluded(
    scores: Scores, whole: Scores, labels: pd.DataFrame, threshold: float
) -> dict[str, Any]:
    """Return the metrics of plates that something hides in part, with one plate per image.

    A text is wrong if it is not the plate's. Plates with a character that is neither legible nor
    illegible (src/core/layout.py) are not counted.

    Args:
        scores: Results on the set.
        whole: Results on the same scenes without what hides the plates, in the same order.
        labels: Labels of the set.
        threshold: Probability from which a text is given.
    """
    answers = answers_to_hidden(scores, labels, threshold)
    hidden, readable = answers[answers["hidden"]], answers[answers["readable"]]
    kept = readable[answers_to_hidden(whole, labels, threshold)["right"].loc[readable.index]]
    short = kept[kept["text"].str.len() <= 2 + _SHORT]
    return {
        "illegible": {
            "wrong": _share_of(hidden["wrong"]),
            **{
                f"by_{column}": {
                    str(name): _share_of(part["wrong"]) for name, part in hidden.groupby(column)
                }
                for column in ("format", "obstacle")
            },
        },
        "legible": {
            "accuracy": _share_of(readable["right"]),
            "wrong": _share_of(readable["wrong"]),
            "kept": _share_of(kept["right"]),
            "kept_short": _share_of(short["right"]),
        },
        # Every text of a plate that cannot be seen as a whole counts as wrong here.
        "uncertainty": uncertainty(scores, everywhere=True),
    }


def answers_to_hidden(scores: Scores, labels: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return what is answered to images of plates that are hidden in part, one row per image.

    Args:
        scores: Results on the set, with one plate per image.
        labels: Labels of the set.
        threshold: Probability from which a text is given.

    Returns:
        The columns text, format and obstacle of the labels; hidden: whether a character is illegible;
        readable: whether all are legible; right: whether the plate's text is given; wrong: whether
        another one is.
    """
    texts = _texts_of_images(scores, threshold)
    true, covered = labels["text"], labels["covered"]
    pairs = list(zip(texts, true, strict=True))
    return pd.DataFrame(
        {
            "text": true,
            "format": labels["format"],
            "obstacle": labels["obstacle"],
            "hidden": (true != "") & (covered >= ILLEGIBLE),
            "readable": (true != "") & (covered <= LEGIBLE),
            "right": [plate in found for found, plate in pairs],
            "wrong": [any(text != plate for text in found) for found, plate in pairs],
        }
    )


def _share_of(column: pd.Series) -> dict[str, Any]:
    return evaluation.share(int(column.sum()), len(column))


_SHORT = 3
"""Maximum number of digits of a short number."""


def _texts_of_images(scores: Scores, threshold: float) -> list[set[str]]:
    """Return the texts that are given in each image."""
    texts: list[set[str]] = [set() for _ in scores.found]
    rows = given(scores, threshold)
    for image, text in zip(rows["image"], rows["text"], strict=True):
        texts[image].add(text)
    return texts


@dataclass(frozen=True)
class Case:
    """A plate or a detection to inspect.

    Attributes:
        image: Index of the image.
        row: Row in the table of annotated plates; None if there is no plate.
        found: Index among the detections in the image; None if no detection is matched to the plate.
    """

    image: int
    row: int | None
    found: int | None


def case_of(scores: Scores, row: int) -> Case:
    """Return the case of an annotated plate, with the detection matched to it."""
    values = scores.table.iloc[row]
    return Case(values.image, row, values.found if values.found >= 0 else None)


def failures(scores: Scores, threshold: float, most: int) -> list[Case]:
    """Return the plates whose text is not right, and the texts given where there is none to read.

    They are sorted by descending confidence, as confident errors most need fixing.
    """
    lost = scores.table[scores.table["plate"].notna() & ~scores.table["right"]]
    cases = [
        (confidence, case_of(scores, int(row)))
        for row, confidence in zip(lost.index, lost["confidence"], strict=True)
    ]
    false = given(scores, threshold)
    false = false[false["plate"].isna()]
    columns = [false[name] for name in ("confidence", "image", "row", "found")]
    for confidence, image, row, found in zip(*columns, strict=True):
        cases.append((confidence, Case(image, row if row >= 0 else None, found)))
    cases.sort(key=lambda case: -case[0])
    return [case for _, case in cases[:most]]


def precision(scores: Scores) -> dict[str, float]:
    """Return the mean average precision of the detected boxes."""
    return evaluation.average_precision(
        [
            np.array([plate.box for plate in plates], float).reshape(-1, 4)
            for plates in scores.found
        ],
        [np.array([plate.score for plate in plates], float) for plates in scores.found],
        scores.boxes,
    )


def confused(scores: Scores) -> pd.DataFrame:
    """Return the pairs of characters most often confused, with columns actual, predicted and count.

    Only detected plates are counted: a plate that was missed would count as a loss of all its
    characters.
    """
    texts = texts_of(scores)
    texts = texts[texts["found"] >= 0]
    pairs = evaluation.confusion(texts["plate"].tolist(), texts["text"].tolist())
    pairs = pairs[pairs["actual"] != pairs["predicted"]]
    return pairs.sort_values("count", ascending=False, kind="stable").head(CONFUSED)


def latency(stack: Stack, images: Sequence[ImageArray]) -> dict[str, Any]:
    """Measure the latency of single images and the throughput of batches.

    The first calls, in which the models' kernels are selected and loaded, are not counted.

    Args:
        stack: Stack to time.
        images: Images in memory, each ``(H, W)`` uint8.
    """
    for image in images[:_WARM_UP]:
        stack.read(image)
    singles = [_seconds(stack.read, image) for image in images]
    batch = [images[i % len(images)] for i in range(BATCH_SIZE)]
    _seconds(stack.read_batch, batch)
    fastest = min(_seconds(stack.read_batch, batch) for _ in range(3))
    return {
        "median_ms": 1000 * float(np.median(singles)),
        "p95_ms": 1000 * float(np.percentile(singles, 95)),
        "images_per_second": len(batch) / fastest,
        "batch_size": len(batch),
        "runtime": stack.runtime,
    }


def _seconds(call: Callable[[T], object], value: T) -> float:
    start = time.perf_counter()
    call(value)
    return time.perf_counter() - start
