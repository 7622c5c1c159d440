"""make run: profiles that set what exists, the backgrounds' source, a name for Git, the table."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from scripts import run as script
from scripts.workspace import exclusive
from src.config import ConfigError, load_config
from tests.conftest import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.txt"))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Git clone with the parameters and the profiles, as the current folder."""
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, tmp_path)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    _set_source(tmp_path, "auto")
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "Start"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _set_source(folder: Path, source: str) -> None:
    apply_overrides(str(folder / "params.yaml"), [f"backgrounds.source={source}"])


class Commands:
    """Stands in for DVC: keeps its command line, and says that it has run two stages."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.command: list[str] = []

    def __call__(self, command: list[str], clock: script.Clock, *_: object) -> int:
        self.command = command
        clock.seconds |= {"prepare_ocr": 12.4, "train_ocr": 61.0}
        return self.status

    @property
    def overrides(self) -> list[str]:
        return [item for item in self.command[3:] if item != "-S"]


@pytest.mark.parametrize("name", PROFILES)
def test_every_override_of_a_profile_sets_a_parameter(clone: Path, name: str) -> None:
    for override in script.read_profile(name):
        file, setting = override.split(":", 1) if ":" in override else ("params.yaml", override)
        apply_overrides(str(clone / file), [setting])
        value: Any = load_config(clone)
        for part in setting.split("=")[0].split("."):
            value = getattr(value, part)
        assert str(value) == setting.split("=")[1]


def test_an_unknown_profile_is_told_with_the_known_ones(clone: Path) -> None:
    with pytest.raises(script.RunError, match=r"profiles/nosuch\.txt.*quick.*smoke"):
        script.read_profile("nosuch")


def test_a_folder_without_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(script.RunError, match="not a Git clone"):
        script.committed(Path("params.py"))


@pytest.mark.parametrize("left_by_the_last_run", ["auto", "cifar10", "procedural"])
def test_the_source_is_detected_anew_at_each_run(
    clone: Path, monkeypatch: pytest.MonkeyPatch, left_by_the_last_run: str
) -> None:
    _set_source(clone, left_by_the_last_run)
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    monkeypatch.setattr(script, "detected_source", lambda: "cifar10")
    assert script.run("quick", []) == 0
    assert dvc.overrides[-1] == "backgrounds.source=cifar10"
    assert set(script.read_profile("quick")) < set(dvc.overrides)


def test_a_full_run_after_a_quick_one_is_a_full_one(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_config(clone)
    apply_overrides(str(clone / "params.py"), ["PrepareOCRParams.MAX_IMAGES=1234"])
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    monkeypatch.setattr(script, "detected_source", lambda: "procedural")
    assert script.run("full", []) == 0
    wanted = before.PrepareOCRParams.MAX_IMAGES
    assert f"params.py:PrepareOCRParams.MAX_IMAGES={wanted}" in dvc.overrides
    assert f"params.py:MULTIPROCESSING={before.MULTIPROCESSING}" in dvc.overrides


def test_an_edit_that_the_committed_value_overrides_is_told(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "params.py:PrepareOCRParams.MAX_IMAGES"
    monkeypatch.setattr(script, "run_dvc", Commands())
    monkeypatch.setattr(script, "detected_source", lambda: "procedural")
    wanted = load_config(clone).PrepareOCRParams.MAX_IMAGES
    assert script.run("full", []) == 0
    assert "note:" not in capsys.readouterr().out
    apply_overrides(str(clone / "params.py"), ["PrepareOCRParams.MAX_IMAGES=1234"])
    assert script.run("full", []) == 0
    output = capsys.readouterr().out
    assert output.count("note:") == 1
    assert f"MAX_IMAGES is 1234 here, but the committed value {wanted} is used" in output
    assert f'-S {name}=1234"' in output
    # With what it advises, the edit stays, and there is nothing to tell.
    assert script.run("full", [f"{name}=1234"]) == 0
    output = capsys.readouterr().out
    assert "note:" not in output
    assert output.count(name) == 1


@pytest.mark.parametrize("prefix", ["", "params.yaml:"])
def test_a_profile_may_set_what_is_in_params_yaml(
    clone: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    (clone / "profiles/seed.txt").write_text(f"{prefix}models.recognizer=plate_ocr_v2\n")
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    monkeypatch.setattr(script, "detected_source", lambda: "procedural")
    assert script.run("full", []) == 0
    assert "params.yaml:models.recognizer=crnn" in dvc.overrides
    assert script.run("seed", []) == 0
    assert [item for item in dvc.overrides if "recognizer" in item] == [
        f"{prefix}models.recognizer=plate_ocr_v2"
    ]


@pytest.mark.parametrize(
    "line", ["params.py:No.SUCH=1", "no.such=1", "other.yaml:models.recognizer=1"]
)
def test_a_profile_that_sets_no_parameter_is_told(clone: Path, line: str) -> None:
    (clone / "profiles/wrong.txt").write_text(f"{line}\n")
    with pytest.raises(script.RunError, match=r"(?i)no.such|other\.yaml"):
        script.run("quick", [])


def test_a_profile_may_set_the_source(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (clone / "profiles/drawn.txt").write_text("backgrounds.source=procedural\n")
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    monkeypatch.setattr(script, "detected_source", lambda: "cifar10")
    assert script.run("drawn", []) == 0
    assert [item for item in dvc.overrides if "source" in item] == ["backgrounds.source=procedural"]
    assert script.run("quick", []) == 0
    assert [item for item in dvc.overrides if "source" in item] == ["backgrounds.source=cifar10"]


def test_a_source_that_was_asked_for_is_not_detected(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    assert script.run("smoke", ["backgrounds.source=procedural"]) == 0
    assert dvc.overrides[-1] == "backgrounds.source=procedural"
    assert sum("backgrounds.source" in item for item in dvc.overrides) == 1


def test_the_status_is_that_of_dvc(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "run_dvc", Commands(status=255))
    monkeypatch.setattr(script, "detected_source", lambda: "cifar10")
    assert script.run("quick", []) == 255
    output = capsys.readouterr()
    assert "Done" not in output.out
    assert "has stopped" in output.err


def test_metrics_images_and_models_are_shown(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = clone / "out" / "evaluations" / "stack"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"val_acc": 0.9876543, "by_angle": {"0": 1}}))
    monkeypatch.setattr(script, "run_dvc", Commands())
    monkeypatch.setattr(script, "detected_source", lambda: "cifar10")
    assert script.run("quick", []) == 0
    output = capsys.readouterr().out
    assert "-S params.py:PrepareLocalizeParams.MAX_IMAGES=" in output
    assert "0.9877" in output
    assert "by_angle" not in output
    assert "out/models/ocr/model.safetensors" in output
    assert "make reset" in output
    assert re.search(r"^About .* on \d+ cores if every stage runs", output, re.MULTILINE)
    assert re.search(r"^  train_ocr +61 +\d+$", output, re.MULTILINE)
    assert re.search(r"not run, as nothing has changed: .*\btrain_localize\b", output)


def test_git_gets_a_name_only_where_it_knows_none(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    environment = script.stage_environment()
    assert environment["GIT_COMMITTER_NAME"] == "Swiss Plate Reader"
    assert environment["GIT_COMMITTER_EMAIL"] == "run@localhost"
    subprocess.run(["git", "config", "user.email", "someone@localhost"], check=True)
    environment = script.stage_environment()
    assert environment["GIT_AUTHOR_NAME"] == "Swiss Plate Reader"
    assert "GIT_AUTHOR_EMAIL" not in environment
    subprocess.run(["git", "config", "user.name", "Someone"], check=True)
    assert not {name for name in script.stage_environment() if name.startswith("GIT_AUTHOR")}


def test_the_stages_python_is_this_one(clone: Path) -> None:
    path = script.stage_environment()["PATH"]
    python = shutil.which("python", path=path)
    assert python is not None
    assert Path(python).parent == Path(script.sys.executable).parent


def test_the_seconds_of_each_stage_are_told(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By a stand-in for DVC that runs two stages and ends with a status of its own."""
    lines = ["Reproducing experiment", "Running stage 'first':", "> python -m first", "SLEEP",
             "Running stage 'second':", "Updating lock file"]  # fmt: skip
    code = "import sys, time\n" + "".join(
        "time.sleep(0.5)\n" if line == "SLEEP" else f"print({line!r})\n" for line in lines
    )
    (clone / "dvc.py").write_text(code + "print('trouble', file=sys.stderr)\nsys.exit(3)\n")
    clock = script.Clock()
    with exclusive("make run") as lock:
        command = [script.sys.executable, "dvc.py"]
        assert script.run_dvc(command, clock, lock, load_config()) == 3
    assert list(clock.seconds) == ["first", "second"]
    assert clock.seconds["first"] == pytest.approx(0.5, abs=0.3)
    assert clock.seconds["second"] < 0.4
    output = capfd.readouterr()
    assert output.out.splitlines() == [line for line in lines if line != "SLEEP"]
    assert output.err == "trouble\n"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("params.py:TrainOCRParams.LR=-1", r"params\.py: TrainOCRParams\.LR: .*greater than 0"),
        ("params.py:TrainOCRParams.RATE=1", r"-S params\.py: .*TrainOCRParams\.RATE"),
        ("trainer.devices=0", r"params\.yaml: trainer\.devices: .*equal to 1"),
    ],
)
def test_a_wrong_override_is_told_before_a_file_is_changed(
    clone: Path, monkeypatch: pytest.MonkeyPatch, override: str, says: str
) -> None:
    dvc = Commands()
    monkeypatch.setattr(script, "run_dvc", dvc)
    monkeypatch.setattr(script, "detected_source", lambda: "procedural")
    before = {name: Path(name).read_bytes() for name in ("params.py", "params.yaml")}
    with pytest.raises((script.RunError, ConfigError), match=says):
        script.run("smoke", [override])
    assert dvc.command == []
    assert before == {name: Path(name).read_bytes() for name in before}


def test_an_estimate_has_every_stage_and_grows_with_the_work(clone: Path) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    quick, full = (
        script.estimate(script.config_of(script.read_profile(name))) for name in ("quick", "full")
    )
    assert set(quick) == set(full) == set(stages)
    assert all(value > 0 for value in quick.values())
    assert all(full[stage] >= quick[stage] for stage in stages)
    more = script.config_of(["params.py:TrainOCRParams.EPOCHS=14"])
    assert script.estimate(more)["train_ocr"] > 1.9 * full["train_ocr"]
