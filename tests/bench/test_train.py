"""The benchmark of training runs all four networks, and its figures fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_all_networks_are_measured() -> None:
    command = [sys.executable, "bench/train.py", "--seconds", "0.5", "--samples", "100", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    for own, seed, ratio in (
        ("plate_net", "plate_localizer_v3", "localizer_ratio"),
        ("crnn", "plate_ocr_v2", "reader_ratio"),
    ):
        assert result[own]["steps"] >= 1
        assert result[seed]["batch_size"] == 32
        assert result[seed]["precision"] == "32-true"
        assert result[own]["parameters"] < 2_000_000 < result[seed]["parameters"]
        assert result[ratio] == pytest.approx(
            result[own]["samples_per_second"] / result[seed]["samples_per_second"]
        )
