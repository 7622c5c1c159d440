"""What bench/video.py counts, compares and fits."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from src.core.errors import UserError
from src.video.confidence import FEATURES
from src.video.events import Best, Event
from src.video.tracks import Direction
from src.video.vote import Sighting
from tests.benches import load
from tests.bundles import write_bundle
from tests.video.footage import plate

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("video")


def event(text: str | None, direction: Direction = "left") -> Event:
    return Event(
        id="1", revision=1, source="lane", plate=text, canton=None, number=None, colour=None,
        format=None, reason=None, confidence=0.9, first=1.0, last=2.0, frames=3, reads=3,
        direction=direction, alternatives=(), best=Best(time=1.0, box=(0, 0, 1, 1), corners=()),
    )  # fmt: skip


def vehicle(text: str, expected: bool | None) -> dict[str, Any]:
    return {
        "text": text,
        "expected": expected,
        "clear": [1.0, 2.0] if expected else None,
        "direction": "left",
    }


def test_scores_count_right_wrong_and_repeated_events(bench: ModuleType) -> None:
    score = bench.Score()
    truth = {"vehicles": [vehicle("ZH1", True), vehicle("BE2", True), vehicle("GE3", None)]}
    # Right, wrong, repeated, one that may come or not, and one without a text.
    given = [("ZH1", 3.0), ("ZH7", 3.0), ("ZH1", 9.0), ("GE3", 4.0), (None, 4.0)]
    score.add(truth, [(event(text), second) for text, second in given])
    score.add({"vehicles": [vehicle("", False)]}, [(event("TI4"), 1.0)])
    row = score.row()
    assert row["vehicles"] == 2
    assert row["recall"] == 0.5
    assert row["precision"] == 0.25
    assert row["wrong"] == 0.5
    assert row["f1"] == pytest.approx(1 / 3, abs=1e-4)
    assert row["events_per_vehicle"] == 2
    assert row["direction"] == 1
    assert row["delay_s"] == {"median": 2.0, "p95": 2.0}


def test_nothing_found_is_a_row_too(bench: ModuleType) -> None:
    score = bench.Score()
    score.add({"vehicles": [vehicle("ZH1", True)]}, [])
    assert (score.row()["f1"], score.row()["delay_s"]) == (0.0, None)


def test_votes_differ_as_they_are_named(bench: ModuleType) -> None:
    readings = [
        plate("ZH1", confidence=0.6, others=[("ZH3", 0.3)]),
        plate("ZH2", confidence=0.9),
        *[plate("ZH3", confidence=0.55)] * 2,
        plate("ZH4", confidence=0.3, others=[("ZH3", 0.25)]),
    ]
    texts = {}
    for name, vote in bench.VOTES.items():
        made = vote()
        for time, reading in enumerate(readings):
            made.add(Sighting(float(time), reading))
        texts[name] = made.text
        assert made.best is not None
    assert texts == {"sum": "ZH3", "first": "ZH1", "surest": "ZH2", "majority": "ZH3"}


def test_the_fit_separates_right_from_wrong_events(bench: ModuleType) -> None:
    numbers = np.random.default_rng(0)
    right = numbers.random(400) < 0.9
    values = numbers.normal(0, 1, (400, len(FEATURES))) + 2.5 * right[:, None]
    # A feature that says the opposite is left out.
    values[:, 2] *= -1
    votes = [
        bench.Judged(row.tolist(), bool(each), number < 300)
        for number, (row, each) in enumerate(zip(values, right, strict=True))
    ]
    made = bench.fit(votes, "abc", "python fit")
    assert made.weights[2] == 0
    assert sum(weight > 0 for weight in made.weights) == 3
    assert (made.events, made.right, made.bundle) == (300, int(right[:300].sum()), "abc")
    assert made.command == "python fit"
    probability = 1 / (1 + np.exp(-(values @ np.array(made.weights) + made.intercept)))
    # Votes before the end are fitted on, and have no say in the threshold.
    wrong = probability[:300][~right[:300]]
    assert (wrong >= made.threshold).sum() <= bench.WRONG_SHARE * 300
    assert (wrong >= made.threshold - 0.02).sum() > bench.WRONG_SHARE * 300
    with pytest.raises(UserError, match="raise --vehicles"):
        bench.fit([bench.Judged([0.0] * len(FEATURES), True, True)] * 50, "abc", "")


def test_rounds_have_the_vehicles_that_are_asked_for(bench: ModuleType, tmp_path: Path) -> None:
    class Options:
        vehicles, seed, fit, height, fps, model = 500, 3, False, 720, [8.0], None

    tasks = bench.tasks_of(Options, tmp_path)
    assert len(tasks) == 450
    assert {task.seed for task in tasks} == {3}
    Options.fit = True
    assert {task.seed for task in bench.tasks_of(Options, tmp_path)} == {3 + bench.FIT_SEED}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg: apt-get install ffmpeg")
def test_it_prints_all_rows(tmp_path: Path) -> None:
    command = [
        sys.executable, "bench/video.py", "--vehicles", "1", "--height", "90", "--fps", "8", "5",
        "--workers", "2", "--keep", str(tmp_path / "kept"),
        "--model", str(write_bundle(tmp_path / "bundle")),
    ]  # fmt: skip
    for _ in range(2):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(row["fps"], row["vote"]) for row in rows[:8]] == [
            (fps, vote) for fps in (8, 5) for vote in ("sum", "first", "surest", "majority")
        ]
        assert {row["kind"] for row in rows if "kind" in row} == {
            "approach", "recede", "passing", "stop_and_go", "two", "behind_pillar", "covered",
            "night", "rain",
        }  # fmt: skip
        assert rows[-1]["cpu_per_video_s"] > 0
    assert len(list((tmp_path / "kept").glob("*.readings.json"))) == 9
