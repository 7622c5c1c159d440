"""make relock: changed code is taken into dvc.lock, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.fresh import freshness
from scripts.relock import relock
from src.core.errors import UserError


def stages() -> dict[str, Any]:
    return yaml.safe_load(Path("dvc.lock").read_text())["stages"]


def replace(path: str, old: str, new: str) -> None:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def test_code_is_taken_in_where_no_data_are(project: Path) -> None:
    before = stages()
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("data")
    Path("model.txt").unlink()
    replace("code/train.py", "model.txt", "./model.txt")
    assert freshness().stages == ["train", "evaluate", "publish"]
    assert relock() == ["train"]
    assert freshness().fresh
    after = stages()
    code, data = after["train"]["deps"]
    assert code["path"] == "code/train.py"
    assert code["md5"] != before["train"]["deps"][0]["md5"]
    assert data == before["train"]["deps"][1]
    after["train"]["deps"][0] = before["train"]["deps"][0]
    assert after == before
    assert relock() == []


def test_a_code_file_that_moved_and_its_command_are_taken_in(project: Path) -> None:
    before = stages()
    Path("code/train.py").rename("code/fit.py")
    replace("dvc.yaml", "code/train.py", "code/fit.py")
    assert relock() == ["train"]
    assert freshness().fresh
    after = stages()["train"]
    assert after["cmd"] == "python code/fit.py"
    assert {dep["path"] for dep in after["deps"]} == {"code/fit.py", "data"}
    assert after["outs"] == before["train"]["outs"]


def test_a_changed_parameter_stays_to_be_run(project: Path) -> None:
    replace("params.yaml", "0.1", "0.2")
    replace("code/train.py", "model.txt", "./model.txt")
    assert relock() == ["train"]
    assert freshness().reasons == {"train": ["params.yaml: rate"]}


def test_names_of_parameters_are_taken_in_and_no_changed_value(project: Path) -> None:
    """A number of the code that becomes a parameter changes nothing that a stage computes."""
    before = stages()["prepare"]["params"]["params.py"]["PrepareParams"]
    source = Path("params.py").read_text()
    Path("params.py").write_text(source.rstrip() + "\n    ADDED = 0.3\n")
    assert freshness().reasons == {"prepare": ["params.py: PrepareParams"]}
    assert relock() == ["prepare"]
    assert freshness().fresh
    assert stages()["prepare"]["params"]["params.py"] == {"PrepareParams": before | {"ADDED": 0.3}}
    Path("params.py").write_text(source)
    assert relock() == ["prepare"]
    assert freshness().fresh
    count = f"= {before['COUNT']}"
    replace("params.py", count, f"{count}1")
    assert relock() == []
    assert freshness().reasons == {"prepare": ["params.py: PrepareParams"]}


def test_what_has_never_run_is_an_error(project: Path) -> None:
    Path("dvc.lock").unlink()
    with pytest.raises(UserError, match=r"dvc\.lock: prepare has never run; run `make repro`"):
        relock()


def test_missing_code_is_an_error(project: Path) -> None:
    before = Path("dvc.lock").read_bytes()
    Path("code/evaluate.py").unlink()
    with pytest.raises(UserError, match=r"code/evaluate\.py: evaluate depends on it"):
        relock()
    assert Path("dvc.lock").read_bytes() == before
