"""What bench/blur.py counts as covered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from tests.benches import load
from tests.bundles import scene, write_bundle

ROOT = Path(__file__).resolve().parents[2]
PLATE = np.array([[40.0, 40], [80, 40], [80, 50], [40, 50]])


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("blur")


def right_by(pixels: float) -> np.ndarray:
    """The corners of the plate, moved to the right."""
    return PLATE + np.array([pixels, 0.0])


def test_the_visible_part_of_a_plate_counts(bench: ModuleType) -> None:
    assert bench.covered(PLATE, [], (100, 100)) == 0
    assert bench.covered(PLATE, [PLATE], (100, 100)) == 1
    # The margin of the cover is half of the plate's height.
    assert bench.covered(PLATE, [right_by(25)], (100, 100)) == pytest.approx(0.5, abs=0.05)
    assert bench.covered(PLATE, [right_by(-25), right_by(25)], (100, 100)) == 1
    # The half of it that is in the image.
    assert bench.covered(right_by(40), [right_by(20)], (100, 100)) == 1


def test_plates_that_are_found_and_missed(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene("ZH123456"))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((256, 256), 120, np.uint8))
    labels = tmp_path / "labels.csv"
    labels.write_text("file,x1,y1,x2,y2\na.png,60,100,180,132\nb.png,60,100,180,132\n")
    model = write_bundle(tmp_path / "bundle")
    done = subprocess.run(
        [sys.executable, ROOT / "bench/blur.py", "--labels", labels, "--clips", "0", "--model", model],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["search"] for row in rows] == ["standard", "full"]
    for row in rows:
        assert row["covered"]["count"] == 2
        assert row["covered"]["share"] == 0.5
        assert row["covers_without_plate"] == 0
