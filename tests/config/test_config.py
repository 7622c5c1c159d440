"""load_config: what it refuses, and that each message names the file, the parameter and what is allowed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from src.config import ConfigError, load_config
from tests.conftest import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, tmp_path)
    return tmp_path


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_the_committed_parameters_are_valid() -> None:
    config = load_config(PARAMETERS)
    assert config.prepared("ocr") == Path(config.prepared_data_path) / "ocr"
    assert config.out("models", "localize") == Path(config.out_path) / "models" / "localize"


def test_a_config_cannot_be_changed() -> None:
    config = load_config(PARAMETERS)
    with pytest.raises(ValidationError):
        config.BATCH_SIZE = 1  # type: ignore[misc]  # that is the test
    with pytest.raises(ValidationError):
        config.TrainOCRParams.LR = 1.0  # type: ignore[misc]  # that is the test


@pytest.mark.parametrize("name", ["params.py", "params.yaml"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=name):
        load_config(folder)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("params.py", "BATCH_SIZE: int = = 3"),
        ("params.py", "BATCH_SIZE: int = many"),
        ("params.py", "import nowhere_to_be_found"),
        ("params.yaml", "models: [unclosed"),
        ("params.yaml", "just a text"),
        ("params.yaml", ""),
    ],
)
def test_a_file_that_cannot_be_parsed_is_named(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=name):
        load_config(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        (
            "params.py",
            "BATCH_SIZE: int",
            "BATCH: int",
            ["params.py: BATCH:", "unknown", "BATCH_SIZE"],
        ),
        (
            "params.py",
            "PATIENCE: int",
            "PATIENT: int",
            ["params.py: TrainOCRParams.PATIENT: unknown", "PATIENCE", "missing"],
        ),
        ("params.py", "class OCRParams", "class OcrParams", ["params.py: OcrParams", "unknown"]),
        (
            "params.yaml",
            "source: auto",
            "source: imagenet",
            ["params.yaml: backgrounds.source", "cifar10"],
        ),
        (
            "params.yaml",
            "localizer:",
            "locator:",
            ["params.yaml: models.locator: unknown", "localizer"],
        ),
        ("params.yaml", "devices: 1", "devices: 0", ["params.yaml: trainer.devices", "equal to 1"]),
        ("params.yaml", "devices: 1", "devices: two", ["params.yaml: trainer.devices", "integer"]),
        ("params.yaml", "out_path: out", "out_path: 3", ["params.yaml: out_path", "string"]),
        (
            "params.yaml",
            "accelerator: auto",
            "accelerator: tpu",
            ["params.yaml: trainer.accelerator", "cuda"],
        ),
        # -S "+BATCH_SIZE=64" without params.py: would add it here, where nothing reads it.
        (
            "params.yaml",
            "src_path: src",
            "src_path: src\nBATCH_SIZE: 64",
            ["params.yaml", "BATCH_SIZE"],
        ),
    ],
)
def test_what_is_wrong_is_named(
    folder: Path, file: str, old: str, new: str, expected: list[str]
) -> None:
    _replace(folder / file, old, new)
    with pytest.raises(ConfigError) as error:
        load_config(folder)
    for part in expected:
        assert part in str(error.value)


def test_all_errors_are_told_at_once(folder: Path) -> None:
    line = re.search(r"^BATCH_SIZE: .*$", (folder / "params.py").read_text(), re.MULTILINE)
    assert line is not None
    _replace(folder / "params.py", line[0], "BATCH_SIZE: int = 0")
    _replace(folder / "params.yaml", "devices: 1", "devices: 0")
    with pytest.raises(ConfigError) as error:
        load_config(folder)
    assert len(str(error.value).splitlines()) == 2
