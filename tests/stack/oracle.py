"""A PlateReader that knows the answer, and fails where it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from src.core.charset import CHARSET
from src.inference.colour import Colour
from src.inference.decoding import Reading
from src.inference.reader import Plate
from tests.standins import OUTSIDE, plate_text, true_corners

NOTHING_THERE = "AI9"
"""What is read beside a plate."""


def found_plate(
    corners: NDArray[np.floating], text: str, confidence: float = 0.9, score: float = 1.0
) -> Plate:
    """A plate as it comes from ``read_batch`` with a ``min_confidence`` of 0."""
    low, high = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    return Plate(
        plate=text or None,
        canton=text[:2] or None,
        number=text[2:] or None,
        confidence=confidence,
        char_confidences=(confidence,) * max(len(text) - 1, 0),
        box=(low[0], low[1], high[0], high[1]),
        corners=tuple((x, y) for x, y in corners.tolist()),
        lines=1,
        score=score,
        text=text,
    )


def wrong(text: str) -> str:
    """The text with another last digit, which obeys the grammar."""
    return text[:-1] + str((int(text[-1]) + 1) % 9 + 1)


@dataclass
class OracleStack:
    """Knows what is in image ``i`` of tests/standins.py by its brightest pixel.

    Attributes:
        wrong: images whose text it reads wrong, wherever it looks.
        shift: added to normalised x of the corners of ``shifted`` images.
        missed: images in which it finds nothing.
        confidences: of images; 0.9 of the others.
        colour: of every plate; None if it tells none.
        extra: further plates by image: arguments of ``found_plate``.
        threshold, rectification, runtime: as PlateReader's.
    """

    wrong: set[int] = field(default_factory=set)
    shift: float = 0.7
    shifted: set[int] = field(default_factory=set)
    missed: set[int] = field(default_factory=set)
    confidences: Mapping[int, float] = field(default_factory=dict)
    colour: Colour | None = None
    extra: Mapping[int, Sequence[tuple[Any, ...]]] = field(default_factory=dict)
    threshold: float = 0.5
    rectification: Literal["corners", "box"] = "corners"
    runtime: str = "oracle"
    asked: list[float | None] = field(default_factory=list)

    def read(self, image: Any, min_confidence: float | None = None) -> list[Plate]:
        return self.read_batch([image], min_confidence)[0]

    def read_batch(
        self, images: Sequence[Any], min_confidence: float | None = None
    ) -> list[list[Plate]]:
        self.asked.append(min_confidence)
        return [self._plates(image) for image in images]

    def _plates(self, image: NDArray[np.uint8]) -> list[Plate]:
        i = int(image.max()) - OUTSIDE
        plates = [found_plate(*values) for values in self.extra.get(i, ())]
        if i not in self.missed:
            moved = np.array([self.shift * (i in self.shifted), 0.0])
            corners = (true_corners(i) + moved) * image.shape[::-1]
            text = NOTHING_THERE if i in self.shifted else self._text(i)
            plates.append(found_plate(corners, text, self.confidences.get(i, 0.9)))
        if self.colour is not None:
            plates = [replace(each, colour=self.colour, colour_confidence=0.9) for each in plates]
        return sorted(plates, key=lambda plate: -plate.confidence)

    def _text(self, i: int) -> str:
        return wrong(plate_text(i)) if i in self.wrong else plate_text(i)

    def read_at(
        self, image: NDArray[np.uint8], corners: NDArray[np.floating], lines: int
    ) -> Reading:
        x, y = np.asarray(corners).mean(axis=0).astype(int)
        value = int(image[y, x])
        text = self._text(value) if value < OUTSIDE else NOTHING_THERE
        return Reading(text, 0.9, (0.9,) * len(CHARSET.encode(text)))
