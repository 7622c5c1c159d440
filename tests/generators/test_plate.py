"""Plates: formats, layout, colours."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest

from src.core.charset import CANTONS, MAX_DIGITS
from src.generators.plate import (
    COLOURS,
    FORMATS,
    GLYPH_SPAN,
    RIM_OFFSET,
    SHIELD_HEIGHT,
    DrawnTiles,
    PlateSpec,
    draw_plate,
    layout,
    rounded_outline,
)
from src.generators.shields import SHIELD_ASPECT

BY_NAME = {plate.name: i for i, plate in enumerate(FORMATS)}
WHITE = next(i for i, colour in enumerate(COLOURS) if colour.name == "white")


@pytest.mark.parametrize("index", range(len(FORMATS)), ids=[plate.name for plate in FORMATS])
@pytest.mark.parametrize("digits", range(1, 8))
def test_everything_stands_inside_the_rim(index: int, digits: int) -> None:
    plate, place = FORMATS[index], layout(index, digits)
    rim = RIM_OFFSET * min(plate.height, 110)
    half = GLYPH_SPAN * place.cap_height / 2
    for x, y in place.marks:
        assert rim < x - half * 0.9
        assert x + half * 0.9 < plate.width - rim
        assert rim < y - place.cap_height / 2
        assert y + place.cap_height / 2 < plate.height - rim
    for x, _ in place.shields:
        width = SHIELD_HEIGHT * SHIELD_ASPECT * place.cap_height
        assert rim < x - width / 2
        assert x + width / 2 < plate.width - rim


@pytest.mark.parametrize("index", range(len(FORMATS)), ids=[plate.name for plate in FORMATS])
@pytest.mark.parametrize("digits", range(1, 8))
def test_neighbours_do_not_overlap(index: int, digits: int) -> None:
    place = layout(index, digits)
    marks = place.marks
    number = marks[-digits:]
    gaps = [after[0] - before[0] for before, after in pairwise(number)]
    assert all(gap >= 0.49 * place.cap_height for gap in gaps)
    if place.shields:
        shield = SHIELD_HEIGHT * SHIELD_ASPECT * place.cap_height
        text_left = marks[0][0] - GLYPH_SPAN * place.cap_height / 2
        assert place.shields[0][0] + shield / 2 <= text_left + 0.01


@pytest.mark.parametrize("digits", [0, 8])
def test_a_plate_has_one_to_seven_digits(digits: int) -> None:
    with pytest.raises(ValueError, match="1 to 7 digits"):
        layout(1, digits)


def test_sizes_are_those_of_the_law() -> None:
    for plate in FORMATS:
        image, alpha = draw_plate(PlateSpec("BE1234", BY_NAME[plate.name]), 160)
        assert image.shape[0] == alpha.shape[0] == 160
        assert image.shape[1] == pytest.approx(160 * plate.width / plate.height, abs=1)


def test_front_has_no_arms_and_rear_has_both() -> None:
    def reds(name: str) -> tuple[int, int]:
        image, _ = draw_plate(PlateSpec("GL20", BY_NAME[name]), 110)
        red = (image[..., 0] > 120) & (image[..., 1] < 60)
        half = red.shape[1] // 2
        return int(red[:, :half].sum()), int(red[:, half:].sum())

    assert reds("front_long") == (0, 0)
    swiss, canton = reds("rear_long")
    assert swiss > 300
    assert canton > 200


@pytest.mark.parametrize("index", range(len(COLOURS)), ids=[colour.name for colour in COLOURS])
def test_ground_and_ink_have_the_colours_of_the_class(index: int) -> None:
    text = "M123" if COLOURS[index].name == "black" else "SO123"
    image, _ = draw_plate(PlateSpec(text, BY_NAME["front_long"], index), 110)
    inside = image[20:-20, 30:-30].reshape(-1, 3)
    values, counts = np.unique(inside, axis=0, return_counts=True)
    assert tuple(values[counts.argmax()]) == COLOURS[index].ground
    assert (inside == COLOURS[index].ink).all(axis=1).mean() > 0.05


def test_group_gap_widens_only_before_the_last_three() -> None:
    def gaps(group_gap: bool) -> list[int]:
        spec = PlateSpec("ZH111111", BY_NAME["front_long"], WHITE, group_gap=group_gap)
        image, _ = draw_plate(spec, 220)
        ink = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[60:160, 40:-40] < 128
        # Six equal characters: their left edges are as far apart as they are.
        columns = ink.any(axis=0).astype(int)
        starts = np.flatnonzero(np.diff(columns) == 1)[-6:]
        return np.diff(starts).tolist()

    plain, grouped = gaps(group_gap=False), gaps(group_gap=True)
    assert max(plain) - min(plain) <= 1
    assert grouped[2] > max(grouped[:2] + grouped[3:]) + 5


def test_every_canton_gives_another_plate() -> None:
    images = [draw_plate(PlateSpec(f"{canton}5", 2), 40)[0].tobytes() for canton in CANTONS]
    assert len(set(images)) == len(CANTONS)


def test_frame_reaches_beyond_the_plate() -> None:
    bare, framed = PlateSpec("ZG1").outline, PlateSpec("ZG1", frame=True).outline
    assert framed[0] < bare[0]
    assert framed[3] > bare[3]


def test_rounded_outline_is_clockwise_and_within() -> None:
    points = rounded_outline(0, 0, 100, 50, 10)
    assert points.min() >= 0
    assert points[:, 0].max() <= 100
    x, y = points.T
    # The shoelace formula is positive for clockwise points where y grows downwards.
    area = (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2
    assert area == pytest.approx(100 * 50 - (4 - np.pi) * 100, rel=0.01)


@pytest.mark.parametrize("format_index", range(len(FORMATS) - 1))
@pytest.mark.parametrize("digits", range(1, MAX_DIGITS + 1))
def test_a_smaller_plate_keeps_its_text(format_index: int, digits: int) -> None:
    whole = PlateSpec("ZH" + "1234567"[:digits], format_index)
    narrow = min(np.ceil(whole.least_width / whole.width * 20) / 20, 1.0)
    spec = replace(whole, narrow=float(narrow), low=0.88)
    assert spec.width == pytest.approx(whole.width * narrow)
    assert spec.cap_height >= whole.cap_height * 0.999
    wide, less = (each.compose(60, DrawnTiles(60)) for each in (whole, spec))
    assert less.ink.shape[0] == pytest.approx(wide.ink.shape[0] * 0.88, abs=1)
    assert less.ink.shape[1] == pytest.approx(wide.ink.shape[1] * narrow, abs=1)
    assert len(less.marks) == len(wide.marks)
    for (tile, left, top), (same, _, _) in zip(less.marks, wide.marks, strict=True):
        assert (tile == same).all()
        assert 0 <= top <= less.ink.shape[0] - tile.shape[0]
        assert 0 <= left <= less.ink.shape[1] - tile.shape[1]
    if narrow < 1:
        # No character touches the arms.
        for _, alpha, left, top in less.shields:
            for tile, x, y in less.marks:
                apart = x >= left + alpha.shape[1] or x + tile.shape[1] <= left
                assert apart or y >= top + alpha.shape[0] or y + tile.shape[0] <= top


@pytest.mark.parametrize("format_index", range(len(FORMATS)))
def test_wide_spacing_keeps_the_text_on_the_plate(format_index: int) -> None:
    for text in ("ZH1", "BE123", "GE12345", "TI1234567"):
        spec = PlateSpec(text, format_index, spacing=2.0)
        composed = spec.compose(60, DrawnTiles(60))
        plain = replace(spec, spacing=1.0).compose(60, DrawnTiles(60))
        low, high = (min(left for _, left, _ in each.marks) for each in (composed, plain))
        assert low <= high
        edge = min(0, high)
        for tile, left, _ in composed.marks:
            assert edge <= left <= composed.ink.shape[1] - tile.shape[1] - edge
