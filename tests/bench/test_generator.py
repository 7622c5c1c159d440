"""The generator's benchmark runs and its figures fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def result() -> dict[str, dict[str, float]]:
    command = [sys.executable, "bench/generator.py", "--samples", "300", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("task", ["localize", "ocr"])
def test_figures_fit_together(result: dict[str, dict[str, float]], task: str) -> None:
    row = result[task]
    assert row["samples"] == 300
    # The making of the textures is counted.
    seconds = row["samples"] / row["per_second_warm"] + row["setup_seconds"]
    assert row["per_second"] == pytest.approx(row["samples"] / seconds)
    assert sum(row["step_share"].values()) == pytest.approx(1.0)
    assert min(row["step_share"].values()) >= 0
    assert row["per_calibration"] == pytest.approx(
        row["per_second"] / result["calibration_per_second"]
    )
