"""dvc.yaml fits the code: each stage depends on what it imports, and has the parameters that it reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from src.config import Config
from src.core.dependencies import closure

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
STAGES = list(PIPELINE["stages"])
_NO_RESULT = ("MULTIPROCESSING", "tracker", "engine", "cluster")
"""Parameters that change no result."""


def _module(stage: str) -> Path:
    return ROOT.joinpath(*PIPELINE["stages"][stage]["cmd"].split()[-1].split(".")).with_suffix(
        ".py"
    )


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_of_a_stage_are_those_it_reads(stage: str) -> None:
    """Sections that the stage's code names are among its params, and the other way round."""
    definition = PIPELINE["stages"][stage]
    known = [name for name in _sections() if name not in _NO_RESULT]
    declared = {
        name.split(".")[0] for item in definition.get("params", []) for name in _names(item)
    }
    read: set[str] = set()
    for path in closure(_module(stage)):
        text = path.read_text(encoding="utf-8")
        read |= {name for name in known if re.search(rf"config\.{name}\b", text)}
    # A task's models share their modules with the other task's.
    other = {"localize": ("OCR",), "ocr": ("Localize",), "stack": ("OCR", "Localize")}
    task = definition["cmd"].split(".")[-2]
    ours = {name for name in read if not name.startswith(other.get(task, ()))}
    if not stage.startswith("train"):
        # Models are built from what their own file says, not from params.py.
        ours = {
            name for name in ours if not re.match(r"models|trainer|(Localize|OCR)ModelParams", name)
        }
    assert ours <= declared | _UNREAD.get(stage, set()), f"{stage} reads more than dvc.yaml says"
    assert declared <= read, f"{stage} does not read all that dvc.yaml says"


_UNREAD: dict[str, set[str]] = {
    # src/models builds models from parameters only when they are trained.
    "evaluate_localize": {"LocalizeParams"},
    "evaluate_ocr": {"OCRParams"},
    **{f"check_{task}": {"LocalizeParams", "OCRParams"} for task in ("localize", "ocr", "stack")},
    # The folder itself is a dependency; fine-tuning only names it.
    "prepare_feedback": {"feedback_path"},
    "finetune_localize": {"feedback_path", "LocalizeParams"},
    "finetune_ocr": {"feedback_path", "OCRParams"},
    # The source of backgrounds is in their folder's metadata.
    **{f"prepare_{task}": {"backgrounds"} for task in ("localize", "ocr", "stack")},
}


def _sections() -> list[str]:
    return list(Config.model_fields)


def _names(item: str | dict[str, list[str]]) -> list[str]:
    return [item] if isinstance(item, str) else [name for names in item.values() for name in names]


@pytest.mark.parametrize("name", _NO_RESULT)
def test_what_changes_no_result_makes_nothing_again(name: str) -> None:
    stages = PIPELINE["stages"].values()
    declared = [item for stage in stages for item in stage.get("params", [])]
    assert name not in {each for item in declared for each in _names(item)}
