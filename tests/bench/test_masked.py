"""Images without their plates: nothing of a plate is left, and everything else is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.generators.plate import PlateSpec, draw_plate
from tests.benches import load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def image() -> np.ndarray:
    """A plate, 120 x 25 pixels at (60, 100), on a slope of grey."""
    drawn, _ = draw_plate(PlateSpec("ZH123456", 1), 100)
    plate = Image.fromarray(drawn).convert("L").resize((120, 25), Image.Resampling.BOX)
    slope = np.tile(np.linspace(60, 140, 240).astype(np.uint8), (200, 1))
    slope[100:125, 60:180] = np.asarray(plate)
    return slope


def test_the_box_and_a_margin_are_painted_over(image: np.ndarray) -> None:
    paint_over = load("masked").paint_over
    before = image.copy()
    paint_over(image, np.array([60.0, 100.0, 180.0, 125.0]))
    changed = np.argwhere(image != before)
    assert changed.min(axis=0).tolist() == [98, 48]
    assert changed.max(axis=0).tolist() == [127, 191]
    assert np.unique(image[98:128, 48:192]).tolist() == [pytest.approx(100, abs=2)]
    # At the edge of an image, and all of it.
    paint_over(image, np.array([230.0, -5.0, 250.0, 20.0]))
    paint_over(image, np.array([0.0, 0.0, 240.0, 200.0]))
    assert np.unique(image).tolist() == [128]


def test_what_is_read_is_gone(tmp_path: Path, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image[:90]).save(tmp_path / "b.png")
    rows = "file,x1,y1,x2,y2\na.png,60,100,180,125\nb.png,,,,\n"
    (tmp_path / "labels.csv").write_text(rows)
    done = subprocess.run(
        [sys.executable, "bench/masked.py", tmp_path / "labels.csv", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["with_text"]["count"] == 2
    assert (result["with_text"]["share"], result["with_box"]["share"]) == (0, 0)
    (tmp_path / "labels.csv").write_text("file,x1,y1,x2,y2\na.png,,,,\nb.png,,,,\n")
    done = subprocess.run(
        [sys.executable, "bench/masked.py", tmp_path / "labels.csv"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "with_text: 0.5000" in done.stdout, "a plate that is not painted over is read"
