"""Read the plates of images: each is cut out, read, and read again where the recognizer is unsure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import FloatArray
from ..core.images import Pixels
from .bundle import RecognizerEntry
from .crops import is_tall, moved, recognizer_crop
from .decoding import Reading, decode
from .pyramid import Pyramid

ONE_LINE, TWO_LINES = 0.1, 0.9
"""Between these probabilities of two lines, a plate is read both ways; the more confident text is
taken."""
SURE_READING = 0.99
"""Minimum confidence of a reading that is accepted without test-time augmentation. Below it, the
localizer estimates the corners again, the plate is cut out in other ways as well, and a majority vote
of the readings is taken: a text that is read however the corners are off is more likely right."""
SURE_COMPLETE, INCOMPLETE = 0.95, 0.02
"""Probabilities that all characters can be read: a reading with a lower one than the first goes through
test-time augmentation too, except below the second, where the plate is certainly incomplete."""
NOT_SWISS = 0.02
"""Probability that a plate is Swiss below which there is no test-time augmentation: it has no text."""
FIRST_CUTS = 3
"""Number of cuts of a plate after which test-time augmentation ends where the readings are settled."""
AGREED, AGREED_COMPLETE = 0.95, 0.9
"""Readings are settled where all have one text, and these are their least mean confidence and their least
mean probability that all characters can be read."""
HOPELESS, HOPELESS_COMPLETE = 0.3, 0.05
"""Readings are settled too where one of the same means is lower: other cuts hardly ever make a text of it."""
OTHER_CUTS = (
    (1.15, 0.0, 1.0), (0.87, 0.0, 1.0), (1.0, 0.07, 1.0), (1.0, -0.07, 1.0), (1.0, 0.0, 1.04),
    (1.0, 0.0, 0.96),
)  # fmt: skip
"""Cuts for test-time augmentation, as arguments of ``moved``. They match the typical errors of corners."""

Read = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Function that maps crops ``(N, h, w)`` to log-probabilities ``(N, T, C)``."""
Refine = Callable[[Sequence[tuple[Pyramid, FloatArray]]], list[list[FloatArray]]]
"""Function that maps images and corners of plates to the localizer's other estimates of each one's
corners."""


@dataclass(frozen=True, eq=False)
class Place:
    """A plate that was found.

    Attributes:
        pyramid: Pyramid of the image.
        corners: Plate corners in pixels of the displayed image, shape ``(4, 2)``, clockwise from the
            plate's own top left.
        score: Localizer's probability that there is a plate.
        two_lines: Probability that the plate has two lines.
    """

    pyramid: Pyramid
    corners: NDArray[np.float64]
    score: float
    two_lines: float


class _Way(NamedTuple):
    """A way to read a place: as one line or two, with a closer cut of the lower line or without."""

    place: Place
    lines: int
    closer: bool = False

    def cut(self, corners: FloatArray, reader: RecognizerEntry) -> Pixels:
        """Cut the plate out by the given corners."""
        return cut(self.place.pyramid, corners, self.lines, reader, self.closer)


def read_places(
    places: Sequence[Place], read: Read, refine: Refine, reader: RecognizerEntry
) -> list[tuple[Reading, int]]:
    """Return the text of each plate, and the number of lines that it was read as.

    Args:
        places: Plates to read.
        read: Function that runs the recognizer.
        refine: Function that estimates the corners of plates again.
        reader: Manifest entry of the recognizer.
    """
    ways = [way for place in places for way in _ways(place, reader)]
    if not ways:
        return []
    readings = decode(read(np.stack([way.cut(way.place.corners, reader) for way in ways])))
    unsure = [i for i, reading in enumerate(readings) if _is_unsure(reading)]
    if unsure:
        refined = refine([(ways[i].place.pyramid, ways[i].place.corners) for i in unsure])
        others = {
            i: _other_corners(ways[i].place.corners, seen)
            for i, seen in zip(unsure, refined, strict=True)
        }
        votes = {i: [readings[i]] for i in unsure}
        for part in (slice(FIRST_CUTS), slice(FIRST_CUTS, None)):
            going = {i: others[i][part] for i in others if not _is_settled(votes[i])}
            crops = [ways[i].cut(corners, reader) for i in going for corners in going[i]]
            found = iter(decode(read(np.stack(crops)))) if crops else iter(())
            for i, cuts in going.items():
                votes[i] += islice(found, len(cuts))
        for i, each in votes.items():
            readings[i] = majority_vote(each)
    # The ways to read one place follow each other.
    best: list[tuple[Reading, int]] = []
    last: Place | None = None
    for way, reading in zip(ways, readings, strict=True):
        if way.place is not last:
            best.append((reading, way.lines))
        elif reading.confidence > best[-1][0].confidence:
            best[-1] = (reading, way.lines)
        last = way.place
    return best


def _is_unsure(reading: Reading) -> bool:
    """Return whether a reading may change with other cuts of the plate."""
    if reading.complete < INCOMPLETE or reading.swiss < NOT_SWISS:
        return False
    return reading.confidence < SURE_READING or reading.complete < SURE_COMPLETE


def _is_settled(readings: Sequence[Reading]) -> bool:
    """Return whether the readings of several cuts of one plate leave nothing to ask."""
    if len(readings) <= FIRST_CUTS:
        return False
    confidence = sum(reading.confidence for reading in readings) / len(readings)
    complete = sum(reading.complete for reading in readings) / len(readings)
    if confidence < HOPELESS or complete < HOPELESS_COMPLETE:
        return True
    is_one = len({reading.text for reading in readings}) == 1
    return is_one and confidence >= AGREED and complete >= AGREED_COMPLETE


def majority_vote(readings: Sequence[Reading]) -> Reading:
    """Return the text that readings of one plate agree on most, by the sum of their confidences.

    Its confidence is that sum divided by the number of all readings, so that a single reading against
    the others gets a low one. The characters' confidences are those of the most confident reading with
    that text. The logits of the layout are means over all readings.
    """
    votes: dict[str, float] = {}
    for reading in readings:
        votes[reading.text] = votes.get(reading.text, 0.0) + reading.confidence
    text = max(votes, key=votes.__getitem__)
    best = max(
        (reading for reading in readings if reading.text == text), key=lambda each: each.confidence
    )
    layout = tuple(np.mean([reading.layout for reading in readings], axis=0).tolist())
    return replace(best, confidence=votes[text] / len(readings), layout=layout)


def _ways(place: Place, reader: RecognizerEntry) -> list[_Way]:
    if reader.rectification != "corners":
        return [_Way(place, 2 if place.two_lines > 0.5 else 1)]
    ways = [_Way(place, 1)] if place.two_lines < TWO_LINES else []
    if place.two_lines > ONE_LINE:
        ways.append(_Way(place, 2))
        if is_tall(place.corners):
            ways.append(_Way(place, 2, closer=True))
    return ways


def _other_corners(corners: FloatArray, seen: Sequence[FloatArray]) -> list[FloatArray]:
    """Return other possible corners of a plate: those seen, their mean, and variations of the mean."""
    if not seen:
        return [moved(corners, *other) for other in OTHER_CUTS]
    mean = np.mean([corners, *seen], axis=0)
    return [*seen, mean, *(moved(mean, *other) for other in OTHER_CUTS)]


def cut(
    pyramid: Pyramid,
    corners: FloatArray,
    lines: int,
    reader: RecognizerEntry,
    closer: bool = False,
) -> Pixels:
    """Cut out a plate for the recognizer, ``(h, w)``; corners are in pixels of the displayed image."""
    image, scale = pyramid.half(0), pyramid.scale(0)
    return recognizer_crop(
        image,
        corners / scale,
        reader.rectification,
        reader.input_shape,
        lines,
        reader.margin,
        reader.upper,
        closer,
    )
