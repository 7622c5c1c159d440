"""What networks think of labels: is there a plate at the box, and is the text what they read?

A network is asked once about every sample, and several more times, with the picture or the corners moved a
little, where it contradicts the label: an error of the network changes with the picture, one of the label
does not.
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
from ..inference.decoding import decode
from ..inference.detection import SURE
from .measures import moved
from .networks import Find, Found, Read
from .samples import FloatArray, Samples

MOVES, MOVED_SIDE = ((2, 1), (-1, 2), (1, -2), (-2, -1)), 84
"""Pixels that a picture is moved by, x and y, when a localizer looks again, if its longer side has so many,
..."""
ZOOMS = (0.85, 1.15, 1.3)
"""... and how much it is zoomed around the given box when it does once more."""
SHIFTED = 0.05
"""Boxes whose centre is farther from what was found than this share of their width are looked at again."""
READINGS = 20
"""How often a text is read again."""
CORNER_ERROR = 0.035
"""Standard deviation of the corners' errors then, in plate sizes: less than a localizer's."""
LEAST_RIGHT = 0.6
"""Share of labels that a network must agree with before it is listened to."""
LEAST_LOG = -80.0
"""No logarithm of a text's probability counts as less."""


@dataclass(frozen=True)
class BoxOpinions:
    """Where a plate was found, beside where the label says that it is.

    Attributes:
        found: the first look.
        shift: ``(n, 2)`` of the centre, found less given, in widths of the given box: the mean of all
            looks; not a number where there is no plate or none was found.
        spread: ``(n, 2)`` standard deviation of the shift over the looks.
        score: ``(n,)`` mean probability that there is a plate.
    """

    found: Found
    shift: FloatArray
    spread: FloatArray
    score: FloatArray


@dataclass(frozen=True)
class TextOpinions:
    """What was read, beside the given text; logarithms are natural.

    Attributes:
        texts: likeliest other text than the given one (or that one where nothing else was likelier);
            empty where most speaks for nothing to read.
        given: ``(n,)`` logarithm of the given text's mean probability over all readings; of an empty
            text, that nothing is read.
        other: ``(n,)`` likewise of ``texts``, where that is another text; else minus infinity.
        first: the likeliest text of the first reading.
        confidence: ``(n,)`` its probability.
        characters: for each sample the ``(K, classes)`` probabilities of the classes at its K
            characters, of the first reading.
        asked: ``(n,)`` whether there was a place to read at.
        corners: ``(n, 4, 2)`` and lines ``(n,)`` where it was read.
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
    """Whether a network may know enough to accuse labels: of some few, it may be right.

    Else it is not asked again, which is most of the work.

    Args:
        right: labels that it agrees with.
        asked: of so many.
    """
    return asked > 0 and wilson(right, asked)[1] >= LEAST_RIGHT


def box_opinions(samples: Samples, find: Find) -> BoxOpinions:
    """Ask what finds plates about the boxes of samples."""
    given, sizes = samples.boxes, samples.sizes
    pictures = [samples.image(i) for i in range(len(samples))]
    found = find(pictures, given)
    given = np.where(samples.labels["present"].to_numpy(bool)[:, None], given, np.nan)
    views = [(move, 1.0) for move in MOVES] + [((0, 0), zoom) for zoom in ZOOMS]
    shifts = np.full((1 + len(views), len(samples), 2), np.nan)
    scores = np.full(shifts.shape[:2], np.nan)
    shifts[0], scores[0] = _shift(found.corners, given, sizes), found.score
    again = np.flatnonzero(np.abs(shifts[0]).max(axis=1) > SHIFTED)
    present = samples.labels["present"].to_numpy(bool)
    if not is_reliable(int((found.score[present] >= SURE).sum()), int(present.sum())):
        again = again[:0]
    size, near = sizes[again], given[again]
    for number, (move, zoom) in enumerate(views if len(again) else (), start=1):
        steps = np.round(np.array(move) * size.max(axis=1, keepdims=True) / MOVED_SIDE)
        steps += (1 - zoom) * near[:, :2] * size
        others = [
            moved(pictures[i], x, y, zoom) for i, (x, y) in zip(again, steps.tolist(), strict=True)
        ]
        looked = find(others, near)
        back = (looked.corners - (steps / size)[:, None]) / zoom
        shifts[number, again], scores[number, again] = _shift(back, near, size), looked.score
    seen = np.ma.masked_invalid(shifts)
    return BoxOpinions(
        found,
        seen.mean(axis=0).filled(np.nan),
        seen.std(axis=0).filled(np.nan),
        np.nanmean(scores, axis=0),
    )


def _shift(corners: FloatArray, given: FloatArray, sizes: FloatArray) -> FloatArray:
    """``(n, 2)`` of the centres of what was found from the given boxes, in widths of these."""
    centres = corners_to_box(corners)[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = (centres - given[:, :2]) * sizes / (given[:, 2:3] * sizes[:, :1])
    return np.where(np.isfinite(shift), shift, np.nan)


def text_opinions(samples: Samples, read: Read, find: Find | None, seed: int) -> TextOpinions:
    """Ask what reads plates about the texts of samples.

    Where no corners are given, it reads at those that are found; without a finder at those of the box.
    """
    pictures = [samples.image(i) for i in range(len(samples))]
    corners, lines = places(samples, pictures, find)
    asked = ~np.isnan(corners).any(axis=(1, 2))
    given = samples.labels["plate"].tolist()
    # What breaks the grammar cannot be spelled: another check tells it.
    asked &= np.array([not text or CHARSET.is_valid(text) for text in given], dtype=bool)
    rows = np.flatnonzero(asked)
    texts = [given[i] for i in rows]
    log_probs = read(
        [pictures[i] for i in rows.tolist()], corners[rows], lines[rows].tolist(), False
    )
    readings = decode(log_probs) if len(rows) else []
    first = [reading.text for reading in readings]
    empty = _log_probability(log_probs, [""] * len(rows))
    best = _log_probability(log_probs, first)
    others = [
        "" if nothing > text else word
        for nothing, text, word in zip(empty, best, first, strict=True)
    ]
    of_given, of_other = [_log_probability(log_probs, texts)], [np.maximum(best, empty)]
    differ = np.array([a != b for a, b in zip(texts, others, strict=True)], dtype=bool)
    again = np.flatnonzero(differ)
    if not is_reliable(int((~differ).sum()), len(rows)):
        again = again[:0]
    draws = np.random.default_rng(seed)
    for _ in range(READINGS if len(again) else 0):
        quads = _jittered(corners[rows[again]], samples.sizes[rows[again]], draws)
        read_again = read(
            [pictures[i] for i in rows[again].tolist()], quads, lines[rows[again]].tolist(), False
        )
        for values, words in ((of_given, texts), (of_other, others)):
            value = values[0].copy()
            value[again] = _log_probability(read_again, [words[i] for i in again])
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


def places(
    samples: Samples, pictures: Sequence[NDArray[np.uint8]], find: Find | None
) -> tuple[FloatArray, NDArray[np.int_]]:
    """Where each sample is read: corners ``(n, 4, 2)``, and lines ``(n,)``."""
    corners = samples.corners
    # Sets of crops keep the place without a plate, where a reader must read nothing.
    lines = samples.labels["lines"].to_numpy(np.int64).copy()
    lacking = np.isnan(corners).any(axis=(1, 2)) & samples.labels["present"].to_numpy(bool)
    rows = np.flatnonzero(lacking & ~np.isnan(samples.boxes).any(axis=1))
    if len(rows):
        boxes = samples.boxes[rows]
        corners[rows] = box_to_corners(boxes)
        if find is not None:
            found = find([pictures[i] for i in rows.tolist()], boxes)
            overlap = _centre_within(found.corners, boxes)
            corners[rows[overlap]] = found.corners[overlap]
            unknown = overlap & (lines[rows] == 0)
            lines[rows[unknown]] = found.lines[unknown]
    return corners, np.where(lines == 0, 1, lines)


def _centre_within(corners: FloatArray, boxes: FloatArray) -> NDArray[np.bool_]:
    """``(n,)`` whether the centre of what was found lies in the given box."""
    edges = box_to_xyxy(boxes)
    centre = corners_to_box(corners)[:, :2]
    return np.asarray(((edges[:, :2] < centre) & (centre < edges[:, 2:])).all(axis=1))


def _jittered(corners: FloatArray, sizes: FloatArray, draws: np.random.Generator) -> FloatArray:
    """Corners ``(n, 4, 2)`` a little off, as normalised coordinates."""
    pixels = corners * sizes[:, None]
    errors = draws.normal(0, CORNER_ERROR, pixels.shape)
    errors += draws.normal(0, CORNER_ERROR, (len(pixels), 1, 2))
    return (pixels + errors @ plate_axes(pixels)) / sizes[:, None]


def _log_probability(log_probs: FloatArray, texts: Sequence[str]) -> FloatArray:
    """``(n,)`` logarithms of the texts' probabilities, over all their CTC paths."""
    if not texts:
        return np.empty(0)
    classes = [CHARSET.encode(text) if text else [] for text in texts]
    losses = torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs).float().transpose(0, 1),
        torch.tensor([index for text in classes for index in text], dtype=torch.long),
        torch.full((len(texts),), log_probs.shape[1]),
        torch.tensor([len(text) for text in classes]),
        blank=CHARSET.blank,
        reduction="none",
    )
    return np.maximum(-losses.double().numpy(), LEAST_LOG)


def _mean(logs: Sequence[FloatArray]) -> FloatArray:
    """Logarithm of the mean of probabilities."""
    return np.asarray(np.logaddexp.reduce(np.stack(logs), axis=0) - np.log(len(logs)))


def _characters(log_probs: FloatArray, text: str) -> FloatArray:
    """``(K, classes)``: at each character of a text, the probabilities of all, the blank left out.

    The character's place is the step, after that of the one before, at which it is likeliest.
    """
    classes, start, rows = CHARSET.encode(text), 0, []
    steps = len(log_probs)
    for position, index in enumerate(classes):
        # The rest needs steps too.
        end = steps - (len(classes) - 1 - position)
        step = start + int(log_probs[start:end, index].argmax()) if start < end else steps - 1
        chances = np.exp(log_probs[step, : CHARSET.blank].astype(np.float64))
        rows.append(chances / chances.sum())
        start = min(step + 1, steps - 1)
    return np.array(rows)
