"""Samples about which the network is most uncertain, and the calibration of its confidence."""

from __future__ import annotations

from functools import partial

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
from .samples import FloatArray, Images, Samples

RIGHT_IOU = 0.5
"""Minimum IoU with the labelled box for a detected box to be correct."""


def uncertainty(evidence: Evidence) -> Scores:
    """Score samples by the network's uncertainty: 1 minus the mean confidence over several passes.

    Texts are read with dropout in each pass if the recognizer has it, otherwise with the corners shifted
    a little. Boxes are detected with the image shifted a little. The spread is the standard deviation
    of the confidence over the passes.
    """
    order = np.random.default_rng(evidence.params.SEED).permutation(len(evidence.samples))
    rows = np.sort(order[: evidence.params.UNCERTAINTY_SAMPLES])
    networks = evidence.networks
    if evidence.is_read and networks.read is not None:
        confidence = _texts(evidence, networks.read, rows)
    elif networks.find is not None:
        confidence = _boxes(evidence, networks.find, rows)
    else:
        raise NotCheckedError("no network detects or reads plates")
    mean, spread = confidence.mean(axis=0), confidence.std(axis=0)
    values = np.full(len(evidence.samples), np.nan)
    values[rows] = 1 - mean
    spreads = dict(zip(rows.tolist(), spread.tolist(), strict=True))
    return Scores(
        values,
        lambda row: f"confidence {1 - values[row]:.2f} ± {spreads[row]:.2f} over the passes",
        measures={
            # This check uses only some of the samples that the other checks use.
            "samples": len(rows),
            "asked": "texts" if evidence.is_read else "boxes",
            "passes": len(confidence),
            "mean_confidence": float(np.nanmean(mean)),
            "mean_spread": float(np.nanmean(spread)),
        },
    )


def _texts(evidence: Evidence, read: Read, rows: NDArray[np.intp]) -> FloatArray:
    """Return the confidences of texts, shape ``(passes, R)``; NaN where there is nothing to read."""
    samples, networks = evidence.samples.take(rows), evidence.networks
    corners, lines = places(samples, networks.find)
    known = ~np.isnan(corners).any(axis=(1, 2)) & (samples.labels["plate"] != "").to_numpy()
    asked = np.flatnonzero(known)
    if not len(asked):
        raise NotCheckedError("no sample has a text")
    images = Images(lambda at: samples.image(int(asked[at])), len(asked))
    confidence = np.full((evidence.params.PASSES, len(rows)), np.nan)
    for number in range(len(confidence)):
        # Without dropout, the corners are shifted instead.
        steps = _steps(0 if networks.drops else number, samples.sizes[asked])
        quads = corners[asked] + (steps / samples.sizes[asked])[:, None]
        readings = decode(read(images, quads, lines[asked].tolist(), networks.drops))
        confidence[number, asked] = [reading.confidence for reading in readings]
    return confidence


def _boxes(evidence: Evidence, find: Find, rows: NDArray[np.intp]) -> FloatArray:
    """Return the confidences that a plate is present or absent, as labelled, shape ``(passes, R)``."""
    samples = evidence.samples
    present = samples.labels["present"].to_numpy(bool)[rows]
    passes = []
    for number in range(evidence.params.PASSES):
        steps = np.round(_steps(number, samples.sizes[rows])).astype(int).tolist()
        images = Images(partial(_moved_image, samples, rows.tolist(), steps), len(rows))
        score = find(images, samples.boxes[rows]).score
        passes.append(np.where(present, score, 1 - score))
    return np.stack(passes)


def _moved_image(
    samples: Samples, rows: list[int], steps: list[list[int]], at: int
) -> NDArray[np.uint8]:
    return moved(samples.image(rows[at]), *steps[at])


def _steps(number: int, sizes: FloatArray) -> FloatArray:
    """Return the shifts of images of these sizes in a pass, in pixels, shape ``(n, 2)``; 0 in pass 0."""
    if number == 0:
        return np.zeros_like(sizes)
    ring, place = divmod(number - 1, len(MOVES))
    share = np.array(MOVES[place], dtype=np.float64) / MOVED_SIDE / (1 + ring)
    return np.asarray(share * sizes.max(axis=1, keepdims=True))


def calibration(evidence: Evidence) -> Scores:
    """Compare the expected calibration error of the first pass with the limit.

    A network that is mostly wrong, or underconfident, is shown but not judged: the cause is then a short
    training and not the data.
    """
    evidence.must_be_unseen()
    confidence, right = _answers(evidence)
    known = ~np.isnan(confidence)
    if not known.any():
        raise NotCheckedError("no sample has a known answer")
    measures = evaluation.uncertainty(confidence[known], right[known])
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
    """Return the confidences of the answers and whether the answers are right, each of shape ``(n,)``.

    The confidence is NaN where there is no text to read.
    """
    labels = evidence.samples.labels
    if evidence.is_read:
        plates, texts = labels["plate"].to_numpy(str), evidence.texts
        return np.where(plates != "", texts.confidence, np.nan), plates == np.array(texts.first)
    found = evidence.boxes.found
    overlap = np.nan_to_num(box_iou(corners_to_box(found.corners), evidence.samples.boxes))
    return found.score, labels["present"].to_numpy(bool) & (overlap >= RIGHT_IOU)
