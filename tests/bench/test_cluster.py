"""The benchmark of a large set runs and its figures fit together; engines are compared by tests/engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_figures_of_a_set_fit_together() -> None:
    command = [sys.executable, "bench/cluster.py", "--set", "4100", "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout)
    assert (result["samples"], result["shards"]) == (4100, 3)
    assert result["open_shards"] == 3
    # Images of 84 x 84 pixels, and labels.
    assert 84 * 84 < result["bytes_per_sample"] < 84 * 84 + 500
    assert result["samples_per_second"] > 0
