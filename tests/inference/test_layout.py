"""The format of a plate by its layout and its sides, and why a text is withheld."""

from __future__ import annotations

import numpy as np
import pytest

from src.core.layout import FORMATS, LAYOUT, Format
from src.inference.decoding import Reading
from src.inference.layout import plate_format, reason_without_text

SIDES: dict[Format, tuple[int, int, int]] = {
    "front": (300, 80, 1),
    "rear_long": (500, 110, 1),
    "rear_high": (300, 160, 2),
    "motorcycle": (180, 140, 2),
    "moped": (100, 140, 2),
}


def layout(**logits: float) -> tuple[float, ...]:
    return tuple({**dict.fromkeys(LAYOUT, 0.0), "swiss": 3.0, "complete": 3.0, **logits}.values())


def corners(width: float, height: float, angle: float = 0.0) -> np.ndarray:
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.array([[0.0, 0], [width, 0], [width, height], [0, height]]) @ turn


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_the_sides_tell_the_format_where_the_recognizer_does_not(
    name: Format, angle: float
) -> None:
    width, height, lines = SIDES[name]
    reading = Reading("ZH1", 1.0, (1.0, 1.0), layout())
    assert plate_format(reading, corners(width / 2, height / 2, angle), lines) == name


def test_the_recognizer_tells_what_the_sides_do_not() -> None:
    """The original's long plate without arms is as long as a rear plate."""
    for name in ("front", "rear_long"):
        reading = Reading("ZH1", 1.0, (1.0, 1.0), layout(**{name: 2.0}))
        assert plate_format(reading, corners(500, 110), 1) == name


def test_a_format_has_the_lines_that_were_read() -> None:
    reading = Reading("ZH1", 1.0, (1.0, 1.0), layout(motorcycle=9.0))
    assert plate_format(reading, corners(500, 110), 1) == "rear_long"


def test_no_format_where_there_is_no_swiss_plate_or_nothing_is_known() -> None:
    foreign = Reading("ZH1", 0.0, (1.0, 1.0), layout(swiss=-1.0))
    assert plate_format(foreign, corners(500, 110), 1) is None
    assert plate_format(Reading("ZH1", 1.0, (1.0, 1.0)), corners(500, 110), 1) is None


def test_why_there_is_no_text() -> None:
    assert reason_without_text(layout(swiss=-1.0, complete=-1.0)) == "not_swiss"
    assert reason_without_text(layout(complete=-1.0)) == "incomplete"
    assert reason_without_text(layout()) == "unreadable"
    assert reason_without_text(()) == "unreadable"
