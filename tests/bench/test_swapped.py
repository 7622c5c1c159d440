"""Plates that are drawn over others: where they were, as light as they were, and readable."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from src.core.charset import CHARSET
from src.datasets.annotations import AnnotatedPlate
from tests.benches import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def swapped() -> ModuleType:
    return load("swapped")


def slope(height: int = 300, width: int = 400) -> np.ndarray:
    return np.tile(np.linspace(60, 140, width).astype(np.uint8), (height, 1))


def drawn(swapped, image: np.ndarray, box: list[float], seed: int = 0) -> AnnotatedPlate:
    return swapped.draw_over(image, np.array(box), np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("box", "lines", "name"),
    [
        ([100, 120, 270, 160], 1, "rear_long"),
        ([100, 120, 250, 160], 1, "front"),
        ([100, 120, 250, 200], 2, "rear_high"),
        ([100, 120, 203, 200], 2, "motorcycle"),
    ],
)
def test_a_plate_is_drawn_where_one_was(swapped, box: list[float], lines: int, name: str) -> None:
    image = slope()
    plate = drawn(swapped, image, box)
    assert (plate.lines, plate.format) == (lines, name)
    assert CHARSET.encode(plate.text)
    assert plate.box == pytest.approx(box, abs=10)
    assert np.abs(plate.corners - np.array(box)[[[0, 1], [2, 1], [2, 3], [0, 3]]]).max() < 10
    changed = np.argwhere(image != slope())
    low, high = changed.min(axis=0)[::-1], changed.max(axis=0)[::-1]
    assert low == pytest.approx(plate.box[:2], abs=4)
    assert high == pytest.approx(plate.box[2:], abs=4)


def test_it_is_as_light_as_the_one_that_was_there(swapped) -> None:
    light, dark = slope(), slope() // 4
    for image in (light, dark):
        image[120:160, 100:270][::2] += 60
        drawn(swapped, image, [100, 120, 270, 160])
    grounds = [np.percentile(image[120:160, 100:270], 80) for image in (light, dark)]
    assert grounds[0] > grounds[1] + 40


def test_the_same_seed_draws_the_same(swapped) -> None:
    images = [slope() for _ in range(3)]
    texts = [
        drawn(swapped, image, [100, 120, 270, 160], seed).text
        for image, seed in zip(images, (1, 1, 2), strict=True)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert np.array_equal(images[0], images[1])


@pytest.mark.parametrize("box", [[-20, -10, 90, 30], [350, 270, 420, 310], [0, 0, 400, 300]])
def test_at_the_edge_of_an_image(swapped, box: list[float]) -> None:
    image = slope()
    plate = drawn(swapped, image, box)
    assert (image != slope()).any()
    assert image.shape == slope().shape
    assert plate.text


def test_what_is_drawn_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.fromarray(slope()).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text(
        "file,x1,y1,x2,y2\na.png,100,120,270,160\na.png,20,20,44,25\nb.png,100,120,250,200\n"
    )
    done = subprocess.run(
        [
            sys.executable, "bench/swapped.py", tmp_path / "labels.csv", "--json",
            "--draw", tmp_path / "drawn",
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["images"] == 2
    small, large = (
        result["read_by_height"][name] for name in ("0 to 15 pixels", "30 pixels and more")
    )
    assert (large["share"], large["count"]) == (1, 2)
    # Nobody reads characters of four pixels.
    assert (small["share"], small["count"]) == (0, 1)
    assert result["read"]["count"] == 3
    with Image.open(tmp_path / "drawn/a.png") as image:
        assert (np.asarray(image) != slope()).any()


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "bench/swapped.py", tmp_path / "none.csv"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
