"""Stages as people start them: an error ends with one message, status 1, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from src.config import load_config
from src.models.registry import build_recognizer, save_model
from tests.conftest import ROOT, set_texts


def _error(folder: Path, module: str) -> str:
    """The message with which a stage ends; starting one costs seconds, so that cases are few."""
    before = {path for path in folder.rglob("*") if path.is_file()}
    result = subprocess.run(
        [sys.executable, "-m", module],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert {path for path in folder.rglob("*") if path.is_file()} == before
    return errors[0]


def test_training_without_its_prepared_set(tiny_workspace: Path) -> None:
    shutil.rmtree(tiny_workspace / "data/prepared/localize")
    message = _error(tiny_workspace, "src.localize.train")
    assert "data/prepared/localize/train" in message
    assert "missing" in message
    assert "dvc repro -f prepare_localize" in message


# Its message is tested in tests/datasets too, and all stages end in the same way.
@pytest.mark.slow
def test_evaluation_of_a_damaged_set(tiny_workspace: Path) -> None:
    images = tiny_workspace / "data/prepared/localize/val/images-00000.npy"
    images.write_bytes(images.read_bytes()[:1000])
    message = _error(tiny_workspace, "src.localize.evaluate")
    assert "data/prepared/localize/val" in message
    assert images.name in message
    assert "damaged" in message
    assert "dvc repro -f prepare_localize" in message


# Its message is tested in tests/stack too.
@pytest.mark.slow
def test_evaluation_without_a_bundle(tiny_workspace: Path) -> None:
    prepared = tiny_workspace / "data/prepared"
    shutil.copytree(prepared / "localize/val", prepared / "stack/val")
    message = _error(tiny_workspace, "src.stack.evaluate")
    assert "out/models/stack: there is no bundle" in message
    assert "dvc repro export_stack" in message


def test_a_name_that_no_model_has(tiny_workspace: Path) -> None:
    set_texts(tiny_workspace, "localizer: plate_net", "localizer: cornet")
    # The stage that starts fastest: all of them read the same parameters.
    message = _error(tiny_workspace, "src.localize.prepare")
    assert "params.yaml: models.localizer" in message
    assert "cornet" in message
    assert "plate_net" in message
    assert "plate_localizer_v3" in message


def test_evaluation_of_another_model(tiny_workspace: Path) -> None:
    reader = build_recognizer("crnn", load_config(tiny_workspace))
    save_model(reader, tiny_workspace / "out/models/localize/model.safetensors")
    message = _error(tiny_workspace, "src.localize.evaluate")
    assert "out/models/localize/model.safetensors holds recognizer crnn, not a localizer" in message
    assert "dvc repro train_localize" in message
