"""The experiment with clusters: what it trains on, and that it runs."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.config import load_config
from src.models.base import Recognizer
from src.models.registry import build_recognizer, save_model
from src.quality.networks import torch_recognizer
from src.quality.samples import FloatArray, Samples
from tests.quality.sets import samples_of, text_of
from tests.standins import OracleReader, plate_text, prepared_set

ROOT = Path(__file__).parents[2]
BENCH: dict[str, Any] = runpy.run_path(str(ROOT / "bench" / "clusters.py"), run_name="bench")
SETTINGS = BENCH["Settings"]("clean", 3, 100, 20, 1, 10, 2, 7)
CLUSTERS = np.arange(100) % 5 // 2  # 40, 40 and 20


def chosen(train: str) -> Samples:
    return BENCH["chosen"](samples_of(100), CLUSTERS, replace(SETTINGS, train=train))


def test_clusters_are_numbered_by_their_size() -> None:
    centres = np.eye(3)[np.repeat([0, 1, 2], [10, 50, 30])]
    points = centres + np.random.default_rng(1).normal(0, 0.01, (90, 3))
    first, second = BENCH["clusters_of"]([points, points[:20]], 3, 1)
    assert first.tolist() == [2] * 10 + [0] * 50 + [1] * 30
    assert second.tolist() == [2] * 10 + [0] * 10


@pytest.mark.parametrize(
    ("train", "clusters"), [("clean", {0, 1, 2}), ("one", {0}), ("two", {0, 1})]
)
def test_as_many_samples_of_the_clusters_that_are_meant(train: str, clusters: set[int]) -> None:
    part = chosen(train)
    numbers = part.labels["sample"].to_numpy()
    assert len(set(numbers.tolist())) == 20
    assert set(CLUSTERS[numbers].tolist()) == clusters
    assert part.labels["plate"].tolist() == [text_of(i) for i in numbers]


def test_noise_gives_the_first_cluster_each_other_s_texts() -> None:
    clean, noisy = chosen("clean").labels, chosen("noisy").labels
    assert clean["sample"].tolist() == noisy["sample"].tolist()
    assert sorted(clean["plate"]) == sorted(noisy["plate"])
    first = CLUSTERS[clean["sample"]] == 0
    assert first.sum() > 3
    assert ((clean["plate"] != noisy["plate"]) == first).all()


def test_too_few_samples_and_unknown_trainings_are_told() -> None:
    with pytest.raises(
        BENCH["ExperimentError"], match="40 samples are available, but 50 are needed"
    ):
        BENCH["chosen"](samples_of(100), CLUSTERS, replace(SETTINGS, train="one", samples=50))
    with pytest.raises(BENCH["ExperimentError"], match="one of clean, noisy, one, two"):
        chosen("three")


def test_measures_tell_what_is_read_where_and_how_surely(tmp_path: Path) -> None:
    prepared_set(tmp_path / "val", (60, 120), 8)
    samples = BENCH["prepared"](tmp_path / "val")
    assert samples.labels["plate"].tolist() == [plate_text(i) for i in range(8)]
    reader = OracleReader(wrong={3})
    found = BENCH["measures"](reader, samples, np.array([0, 0, 0, 0, 1, 1, 1, 1]), 2)
    assert found["accuracy"] == pytest.approx(7 / 8)
    assert found["accuracy_by_cluster"] == [0.75, 1.0]
    # It has no dropout, and is as sure of what is wrong.
    assert found["spread"] == 0
    assert found["confidence_of_wrong"] == pytest.approx(found["confidence"], abs=0.05)
    assert 0 < found["ece"] < 0.5


def test_the_experiment_runs(tiny_workspace: Path) -> None:
    config = load_config(tiny_workspace)
    prepared = str(tiny_workspace / "data" / "prepared")
    config = config.model_copy(update={"prepared_data_path": prepared})
    trained: list[Recognizer] = []
    run = BENCH["run"]
    original = run.__globals__["train"]

    def watched(reader: Recognizer, *arguments: Any) -> Recognizer:
        trained.append(reader)
        return original(reader, *arguments)

    run.__globals__["train"] = watched
    describe = torch_recognizer(build_recognizer("crnn", config)).describe
    assert describe is not None

    def features(samples: Samples) -> FloatArray:
        return describe(samples)

    settings = replace(SETTINGS, train="two", pool=50, samples=16, clusters=3)
    result = run(config, settings, features)
    assert result["samples"] == 16
    assert sum(result["pool_by_cluster"]) == 50
    assert len(trained) == 1
    assert 0 <= result["accuracy"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_it_is_a_dvc_project_of_its_own(tiny_workspace: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(tiny_workspace, clone)
    for name in ("src", "bench", "experiments", ".dvc/config", ".gitignore", "dvc.yaml"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    reader = build_recognizer("crnn", load_config(tiny_workspace))
    save_model(reader, clone / "out" / "models" / "ocr" / "model.safetensors")
    place = clone / "experiments" / "clusters"
    (place / "metrics.json").unlink(missing_ok=True)

    def call(*command: str, cwd: Path = place) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    call("git", "init", "-q", "-b", "main", cwd=clone)
    for key in ("user.name", "user.email"):
        call("git", "config", key, "test@localhost", cwd=clone)
    call("git", "add", "-A", cwd=clone)
    call("git", "commit", "-qm", "Start", cwd=clone)
    small = ("pool=50", "samples=16", "clusters=3", "epochs=1", "tested=10", "passes=2")
    for train in ("one", "noisy"):
        settings = [f"params.yaml:{item}" for item in (f"train={train}", *small)]
        call("dvc", "exp", "run", *(part for item in settings for part in ("-S", item)))
    shown = json.loads(call("dvc", "exp", "show", "--json"))
    runs = {
        revision["data"]["params"]["params.yaml"]["data"]["train"]: revision["data"]["metrics"]
        for baseline in shown
        for item in baseline["experiments"] or []
        for revision in item["revs"]
    }
    assert set(runs) == {"one", "noisy"}
    assert all(metrics["metrics.json"]["data"]["samples"] == 16 for metrics in runs.values())
    # The pipeline's own commands do not know of it.
    assert "experiments" not in call("dvc", "metrics", "show", "--json", cwd=clone)
    assert "experiments" not in call("dvc", "status", "--json", cwd=clone)
