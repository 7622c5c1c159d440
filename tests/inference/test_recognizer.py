"""When a plate is read again in other cuts, and when that ends."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from src.core.geometry import FloatArray
from src.core.images import load_image
from src.inference import recognizer
from src.inference.bundle import RecognizerEntry
from src.inference.crops import UPPER
from src.inference.decoding import Reading
from src.inference.pyramid import Pyramid
from src.inference.recognizer import FIRST_CUTS, OTHER_CUTS, Place, read_places

ENTRY = RecognizerEntry(
    name="crnn",
    input_shape=(1, 32, 128),
    rectification="corners",
    margin=0.06,
    upper=UPPER,
    parameters=1,
)
CORNERS = np.array([[20.0, 20.0], [120.0, 20.0], [120.0, 45.0], [20.0, 45.0]])
ALL = FIRST_CUTS + len(OTHER_CUTS)
"""Number of cuts of a plate whose corners were seen twice again: these, their mean, and its variations."""


def reading(
    text: str = "ZH123", confidence: float = 0.97, complete: float = 0.99, swiss: float = 0.99
) -> Reading:
    logits = [math.log(chance / (1 - chance)) for chance in (complete, swiss)]
    return Reading(text, confidence, (confidence,) * 4, tuple(logits))


def read(
    monkeypatch: pytest.MonkeyPatch, plates: Sequence[Sequence[Reading]]
) -> tuple[list[Reading], list[int]]:
    """Read plates, of each of which every cut is read as the next reading, the last for all that follow.

    Returns:
        What they are read as, and the numbers of cuts that were read together.
    """
    # Each plate has a grey of its own.
    image = np.zeros((64, 160 * len(plates)), np.uint8)
    for i in range(len(plates)):
        image[:, 160 * i : 160 * (i + 1)] = 10 * (i + 1)
    pyramid, left = Pyramid(load_image(image)), [list(each) for each in plates]
    asked: list[int] = []

    def run(crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(len(crops))
        return np.median(crops, axis=(1, 2)).astype(np.float32)

    def decode(greys: NDArray[np.float32]) -> list[Reading]:
        queues = [left[round(float(grey) / 10) - 1] for grey in greys]
        return [queue.pop(0) if len(queue) > 1 else queue[0] for queue in queues]

    def refine(seen: Sequence[tuple[Pyramid, FloatArray]]) -> list[list[FloatArray]]:
        return [[corners, corners] for _, corners in seen]

    monkeypatch.setattr(recognizer, "decode", decode)
    places = [
        Place(pyramid, CORNERS + np.array([160 * i, 0]), 0.9, 0.0) for i in range(len(plates))
    ]
    return [each for each, _ in read_places(places, run, refine, ENTRY)], asked


@pytest.mark.parametrize(
    ("readings", "cuts"),
    [
        # Sure, certainly incomplete or certainly not Swiss: not read again.
        ([reading(confidence=0.995)], [1]),
        ([reading(confidence=0.5, complete=0.01)], [1]),
        ([reading(confidence=0.5, swiss=0.01)], [1]),
        # Some cuts agree, or tell that there is nothing to read.
        ([reading()], [1, FIRST_CUTS]),
        ([reading(confidence=0.1)], [1, FIRST_CUTS]),
        ([reading(confidence=0.6, complete=0.03)], [1, FIRST_CUTS]),
        # They do not agree, or are not sure.
        ([reading(), reading("ZH128")], [1, FIRST_CUTS, ALL - FIRST_CUTS]),
        ([reading(confidence=0.6)], [1, FIRST_CUTS, ALL - FIRST_CUTS]),
        ([reading(complete=0.8)], [1, FIRST_CUTS, ALL - FIRST_CUTS]),
    ],
)
def test_a_plate_is_read_in_other_cuts_until_that_tells_nothing_more(
    readings: list[Reading], cuts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(monkeypatch, [readings])[1] == cuts


def test_each_plate_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    sure, agreed, unclear = [reading(confidence=0.999)], [reading("BE1")], [reading("AG2", 0.6)]
    found, cuts = read(monkeypatch, [unclear, sure, agreed, unclear])
    assert [each.text for each in found] == ["AG2", "ZH123", "BE1", "AG2"]
    assert cuts == [4, 3 * FIRST_CUTS, 2 * (ALL - FIRST_CUTS)]


def test_the_text_is_that_of_all_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [reading("ZH123", 0.9), *[reading("ZH128", 0.8)] * 2]
    ((found,), cuts) = read(monkeypatch, [[*first, reading("ZH123", 0.7)]])
    assert cuts == [1, FIRST_CUTS, ALL - FIRST_CUTS]
    assert found.text == "ZH123"
    assert found.confidence == pytest.approx((0.9 + 7 * 0.7) / (1 + ALL))
