"""Crops: what a reader sees of plates of one line and of two."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.generators.plate import FORMATS, PlateSpec, draw_plate
from src.inference import crops
from src.inference.crops import recognizer_crop

SHAPE = (1, 32, 128)
TWO_LINES = [index for index, plate in enumerate(FORMATS) if plate.lines == 2]
UPPER = round(crops.UPPER[0] * SHAPE[2])


def photographed(text: str, format_index: int, height: float) -> tuple[NDArray[np.uint8], NDArray]:
    """A plate seen from the side in a grey image, and its corners ``(4, 2)``."""
    flat = cv2.cvtColor(draw_plate(PlateSpec(text, format_index), 320)[0], cv2.COLOR_RGB2GRAY)
    half = height * np.array([flat.shape[1] / flat.shape[0], 1]) / 2
    shape = np.array([[-1, -1], [1, -1.15], [1, 1.1], [-1, 1]]) * half
    corners = shape @ np.array([[0.97, 0.2], [-0.15, 0.99]]) + 2 * height
    side = int(4 * height)
    fine = 3
    ends = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * flat.shape[::-1]
    matrix = cv2.getPerspectiveTransform(
        (ends - 0.5).astype(np.float32), (corners * fine - 0.5).astype(np.float32)
    )
    image = np.full((side * fine, side * fine), 100, np.uint8)
    cv2.warpPerspective(flat, matrix, image.shape, image, cv2.INTER_AREA, cv2.BORDER_TRANSPARENT)
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), corners


def difference(
    first: str, second: str, format_index: int, height: float, off: float = 0.0
) -> NDArray[np.bool_]:
    """``(32, 128)``: where the crops of two plates differ; corners off by so many plate heights."""
    crops = []
    for text in (first, second):
        image, corners = photographed(text, format_index, height)
        crops.append(
            recognizer_crop(image, corners + off * height, "corners", SHAPE, 2).astype(int)
        )
    return np.abs(crops[0] - crops[1]) > 40


def lines_of(
    format_index: int, height: float, off: float = 0.0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the canton shows in a crop, and where the number does."""
    return (
        difference("ZH123456", "BE123456", format_index, height, off),
        difference("ZH123456", "ZH789870", format_index, height, off),
    )


@pytest.mark.parametrize("height", [40, 160, 400])
@pytest.mark.parametrize("format_index", TWO_LINES)
def test_two_lines_become_one_canton_left_number_right(format_index: int, height: float) -> None:
    canton, number = lines_of(format_index, height)
    assert canton[:, 4 : UPPER - 4].sum() > 30
    assert number[:, UPPER:].sum() > 60
    # Each line is on its side, but for what the overlap shows of the other one.
    assert not canton[3:, UPPER:].any()
    assert not number[:-3, :UPPER].any()
    # No character is cut at the top or at the bottom.
    assert not canton[[0, -1], :UPPER].any()
    assert not number[[0, -1], UPPER:].any()
    # The digits stand from left to right.
    places = []
    for digit in range(6):
        other = "ZH" + "".join("8" if i == digit else c for i, c in enumerate("111111"))
        changed = difference("ZH111111", other, format_index, height)[:, UPPER:]
        places.append(np.flatnonzero(changed.any(axis=0)).mean())
    assert (np.diff(places) > 4).all()


@pytest.mark.parametrize("off", [-0.05, 0.05])
@pytest.mark.parametrize("format_index", TWO_LINES)
def test_characters_stay_whole_where_corners_are_a_little_off(
    format_index: int, off: float
) -> None:
    sides = (slice(None, UPPER), slice(UPPER, None))
    for side, straight, moved in zip(
        sides, lines_of(format_index, 100), lines_of(format_index, 100, off), strict=True
    ):
        assert not moved[[0, -1], side].any()
        # More may show: the canton's arms.
        assert moved[:, side].sum() > 0.85 * straight[:, side].sum()


@pytest.mark.parametrize(("format_index", "lines"), [(0, 1), (2, 1), (3, 2), (5, 2)])
def test_a_crop_does_not_depend_on_the_resolution_of_the_image(
    format_index: int, lines: int
) -> None:
    large, corners = photographed("GR45018", format_index, 480)
    small = cv2.resize(large, None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA)
    first = recognizer_crop(large, corners, "corners", SHAPE, lines).astype(int)
    second = recognizer_crop(small, corners / 8, "corners", SHAPE, lines).astype(int)
    assert first.mean() == pytest.approx(second.mean(), abs=1.5)
    # The small image is as fine as the crop, or coarser; its edges are softer.
    assert np.abs(first - second).mean() < 14
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.93


def test_crops_of_other_sizes_are_divided_alike() -> None:
    image, corners = photographed("ZH123456", 3, 120)
    small = recognizer_crop(image, corners, "corners", SHAPE, 2)
    large = recognizer_crop(image, corners, "corners", (1, 64, 256), 2)
    shrunk = cv2.resize(large, (128, 32), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - small).mean() < 6


def test_the_closer_cut_shows_the_lower_half_of_the_height() -> None:
    corners = np.array([[60.0, 40], [160, 40], [160, 190], [60, 190]])
    lower = crops.moved(corners, *crops.CLOSER)
    top, bottom = lower[0, 1], lower[3, 1]
    # The usual cut of a lower line begins at 45 % of the quadrilateral's height.
    assert (top + 0.45 * (bottom - top) - 40) / 150 == pytest.approx(0.48, abs=0.005)
    assert (top + 1.068 * (bottom - top) - 40) / 150 == pytest.approx(0.89, abs=0.005)
    np.testing.assert_allclose(lower[:, 0], corners[:, 0])


def test_the_closer_cut_shows_the_lower_line_larger_and_the_upper_one_as_it_is() -> None:
    (moped,) = [index for index, plate in enumerate(FORMATS) if plate.name == "moped"]
    image, corners = photographed("ZH12345", moped, 120)
    assert crops.is_tall(corners)
    usual, closer = (
        recognizer_crop(image, corners, "corners", SHAPE, 2, closer=is_closer)
        for is_closer in (False, True)
    )
    np.testing.assert_array_equal(usual[:, :UPPER], closer[:, :UPPER])
    other, _ = photographed("ZH67890", moped, 120)
    rows = []
    for is_closer, crop in ((False, usual), (True, closer)):
        changed = recognizer_crop(other, corners, "corners", SHAPE, 2, closer=is_closer)
        differs = np.abs(changed.astype(int) - crop)[:, UPPER:] > 40
        assert not differs[[0, -1]].any(), "no digit is cut"
        rows.append(differs.any(axis=1).sum())
    assert rows[1] > 1.3 * rows[0]


def test_the_upright_box_has_no_lines() -> None:
    image, corners = photographed("ZH123456", 3, 60)
    one, two = (recognizer_crop(image, corners, "box", (1, 84, 84), lines) for lines in (1, 2))
    np.testing.assert_array_equal(one, two)
