"""Corrections obey the grammar, and corners are those of a plate."""

from __future__ import annotations

import pytest

from src.flywheel.corrections import Correction, spelled
from src.flywheel.errors import CorrectionError


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("ZH123456", "ZH123456"),
        ("zh 123 456", "ZH123456"),
        (" be·1 ", "BE1"),
        ("TI-12'345", "TI12345"),
        ("ai\t7", "AI7"),
    ],
)
def test_texts_are_spelled_one_way(text: str, wanted: str) -> None:
    assert spelled(text) == wanted
    assert Correction(text=text).checked(100, 100).text == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "ZH",
        "XX1",
        "ZH0",
        "ZH012",
        "ZH12345678",
        "123ZH",
        "ZH12A",
        "ZH１２",
        "ﬁ1",
        "ZH1;--",
    ],
)
def test_other_texts_break_the_grammar(text: str) -> None:
    with pytest.raises(
        CorrectionError, match=r"is not a valid plate: expected .* such as ZH123456"
    ):
        Correction(text=text).checked(100, 100)


SQUARE = ((10.0, 10.0), (50.0, 10.0), (50.0, 20.0), (10.0, 20.0))


@pytest.mark.parametrize(
    "corners",
    [
        SQUARE,
        SQUARE[2:] + SQUARE[:2],  # A plate that stands on its head.
        ((-20.0, 10.0), (50.0, 0.0), (55.0, 30.0), (-20.0, 30.0)),
    ],
)
def test_corners_of_a_plate(corners: tuple[tuple[float, float], ...]) -> None:
    assert Correction(corners=corners).checked(100, 50).corners == corners


@pytest.mark.parametrize(
    ("corners", "says"),
    [
        (SQUARE[::-1], "clockwise"),
        ((SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]), "clockwise"),
        ((SQUARE[0],) * 4, "clockwise"),
        (((0.0, 0.0), (10.0, 0.0), (2.0, 2.0), (0.0, 10.0)), "clockwise"),
        (((0.0, 0.0), (10.0, 0.0), (20.0, 0.0), (10.0, 10.0)), "clockwise"),
        (SQUARE[:3], "four"),
        (((500.0, 10.0), (550.0, 10.0), (550.0, 20.0), (500.0, 20.0)), "outside"),
        (((float("nan"), 1.0), *SQUARE[1:]), "outside"),
        (((-1e308, 1.0), (1e308, 1.0), (1e308, 5.0), (-1e308, 5.0)), "outside"),
    ],
)
def test_corners_of_none(corners: tuple[tuple[float, float], ...], says: str) -> None:
    with pytest.raises(CorrectionError, match=says):
        Correction(corners=corners).checked(100, 50)


def test_lines_are_one_or_two() -> None:
    assert Correction(lines=2).checked(9, 9).lines == 2
    with pytest.raises(CorrectionError, match="lines must be 1 or 2"):
        Correction(lines=3).checked(9, 9)


def test_an_empty_correction_is_none() -> None:
    assert not Correction()
    assert Correction(text="")
    assert Correction(lines=1)
