"""The benchmark of reading's tricks changes what it says, and puts it back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from src.inference import finder, recognizer
from src.inference.runtimes import installed_runtimes
from tests.benches import load
from tests.bundles import write_bundle
from tests.standins import prepared_set

ROOT = Path(__file__).parents[2]


def test_every_variant_is_measured(tmp_path: Path) -> None:
    for name in ("val", "formats", "shifted"):
        prepared_set(tmp_path / "data" / name, (96, 128), 4)
    bundle = write_bundle(tmp_path / "bundle", int8=True)
    done = subprocess.run(
        [sys.executable, "bench/ablations.py", "--model", bundle, "--data", tmp_path / "data", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result["rows"]) == 7 + len(installed_runtimes(has_int8=True)) - 1
    for row in result["rows"].values():
        assert row["images_per_second"] > 0
        assert all(0 <= row[name] <= 1 for name in ("val", "formats", "shifted"))


def test_constants_exist_and_come_back() -> None:
    bench = load("ablations")
    before = recognizer.SURE_READING, finder.AUGMENTED_SHARES, finder.REFINE_WIDTH
    for changes in bench.VARIANTS.values():
        for module, name, value in changes:
            assert getattr(module, name) != value
        with bench.changed(changes):
            assert all(getattr(module, name) == value for module, name, value in changes)
    assert before == (recognizer.SURE_READING, finder.AUGMENTED_SHARES, finder.REFINE_WIDTH)
