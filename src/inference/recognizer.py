"""What the plates of pictures say: each cut out, read, and read once more where it is not sure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import FloatArray
from ..core.images import Pixels
from .bundle import RecognizerEntry
from .crops import recognizer_crop
from .decoding import Reading, decode
from .pyramid import Pyramid

ONE_LINE, TWO_LINES = 0.1, 0.9
"""Between these probabilities of two lines, a plate is read both ways; the surer text is taken."""
SURE_READING = 0.99
"""Where the reader is less sure than this, the localizer looks at the plate again, the plate is cut out
in other ways as well, and the readings vote: what it reads however the corners are off is more likely
right."""
OTHER_CUTS = (
    (1.15, 0.0, 1.0), (0.87, 0.0, 1.0), (1.0, 0.07, 1.0), (1.0, -0.07, 1.0), (1.0, 0.0, 1.04),
    (1.0, 0.0, 0.96),
)  # fmt: skip
"""How much higher the plate is cut out then, how far down, as a share of its height, and how much wider:
about what corners are off by."""

Read = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``(N, h, w)`` crops to log-probabilities ``(N, T, C)``."""
Look = Callable[[Sequence[tuple[Pyramid, FloatArray]]], list[list[FloatArray]]]
"""Pictures and corners of plates to other corners of each, as the localizer sees them."""


@dataclass(frozen=True, eq=False)
class Place:
    """A plate that was found.

    Attributes:
        pyramid: of its picture.
        corners: ``(4, 2)`` in pixels of the displayed picture, clockwise from its own top left.
        score: the localizer's probability that there is a plate.
        two_lines: probability that it has two lines.
    """

    pyramid: Pyramid
    corners: NDArray[np.float64]
    score: float
    two_lines: float


def read_places(
    places: Sequence[Place], read: Read, look: Look, reader: RecognizerEntry
) -> list[tuple[Reading, int]]:
    """The text of each plate, and the number of lines that it was read as.

    Args:
        places: the plates.
        read: runs the reader.
        look: looks at plates again.
        reader: what it is.
    """
    ways = [(place, lines) for place in places for lines in _ways(place, reader)]
    if not ways:
        return []
    readings = decode(
        read(np.stack([cut(place.pyramid, place.corners, lines, reader) for place, lines in ways]))
    )
    unsure = [i for i, reading in enumerate(readings) if reading.confidence < SURE_READING]
    if unsure:
        looks = look([(ways[i][0].pyramid, ways[i][0].corners) for i in unsure])
        crops, counts = [], []
        for i, seen in zip(unsure, looks, strict=True):
            place, lines = ways[i]
            others = _other_corners(place.corners, seen)
            crops += [cut(place.pyramid, corners, lines, reader) for corners in others]
            counts.append(len(others))
        votes = iter(decode(read(np.stack(crops))))
        for i, count in zip(unsure, counts, strict=True):
            readings[i] = majority_vote([readings[i], *islice(votes, count)])
    # Ways of one place follow each other.
    best: list[tuple[Reading, int]] = []
    last: Place | None = None
    for (place, lines), reading in zip(ways, readings, strict=True):
        if place is not last:
            best.append((reading, lines))
        elif reading.confidence > best[-1][0].confidence:
            best[-1] = (reading, lines)
        last = place
    return best


def majority_vote(readings: Sequence[Reading]) -> Reading:
    """The text that readings of one plate agree on most, by the sum of their confidences.

    Its confidence is that sum, shared by all readings: one that stands alone is not believed. The
    characters' are those of the most confident reading with that text.
    """
    votes: dict[str, float] = {}
    for reading in readings:
        votes[reading.text] = votes.get(reading.text, 0.0) + reading.confidence
    text = max(votes, key=votes.__getitem__)
    best = max(
        (reading for reading in readings if reading.text == text), key=lambda each: each.confidence
    )
    return replace(best, confidence=votes[text] / len(readings))


def _ways(place: Place, reader: RecognizerEntry) -> Sequence[int]:
    if reader.rectification == "corners" and ONE_LINE < place.two_lines < TWO_LINES:
        return (1, 2)
    return (2,) if place.two_lines > 0.5 else (1,)


def _other_corners(corners: FloatArray, seen: Sequence[FloatArray]) -> list[FloatArray]:
    """Where else a plate may lie: as it was seen, in the mean, and around that."""
    if not seen:
        return [_moved(corners, *other) for other in OTHER_CUTS]
    mean = np.mean([corners, *seen], axis=0)
    return [*seen, mean, *(_moved(mean, *other) for other in OTHER_CUTS)]


def _moved(corners: FloatArray, higher: float, down: float, wider: float) -> FloatArray:
    """Corners of a plate that is higher and wider by factors, and moved down by a share of its height."""
    left_right = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]]
    top_bottom = corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
    outward_y = (higher - 1) / 2 * np.array([[-1.0], [-1.0], [1.0], [1.0]]) + down
    outward_x = (wider - 1) / 2 * np.array([[-1.0], [1.0], [1.0], [-1.0]])
    return corners + outward_y * top_bottom + outward_x * left_right


def cut(pyramid: Pyramid, corners: FloatArray, lines: int, reader: RecognizerEntry) -> Pixels:
    """A plate as the reader takes it, ``(h, w)``, of corners in pixels of the displayed picture."""
    image, scale = pyramid.half(0), pyramid.scale(0)
    return recognizer_crop(image, corners / scale, reader.rectification, reader.input_shape, lines)
