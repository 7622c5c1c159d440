"""dvc.yaml fits the code: each stage depends on what it imports, and has the parameters that it reads."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from src.config import Config
from tests.conftest import PARAMETERS

ROOT = Path(__file__).resolve().parents[1]
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PATHS = yaml.safe_load((PARAMETERS / "params.yaml").read_text(encoding="utf-8"))
STAGES = list(PIPELINE["stages"])
# dvc.yaml says why they are no dependencies.
NO_DEPENDENCIES = {"src/config/__init__.py", "src/core/errors.py", "src/config/stage.py"}


def _resolved(text: str) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: str(PATHS[match[1]]), text)


def _imports(path: Path) -> set[Path]:
    """A module and those of the project that it imports, directly or through others."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        module = waiting.pop()
        if module in found or module.as_posix() in NO_DEPENDENCIES:
            continue
        found.add(module)
        waiting += _direct_imports(module)
    return found


@cache
def _direct_imports(module: Path) -> list[Path]:
    found: list[Path] = []
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        files = [Path(*name.split(".")).with_suffix(".py") for name in names]
        found += [file for file in files if file.parts[0] == "src" and (ROOT / file).exists()]
    return found


def _tables(modules: set[Path]) -> set[Path]:
    """What modules read of the files that lie beside them."""
    named = {
        module.with_name(name)
        for module in modules
        for name in re.findall(r'with_name\("([\w.]+)"\)', (ROOT / module).read_text("utf-8"))
    }
    return {path for path in named if (ROOT / path).is_file()}


@pytest.mark.parametrize("stage", STAGES)
def test_the_dependencies_of_a_stage_are_its_imports(stage: str) -> None:
    definition = PIPELINE["stages"][stage]
    module = Path(*definition["cmd"].split()[-1].split(".")).with_suffix(".py")
    imports = {path.as_posix() for path in _imports(module) | _tables(_imports(module))}
    code = {dep for dep in map(_resolved, definition["deps"]) if dep.startswith("src/")}
    missing = {
        path for path in imports if not any(f"{path}/".startswith(f"{dep}/") for dep in code)
    }
    needless = {
        dep for dep in code if not any(f"{path}/".startswith(f"{dep}/") for path in imports)
    }
    assert (missing, needless) == (set(), set())


@pytest.mark.parametrize("stage", STAGES)
def test_the_parameters_of_a_stage_are_those_it_reads(stage: str) -> None:
    """Sections that the stage's code names are among its params, and the other way round."""
    definition = PIPELINE["stages"][stage]
    module = Path(*definition["cmd"].split()[-1].split(".")).with_suffix(".py")
    known = [name for name in _sections() if name not in ("MULTIPROCESSING", "tracker")]
    declared = {
        name.split(".")[0] for item in definition.get("params", []) for name in _names(item)
    }
    read: set[str] = set()
    for path in _imports(module):
        text = (ROOT / path).read_text(encoding="utf-8")
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


@pytest.mark.parametrize("name", ["MULTIPROCESSING", "tracker"])
def test_what_changes_no_result_makes_nothing_again(name: str) -> None:
    assert name not in (ROOT / "dvc.yaml").read_text().split("stages:")[1]
