"""What is covered cannot be read back, and nothing else is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest

from src.blur.covering import MARGIN, Method, cover, grown
from src.generators.plate import FORMATS, PlateSpec
from src.inference.reader import PlateReader
from tests.behaviour.test_shipped_bundle import photograph

METHODS = get_args(Method)
CORNERS = np.array([[40.0, 30], [120, 40], [118, 62], [38, 52]])


def noise(channels: int | None = 3) -> np.ndarray:
    shape = (100, 160) if channels is None else (100, 160, channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("channels", [None, 3, 4])
def test_only_the_plate_and_some_room_are_covered(method: Method, channels: int | None) -> None:
    image, before = noise(channels), noise(channels)
    cover(image, [CORNERS], method)
    changed = (
        (image != before) if channels is None else (image[..., :3] != before[..., :3]).any(axis=2)
    )
    rows, columns = np.nonzero(changed)
    outline = grown(CORNERS, MARGIN)
    assert columns.min() >= outline[:, 0].min() - 1
    assert columns.max() <= outline[:, 0].max() + 1
    assert rows.min() >= outline[:, 1].min() - 1
    assert rows.max() <= outline[:, 1].max() + 1
    assert changed[40:50, 45:112].mean() > 0.95
    assert not changed[:15].any()
    if channels == 4:
        np.testing.assert_array_equal(image[..., 3], before[..., 3])


def test_one_colour_tells_nothing() -> None:
    image = noise()
    cover(image, [CORNERS], "fill")
    inside = image[40:50, 50:110].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) == 1


def test_large_pixels_are_few() -> None:
    image = noise()
    cover(image, [CORNERS], "pixelate")
    assert len(np.unique(image[42:50, 50:110].reshape(-1, 3), axis=0)) < 12


@pytest.mark.parametrize("method", METHODS)
def test_plates_beyond_the_image_and_of_no_size_harm_nothing(method: Method) -> None:
    image = noise()
    cover(image, [CORNERS - 60, CORNERS + 500, CORNERS - 500, np.full((4, 2), 50.0)], method)
    assert image.shape == (100, 160, 3)


def test_a_plate_grows_on_each_side() -> None:
    straight = np.array([[10.0, 10], [50, 10], [50, 20], [10, 20]])
    np.testing.assert_allclose(grown(straight, 0.5), [[5, 5], [55, 5], [55, 25], [5, 25]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [60, 220, 400])
def test_the_shipped_recognizer_cannot_read_it_back(method: Method, width: int) -> None:
    """Where the plate was, by its true place."""
    reader = PlateReader.load()
    read = 0
    for index, plate in enumerate(FORMATS):
        image = photograph(PlateSpec(f"ZH{12345 + index}", index), width)
        (found, *_) = reader.read(image)
        corners = np.array(found.corners)
        cover(image, [corners], method)
        again = reader.read_at(image, corners, plate.lines)
        read += again.text == f"ZH{12345 + index}"
        assert all(each.plate is None for each in reader.read(image))
    assert read == 0


@pytest.fixture(scope="module")
def other_reader() -> Callable[[np.ndarray], str]:
    """Reader of text of any kind (PP-OCR): all digits that it finds in an image."""
    from rapidocr import RapidOCR

    ocr = RapidOCR(params={"Global.log_level": "error"})

    def read(image: np.ndarray) -> str:
        # Both are said each time, since it keeps them.
        found = ocr(image, use_det=True, use_cls=True).txts or ()
        line = ocr(image, use_det=False, use_cls=False).txts or ()
        return "".join(filter(str.isdigit, " ".join((*found, *line))))

    return read


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 220, 400])
def test_another_reader_cannot_read_it_back(
    other_reader: Callable[[np.ndarray], str], width: int
) -> None:
    reader = PlateReader.load()
    before, after = 0, dict.fromkeys(METHODS, 0)
    for index in range(len(FORMATS)):
        number = str(12345 + index)
        image = photograph(PlateSpec(f"ZH{number}", index), width)
        (found, *_) = reader.read(image)
        x1, y1, x2, y2 = (round(value) for value in found.box)
        before += number in other_reader(image)
        for method in METHODS:
            covered = image.copy()
            cover(covered, [np.array(found.corners)], method)
            # The whole photograph, where text must be found first, and the plate alone.
            after[method] += number in other_reader(covered)
            after[method] += number in other_reader(np.ascontiguousarray(covered[y1:y2, x1:x2]))
    assert before >= len(FORMATS) - 1
    assert after == dict.fromkeys(METHODS, 0)
