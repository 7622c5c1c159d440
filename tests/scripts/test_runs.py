"""Runs in one workspace: a second one, parameters that change, signals, copies without untracked files.

With a project of two stages that run the entry point of the real ones, through DVC.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from scripts import workspace
from src.config import load_config
from tests.conftest import PARAMETERS, set_params
from tests.scripts.conftest import environment

STAGES = """\
stages:
  prepare:
    cmd: python stage.py prepare
    params:
      - params.py: [PrepareOCRParams]
    outs: [prepared.json]
  train:
    cmd: python stage.py train
    deps: [prepared.json]
    params:
      - params.py: [TrainOCRParams]
    outs: [model.json]
"""
STAGE = """\
import json, os, subprocess, sys, time
from pathlib import Path
from src.config.stage import run_stage

NAME = sys.argv[1]
HOOK = Path(os.environ.get("HOOKS", "none")) / f"{NAME}.py"
OUT = {"prepare": "prepared.json", "train": "model.json"}[NAME]

def main(config):
    Path(os.environ["DVC_ROOT"], f"{NAME}.started").touch()
    if HOOK.exists():
        exec(HOOK.read_text())
    Path(OUT).write_text(json.dumps({"lr": config.TrainOCRParams.LR}))

run_stage(main)
"""
LR = "params.py:TrainOCRParams.LR"


@pytest.fixture(scope="session")
def _project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "project"
    (folder / "profiles").mkdir(parents=True)
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, folder)
    (folder / "profiles/smoke.txt").write_text("params.py:TrainOCRParams.EPOCHS=1\n")
    (folder / "dvc.yaml").write_text(STAGES)
    (folder / "stage.py").write_text(STAGE)
    (folder / ".gitignore").write_text("*.started\n/data/feedback/*\n!/data/feedback/*.dvc\n")
    for command in (
        "git init -q -b main", "dvc init -q", "dvc config core.analytics false", "git add -A",
        "git commit -qm Start",
    ):  # fmt: skip
        done(folder, *command.split())
    return folder


@pytest.fixture
def project(_project: Path, tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that has never run, in a folder with blanks and umlauts; the current folder."""
    folder = tmp_path / "Zürich plates (1)"
    shutil.copytree(_project, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOOKS", str(tmp_path))
    return folder


def called(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def done(folder: Path, *command: str) -> str:
    result = called(folder, *command)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout + result.stderr


def hook(project: Path, stage: str, code: str) -> None:
    """Let a stage run code before it writes its result."""
    (project.parent / f"{stage}.py").write_text(code)


def run_command(rate: str) -> list[str]:
    source = "backgrounds.source=procedural"
    return [sys.executable, "-m", "scripts.run", "smoke", "-S", source, "-S", f"{LR}={rate}"]


def started(project: Path, stage: str, process: subprocess.Popen[Any]) -> None:
    wait(lambda: (project / f"{stage}.started").exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()


def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


Begin = Callable[[list[str]], "subprocess.Popen[str]"]


@pytest.fixture
def begin(project: Path) -> Iterator[Begin]:
    """Starts a run in a process group of its own, as a shell does; what is left is killed."""
    begun: list[subprocess.Popen[str]] = []

    def start(command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=project, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


HOLD = "while not Path(os.environ['HOOKS'], 'go').exists(): time.sleep(0.05)\n"


def test_a_second_run_is_refused_before_it_touches_a_file(project: Path, begin: Begin) -> None:
    hook(project, "prepare", HOLD)
    first = begin(run_command("0.001"))
    started(project, "prepare", first)
    names = ("params.py", "params.yaml", "dvc.yaml")
    before = {name: (project / name).read_bytes() for name in names}
    for command in (
        run_command("0.004"),
        [sys.executable, "-m", "scripts.results", "make"],
        [sys.executable, "-m", "scripts.reset"],
        [sys.executable, "-m", "scripts.relock"],
    ):
        second = called(project, *command)
        assert second.returncode == 1
        assert "another run is in this workspace: make run PROFILE=smoke (process " in second.stderr
        assert "dvc exp run --temp" in second.stderr
        assert "Traceback" not in second.stderr
    assert before == {name: (project / name).read_bytes() for name in names}
    (project.parent / "go").touch()
    output = first.communicate()[0]
    assert first.returncode == 0, output
    assert json.loads((project / "model.json").read_text()) == {"lr": 0.001}
    assert "LR: 0.001" in (project / "dvc.lock").read_text()
    assert len(done(project, "dvc", "exp", "list", "--name-only").split()) == 1


def test_a_run_is_refused_beside_dvc_itself(project: Path, begin: Begin) -> None:
    hook(project, "prepare", HOLD)
    first = begin(["dvc", "repro", "-q"])
    started(project, "prepare", first)
    second = called(project, *run_command("0.004"))
    assert second.returncode == 1
    says = rf"DVC is at work in this workspace: \S*dvc repro -q \(process {first.pid}\)\. Wait"
    assert re.search(says, second.stderr)
    (project.parent / "go").touch()
    assert first.wait() == 0
    assert load_config(project).TrainOCRParams.LR == load_config(PARAMETERS).TrainOCRParams.LR


CHANGE = (
    "text = Path('params.py').read_text()\nPath('params.py').write_text(text.replace({!r}, {!r}))\n"
)


@pytest.mark.parametrize("how", ["run", "exp run"])
def test_a_parameter_that_changes_stops_the_next_stage(project: Path, how: str) -> None:
    config = load_config(project)
    command = run_command("0.001") if how == "run" else ["dvc", "exp", "run", "-S", f"{LR}=0.001"]
    hook(project, "prepare", CHANGE.format("LR: float = 0.001", "LR: float = 0.004"))
    # Both classes have the name; this is the one of the localizer.
    set_params(project, {"TrainLocalizeParams.LR": 0.002})
    result = called(project, *command)
    assert result.returncode != 0
    says = result.stdout + result.stderr
    assert "params.py: TrainOCRParams.LR is 0.004, but was 0.001 at the start" in says
    assert "train was not run" in says
    assert not (project / "model.json").exists()
    assert not (project / "train.started").exists()
    assert "model.json" not in (project / "dvc.lock").read_text()
    # Once the value is put back, the same command goes on, and what was complete is kept.
    (project / "prepare.started").unlink()
    done(project, *command)
    assert json.loads((project / "model.json").read_text()) == {"lr": 0.001}
    assert not (project / "prepare.started").exists()
    assert config.TrainOCRParams.LR == load_config(PARAMETERS).TrainOCRParams.LR


def test_a_stage_whose_own_parameter_changed_meanwhile_is_not_recorded(project: Path) -> None:
    rate = load_config(project).TrainOCRParams.LR
    set_params(project, {"TrainLocalizeParams.LR": 0.5})
    before = (project / "params.py").read_text()
    hook(project, "train", CHANGE.format(f"LR: float = {rate}", "LR: float = 0.004"))
    result = called(project, "dvc", "repro")
    assert result.returncode != 0
    assert (
        f"TrainOCRParams.LR is 0.004, but was {rate} at the start" in result.stdout + result.stderr
    )
    assert "model.json" not in (project / "dvc.lock").read_text()
    (project / "params.py").write_text(before)
    done(project, "dvc", "commit", "--force", "train")
    assert f"LR: {rate}" in (project / "dvc.lock").read_text()
    assert "up to date" in done(project, "dvc", "repro")


def test_repro_and_experiments_work_without_make(project: Path) -> None:
    done(project, "dvc", "repro")
    done(project, "dvc", "exp", "run", "-n", "mine", "-S", f"{LR}=0.003")
    # Another run of the same name has parameters of its own.
    done(project, "dvc", "exp", "run", "-f", "-n", "mine", "-S", f"{LR}=0.005")
    assert json.loads((project / "model.json").read_text()) == {"lr": 0.005}
    # Records of processes that have ended are removed.
    assert len(list((project / ".dvc/tmp/parameters").iterdir())) == 1


def test_a_detached_head_is_as_good_as_a_branch(project: Path) -> None:
    done(project, "git", "checkout", "-q", "--detach")
    output = done(project, *run_command("0.001"))
    assert "Done in" in output
    assert done(project, "git", "branch", "--show-current").strip() == ""
    assert len(done(project, "dvc", "exp", "list", "--name-only").split()) == 1
    done(project, sys.executable, "-m", "scripts.reset")
    assert load_config(project).TrainOCRParams.LR == load_config(PARAMETERS).TrainOCRParams.LR


def test_copies_without_untracked_feedback_stop_before_a_stage_runs(project: Path) -> None:
    # DVC cannot tell a copy of a cache whose path has an umlaut (docs/experiments.md).
    done(project, "dvc", "config", "--local", "cache.dir", str(project.parent / "cache"))
    export = project / "data/feedback/reviewed"
    export.mkdir(parents=True)
    (export / "train.csv").write_text("file,plate,cx,cy,w,h\n")
    command = ["dvc", "exp", "run", "--temp", "-S", f"{LR}=0.003"]
    result = called(project, *command)
    says = result.stdout + result.stderr
    assert result.returncode != 0
    assert "data/feedback/reviewed: is in the workspace" in says
    assert "`dvc add data/feedback/reviewed && git add data/feedback/reviewed.dvc`" in says
    assert not (project / "prepare.started").exists()
    # Tracked by DVC but not by Git, it is still left out of the copy.
    done(project, "dvc", "add", "data/feedback/reviewed")
    done(project, "git", "rm", "-q", "--cached", "--ignore-unmatch", "data/feedback/reviewed.dvc")
    assert called(project, *command).returncode != 0
    done(project, "git", "add", "data/feedback/reviewed.dvc")
    done(project, *command)
    assert (project / "train.started").exists()


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_stage_and_dvc_sees_a_failure(
    project: Path,
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    status: int,
    shell: str,
) -> None:
    if not Path(shell).exists():
        pytest.skip(f"there is no {shell}")
    monkeypatch.setenv("SHELL", shell)
    hook(project, "train", HOLD)
    run = begin(run_command("0.001"))
    started(project, "train", run)
    children = psutil.Process(run.pid).children(recursive=True)
    if number == signal.SIGINT:
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    output = run.communicate()[0]
    assert run.returncode == status, output
    # A shell that is not replaced by its command is ended by the signal itself.
    assert re.search(f"exited with ({status}|-{number})$", output, re.MULTILINE), output
    assert "failed to reproduce" in output
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert "model.json" not in (project / "dvc.lock").read_text()
    assert done(project, "git", "branch", "--show-current").strip() == "main"
    hook(project, "train", "")
    done(project, *run_command("0.001"))


def test_output_may_be_any_bytes(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = r"import sys; sys.stdout.buffer.write(b'Z\xfcrich.jpg\nZ\xc3\xbcrich.jpg\n')"
    lines: list[str] = []
    with workspace.exclusive("test") as lock:
        command = [sys.executable, "-c", program]
        assert workspace.call_dvc(command, environment(), lock, line_read=lines.append) == 0
    assert lines == ["Z\\xfcrich.jpg\n", "Zürich.jpg\n"]
    assert capfd.readouterr().out == "".join(lines)


def test_the_lock_outlives_a_run_that_is_killed(project: Path, begin: Begin) -> None:
    """DVC, which goes on alone, holds it too."""
    hook(project, "prepare", HOLD)
    run = begin(run_command("0.001"))
    started(project, "prepare", run)
    dvc = psutil.Process(run.pid).children()
    run.kill()
    run.wait()
    with pytest.raises(workspace.BusyError, match="another run"), workspace.exclusive("test"):
        pass
    (project.parent / "go").touch()
    psutil.wait_procs(dvc, timeout=300)
    with workspace.exclusive("test"):
        pass


def unprivileged(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Call a command without root's right to write everywhere."""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root may write everywhere, and setpriv is missing")
        command = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", *command)
    return called(project, *command)


@pytest.mark.parametrize("place", ["files/md5", ""])
def test_a_cache_that_is_read_only_is_told(project: Path, place: str) -> None:
    cache = project / ".dvc/cache" / place
    cache.mkdir(parents=True, exist_ok=True)
    cache.chmod(0o555)
    try:
        result = unprivileged(project, *run_command("0.001"))
    finally:
        cache.chmod(0o755)
    says = result.stdout + result.stderr
    assert result.returncode != 0
    assert "Permission denied" in says
    assert ".dvc/cache" in says
    assert "Traceback" not in says
    assert not list(cache.rglob("*.tmp"))


def test_a_workspace_that_is_read_only_is_told(project: Path) -> None:
    (project / ".dvc/tmp").chmod(0o555)
    try:
        result = unprivileged(project, *run_command("0.001"))
    finally:
        (project / ".dvc/tmp").chmod(0o755)
    assert result.returncode == 1
    assert "run.lock: cannot be written: Permission denied" in result.stderr
    assert "Traceback" not in result.stderr
