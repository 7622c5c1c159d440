"""Measures of the stack on pictures with known plates.

A plate that was found stands for the true plate that it covers best, with an intersection over union of
MATCH at least; where several cover one, the most confident does. A text is *given* where its probability
reaches a threshold. It is right where it is the text of the true plate that it stands for, and wrong
everywhere else: on a plate without a Swiss text, beside all plates, and on a plate that another one
stands for already.
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
from ..datasets.annotations import AnnotatedImage, AnnotatedPlate
from ..inference.decoding import Reading
from ..inference.detection import SURE
from . import metrics as evaluation

MATCH = 0.5
"""Least intersection over union of a plate that was found and the true one that it stands for."""
BATCH_SIZE = 64
CONFUSED = 30
"""Most pairs of characters in a table of confusions."""

_WARM_UP = 5
_PLATE_COLUMNS = (
    "picture", "name", "number", "plate", "found", "text", "confidence", "iou", "error", "height",
    "angle", "format", "lines", "colour", "digits", "text_on_truth",
)  # fmt: skip
_FOUND_COLUMNS = ("picture", "found", "row", "plate", "text", "confidence", "score")

Picture = NDArray[np.uint8]
T = TypeVar("T")


class FoundPlate(Protocol):
    """What is known of a plate that was found; src/inference/reader.py says what each is."""

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
    """What finds and reads plates: PlateReader."""

    @property
    def threshold(self) -> float: ...
    @property
    def rectification(self) -> Literal["corners", "box"]: ...
    @property
    def runtime(self) -> str: ...

    def read(self, image: Picture) -> Sequence[FoundPlate]:
        """The plates of a picture."""
        ...

    def read_batch(
        self, images: Sequence[Picture], min_confidence: float | None = None
    ) -> Sequence[Sequence[FoundPlate]]:
        """The plates of each picture."""
        ...

    def read_at(self, image: Picture, corners: FloatArray, lines: int) -> Reading:
        """What is read at corners ``(4, 2)`` in pixels."""
        ...


class Truth(Iterable[AnnotatedImage], Sized, Protocol):
    """Pictures with known plates: AnnotationFile, PreparedAnnotations."""

    has_corners: bool
    has_text: bool


@dataclass(frozen=True)
class Scores:
    """What came out of a set of pictures.

    Attributes:
        found: the plates that were found, for each picture.
        table: a row for each true plate: picture (its number), name, number (in the picture), plate
            (None: no text to read), found (number of the plate that stands for it in ``found``, or
            -1) with its text, confidence, iou and error (of the corners in pixels), height, angle,
            size_of_angle, format, lines, colour, digits, text_on_truth (what the reader reads at the
            true corners), right, right_on_truth. What is not known is None or not a number. Where no
            plate stands for a true one, text is "" and iou is that of the best one that is left.
        answers: a row for each plate that was found: picture, found (its number in ``found``), row
            (of the table, or -1), plate (the text that would be right, or None), text, confidence,
            score, right.
        boxes: for each picture ``(K, 4)`` true boxes x1, y1, x2, y2.
        has_text: whether texts are known.
        notes: what a reader of the measures must know.
    """

    found: list[Sequence[FoundPlate]]
    table: pd.DataFrame
    answers: pd.DataFrame
    boxes: list[FloatArray]
    has_text: bool
    notes: list[str]


def match(found: FloatArray, confidence: FloatArray, true: FloatArray) -> NDArray[np.intp]:
    """Which true plate each found one stands for.

    The most confident first, each takes the true plate that it covers best among those not taken.

    Args:
        found: ``(P, 4)`` boxes x1, y1, x2, y2.
        confidence: ``(P,)``.
        true: ``(K, 4)`` boxes.

    Returns:
        ``(P,)`` numbers of true plates, -1 where there is none.
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
    """``(P, 4)`` and ``(K, 4)`` boxes x1, y1, x2, y2 to ``(P, K)`` intersections over union."""
    pairs = np.broadcast_arrays(
        xyxy_to_box(found.reshape(-1, 1, 4)), xyxy_to_box(true.reshape(1, -1, 4))
    )
    return np.asarray(box_iou(*pairs), dtype=np.float64)


def score(
    stack: Stack, truth: Truth, name: str = "stack", *, reads_true_corners: bool = True
) -> Scores:
    """Run the stack over pictures, and its reader once more at the true corners.

    A reader that takes corners cannot be judged by upright boxes (a turned plate cut out by its box
    looks like nothing it has learnt), so without true corners it is not; one that takes boxes can.

    Args:
        stack: to judge.
        truth: what to run it over.
        name: of the pictures, for the display of progress.
        reads_true_corners: Whether to do the latter, without which nobody is said to have lost a plate.
    """
    judged = truth.has_text and (truth.has_corners or stack.rectification == "box")
    judged &= reads_true_corners
    rows: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    found: list[Sequence[FoundPlate]] = []
    boxes: list[FloatArray] = []
    for batch in _batches(truth, name):
        results = stack.read_batch([item.picture for item in batch], min_confidence=0.0)
        for item, plates in zip(batch, results, strict=True):
            true = np.array([plate.box for plate in item.plates], dtype=float).reshape(-1, 4)
            new, taken = _compare(len(found), item, plates, true)
            for plate, row in zip(item.plates, new, strict=True):
                if judged and plate.text:
                    reading = stack.read_at(item.picture, _corners(plate), plate.lines or 1)
                    row["text_on_truth"] = reading.text
            answers += [
                {
                    "picture": len(found),
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
        truth.has_text,
        _notes(truth, judged),
    )


def _notes(truth: Truth, judged: bool) -> list[str]:
    notes = []
    if not truth.has_corners:
        notes.append(
            "no corners are given: heights are those of the boxes, and there are no angles"
        )
        if truth.has_text and not judged:
            notes.append(
                "lost_by_localizer and lost_by_reader are left out: this reader takes corners"
            )
    if not truth.has_text:
        notes.append("no text is given: the boxes alone are measured")
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


def _batches(truth: Truth, name: str) -> Iterator[list[AnnotatedImage]]:
    batch: list[AnnotatedImage] = []
    for item in tqdm(truth, total=len(truth), unit=" pictures", desc=name, mininterval=0.5):
        batch.append(item)
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch


def _corners(plate: AnnotatedPlate) -> FloatArray:
    """``(4, 2)`` true corners; those of the upright box where no others are known."""
    return box_to_corners(xyxy_to_box(plate.box)) if plate.corners is None else plate.corners


def _compare(
    picture: int, item: AnnotatedImage, plates: Sequence[FoundPlate], true: FloatArray
) -> tuple[list[dict[str, Any]], NDArray[np.intp]]:
    """A row for each true plate, and which of them each found plate stands for (-1: none)."""
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
                "picture": picture,
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
    """Height in pixels (mean of the left and right edge), angle of the top edge in degrees."""
    if plate.corners is None:
        return float(plate.box[3] - plate.box[1]), np.nan
    return float(plate_height(plate.corners)), float(plate_angle(plate.corners))


def texts_of(scores: Scores) -> pd.DataFrame:
    """The rows of true plates with a text."""
    return scores.table[scores.table["plate"].notna()]


def summarise(scores: Scores, threshold: float, accuracy: str = "accuracy") -> dict[str, Any]:
    """The metrics of a set, nested; what was not measured is None or absent.

    Args:
        scores: of the set.
        threshold: from which a text is given.
        accuracy: name of the share of plates whose text is right, whatever its probability.
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
        "pictures": len(scores.found),
        "at_threshold": at_threshold(scores, threshold),
    }
    if len(texts):
        metrics["doubt"] = doubt(scores)
        metrics["doubt_everywhere"] = doubt(scores, everywhere=True)
    if len(table):
        metrics |= evaluation.iou_measures(table["iou"].to_numpy())
        metrics |= _breakdowns(texts if len(texts) else table, measures)
    if (errors := table["error"].dropna()).size:
        metrics["corner_error_px"] = evaluation.spread(errors.to_numpy())
    if any(not len(true) for true in scores.boxes):
        metrics["without_plate"] = without_plate(scores, threshold)
    return metrics | {"notes": scores.notes}


def _breakdowns(table: pd.DataFrame, measures: dict[str, str]) -> dict[str, Any]:
    """Measures by what may make a plate hard to read."""
    parts = {"by_height": evaluation.by_bins(table, "height", evaluation.HEIGHT_EDGES, measures)}
    if table["angle"].notna().any():
        edges = evaluation.ANGLE_EDGES
        parts["by_angle"] = evaluation.by_bins(table, "size_of_angle", edges, measures)
    table = table.assign(canton=table["plate"].str[:2])
    for column in ("format", "lines", "colour", "digits", "canton"):
        known = table[table[column].notna() & (table[column] != "")]
        if len(set(known[column])) > 1:
            # Numbers beside missing ones would be floats.
            kind = int if column in ("lines", "digits") else str
            parts[f"by_{column}"] = evaluation.by_value(
                known.astype({column: kind}), column, measures
            )
    return parts


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


def given(scores: Scores, threshold: float) -> pd.DataFrame:
    """The answers whose text is given."""
    answers = scores.answers
    return answers[(answers["text"] != "") & (answers["confidence"] >= threshold)]


def at_threshold(scores: Scores, threshold: float) -> dict[str, Any]:
    """What a user gets who takes the texts that are given.

    coverage: share of the plates with a text that get one, right or wrong; wrong: share of all texts
    given that are wrong; pictures_with_text: share of the pictures that get at least one.
    """
    texts = given(scores, threshold)
    pictures = evaluation.share(texts["picture"].nunique(), len(scores.found))
    measures: dict[str, Any] = {"threshold": threshold, "pictures_with_text": pictures}
    if scores.has_text:
        read = int(texts["plate"].notna().sum())
        wrong = int((~texts["right"]).sum())
        measures["coverage"] = evaluation.share(read, len(texts_of(scores)))
        measures["wrong"] = evaluation.share(wrong, len(texts))
    return measures


def doubt(scores: Scores, everywhere: bool = False) -> dict[str, Any]:
    """What the probabilities are worth (evaluation.doubt).

    Over the plates with a text that were found; or everywhere, also where no text could be right.
    That is what a user sees, but much of it is easily doubted, which makes the measures look better.
    """
    answers = scores.answers[scores.answers["text"] != ""]
    if not everywhere:
        answers = answers[answers["plate"].notna()]
    return evaluation.doubt(answers["confidence"].to_numpy(), answers["right"].to_numpy(bool))


def without_plate(scores: Scores, threshold: float) -> dict[str, Any]:
    """Shares of the pictures without any plate in which a text is given, and in which a user sees a box."""
    empty = {number for number, true in enumerate(scores.boxes) if not len(true)}
    texts = set(given(scores, threshold)["picture"])
    # Less likely places are candidates, which nobody is shown.
    boxed = set(scores.answers.loc[scores.answers["score"] >= SURE, "picture"]) | texts
    return {
        "with_text": evaluation.share(len(empty & texts), len(empty)),
        "with_box": evaluation.share(len(empty & boxed), len(empty)),
    }


def summarise_clutter(scores: Scores, threshold: float) -> dict[str, Any]:
    """The metrics of pictures without a Swiss plate, in some of which there are others.

    A text is false in all of them; a box is, where there is no plate of any country.
    """
    texts = given(scores, threshold)
    metrics: dict[str, Any] = {
        "pictures": len(scores.found),
        "with_text": evaluation.share(texts["picture"].nunique(), len(scores.found)),
        "without_plate": without_plate(scores, threshold),
    }
    if len(scores.table):
        metrics["other_plates"] = {
            "count": len(scores.table),
            **evaluation.iou_measures(scores.table["iou"].to_numpy()),
        }
    return metrics


@dataclass(frozen=True)
class Case:
    """A plate to look at.

    Attributes:
        picture: number of it.
        row: of the table; None where no plate is.
        found: number in the picture's plates; None where nothing stands for the true one.
    """

    picture: int
    row: int | None
    found: int | None


def case_of(scores: Scores, row: int) -> Case:
    """A true plate, with what stands for it."""
    values = scores.table.iloc[row]
    return Case(values.picture, row, values.found if values.found >= 0 else None)


def failures(scores: Scores, threshold: float, most: int) -> list[Case]:
    """True plates whose text is not right, and texts given where none is to be read.

    Sorted by descending confidence: that is what most needs a remedy.
    """
    lost = scores.table[scores.table["plate"].notna() & ~scores.table["right"]]
    cases = [
        (confidence, case_of(scores, int(row)))
        for row, confidence in zip(lost.index, lost["confidence"], strict=True)
    ]
    false = given(scores, threshold)
    false = false[false["plate"].isna()]
    columns = [false[name] for name in ("confidence", "picture", "row", "found")]
    for confidence, picture, row, found in zip(*columns, strict=True):
        cases.append((confidence, Case(picture, row if row >= 0 else None, found)))
    cases.sort(key=lambda case: -case[0])
    return [case for _, case in cases[:most]]


def precision(scores: Scores) -> dict[str, float]:
    """Mean average precision of the boxes."""
    return evaluation.average_precision(
        [
            np.array([plate.box for plate in plates], float).reshape(-1, 4)
            for plates in scores.found
        ],
        [np.array([plate.score for plate in plates], float) for plates in scores.found],
        scores.boxes,
    )


def confused(scores: Scores) -> pd.DataFrame:
    """The pairs of characters (actual, predicted, count) that are taken for each other most often.

    Of the plates that were found alone: one that was not would count as all its characters lost.
    """
    texts = texts_of(scores)
    texts = texts[texts["found"] >= 0]
    pairs = evaluation.confusion(texts["plate"].tolist(), texts["text"].tolist())
    pairs = pairs[pairs["actual"] != pairs["predicted"]]
    return pairs.sort_values("count", ascending=False, kind="stable").head(CONFUSED)


def latency(stack: Stack, pictures: Sequence[Picture]) -> dict[str, Any]:
    """Time of single pictures, and rate of batches, of ``(H, W)`` uint8 pictures in memory.

    The first calls, in which the models' kernels are chosen and loaded, are not counted.
    """
    for picture in pictures[:_WARM_UP]:
        stack.read(picture)
    singles = [_seconds(stack.read, picture) for picture in pictures]
    batch = [pictures[i % len(pictures)] for i in range(BATCH_SIZE)]
    _seconds(stack.read_batch, batch)
    fastest = min(_seconds(stack.read_batch, batch) for _ in range(3))
    return {
        "median_ms": 1000 * float(np.median(singles)),
        "p95_ms": 1000 * float(np.percentile(singles, 95)),
        "pictures_per_second": len(batch) / fastest,
        "batch_size": len(batch),
        "runtime": stack.runtime,
    }


def _seconds(call: Callable[[T], object], value: T) -> float:
    start = time.perf_counter()
    call(value)
    return time.perf_counter() - start
