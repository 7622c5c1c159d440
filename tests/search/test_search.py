"""A search: eight small trials, interrupted and continued; errors before anything starts."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from src import cli
from src.search.spaces import SPACES, Range
from tests.conftest import ROOT, set_params

COMMAND = [sys.executable, "-m", "src.search", "ocr", "--trials", "8"]
SEARCH = Path("search/ocr")


@pytest.fixture
def workspace(tiny_workspace: Path) -> Path:
    params = {"EPOCHS": 6, "VALIDATE_EVERY": 2, "PATIENCE": 1000}
    set_params(tiny_workspace, {f"TrainOCRParams.{name}": value for name, value in params.items()})
    return tiny_workspace


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def searched(workspace: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], cwd=workspace, env=environment(), capture_output=True, text=True,
        check=False, timeout=500,
    )  # fmt: skip


def curve(trial: Path) -> list[int]:
    """Steps of the metric in TensorBoard's events."""
    events = EventAccumulator(str(trial / "out/runs/ocr/tensorboard")).Reload()
    return [each.step for each in events.Scalars("val/exact_match")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_search_is_interrupted_continued_and_leaves_the_workspace_alone(workspace: Path) -> None:
    before = {path for path in workspace.rglob("*") if path.is_file()}
    search = subprocess.Popen(
        COMMAND, cwd=workspace, env=environment(), stderr=subprocess.PIPE, text=True
    )
    trials = workspace / SEARCH / "trials"
    deadline = time.monotonic() + 300
    while len(list(trials.glob("*"))) < 3 and time.monotonic() < deadline:
        assert search.poll() is None, search.stderr and search.stderr.read()
        time.sleep(0.1)
    search.send_signal(signal.SIGINT)
    errors = search.communicate(timeout=120)[1]
    assert search.returncode == 130, errors
    assert "interrupted: the same command continues the search" in errors
    assert "Traceback" not in errors
    begun = {path.name for path in trials.iterdir()}
    assert 0 < len(begun) < 8

    done = searched(workspace)
    assert done.returncode == 0, done.stderr
    folders = sorted(trials.iterdir())
    assert len(folders) == 8
    assert begun <= {path.name for path in folders}
    assert "8/8" in done.stderr

    # Each has its curve, and other values, the first one those of params.py.
    values = [json.loads((path / "values.json").read_text()) for path in folders]
    assert len({json.dumps(each) for each in values}) == 8
    space = SPACES["ocr"]["crnn"]
    for each in values:
        assert each.keys() == space.keys()
    drawn = [
        each for each in values
        if all(
            value in found.ends if not isinstance(found, Range) else found.low <= value <= found.high
            for value, found in ((each[name], space[name]) for name in space)
        )
    ]  # fmt: skip
    assert len(drawn) >= 7
    steps = [curve(path) for path in folders]
    assert all(each == sorted(set(each)) and each[0] == 2 for each in steps)
    # 24 steps; ASHA ends most of them before.
    assert 24 in {each[-1] for each in steps}
    assert min(each[-1] for each in steps) < 24
    assert not list(trials.glob("*/out/checkpoints"))

    # The result is that of a trial, as a command.
    best, curves, command = done.stdout.splitlines()
    (value, name, first) = re.fullmatch(
        r"best exact_match: ([\d.]+) in (\S+) \(([\d.]+) with the values of params.py; 8 trials\)",
        best,
    ).groups()
    assert float(value) >= float(first)
    assert curves == f"curves: tensorboard --logdir {SEARCH / 'trials'}"
    assert command.startswith("dvc exp run -S 'params.py:")
    assigned = dict(
        word.removeprefix("params.py:").split("=") for word in shlex.split(command)[4::2]
    )
    expected = json.loads((workspace / name / "values.json").read_text())
    assert {key: json.loads(text) for key, text in assigned.items()} == expected

    # It is complete: nothing is trained again. Another search is not mixed with it.
    again = searched(workspace)
    assert again.stdout == done.stdout
    assert sorted(trials.iterdir()) == folders
    set_params(workspace, {"TrainOCRParams.EPOCHS": 7})
    other = searched(workspace)
    assert other.returncode == 1
    assert "the search there has other parameters. Give this one another name" in other.stderr
    assert "Traceback" not in other.stderr
    after = {path for path in workspace.rglob("*") if path.is_file()}
    assert not [
        path for path in after - before if SEARCH not in path.relative_to(workspace).parents
    ]


def test_a_missing_set_is_told_with_its_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / "data/prepared/ocr/val")
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(sys, "argv", ["swiss-plates"])
    with pytest.raises(
        SystemExit, match=r"ocr/val: there is no prepared set\. Run `dvc repro prep"
    ):
        cli.main(["search", "ocr"])
    assert not (workspace / "search").exists()


@pytest.mark.parametrize(
    "arguments", [["ocr", "--trials", "0"], ["ocr", "--name", "../x"], ["stack"], []]
)
def test_arguments_that_make_no_sense(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["swiss-plates"])
    with pytest.raises(SystemExit) as end:
        cli.main(["search", *arguments])
    assert end.value.code == 2
