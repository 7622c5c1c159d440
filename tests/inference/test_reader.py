"""PlateReader, with networks that know what to say (tests/bundles.py)."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.core.charset import CHARSET
from src.core.images import ImageError, ImageWarning, load_image
from src.inference import finder, reader, recognizer
from src.inference.bundle import Bundle, BundleError, LocalizerEntry
from src.inference.calibration import FEATURES, Calibration
from src.inference.colour import NONE
from src.inference.decoding import Reading
from src.inference.detection import Detections
from src.inference.finder import find_plates, usual_sizes
from src.inference.pyramid import Pyramid
from src.inference.reader import Candidate, Plate, PlateReader
from src.inference.runtimes import installed_runtimes
from tests.bundles import (
    BLACK,
    BLACK_SCORE,
    TEXTS,
    UNSURE,
    always,
    draw_plate,
    scene,
    white_score,
    write_bundle,
)

ImageArray = NDArray[np.uint8]
RUNTIMES = installed_runtimes(has_int8=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("reader") / "bundle", int8=True)


@pytest.fixture(scope="module", params=RUNTIMES)
def plate_reader(request: pytest.FixtureRequest, folder: Path) -> PlateReader:
    return PlateReader.load(folder, request.param, threads=2)


@pytest.fixture(scope="module")
def one(folder: Path) -> PlateReader:
    return PlateReader.load(folder, "onnxruntime", threads=1)


def only(plates: list[Plate]) -> Plate:
    (plate,) = plates
    return plate


# What is found


def test_a_plate(plate_reader: PlateReader) -> None:
    plate = only(plate_reader.read(scene("GE65432", (60, 100, 180, 132))))
    assert (plate.plate, plate.canton, plate.number) == ("GE65432", "GE", "65432")
    assert plate.text == "GE65432"
    assert plate.confidence > 0.95
    assert len(plate.char_confidences) == 6
    assert min(plate.char_confidences) > 0.99
    assert plate.box == pytest.approx((60, 100, 180, 132), abs=0.6)
    corners = [(60, 100), (180, 100), (180, 132), (60, 132)]
    assert np.array(plate.corners) == pytest.approx(np.array(corners), abs=0.6)
    assert plate.lines == 1
    assert plate.score == pytest.approx(white_score(255), abs=1e-3)


@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((256, 256), (10, 10, 120, 40)),
        # All of it is the plate.
        ((84, 300), (0, 0, 300, 84)),
        ((60, 200), (0, 0, 200, 60)),
        ((30, 90), (4, 3, 86, 27)),
        ((480, 640), (400, 300, 500, 325)),
        ((768, 1024), (30, 20, 900, 260)),
        # In its largest level 28 pixels wide: looked at twice.
        ((3000, 4000), (2000, 1500, 2120, 1532)),
        ((1501, 2303), (1903, 1303, 2003, 1331)),
        ((4000, 3000), (0, 3800, 700, 4000)),
    ],
)
def test_a_plate_of_any_size_in_an_image_of_any_size(
    one: PlateReader, size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    plate = only(one.read(scene("BE1", box, size)))
    assert plate.plate == "BE1"
    # A pixel of the level that it was found in.
    assert plate.box == pytest.approx(box, abs=max(1.0, max(size) / 256))


def test_a_plate_in_a_colour_image_has_a_colour(one: PlateReader, tmp_path: Path) -> None:
    grey = scene("BE1")
    rgb = np.repeat(grey[..., None], 3, axis=2)
    assert only(one.read(rgb)).colour is None, "the bundle tells no colours"
    told = {}
    for colour in ("blue", NONE):
        folder = write_bundle(tmp_path / colour, colours=always(colour).to_dict())
        reader = PlateReader.load(folder, "onnxruntime", threads=1)
        assert only(reader.read(grey)).colour is None
        told[colour] = only(reader.read(rgb))
        (batch,) = reader.read_batch([rgb])
        assert only(batch) == told[colour]
    assert (told["blue"].plate, told["blue"].colour) == ("BE1", "blue")
    assert told["blue"].colour_confidence == pytest.approx(0.9, abs=1e-3)
    assert (told[NONE].colour, told[NONE].colour_confidence) == (None, None)


def test_a_bundle_with_damaged_colours(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "bundle", colours={"classes": []})
    with pytest.raises(BundleError, match="colours"):
        Bundle.load(folder)


def test_no_plate(plate_reader: PlateReader) -> None:
    assert plate_reader.read(np.full((256, 256), 120, np.uint8)) == []
    assert plate_reader.read(np.full((2000, 1500), 120, np.uint8)) == []


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (7, 500), (8, 8), (9, 4000), (2, 2)])
def test_images_that_are_too_small_for_anything(one: PlateReader, size: tuple[int, int]) -> None:
    assert one.read(np.full(size, 120, np.uint8)) == []


def test_two_plates_the_surest_text_first(plate_reader: PlateReader) -> None:
    """Though the other one is more surely a plate."""
    image = draw_plate(scene("VD777", (120, 180, 240, 210)), "TI1234567", (20, 40, 140, 70), BLACK)
    first, second = plate_reader.read(image)
    assert (first.plate, second.plate, second.text) == ("TI1234567", None, "VD777")
    assert first.confidence > second.confidence
    assert first.score < second.score
    assert first.score == pytest.approx(BLACK_SCORE, abs=1e-3)
    assert second.box == pytest.approx((120, 180, 240, 210), abs=0.6)


def test_a_plate_of_two_lines(one: PlateReader) -> None:
    plate = only(one.read(scene("AG10", (60, 80, 160, 140))))
    assert (plate.text, plate.lines) == ("AG10", 2)
    assert only(one.read(scene("GE65432", (60, 80, 160, 110)))).lines == 1


def test_a_plate_that_leaves_the_image_has_a_box_within(one: PlateReader) -> None:
    def beyond(*_: Any) -> list[Detections]:
        corners = np.array([[[-20.0, 100], [100, 90], [100, 120], [-20, 130]]])
        return [Detections(corners, np.array([0.9]), np.array([0.0]))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "find_plates", beyond)
        plate = only(one.read(scene("BE1", (0, 90, 100, 130)), min_confidence=1.0))
    assert plate.box == (0, 90, 100, 130)
    assert plate.corners[0] == (-20, 100)


# What is given


def test_a_text_is_given_from_the_threshold_on(folder: Path, one: PlateReader) -> None:
    unsure = TEXTS[UNSURE]
    image = scene(unsure)
    plate = only(one.read(image))
    assert 0.2 < plate.confidence < one.threshold == 0.5
    assert (plate.plate, plate.canton, plate.number) == (None, None, None)
    assert plate.text == unsure
    assert len(plate.char_confidences) == len(CHARSET.encode(unsure))
    for least, given in (
        (plate.confidence, unsure),
        (plate.confidence + 1e-6, None),
        (0.0, unsure),
    ):
        assert only(one.read(image, min_confidence=least)).plate == given
        assert only(one.read_batch([image], min_confidence=least)[0]).plate == given


def test_what_is_neither_likely_a_plate_nor_read_is_not_given(one: PlateReader) -> None:
    doubtful = scene(TEXTS[UNSURE], rim=229)
    assert 0.2 < white_score(229) < 0.5
    assert one.read(doubtful) == []
    assert only(one.read(doubtful, min_confidence=0.0)).text == TEXTS[UNSURE]
    # A text that is likely is given.
    assert only(one.read(scene("BE1", rim=229))).plate == "BE1"
    assert one.read(scene("BE1", rim=225)) == [], "below what is looked at"


def test_the_confidence_is_the_calibrated_one(folder: Path) -> None:
    weights = (0.7, 0.2, 0.4, 0.1, 0.0)
    calibration = Calibration("logistic", weights, -1.0, 100, 50)
    bundle = dataclasses.replace(Bundle.load(folder), calibration=calibration)
    calibrated = PlateReader(bundle, "onnxruntime", 1)
    image = scene("GE65432", (60, 100, 180, 132))
    ((candidate,),) = calibrated.candidates([image])
    assert candidate.features.shape == (len(FEATURES),)
    assert candidate.confidence == pytest.approx(
        1 / (1 + np.exp(-(candidate.features @ np.array(weights) - 1)))
    )
    # Height of the line, in pixels of the image.
    assert candidate.features[3] == pytest.approx(np.log(32), abs=0.05)
    ((two_lines,),) = calibrated.candidates([scene("AG10", (60, 80, 160, 140))])
    assert two_lines.features[3] == pytest.approx(np.log(30), abs=0.05)
    assert only(calibrated.read(image)).confidence == candidate.confidence


def test_results_cannot_be_changed(one: PlateReader) -> None:
    plate = only(one.read(scene()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        plate.plate = "ZH1"  # type: ignore[misc]
    assert hash(plate) == hash(only(one.read(scene())))


# What comes in


def test_any_kind_of_image(one: PlateReader, tmp_path: Path) -> None:
    image = scene("GE65432")
    expected = one.read(image)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    path = tmp_path / "image"
    path.write_bytes(buffer.getvalue())
    kinds = [path, str(path), buffer.getvalue(), Image.fromarray(image), np.dstack([image] * 3),
             load_image(path)]  # fmt: skip
    for kind in kinds:
        assert one.read(kind) == expected
    assert one.read_batch(kinds) == [expected] * len(kinds)


def test_boxes_are_those_of_the_displayed_image(one: PlateReader) -> None:
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(scene("GE65432", size=(200, 300)))))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    plate = only(one.read(buffer.getvalue()))
    assert plate.box == pytest.approx((60, 100, 180, 132), abs=0.6)


def test_boxes_of_an_image_that_is_decoded_at_a_half(one: PlateReader) -> None:
    large = scene("GE65432", (4000, 300, 5000, 560), (900, 8200))
    done, content = cv2.imencode(".jpg", large)
    assert done
    assert load_image(content.tobytes()).scale == 2
    plate = only(one.read(content.tobytes()))
    assert plate.plate == "GE65432"
    assert plate.box == pytest.approx((4000, 300, 5000, 560), abs=10)


def test_an_image_that_cannot_be_read(one: PlateReader, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no such file"):
        one.read(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is empty"):
        one.read_batch([scene(), b""])


def test_nothing_to_read(one: PlateReader) -> None:
    assert one.read_batch([]) == []
    assert one.candidates([]) == []


# Batches and threads


@pytest.fixture(scope="module")
def mixed() -> list[ImageArray]:
    """Images of several sizes, with one plate, two or none, more than one thread takes at once."""
    images = []
    for i in range(45):
        text = TEXTS[i % len(TEXTS)]
        kind = i % 5
        if kind == 0:
            image = scene(text, (40 + i, 100, 150 + i, 130))
        elif kind == 1:
            image = scene(text, (400, 200 + i, 460, 216 + i), (480, 640))
        elif kind == 2:
            image = np.full((256, 256), 120, np.uint8)
        elif kind == 3:
            image = draw_plate(scene(text, (20, 40, 140, 70)), "BE1", (90, 180, 200, 240), BLACK)
        else:
            image = scene(text, rim=229 + i % 6)
        images.append(image)
    return images


def close(first: list[Plate], second: list[Plate]) -> bool:
    """Whether two results are the same, but for the noise of floats."""
    if len(first) != len(second):
        return False
    return all(
        (a.plate, a.text, a.lines) == (b.plate, b.text, b.lines)
        and np.allclose([*a.box, a.confidence, a.score], [*b.box, b.confidence, b.score], atol=1e-3)
        and np.allclose(a.corners, b.corners, atol=1e-3)
        and np.allclose(a.char_confidences, b.char_confidences, atol=1e-3)
        for a, b in zip(first, second, strict=True)
    )


def test_a_result_does_not_depend_on_the_batch(
    plate_reader: PlateReader, mixed: list[ImageArray]
) -> None:
    alone = [plate_reader.read(image) for image in mixed]
    assert {len(plates) for plates in alone} == {0, 1, 2}
    batch = plate_reader.read_batch(mixed)
    turned = plate_reader.read_batch(mixed[::-1])[::-1]
    for expected, *others in zip(alone, batch, turned, strict=True):
        for other in others:
            assert close(expected, other)


def test_large_images_in_a_batch(one: PlateReader) -> None:
    """More pixels than are held at once."""
    images = [scene("BE1", (100, 100, 400 + 50 * i, 200), (2400, 3000)) for i in range(5)]
    assert sum(image.size for image in images) > 2 * reader._PIXELS
    boxes = [only(plates).box for plates in one.read_batch(images)]
    assert [box[2] for box in boxes] == pytest.approx([400 + 50 * i for i in range(5)], abs=8)


def test_eight_threads_at_once(plate_reader: PlateReader, mixed: list[ImageArray]) -> None:
    expected = [plate_reader.read(image) for image in mixed]
    start = threading.Barrier(8)

    def work(number: int) -> list[list[Plate]]:
        start.wait()
        if number % 2:
            return plate_reader.read_batch(mixed)
        order = np.random.default_rng(number).permutation(len(mixed))
        found = {i: plate_reader.read(mixed[i]) for i in order.tolist()}
        return [found[i] for i in range(len(mixed))]

    with ThreadPoolExecutor(8) as pool:
        for results in pool.map(work, range(8)):
            assert all(map(close, expected, results))


def test_the_same_twice(plate_reader: PlateReader, mixed: list[ImageArray]) -> None:
    assert plate_reader.read_batch(mixed) == plate_reader.read_batch(mixed)


# Where it refined


def _entry(**changes: Any) -> LocalizerEntry:
    values = {"name": "x", "input_shape": (1, 84, 84), "dense": True, "stride": 8, "parameters": 0}
    return LocalizerEntry(**(values | changes))


class Looker:
    """A localizer that remembers what it was shown, and says the same of each image.

    Args:
        answer: score and box (shares of the input) of the plate in an image of some height.
    """

    def __init__(self, answer: Any) -> None:
        self.answer, self.shapes = answer, []

    def __call__(self, images: ImageArray) -> NDArray[np.float32]:
        self.shapes.append(images.shape)
        count, height, width = images.shape
        maps = np.full((count, 10, -(-height // 8), -(-width // 8)), -9, np.float32)
        if answer := self.answer(height):
            score, (x1, y1, x2, y2) = answer
            box = [x1, y1, x2, y1, x2, y2, x1, y2] * np.array([width, height] * 4)
            column, row = int((x1 + x2) / 2 * width / 8), int((y1 + y2) / 2 * height / 8)
            maps[:, 0, row, column] = np.log(score / (1 - score))
            maps[:, 2:] = box[:, None, None]
        return maps


def pyramid(height: int, width: int) -> Pyramid:
    return Pyramid(load_image(np.full((height, width), 120, np.uint8)))


def test_a_clear_small_image_is_looked_at_once() -> None:
    looker = Looker(lambda _: (0.95, (0.3, 0.4, 0.7, 0.5)))
    (found,) = find_plates([pyramid(256, 256)], looker, _entry())
    assert looker.shapes == [(1, 136, 136)]
    assert found.corners[0, 0] == pytest.approx([(0.3 * 136 - 4) * 2, (0.4 * 136 - 4) * 2])


@pytest.mark.parametrize(
    "answer",
    [
        (0.7, (0.3, 0.4, 0.7, 0.5)),
        # So wide that it may be the half of one.
        (0.95, (0.1, 0.4, 0.9, 0.5)),
        None,
    ],
)
def test_another_small_image_is_looked_at_in_all_sizes(answer: Any) -> None:
    looker = Looker(lambda _: answer)
    find_plates([pyramid(256, 256)], looker, _entry())
    # The last one is the whole image with a border.
    assert looker.shapes == [(1, 136, 136), (1, 72, 72), (1, 88, 88)]


def test_a_large_image_is_looked_at_in_all_sizes_at_any_rate() -> None:
    looker = Looker(lambda _: (0.95, (0.4, 0.4, 0.5, 0.45)))
    find_plates([pyramid(480, 640)], looker, _entry())
    assert [shape[1:] for shape in looker.shapes][:3] == [(248, 336), (128, 168), (104, 104)]


def test_images_of_one_size_are_looked_at_together() -> None:
    looker = Looker(lambda height: (0.95, (0.3, 0.4, 0.7, 0.5)) if height == 136 else None)
    find_plates([pyramid(256, 256), pyramid(480, 640), pyramid(256, 200)], looker, _entry())
    # Small ones are put into squares.
    assert looker.shapes[:2] == [(2, 136, 136), (1, 248, 336)]


def test_a_small_plate_is_looked_at_again() -> None:
    """Its corners and half of its score are those of the second look."""

    def answer(height: int) -> Any:
        # 18 pixels of 368 are narrow; then it is in the middle of a square of 88.
        return (
            (0.9, (0.45, 0.45, 0.5, 0.46))
            if height > 300
            else (0.6, (0.2, 0.4, 0.8, 0.6))
            if height == 88
            else None
        )

    looker = Looker(answer)
    (found,) = find_plates([pyramid(700, 700)], looker, _entry())
    assert looker.shapes[-1] == (1, 88, 88)
    assert found.score == pytest.approx([0.75])
    # Centred on what was found first; the square's side is 84 / 56 of its width.
    width = 0.05 * 368 * 2
    centre = np.array([0.475 * 368 - 4, 0.455 * 368 - 4]) * 2
    side = width / finder.REFINE_SHARE
    assert found.corners[0, 0] == pytest.approx(centre + np.array([0.2 - 0.5, 0.4 - 0.5]) * side)
    assert found.corners[0, 2] == pytest.approx(centre + np.array([0.8 - 0.5, 0.6 - 0.5]) * side)


@pytest.mark.parametrize("second", [None, (0.9, (0.0, 0.0, 0.3, 0.1))])
def test_a_plate_that_is_not_seen_again_loses(second: Any) -> None:
    looks = []

    def answer(height: int) -> Any:
        if height == 88:
            # The whole image with a border comes first, and shows nothing.
            looks.append(height)
            return second if len(looks) > 1 else None
        return (0.58, (0.4, 0.45, 0.5, 0.48)) if height > 300 else None

    (found,) = find_plates([pyramid(700, 700)], Looker(answer), _entry())
    assert len(looks) == 2
    assert found.score == pytest.approx([0.29])
    assert found.corners[0, 0] == pytest.approx([(0.4 * 368 - 4) * 2, (0.45 * 368 - 4) * 2])


def test_a_plate_that_fills_the_image_is_found_with_a_border() -> None:
    def answer(height: int) -> Any:
        return (0.9, (0.16, 0.4, 0.84, 0.6)) if height == 88 else None

    looker = Looker(answer)
    (found,) = find_plates([pyramid(60, 200)], looker, _entry())
    assert (1, 88, 88) in looker.shapes
    assert found.score == pytest.approx([0.9])
    side = 200 / 0.7
    assert found.corners[0, 0] == pytest.approx([100 - 0.34 * side, 30 - 0.1 * side], abs=1e-3)
    # What is as high as three plates is not one.
    (found,) = find_plates([pyramid(700, 200)], Looker(answer), _entry())
    assert not len(found.score)


def test_tiles_cover_the_image_at_full_resolution() -> None:
    image = pyramid(2160, 3840)
    tiles = [tile for tile in image.tiles(8) if tile.scale[0] == 1]
    seen = np.zeros((2160, 3840), int)
    for tile in tiles:
        low = tile.to_image(tile.offset)
        high = tile.to_image(tile.offset + tile.image.shape[::-1])
        assert tile.image.shape == (1016, 1016)
        assert max(tile.shape) <= 1024
        (x1, y1), (x2, y2) = low.astype(int), high.astype(int)
        seen[y1:y2, x1:x2] += 1
    assert seen.min() == 1
    # Each plate of a hundred pixels is wholly in one of them.
    for x, y in [(0, 0), (960, 1000), (1900, 960), (3740, 2060), (1500, 1500)]:
        corners = [tile.to_image(tile.offset) for tile in tiles]
        assert any(
            (corner <= (x, y)).all() and (corner + 1016 >= (x + 100, y + 100)).all()
            for corner in corners
        )
    assert {float(tile.scale[0]) for tile in image.tiles(8)} == {1.0, 2.0}
    assert list(pyramid(700, 1000).tiles(8)) == []


def test_full_search_looks_at_tiles_too() -> None:
    looker = Looker(lambda height: (0.9, (0.45, 0.45, 0.55, 0.48)) if height == 1024 else None)
    (found,) = find_plates([pyramid(1100, 2000)], looker, _entry(), full=True)
    shapes = [shape for shape in looker.shapes if shape[1:] == (1024, 1024)]
    assert sum(count for count, *_ in shapes) == 6
    assert len(found.score) == 6
    assert (found.corners >= 0).all()
    assert (found.corners <= [2000, 1100]).all()


def test_usual_sizes_are_those_of_small_images_and_of_second_looks() -> None:
    assert usual_sizes(_entry()) == [(72, 72), (88, 88), (104, 104), (136, 136)]
    assert usual_sizes(_entry(dense=False)) == [(84, 84)]


def test_a_localizer_of_one_size_sees_all_of_the_image() -> None:
    looker = Looker(lambda _: (0.95, (0.25, 0.5, 0.75, 0.75)))
    (found,) = find_plates([pyramid(300, 500)], looker, _entry(dense=False, stride=84))
    assert looker.shapes == [(1, 84, 84)]
    assert found.corners[0, [0, 2]] == pytest.approx(np.array([[125, 150], [375, 225]]))


def test_a_plate_is_given_once() -> None:
    """Though it was found in two sizes, in the smaller one by a higher score."""
    inputs = {248: (336, 2, 0.9), 128: (168, 4, 0.95)}

    def answer(height: int) -> Any:
        if height not in inputs:
            return None
        width, scale, score = inputs.pop(height)
        box = np.array([256, 192, 384, 240]) / scale + 4
        return score, box / [width, height, width, height]

    (found,) = find_plates([pyramid(480, 640)], Looker(answer), _entry())
    assert inputs == {}
    assert found.score == pytest.approx([0.95])
    assert found.corners[0, [0, 2]] == pytest.approx(np.array([[256, 192], [384, 240]]))


# How it reads


def test_a_large_plate_is_averaged(one: PlateReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fine pattern is even then; picked from here and there it would be any."""
    seen: list[ImageArray] = []
    run = one._reader.run
    monkeypatch.setattr(
        one._reader,
        "run",
        lambda images, **options: (seen.append(images), run(images, **options))[1],
    )
    image = scene("BE1", (200, 200, 1300, 480), (1000, 1500))
    image[240:440:2, 260:1240] = 0
    image[241:440:2, 260:1240] = 110
    one.read(image)
    inside = seen[0][0][8:24, 16:112]
    assert inside.std() < 3
    assert inside.mean() == pytest.approx(55, abs=2)


@pytest.mark.parametrize(
    ("two_lines", "ways"), [(0.0, [1]), (0.09, [1]), (0.11, [1, 2]), (0.89, [1, 2]), (0.91, [2])]
)
def test_an_unclear_number_of_lines_is_read_both_ways(
    one: PlateReader, two_lines: float, ways: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts: list[int] = []
    cut = recognizer.cut

    def remember(of: Pyramid, corners: Any, lines: int, *others: Any) -> ImageArray:
        cuts.append(lines)
        # One line is read as something sure, two as something that is less so.
        return np.full_like(cut(of, corners, lines, *others), 52 if lines == 1 else 92)

    corners = np.array([[[60.0, 100], [180, 100], [180, 160], [60, 160]]])
    found = [Detections(corners, np.array([0.9]), np.array([two_lines]))]
    monkeypatch.setattr(reader, "find_plates", lambda *_: found)
    monkeypatch.setattr(recognizer, "cut", remember)
    monkeypatch.setattr(recognizer, "SURE_READING", 0.0)
    ((candidate,),) = one.candidates([scene()])
    assert cuts == ways
    assert candidate.lines == ways[0]
    assert candidate.reading.text == TEXTS[1 if ways[0] == 1 else 6]


@pytest.mark.parametrize(
    ("high", "two_lines", "cuts"),
    [(150, 0.95, [(2, False), (2, True)]), (100, 0.95, [(2, False)]), (150, 0.05, [(1, False)])],
)
def test_the_lower_line_of_a_tall_plate_is_read_in_a_closer_cut_too(
    one: PlateReader,
    high: int,
    two_lines: float,
    cuts: list[tuple[int, bool]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The usual cut is read as something unsure, the closer one as something sure."""
    seen: list[tuple[int, bool]] = []
    cut = recognizer.cut

    def remember(
        of: Pyramid, corners: Any, lines: int, entry: Any, closer: bool = False
    ) -> ImageArray:
        seen.append((lines, closer))
        grey = SURE_GREY if closer else UNSURE_GREY
        return np.full_like(cut(of, corners, lines, entry, closer), grey)

    corners = np.array([[[60.0, 40], [160, 40], [160, 40 + high], [60, 40 + high]]])
    found = [Detections(corners, np.array([0.9]), np.array([two_lines]))]
    monkeypatch.setattr(reader, "find_plates", lambda *_: found)
    monkeypatch.setattr(recognizer, "cut", remember)
    monkeypatch.setattr(recognizer, "SURE_READING", 0.0)
    ((candidate,),) = one.candidates([scene()])
    assert seen == cuts
    assert candidate.lines == cuts[-1][0]
    assert candidate.reading.text == TEXTS[1 if cuts[-1][1] else 4]


SURE_GREY, UNSURE_GREY, OTHER_UNSURE_GREY = 52, 76, 84
"""The greys of TEXTS[1], TEXTS[4] and TEXTS[5]."""


def readings_by_cut(
    one: PlateReader,
    monkeypatch: pytest.MonkeyPatch,
    greys: list[int],
    others: Sequence[NDArray[np.float64]] = (),
) -> tuple[list[NDArray[np.float64]], Candidate]:
    """Corners that a plate is cut at, each of which is read as the next of the greys; the result.

    ``others`` are its corners when it is looked at again.
    """
    seen: list[NDArray[np.float64]] = []
    cut = recognizer.cut

    def remember(of: Pyramid, corners: Any, *others: Any) -> ImageArray:
        seen.append(np.array(corners))
        return np.full_like(cut(of, corners, *others), greys[len(seen) - 1])

    corners = np.array([[[60.0, 100], [180, 100], [180, 140], [60, 140]]])
    found = [Detections(corners, np.array([0.9]), np.array([0.0]))]
    monkeypatch.setattr(reader, "find_plates", lambda *_: found)
    monkeypatch.setattr(recognizer, "cut", remember)
    monkeypatch.setattr(reader, "other_corners", lambda plates, **_: [others for _ in plates])
    ((candidate,),) = one.candidates([scene()])
    assert np.array_equal(candidate.corners, corners[0]), "the plate's own, however it was cut"
    return seen, candidate


def test_a_sure_reading_is_the_only_one(one: PlateReader, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, candidate = readings_by_cut(one, monkeypatch, [SURE_GREY])
    assert (len(seen), candidate.reading.text) == (1, TEXTS[1])


def test_an_unsure_reading_is_put_to_the_vote(
    one: PlateReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = len(recognizer.OTHER_CUTS)
    greys = [UNSURE_GREY, *[SURE_GREY] * (others - 1), OTHER_UNSURE_GREY]
    seen, candidate = readings_by_cut(one, monkeypatch, greys)
    assert candidate.reading.text == TEXTS[1]
    # The two that said something else count against it.
    assert candidate.reading.confidence == pytest.approx((others - 1) / (others + 1), abs=0.01)
    # It was cut higher and lower, moved down and up, and cut wider and narrower.
    boxes = np.array([[*quad[0], *quad[2]] for quad in seen])
    wanted = [
        [60, 100, 180, 140], [60, 97, 180, 143], [60, 102.6, 180, 137.4], [60, 102.8, 180, 142.8],
        [60, 97.2, 180, 137.2], [57.6, 100, 182.4, 140], [62.4, 100, 177.6, 140],
    ]  # fmt: skip
    assert boxes == pytest.approx(np.array(wanted))


def test_other_looks_vote_too(one: PlateReader, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they were seen, and the mean of all, around which the other cuts are made."""
    refined = [
        np.array([[60.0, 103], [180, 103], [180, 143], [60, 143]]),
        np.array([[63.0, 100], [183, 100], [183, 140], [63, 140]]),
    ]
    greys = [UNSURE_GREY, SURE_GREY, SURE_GREY, SURE_GREY, *[UNSURE_GREY] * 6]
    seen, candidate = readings_by_cut(one, monkeypatch, greys, refined)
    boxes = np.array([[*quad[0], *quad[2]] for quad in seen])
    assert boxes[:4] == pytest.approx(
        np.array(
            [[60.0, 100, 180, 140], [60, 103, 180, 143], [63, 100, 183, 140], [61, 101, 181, 141]]
        )
    )
    assert boxes[4:].mean(axis=0) == pytest.approx([61, 101, 181, 141], abs=0.1)
    assert candidate.reading.text == TEXTS[1], "three sure votes outweigh the rest"


def test_corners_are_seen_at_other_sizes(one: PlateReader) -> None:
    """The stand-in sees a rim wherever it is, to the pixel of what it is given."""
    corners = np.array([[60.0, 100], [180, 100], [180, 140], [60, 140]])
    pyramid = Pyramid(load_image(scene(box=(60, 100, 180, 140))))
    sizes = []

    def localize(images: ImageArray) -> NDArray[np.float32]:
        sizes.append(images.shape)
        return one._localizer.run(images)

    (seen,) = finder.other_corners([(pyramid, corners)], localize, one.manifest.localizer)
    assert sizes == [(1, 88, 88)] * len(finder.AUGMENTED_SHARES)
    assert len(seen) == len(finder.AUGMENTED_SHARES)
    for other in seen:
        assert np.abs(other - corners).max() < 5
    # Where nothing is, nothing is seen.
    nothing = Pyramid(load_image(np.full((256, 256), 120, np.uint8)))
    assert finder.other_corners([(nothing, corners)], localize, one.manifest.localizer) == [[]]
    fixed = msgspec.structs.replace(one.manifest.localizer, dense=False)
    assert finder.other_corners([(pyramid, corners)], localize, fixed) == [[]]


def test_the_vote_is_by_confidence() -> None:
    texts = {"ZH1": [0.5, 0.4], "ZH7": [0.8], "BE1": [0.3, 0.3, 0.15]}
    readings = [
        Reading(text, confidence, (confidence, confidence))
        for text, confidences in texts.items()
        for confidence in confidences
    ]
    for order in (readings, readings[::-1]):
        chosen = recognizer.majority_vote(order)
        assert chosen.text == "ZH1"
        assert chosen.confidence == pytest.approx(0.9 / 6)
        assert chosen.char_confidences == (0.5, 0.5)


def test_reading_at_a_place_that_is_known(one: PlateReader) -> None:
    image = draw_plate(scene("GE65432", (60, 100, 180, 132)), "AG10", (20, 160, 120, 230))
    corners = np.array([[60, 100], [180, 100], [180, 132], [60, 132]])
    assert one.read_at(image, corners, 1).text == "GE65432"
    corners = np.array([[20, 160], [120, 160], [120, 230], [20, 230]])
    assert one.read_at(image, corners, 2).text == "AG10"
    assert one.rectification == "corners"


# As a whole


def test_it_needs_no_torch(folder: Path) -> None:
    program = f"""
import sys
sys.modules["torch"] = None
from src.inference.reader import PlateReader
import numpy as np
print(PlateReader.load({str(folder)!r}).read(np.full((64, 64), 120, np.uint8)))
assert not [name for name in sys.modules if name.split(".")[0] in ("pandas", "sklearn", "lightning")]
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_threads_are_the_cores_unless_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "available_cores", lambda: 3)
    assert PlateReader.load(folder, "onnxruntime").threads == 3
    assert PlateReader.load(folder, "onnxruntime", threads=5).threads == 5
    monkeypatch.setattr(reader, "best_runtime", lambda _: "onnxruntime")
    assert PlateReader.load(folder).runtime == "onnxruntime"


def test_a_stream_gives_what_reading_one_by_one_gives(plate_reader: PlateReader) -> None:
    images = [scene("BE1"), np.zeros((50, 60), np.uint8), scene("GE65432")] * 20
    results = list(plate_reader.stream(iter(images)))
    assert [result.error for result in results] == [None] * len(images)
    assert all(result.source is image for result, image in zip(results, images, strict=True))
    # Batches of other sizes differ in the last bits.
    for result, image in zip(results, images, strict=True):
        expected = plate_reader.read(image)
        assert [plate.plate for plate in result.plates] == [plate.plate for plate in expected]
        for plate, other in zip(result.plates, expected, strict=True):
            assert plate.confidence == pytest.approx(other.confidence, abs=0.02)
            assert plate.box == pytest.approx(other.box, abs=0.5)


def test_a_file_with_a_flaw_is_read_with_a_warning(plate_reader: PlateReader) -> None:
    content = cv2.imencode(".jpg", scene("GE65432"))[1].tobytes()[:-2]
    said = "the image: lacks its last bytes: all of the image is there"
    with pytest.warns(ImageWarning, match=said) as caught:
        assert only(plate_reader.read(content)).plate == "GE65432"
    assert Path(caught[0].filename) == Path(__file__)
    with pytest.warns(ImageWarning, match=said):
        plate_reader.read_batch([content])
    # Where there is another way to say it, nothing is printed.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(content)
        assert loaded.warnings == (said,)
        plate_reader.read(loaded)
        flawed, sound = plate_reader.stream([content, scene("BE1")])
    assert (flawed.warnings, sound.warnings) == ((said,), ())
    assert [plate.plate for plate in flawed.plates] == ["GE65432"]


def test_a_stream_goes_on_after_what_cannot_be_read(
    plate_reader: PlateReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = PlateReader._candidates

    def fail(self: PlateReader, images: Any, **options: Any) -> Any:
        if any(image.grey.shape == (50, 60) for image in images):
            raise ZeroDivisionError("of all things")
        return found(self, images, **options)

    monkeypatch.setattr(PlateReader, "_candidates", fail)
    given = ValueError("the camera is gone")
    images = [scene("BE1"), b"no image", np.zeros((50, 60), np.uint8), given, scene("BE1")]
    first, damaged, fault, passed, last = plate_reader.stream(images)
    assert first.plates == last.plates
    assert only(list(first.plates)).text == "BE1"
    assert isinstance(damaged.error, ImageError)
    assert isinstance(fault.error, ZeroDivisionError)
    assert passed.error is given
    assert damaged.plates == fault.plates == passed.plates == ()


def test_a_stream_holds_few_images(plate_reader: PlateReader) -> None:
    image, taken = scene("BE1"), 0

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        while True:
            taken += 1
            yield image

    results = plate_reader.stream(endless())
    for _ in range(40):
        next(results)
    assert taken <= 40 + (2 * plate_reader.threads + 1) * 16 + 1
    results.close()  # type: ignore[attr-defined]  # a generator


def test_alternatives_share_what_the_best_text_leaves(one: PlateReader) -> None:
    image = scene(TEXTS[UNSURE], (60, 100, 180, 132))
    plate = only(one.read(image, min_confidence=0.0, alternatives=5))
    assert only(one.read(image, min_confidence=0.0)).alternatives == ()
    texts, chances = zip(*plate.alternatives, strict=True)
    assert texts[0] == plate.text
    assert chances[0] == plate.confidence
    assert len(set(texts)) == len(texts) == 5
    assert list(chances[1:]) == sorted(chances[1:], reverse=True)
    assert 0 < sum(chances) <= 1
    assert len(only(one.read(image, min_confidence=0.0, alternatives=1)).alternatives) == 1
    (streamed,) = one.stream([image], 0.0, alternatives=5)
    assert only(list(streamed.plates)).alternatives == plate.alternatives
