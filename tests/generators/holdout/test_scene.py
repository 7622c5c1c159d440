"""The locked set: labels that match the pixels, reproducible images, and all that was promised."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from src.core.charset import CANTONS, CHARSET
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box
from src.core.random import draws_of
from src.generators.holdout import scene as locked
from src.generators.holdout.plate import COLOURS, FORMAT_WEIGHTS, Plate, draw_plate_of, paint_plate
from src.generators.holdout.scene import HEIGHT, WIDTH, WIDTHS, HoldoutScenes
from src.generators.holdout.street import Camera, aim, plane_corners, rotation
from src.generators.plate import FORMATS

COUNT = 80
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def made() -> tuple[list[NDArray[np.uint8]], pd.DataFrame]:
    return HoldoutScenes(11).make(range(COUNT))


def corners_of(row: pd.Series) -> NDArray[np.float64]:
    """``(4, 2)`` in pixels."""
    return row[CORNER_COLUMNS].to_numpy(float).reshape(4, 2) * [WIDTH, HEIGHT]


def mean_within(image: NDArray[np.uint8], corners: NDArray[np.float64], share: float) -> float:
    """Mean grey of a plate that is made larger or smaller around its middle by a share."""
    middle = corners.mean(axis=0)
    mask = np.zeros(image.shape, np.uint8)
    points = np.round((middle + (corners - middle) * share - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], 1, cv2.LINE_8, 4)
    return float(image[mask > 0].mean())


def test_an_image_depends_on_seed_and_number_alone(made) -> None:  # type: ignore[no-untyped-def]
    images, labels = made
    again, row = HoldoutScenes(11).make([7])
    np.testing.assert_array_equal(again[0], images[7])
    pd.testing.assert_series_equal(row.iloc[0], labels.iloc[7], check_names=False)
    other, _ = HoldoutScenes(12).make([7])
    assert (other[0] != images[7]).mean() > 0.5


def test_labels_are_complete(made) -> None:  # type: ignore[no-untyped-def]
    images, labels = made
    assert len(images) == len(labels) == COUNT
    assert all(p.shape == (HEIGHT, WIDTH) and p.dtype == np.uint8 for p in images)
    assert set(labels["style"]) == {"holdout"}
    there = labels[labels["present"]]
    assert 0.8 < len(there) / COUNT < 1
    for row in there.itertuples():
        assert CHARSET.is_valid(row.plate) or (row.plate == "" and row.colour == "black")
        assert row.digits == max(len(row.plate) - 2, 0)
        assert row.lines == next(f.lines for f in FORMATS if f.name == row.format)
    empty = labels[~labels["present"]]
    assert empty[[*BOX_COLUMNS, *CORNER_COLUMNS]].isna().all(axis=None)
    assert (empty["plate"] == "").all()
    assert (empty["others"] == "").all()


def test_plates_lie_in_the_image_with_their_size(made) -> None:  # type: ignore[no-untyped-def]
    _, labels = made
    there = labels[labels["present"]]
    for _, row in there.iterrows():
        corners = corners_of(row)
        assert (corners >= 0).all()
        assert (corners <= [WIDTH, HEIGHT]).all()
        box = row[BOX_COLUMNS].to_numpy(float)
        np.testing.assert_allclose(corners_to_box(corners / [WIDTH, HEIGHT]), box, atol=1e-5)
        edges = np.linalg.norm(corners[[3, 2]] - corners[[0, 1]], axis=1)
        assert row["plate_height"] == pytest.approx(edges.mean(), rel=1e-4)
        along = corners[1] - corners[0]
        assert row["angle"] == pytest.approx(np.degrees(np.arctan2(*along[::-1])), abs=0.01)
        # Clockwise from the plate's own top left: no mirror image.
        across = corners[3] - corners[0]
        assert along[0] * across[1] - along[1] * across[0] > 0
    widths = there["w"] * WIDTH
    assert WIDTHS[0] * 0.6 < widths.min() < 90
    assert 250 < widths.max() < WIDTHS[1] * 1.01


def test_a_plate_is_where_its_corners_are(made) -> None:  # type: ignore[no-untyped-def]
    """White plates are brighter within their corners than the rim around, on most backgrounds."""
    images, labels = made
    white = labels[labels["present"] & (labels["colour"] == "white")]
    inside, around = [], []
    for i, row in white.iterrows():
        corners = corners_of(row)
        inner = mean_within(images[i], corners, 0.97)
        outer = mean_within(images[i], corners, 1.35)
        inside.append(inner)
        # Of the larger area all that is not the plate's own.
        around.append((outer * 1.35**2 - inner * 0.97**2) / (1.35**2 - 0.97**2))
    brighter = np.array(inside) - np.array(around)
    assert (brighter > 15).mean() > 0.8
    # Somewhere else the same places are nothing special.
    shuffled = [
        mean_within(images[i], corners_of(row), 0.97)
        - mean_within(images[i], corners_of(row), 1.35)
        for i, (_, row) in zip(np.roll(white.index, 1), white.iterrows(), strict=True)
    ]
    assert np.median(shuffled) < np.median(brighter) / 3


def test_the_rim_lies_just_within_the_corners() -> None:
    """A plate painted flat: its black rim follows the corners that the camera gives for it."""
    plate = Plate(FORMATS[2], "white", "ZH", "123456", "")
    face, alpha, _ = paint_plate(plate, 1.2, draws_of(1, "t", 0))
    size = (plate.format.width, plate.format.height)
    corners = aim(
        rotation(25, 15, 5), size, 300, np.array([200.0, 150]), 600, np.array([200.0, 150])
    )
    seen = corners.project(plane_corners(size))
    canvas = locked.Canvas(np.full((300, 400, 3), 127, np.uint8))
    canvas.paste(corners, face, alpha, plane_corners(size))
    straight = cv2.warpPerspective(
        canvas.image[..., 1],
        cv2.getPerspectiveTransform(
            seen.astype(np.float32) - np.float32(0.5),
            np.array([[-0.5, -0.5], [499.5, -0.5], [499.5, 109.5], [-0.5, 109.5]], np.float32),
        ),
        (500, 110),
    )
    # Ground at the edge, then the rim, then ground again, along each of the four sides.
    middle = straight[:, 200:300].mean(axis=1)
    for profile in (middle[:20], middle[::-1][:20], straight[20:90].mean(axis=0)[:20]):
        dark = int(profile.argmin())
        assert 2 <= dark <= 9
        assert profile[dark] < 130
        assert profile[1] > profile[dark] + 40
    assert straight.mean() > 130


def test_two_plates_are_both_labelled() -> None:
    scenes = HoldoutScenes(3)
    images, labels = scenes.make(range(60))
    two = labels[labels["others"] != ""]
    assert len(two) >= 2
    for i, row in two.iterrows():
        others = json.loads(row["others"])
        assert len(others) == 1
        other = pd.Series(others[0])
        assert set(other.index) == set(labels.columns) - {"others"}
        # One on the left, one on the right.
        assert row["x1"] < other["x0"]
        if other["colour"] == "white":
            assert mean_within(images[i], corners_of(other), 0.9) > 40


def test_all_formats_colours_cantons_and_lengths_occur() -> None:
    plates = [draw_plate_of(draws_of(1, "plates", i)) for i in range(4000)]
    formats = pd.Series([plate.format.name for plate in plates]).value_counts(normalize=True)
    for name, weight in FORMAT_WEIGHTS.items():
        assert formats[name] == pytest.approx(weight, abs=0.03)
    assert {plate.colour for plate in plates} == set(COLOURS)
    assert {plate.letters for plate in plates} == {*CANTONS, "M"}
    assert {len(plate.digits) for plate in plates} == set(range(1, 8))
    assert all(not plate.digits.startswith("0") for plate in plates)
    assert all((plate.text == "") == (plate.colour == "black") for plate in plates)
    assert {plate.frame for plate in plates} == {"", "above", "below"}
    assert sum(weight for weight, *_ in COLOURS.values()) == pytest.approx(1)
    assert sum(FORMAT_WEIGHTS.values()) == pytest.approx(1)


@pytest.mark.parametrize("number", range(len(FORMATS)))
@pytest.mark.parametrize("digits", ["7", "1234567"])
def test_a_text_fits_on_every_format(number: int, digits: str) -> None:
    plate = Plate(FORMATS[number], "white", "NW", digits, "")
    for i in range(3):
        face, alpha, _ = paint_plate(plate, 2.0, draws_of(1, "fit", i))
        height, width = alpha.shape
        assert (height, width) == (round(plate.format.height * 2), round(plate.format.width * 2))
        assert alpha[height // 2, width // 2] == 255
        assert alpha[0, 0] == 0
        dark = (face.max(axis=2) < 110) & (alpha > 0)
        # Ink within the rim, and none between rim and edge.
        assert dark[20:-20, 20:-20].mean() > 0.02
        assert not dark[1:4, 40:-40].any()
        # Between the rim and the digits there is free ground on both sides.
        if plate.format.lines == 2:
            lower = dark[height // 2 : -40]
            assert not lower[:, 18:20].any()
            assert not lower[:, -20:-18].any()


def test_a_camera_sees_what_a_pinhole_does() -> None:
    camera = Camera(np.eye(3), np.array([0.0, 0, 1000]), 500.0, np.array([320.0, 240]))
    seen = camera.project(np.array([[0.0, 0, 0], [100, 0, 0], [100, 50, 1000]]))
    np.testing.assert_allclose(seen, [[320, 240], [370, 240], [345, 252.5]])


def test_what_is_nearer_is_larger() -> None:
    size = (300.0, 80.0)
    corners = plane_corners(size)
    right_away = Camera(rotation(30, 0, 0), np.array([0.0, 0, 900]), 800, np.zeros(2)).project(
        corners
    )
    left, right = right_away[3, 1] - right_away[0, 1], right_away[2, 1] - right_away[1, 1]
    assert right > left + 5
    from_above = Camera(rotation(0, 25, 0), np.array([0.0, 0, 900]), 800, np.zeros(2)).project(
        corners
    )
    assert np.ptp(from_above[:2, 0]) > np.ptp(from_above[2:, 0]) + 5


@pytest.mark.parametrize("turn", [(0, 0, 0), (40, 30, 10), (-40, -15, -10)])
def test_a_camera_is_aimed_as_it_was_asked(turn: tuple[float, float, float]) -> None:
    target = np.array([150.0, 300])
    camera = aim(rotation(*turn), (180, 140), 120, target, 700, np.array([320.0, 240]))
    seen = camera.project(plane_corners((180, 140)))
    assert np.ptp(seen[:, 0]) == pytest.approx(120, rel=0.01)
    np.testing.assert_allclose((seen.min(axis=0) + seen.max(axis=0)) / 2, target, atol=1)


def test_it_shares_no_drawing_with_the_training_sets() -> None:
    """From the generator of the training sets come the formats' sizes alone."""
    modules = sorted((ROOT / "src/generators/holdout").glob("*.py"))
    assert len(modules) > 3
    shared = set()
    for module in modules:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.split(".")[0] == "src" for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 2:
                shared |= {f"{node.module}.{name.name}" for name in node.names}
    assert shared <= {"plate.FORMATS", "plate.PlateFormat"}
