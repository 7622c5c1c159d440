"""What the network knows least, and what its confidence is worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import box_iou, corners_to_box
from ..evaluation import metrics as evaluation
from ..inference.decoding import decode
from .base import Evidence, NotCheckedError, Scores
from .label_errors import LEAST_SAMPLES
from .measures import moved
from .networks import Find, Read
from .opinions import LEAST_RIGHT, MOVED_SIDE, MOVES, places
from .samples import FloatArray

RIGHT_IOU = 0.5
"""A box that was found is right from this overlap on."""


def doubt(evidence: Evidence) -> Scores:
    """One less the mean confidence over passes: what the network knows least.

    Texts are read in passes with dropout, where the reader has it; else, as boxes are found, in passes
    with the picture moved a little. The spread is the standard deviation of the confidence.
    """
    order = np.random.default_rng(evidence.params.SEED).permutation(len(evidence.samples))
    rows = np.sort(order[: evidence.params.DOUBT_SAMPLES])
    networks = evidence.networks
    if evidence.is_read and networks.read is not None:
        confidence = _texts(evidence, networks.read, rows)
    elif networks.find is not None:
        confidence = _boxes(evidence, networks.find, rows)
    else:
        raise NotCheckedError("there is no network to ask")
    mean, spread = confidence.mean(axis=0), confidence.std(axis=0)
    values = np.full(len(evidence.samples), np.nan)
    values[rows] = 1 - mean
    spreads = dict(zip(rows.tolist(), spread.tolist(), strict=True))
    return Scores(
        values,
        lambda row: f"confidence {1 - values[row]:.2f} ± {spreads[row]:.2f} over the passes",
        measures={
            # Not all that the other checks look at.
            "samples": len(rows),
            "asked": "texts" if evidence.is_read else "boxes",
            "passes": len(confidence),
            "mean_confidence": float(np.nanmean(mean)),
            "mean_spread": float(np.nanmean(spread)),
        },
    )


def _texts(evidence: Evidence, read: Read, rows: NDArray[np.intp]) -> FloatArray:
    """``(passes, R)`` confidences of texts; not a number where there is none to read."""
    samples, networks = evidence.samples.take(rows), evidence.networks
    pictures = [samples.image(row) for row in range(len(rows))]
    corners, lines = places(samples, pictures, networks.find)
    known = ~np.isnan(corners).any(axis=(1, 2)) & (samples.labels["plate"] != "").to_numpy()
    asked = np.flatnonzero(known)
    if not len(asked):
        raise NotCheckedError("no sample has a text")
    confidence = np.full((evidence.params.PASSES, len(rows)), np.nan)
    for number in range(len(confidence)):
        # Where nothing can be dropped, the corners are moved.
        steps = _steps(0 if networks.drops else number, samples.sizes[asked])
        quads = corners[asked] + (steps / samples.sizes[asked])[:, None]
        asked_pictures = [pictures[row] for row in asked]
        readings = decode(read(asked_pictures, quads, lines[asked].tolist(), networks.drops))
        confidence[number, asked] = [reading.confidence for reading in readings]
    return confidence


def _boxes(evidence: Evidence, find: Find, rows: NDArray[np.intp]) -> FloatArray:
    """``(passes, R)`` confidences that there is a plate, or that there is none where that is the label."""
    samples = evidence.samples
    present = samples.labels["present"].to_numpy(bool)[rows]
    passes = []
    for number in range(evidence.params.PASSES):
        steps = np.round(_steps(number, samples.sizes[rows])).astype(int).tolist()
        pictures = [
            moved(samples.image(row), x, y) for row, (x, y) in zip(rows, steps, strict=True)
        ]
        score = find(pictures, samples.boxes[rows]).score
        passes.append(np.where(present, score, 1 - score))
    return np.stack(passes)


def _steps(number: int, sizes: FloatArray) -> FloatArray:
    """Pixels ``(n, 2)`` by which pictures of these sizes are moved in a pass; not at all in the first."""
    if number == 0:
        return np.zeros_like(sizes)
    ring, place = divmod(number - 1, len(MOVES))
    share = np.array(MOVES[place], dtype=np.float64) / MOVED_SIDE / (1 + ring)
    return np.asarray(share * sizes.max(axis=1, keepdims=True))


def calibration(evidence: Evidence) -> Scores:
    """What is compared with the limit is the expected calibration error of the first look.

    A network that is mostly wrong, or less sure than it is right, is shown and not judged: that is not the
    data's fault, but that of a short training.
    """
    evidence.must_be_unseen()
    confidence, right = _answers(evidence)
    known = ~np.isnan(confidence)
    if not known.any():
        raise NotCheckedError("there is nothing to answer")
    measures = evaluation.doubt(confidence[known], right[known])
    accuracy = right[known].mean()
    is_taught = known.sum() >= LEAST_SAMPLES and accuracy >= LEAST_RIGHT
    return Scores(
        np.full(len(confidence), np.nan),
        value=float(measures["ece"]),
        measures=measures,
        tables={"reliability": evaluation.reliability(confidence[known], right[known])},
        judged=bool(is_taught and confidence[known].mean() > accuracy),
    )


def _answers(evidence: Evidence) -> tuple[FloatArray, NDArray[np.bool_]]:
    """``(n,)`` confidences, not a number where there is nothing to answer, and whether they are right."""
    labels = evidence.samples.labels
    if evidence.is_read:
        plates, texts = labels["plate"].to_numpy(str), evidence.texts
        return np.where(plates != "", texts.confidence, np.nan), plates == np.array(texts.first)
    found = evidence.boxes.found
    overlap = np.nan_to_num(box_iou(corners_to_box(found.corners), evidence.samples.boxes))
    return found.score, labels["present"].to_numpy(bool) & (overlap >= RIGHT_IOU)
