"""What the plates of pictures say: each cut out, read, and read once more where it is not sure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from src.bundle import ReaderEntry
from src.datasets.crops import reader_crop
from src.decoding import Reading, decode
from src.geometry import FloatArray
from src.images import Pixels
from src.stack.pyramid import Pyramid

ONE_LINE, TWO_LINES = 0.1, 0.9
"""Between these probabilities of two lines, a plate is read both ways; the surer text is taken."""
SURE_READING = 0.9
"""Where the reader is less sure than this, it reads twice more; the surest text is taken."""
STRETCHES = (1.15, 0.87)
"""How much higher the plate is cut out then: most errors of corners are errors of its height."""

Read = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``(N, h, w)`` crops to log-probabilities ``(N, T, C)``."""


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
    places: Sequence[Place], read: Read, reader: ReaderEntry
) -> list[tuple[Reading, int]]:
    """The text of each plate, and the number of lines that it was read as.

    Args:
        places: the plates.
        read: runs the reader.
        reader: what it is.
    """
    best: dict[int, tuple[Reading, int]] = {}

    def attempt(cuts: Iterable[tuple[int, int, float]]) -> None:
        """Read places, by their number, as so many lines and stretched, and keep what is surer."""
        chosen = list(cuts)
        if not chosen:
            return
        crops = [
            cut(places[i].pyramid, _stretched(places[i].corners, stretch), lines, reader)
            for i, lines, stretch in chosen
        ]
        readings = decode(read(np.stack(crops)))
        for (i, lines, _), reading in zip(chosen, readings, strict=True):
            if i not in best or reading.confidence > best[i][0].confidence:
                best[i] = (reading, lines)

    attempt((i, lines, 1.0) for i, place in enumerate(places) for lines in _ways(place, reader))
    unsure = [
        (i, lines) for i, (reading, lines) in best.items() if reading.confidence < SURE_READING
    ]
    attempt((i, lines, stretch) for i, lines in unsure for stretch in STRETCHES)
    return [best[i] for i in range(len(places))]


def _ways(place: Place, reader: ReaderEntry) -> Sequence[int]:
    if reader.rectification == "corners" and ONE_LINE < place.two_lines < TWO_LINES:
        return (1, 2)
    return (2,) if place.two_lines > 0.5 else (1,)


def _stretched(corners: FloatArray, factor: float) -> FloatArray:
    """Corners of a plate that is higher by a factor, around the same middle."""
    if factor == 1:
        return corners
    down = (factor - 1) / 2 * (corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]])
    return corners + down * np.array([[-1.0], [-1.0], [1.0], [1.0]])


def cut(pyramid: Pyramid, corners: FloatArray, lines: int, reader: ReaderEntry) -> Pixels:
    """A plate as the reader takes it, ``(h, w)``, of corners in pixels of the displayed picture."""
    image, scale = pyramid.half(0), pyramid.scale(0)
    return reader_crop(image, corners / scale, reader.rectification, reader.input_shape, lines)
