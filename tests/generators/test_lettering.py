"""Foreign plates and signs: rows that fit, bands, and no random number too many."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np

from src.config import load_config
from src.core.charset import CHARSET
from src.core.random import Draws
from src.generators.atlas import Atlas
from src.generators.lettering import NUMBERS, RowsSpec, draw_foreign, draw_sign
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]


@cache
def atlas() -> Atlas:
    params = load_config(PARAMETERS).PlateParams.model_copy(update={"GLYPH_VARIANTS": 1})
    return Atlas(params, 7)


def spec(*rows: str, band: float = 0.0, width: float = 500.0) -> RowsSpec:
    return RowsSpec(rows, width, 110.0 * len(rows), 0, 1.0, band, False, False, False)


def ink(which: RowsSpec) -> np.ndarray:
    return which.compose(28, atlas().tiles(0, 28)).ink


def test_every_pattern_is_drawn() -> None:
    tiles = atlas().tiles(0, 14)
    for row in Draws(3, "test", np.arange(600)).split(NUMBERS):
        for draw in (draw_foreign, draw_sign):
            made = draw(row.copy())
            image = made.compose(14, tiles).ink
            assert image.any()
            assert made.lines in (1, 2)


def test_a_row_too_long_is_squeezed_into_its_rectangle() -> None:
    short, long = ink(spec("AB 12")), ink(spec("ABCDEFGHIJKLMNOPQRSTUVW"))
    for image in (short, long):
        columns = np.flatnonzero(image.any(axis=0))
        assert columns[0] > 1
        assert columns[-1] < image.shape[1] - 2
    assert np.ptp(np.flatnonzero(long.any(axis=0))) > 0.85 * long.shape[1]


def test_a_band_is_dark_and_the_text_stands_right_of_it() -> None:
    image = ink(spec("AB 12", band=0.1))
    left = round(0.1 * image.shape[1])
    assert (image[:, :left] == 190).all()
    columns = np.flatnonzero(image[:, left:].any(axis=0))
    middle = (columns[0] + columns[-1]) / 2
    assert abs(middle - (image.shape[1] - left) / 2) < 0.05 * image.shape[1]


def test_rows_stand_below_each_other() -> None:
    image = ink(spec("AAA", "BBB"))
    rows = image.any(axis=1)
    half = len(rows) // 2
    assert rows[:half].any()
    assert rows[half:].any()
    assert not rows[half - 1 : half + 1].any()


def test_no_foreign_plate_is_a_swiss_one() -> None:
    """A canton, a dot and a number are a Swiss plate, whoever draws it."""
    draws = Draws(4, "test", np.arange(20000)).split(NUMBERS)
    rows = [draw_foreign(each).rows[0] for each in draws]
    assert any(re.fullmatch(r"[A-Z]{3}\.[0-9]{3}", row) for row in rows)
    assert not [row for row in rows if row[2:3] == "." and CHARSET.is_valid(row[:2] + row[3:])]


def test_a_seal_stands_in_the_middle_of_its_row() -> None:
    with_seal, without = ink(spec("ABoCD")), ink(spec("AB CD"))
    disc = with_seal == 210
    assert disc.sum() > 10 * (without == 210).sum()
    rows, columns = np.nonzero(disc)
    assert abs(np.median(rows) - with_seal.shape[0] / 2) < 0.05 * with_seal.shape[0]
    assert abs(np.median(columns) - with_seal.shape[1] / 2) < 0.1 * with_seal.shape[1]
