"""Compare labels with the networks' predictions: the box with what is found, the text with what is read.

A network predicts once on every sample. Where it contradicts the label, it predicts several more times
with the image or the corners shifted a little (test-time augmentation): an error of the network changes
with the image, an error of the label does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..core.geometry import box_to_corners, box_to_xyxy, corners_to_box, plate_axes
from ..core.intervals import wilson
from ..evaluation.metrics import batches
from ..inference.decoding import decode
from ..inference.detection import SURE
from .measures import moved
from .networks import BATCH_SIZE, Find, Found, Read
from .samples import FloatArray, Images, Samples

MOVES, MOVED_SIDE = ((2, 1), (-1, 2), (1, -2), (-2, -1)), 84
"""Shifts x, y in the localizer's augmented passes, in pixels at a longer side of ``MOVED_SIDE``.

They scale with the longer side of the image.
"""
ZOOMS = (0.85, 1.15, 1.3)
"""Factors by which an image is zoomed around the given box in further augmented passes."""
SHIFTED = 0.05
"""Shift of the centre, in widths of the given box, above which the augmented passes are made.

The shift is the larger of its horizontal and vertical component.
"""
READINGS = 20
"""Number of further readings of a text that the network contradicts."""
CORNER_ERROR = 0.035
"""Standard deviation of the corner noise in those readings, in plate sizes; less than a localizer's."""
LEAST_RIGHT = 0.6
"""Minimum fraction of labels that a network must agree with for its objections to count."""
LEAST_LOG = -80.0
"""Lower bound on the natural logarithm of a text's probability."""


@dataclass(frozen=True)
class BoxOpinions:
    """Detected plates compared with the labelled boxes.

    Attributes:
        found: Plates found in the first pass, on the unmodified images.
        shift: Mean over all passes of the centre's shift from the given to the detected box, in widths
            of the given box, shape ``(n, 2)``. NaN where there is no plate or none was found.
        spread: Standard deviation of the shift over the passes, shape ``(n, 2)``.
        score: Mean probability that there is a plate, shape ``(n,)``.
    """

    found: Found
    shift: FloatArray
    spread: FloatArray
    score: FloatArray


@dataclass(frozen=True)
class TextOpinions:
    """Texts read by the network compared with the given texts; all logarithms are natural.

    Attributes:
        texts: Likeliest text other than the given one, or the given text if no other was likelier.
            Empty if the likeliest result is that there is nothing to read.
        given: Logarithm of the given text's mean probability over all readings, shape ``(n,)``. For an
            empty text, the probability is that nothing is read.
        other: Logarithm of the mean probability of ``texts`` over all readings, shape ``(n,)``. Minus
            infinity where ``texts`` is the given text.
        first: Likeliest text of the first reading.
        confidence: Confidence of ``first``, shape ``(n,)``.
        characters: Probabilities of the classes at each of the K characters of ``first``, shape
            ``(K, classes)`` for each sample.
        asked: Mask of the samples that were read, shape ``(n,)``.
        corners: Corners at which the plates were read, shape ``(n, 4, 2)``.
        lines: Number of lines with which the plates were read, shape ``(n,)``.
    """

    texts: list[str]
    given: FloatArray
    other: FloatArray
    first: list[str]
    confidence: FloatArray
    characters: list[FloatArray]
    asked: NDArray[np.bool_]
    corners: FloatArray
    lines: NDArray[np.int_]


def is_reliable(right: int, asked: int) -> bool:
    """Return whether a network agrees with enough labels for its objections to count.

    The upper end of the 95 % Wilson interval is used, so a network that was asked about few labels gets
    the benefit of the doubt. Augmented passes, which are most of the work, are skipped for an unreliable
    network.

    Args:
        right: Number of labels that the network agrees with.
        asked: Number of labels that the network was asked about.
    """
    return asked > 0 and wilson(right, asked)[1] >= LEAST_RIGHT


def box_opinions(samples: Samples, find: Find) -> BoxOpinions:
    """Compare the boxes of samples with the plates that ``find`` detects."""
    given, sizes = samples.boxes, samples.sizes
    found = find(Images(samples.image, len(samples)), given)
    given = np.where(samples.labels["present"].to_numpy(bool)[:, None], given, np.nan)
    views = [(move, 1.0) for move in MOVES] + [((0, 0), zoom) for zoom in ZOOMS]
    shifts = np.full((1 + len(views), len(samples), 2), np.nan)
    scores = np.full(shifts.shape[:2], np.nan)
    shifts[0], scores[0] = _shift(found.corners, given, sizes), found.score
    again = np.flatnonzero(np.abs(shifts[0]).max(axis=1) > SHIFTED)
    present = samples.labels["present"].to_numpy(bool)
    if not is_reliable(int((found.score[present] >= SURE).sum()), int(present.sum())):
        again = again[:0]
    for batch in batches(len(again), BATCH_SIZE):
        rows, size, near = again[batch], sizes[again[batch]], given[again[batch]]
        images = [samples.image(row) for row in rows]
        for number, (move, zoom) in enumerate(views, start=1):
            steps = np.round(np.array(move) * size.max(axis=1, keepdims=True) / MOVED_SIDE)
            steps += (1 - zoom) * near[:, :2] * size
            others = [
                moved(image, x, y, zoom)
                for image, (x, y) in zip(images, steps.tolist(), strict=True)
            ]
            looked = find(others, near)
            back = (looked.corners - (steps / size)[:, None]) / zoom
            shifts[number, rows], scores[number, rows] = _shift(back, near, size), looked.score
    seen = np.ma.masked_invalid(shifts)
    return BoxOpinions(
        found,
        seen.mean(axis=0).filled(np.nan),
        seen.std(axis=0).filled(np.nan),
        np.nanmean(scores, axis=0),
    )


def _shift(corners: FloatArray, given: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the shifts from given to detected centres, in widths of the given box, shape ``(n, 2)``."""
    centres = corners_to_box(corners)[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (centres - given[:, :2]) * sizes / (given[:, 2:3] * sizes[:, :1])
    return np.where(np.isfinite(shift), shift, np.nan)


def text_opinions(samples: Samples, read: Read, find: Find | None, seed: int) -> TextOpinions:
    """Compare the texts of samples with what ``read`` reads.

    Where no corners are given, the plate is read at the detected corners, or at those of the given box
    if ``find`` is None or finds no plate there.
    """
    corners, lines = places(samples, find)
    asked = ~np.isnan(corners).any(axis=(1, 2))
    given = samples.labels["plate"].tolist()
    # A text that breaks the grammar cannot be encoded; another check reports it.
    asked &= np.array([not text or CHARSET.is_valid(text) for text in given], dtype=bool)
    rows = np.flatnonzero(asked)
    texts = [given[i] for i in rows]
    images = Images(lambda at: samples.image(int(rows[at])), len(rows))
    log_probs = read(images, corners[rows], lines[rows].tolist(), False)
    readings = decode(log_probs) if len(rows) else []
    first = [reading.text for reading in readings]
    # A plate that seems hidden in part is no evidence against the text of somebody who could read it.
    untold = np.array([not text for text in texts], dtype=bool)
    empty = _log_probability(log_probs, [""] * len(rows), untold)
    best = _log_probability(log_probs, first)
    others = [
        "" if nothing > text else word
        for nothing, text, word in zip(empty, best, first, strict=True)
    ]
    of_given, of_other = [_log_probability(log_probs, texts, untold)], [np.maximum(best, empty)]
    differ = np.array([a != b for a, b in zip(texts, others, strict=True)], dtype=bool)
    again = np.flatnonzero(differ)
    if not is_reliable(int((~differ).sum()), len(rows)):
        again = again[:0]
    draws = np.random.default_rng(seed)
    for read_again in _readings(
        samples.take(rows[again]), corners[rows[again]], lines[rows[again]], read, draws
    ):
        for values, words in ((of_given, texts), (of_other, others)):
            value = values[0].copy()
            value[again] = _log_probability(read_again, [words[i] for i in again], untold[again])
            values.append(value)
    unknown = np.full(len(samples), np.nan)
    opinions = TextOpinions(
        [""] * len(samples), unknown, unknown.copy(), [""] * len(samples), unknown.copy(),
        [np.empty((0, CHARSET.blank)) for _ in given], asked, corners, lines,
    )  # fmt: skip
    opinions.given[rows] = _mean(of_given)
    opinions.other[rows] = np.where(differ, _mean(of_other), -np.inf)
    opinions.confidence[rows] = [reading.confidence for reading in readings]
    for row, other, word, probs in zip(rows.tolist(), others, first, log_probs, strict=True):
        opinions.texts[row], opinions.first[row] = other, word
        opinions.characters[row] = _characters(probs, word)
    return opinions


def _readings(
    samples: Samples,
    corners: FloatArray,
    lines: NDArray[np.int_],
    read: Read,
    draws: np.random.Generator,
) -> list[FloatArray]:
    """Return the log-probabilities of ``READINGS`` further readings of samples, at corners that are off."""
    if not len(samples):
        return []
    quads = [_jittered(corners, samples.sizes, draws) for _ in range(READINGS)]
    parts: list[list[FloatArray]] = [[] for _ in quads]
    for batch in batches(len(samples), BATCH_SIZE):
        # Each image is decoded once for all of its readings.
        images, counts = [samples.image(row) for row in batch], lines[batch].tolist()
        for each, quad in zip(parts, quads, strict=True):
            each.append(read(images, quad[batch], counts, False))
    return [np.concatenate(part) for part in parts]


def places(samples: Samples, find: Find | None) -> tuple[FloatArray, NDArray[np.int_]]:
    """Return where each sample is read: corners, shape ``(n, 4, 2)``, and lines, shape ``(n,)``."""
    corners = samples.corners
    # Crops without a plate have corners too: there the recognizer must read nothing.
    lines = samples.labels["lines"].to_numpy(np.int64).copy()
    lacking = np.isnan(corners).any(axis=(1, 2)) & samples.labels["present"].to_numpy(bool)
    rows = np.flatnonzero(lacking & ~np.isnan(samples.boxes).any(axis=1))
    if len(rows):
        boxes = samples.boxes[rows]
        corners[rows] = box_to_corners(boxes)
        if find is not None:
            found = find(Images(lambda at: samples.image(int(rows[at])), len(rows)), boxes)
            overlap = _centre_within(found.corners, boxes)
            corners[rows[overlap]] = found.corners[overlap]
            unknown = overlap & (lines[rows] == 0)
            lines[rows[unknown]] = found.lines[unknown]
    return corners, np.where(lines == 0, 1, lines)


def _centre_within(corners: FloatArray, boxes: FloatArray) -> NDArray[np.bool_]:
    """Return whether the centre of each detected plate lies in the given box, shape ``(n,)``."""
    edges = box_to_xyxy(boxes)
    centre = corners_to_box(corners)[:, :2]
    return np.asarray(((edges[:, :2] < centre) & (centre < edges[:, 2:])).all(axis=1))


def _jittered(corners: FloatArray, sizes: FloatArray, draws: np.random.Generator) -> FloatArray:
    """Return corners with random noise added, in normalised coordinates, shape ``(n, 4, 2)``."""
    pixels = corners * sizes[:, None]
    errors = draws.normal(0, CORNER_ERROR, pixels.shape)
    errors += draws.normal(0, CORNER_ERROR, (len(pixels), 1, 2))
    return (pixels + errors @ plate_axes(pixels)) / sizes[:, None]


def _log_probability(
    log_probs: FloatArray, texts: Sequence[str], may_be_hidden: NDArray[np.bool_] | None = None
) -> FloatArray:
    """Return the logarithms of the texts' probabilities over all their CTC paths, shape ``(n,)``.

    Where ``may_be_hidden``, shape ``(n,)``, paths on which a character is hidden have no text either. Their
    probability is what the classes of the recognizer's outputs lack to 1.
    """
    if not texts:
        return np.empty(0)
    log_probs = log_probs[..., : CHARSET.num_classes]
    classes = [CHARSET.encode(text) if text else [] for text in texts]
    losses = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs).float().transpose(0, 1),
        torch.tensor([index for text in classes for index in text], dtype=torch.long),
        torch.full((len(texts),), log_probs.shape[1]),
        torch.tensor([len(text) for text in classes]),
        blank=CHARSET.blank,
        reduction="none",
    )
    found = -losses.double().numpy()
    if may_be_hidden is None:
        return np.maximum(found, LEAST_LOG)
    seen = np.exp(np.logaddexp.reduce(log_probs.astype(np.float64), axis=2).sum(axis=1))
    hidden = np.log(np.clip(1 - seen, np.exp(LEAST_LOG), 1))
    is_empty = np.array([not text for text in texts]) & may_be_hidden
    return np.maximum(np.where(is_empty, np.logaddexp(found, hidden), found), LEAST_LOG)


def _mean(logs: Sequence[FloatArray]) -> FloatArray:
    """Return the logarithm of the mean of probabilities that are given as logarithms."""
    return np.asarray(np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(logs)))


def _characters(log_probs: FloatArray, text: str) -> FloatArray:
    """Return the class probabilities, without the blank, at each character, shape ``(K, classes)``.

    A character's position is the step at which it is likeliest, after the step of the previous
    character.
    """
    classes, start, rows = CHARSET.encode(text), 0, []
    steps = len(log_probs)
    for position, index in enumerate(classes):
        # Leave a step for each of the remaining characters.
        end = steps - (len(classes) - 1 - position)
        step = start + int(log_probs[start:end, index].argmax()) if start < end else steps - 1
        chances = np.exp(log_probs[step, : CHARSET.blank].astype(np.float64))
        rows.append(chances / chances.sum())
        start = min(step + 1, steps - 1)
    return np.array(rows)
