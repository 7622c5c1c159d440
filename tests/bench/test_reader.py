"""The reader's benchmark runs with any bundle, and its figures fit together."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.inference.runtimes import installed_runtimes
from tests.bundles import write_bundle

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def run(*options: str) -> subprocess.CompletedProcess[str]:
    sizes = ("--scenes", "4", "--photo-side", "400", "--batch", "4", "--seconds", "0.01")
    command = [sys.executable, "bench/reader.py", *sizes, *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bench") / "bundle", int8=True)


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    done = run("--model", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_runtime_is_measured(result: dict[str, Any]) -> None:
    runtimes = installed_runtimes(has_int8=True)
    assert len(runtimes) >= 2
    assert list(result["runtimes"]) == runtimes
    assert result["default_runtime"] in runtimes
    for row in result["runtimes"].values():
        for name in ("one_scene", "photo"):
            assert 0 < row[name]["median_ms"] <= row[name]["p95_ms"]
        assert row["scenes_per_second"] > 0
        assert row["files_per_second"] > 0


def test_the_seeds_networks_are_beside_them(result: dict[str, Any]) -> None:
    assert result["original"]["parameters"] > 20_000_000
    assert result["parameters"] == 0, "stand-ins have none"
    ours = result["runtimes"][result["default_runtime"]]
    original = result["original"]
    assert result["ratios"]["one_scene"] == pytest.approx(
        original["one_scene"]["median_ms"] / ours["one_scene"]["median_ms"]
    )
    assert result["ratios"]["scenes_per_second"] == pytest.approx(
        ours["scenes_per_second"] / original["scenes_per_second"]
    )


def test_the_bundle_is_named(result: dict[str, Any], folder: Path) -> None:
    assert result["model"] == str(folder)
    assert result["bundle_bytes"] == sum(path.stat().st_size for path in folder.iterdir())


def test_people_get_a_table(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    text = runpy.run_path(str(ROOT / "bench" / "reader.py"))["table"](result)
    rows = {line[:36].strip(): line[36:].split() for line in text.splitlines()}
    columns = len(result["runtimes"]) + 1
    assert len(rows["one 256x256 scene, median ms"]) == columns
    assert len(rows["scenes/s, batch size 4"]) == columns
    # The original's networks read no files.
    assert len(rows["12-megapixel JPEG to text, median ms"]) == columns - 1
    assert len(rows["files/s with src.read"]) == columns - 1
    assert rows["parameters"][-1] == f"{result['original']['parameters']:,}"


def test_without_a_bundle(tmp_path: Path) -> None:
    done = run("--model", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert "there is no bundle" in done.stderr
    assert "Traceback" not in done.stderr
