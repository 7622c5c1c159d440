"""The shipped bundle returns the text of the whole plate, or none: every prefix of a number is a number."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from src.core.layout import ILLEGIBLE
from src.generators.obstacles import RASTER_CAP, hidden_ink
from src.generators.plate import FORMATS, DrawnTiles, PlateSpec
from tests.behaviour.test_shipped_bundle import ImageArray, photograph, reader, text

FORMAT_INDICES = range(len(FORMATS))
NUMBERS = ("ZH123456", "BE7890", "GE2345", "TI67", "UR5")


def spec_of(plate: str, format_index: int) -> PlateSpec:
    return PlateSpec(
        plate, format_index, vignette="26123456" if FORMATS[format_index].name == "moped" else ""
    )


def width_of(format_index: int) -> int:
    return 220 if FORMATS[format_index].width >= 300 else 150


def place(spec: PlateSpec, width: int) -> tuple[float, float, float]:
    """Left edge and pixels per millimetre of a plate in ``photograph``, and its upper edge."""
    scale = width / spec.width
    return (480 - width) / 2, scale, (360 - spec.height * scale) / 2


def with_bar(spec: PlateSpec, first: float, last: float, grey: int) -> ImageArray:
    """The plate with a bar in front of it between two places, relative to its width."""
    width = width_of(spec.format_index)
    image = photograph(spec, width)
    left, scale, top = place(spec, width)
    x1, x2 = (round(left + share * width) for share in (first, last))
    low, high = round(top - 25), round(top + spec.height * scale + 25)
    cv2.rectangle(image, (x1, low), (x2, high), (grey,) * 3, -1)
    return image


def hides(spec: PlateSpec, first: float, last: float) -> float:
    """Largest fraction of a character's ink between two places, relative to the plate's width."""
    tiles = DrawnTiles(RASTER_CAP)
    composed = spec.compose(RASTER_CAP, tiles)
    mask = np.zeros(composed.ink.shape, np.uint8)
    columns = [round(share * mask.shape[1]) for share in (first, last)]
    mask[:, max(columns[0], 0) : max(columns[1], 0)] = 255
    return max(hidden_ink(composed, mask))


@pytest.mark.parametrize("end", ["left", "right"])
def test_a_bar_over_an_end_gives_hardly_ever_another_number(end: str) -> None:
    wrong, count = [], 0
    for index in FORMAT_INDICES:
        for number in NUMBERS[:3]:
            spec = spec_of(number, index)
            for share in (0.2, 0.3, 0.45):
                first, last = (-0.1, share) if end == "left" else (1 - share, 1.1)
                if hides(spec, first, last) < ILLEGIBLE:
                    continue
                for grey in (30, 120, 235):
                    read = text(with_bar(spec, first, last, grey))
                    count += 1
                    if read not in (None, number):
                        wrong.append((FORMATS[index].name, number, share, grey, read))
    assert count > 100
    # The goal is one percent, which the set `occluded` measures; the failures here are mopeds.
    assert len(wrong) <= 0.03 * count, wrong


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_the_edge_of_the_image_gives_hardly_ever_another_number(edge: str) -> None:
    wrong, count = [], 0
    for index in FORMAT_INDICES:
        for number in NUMBERS[:3]:
            spec = spec_of(number, index)
            width = width_of(index)
            image = photograph(spec, width)
            left, scale, top = place(spec, width)
            for share in (0.25, 0.4):
                x, y = share * width, share * spec.height * scale
                part = {
                    "left": image[:, round(left + x) :],
                    "right": image[:, : round(left + width - x)],
                    "top": image[round(top + y) :],
                    "bottom": image[: round(top + spec.height * scale - y)],
                }[edge]
                read = text(np.ascontiguousarray(part))
                count += 1
                if read not in (None, number):
                    wrong.append((FORMATS[index].name, number, share, read))
    assert count == 36
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("format_index", FORMAT_INDICES)
def test_upper_half_hidden_gives_no_other_number(format_index: int) -> None:
    for number in NUMBERS[:3]:
        spec = spec_of(number, format_index)
        width = width_of(format_index)
        image = photograph(spec, width)
        left, scale, top = place(spec, width)
        high = round(top + 0.55 * spec.height * scale)
        cv2.rectangle(
            image,
            (round(left - 15), round(top - 25)),
            (round(left + width + 15), high),
            (90,) * 3,
            -1,
        )
        assert text(image) in (None, number)


def test_a_short_number_on_a_whole_plate_is_read() -> None:
    read = [
        text(photograph(spec_of(number, index), width_of(index))) == number
        for number in ("UR7", "AG42", "ZH815")
        for index in FORMAT_INDICES
    ]
    assert np.mean(read) >= 0.95


def test_what_hides_no_character_does_not_silence() -> None:
    """A bar over the bare end of a short number, or over an arm."""
    read = []
    for index in FORMAT_INDICES:
        for number in ("UR7", "AG42"):
            spec = spec_of(number, index)
            for first, last in ((-0.1, 0.06), (0.94, 1.1), (-0.1, 0.1), (0.9, 1.1)):
                if hides(spec, first, last) == 0:
                    read.append(text(with_bar(spec, first, last, 60)) == number)
    assert len(read) > 20
    assert np.mean(read) >= 0.9


def test_the_reason_is_told() -> None:
    spec = spec_of("ZH123456", 2)
    plates = reader().read(with_bar(spec, 0.6, 1.1, 40))
    assert plates[0].plate is None
    assert plates[0].reason == "incomplete"


@pytest.mark.parametrize("format_index", FORMAT_INDICES)
def test_the_format_is_told(format_index: int) -> None:
    name = FORMATS[format_index].name
    spec = spec_of("BE78901", format_index)
    (plate, *_) = reader().read(photograph(spec, width_of(format_index)))
    assert plate.format == ("front" if name == "front_long" else name)
