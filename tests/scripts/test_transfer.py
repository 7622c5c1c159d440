"""make push and make pull, with a real S3 interface: there and back, wrong, cut off, and again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts import remote, results, transfer
from scripts.fresh import freshness
from tests.scripts.conftest import S3, call, environment

Output = pytest.CaptureFixture[str]
# DVC takes seconds to start, minutes on a machine that trains beside it.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def s3_project(project: Path, s3: S3) -> Path:
    """The project with the bucket as its remote; keys are in the environment only."""
    asked = remote.describe(f"s3://{s3.bucket}/prefix", s3.url)
    remote.save(remote.Remote(asked.url, asked.settings, {}))
    return project


def _lose_everything(project: Path) -> None:
    for path in (".dvc/cache", ".dvc/tmp", "data"):
        shutil.rmtree(project / path)
    for name in ("model.txt", "published.json"):
        (project / name).unlink()


def _sums(project: Path) -> dict[str, bytes]:
    files = [*project.glob("data/**/*.txt"), project / "model.txt"]
    return {str(path.relative_to(project)): path.read_bytes() for path in files}


def _nothing_to_do(project: Path) -> bool:
    output = call(project, "dvc", "repro")
    return "Running stage" not in output and "up to date" in output


def test_pushed_lost_pulled_and_nothing_to_do(s3_project: Path, s3: S3) -> None:
    before = _sums(s3_project)
    assert len(before) == 41
    assert transfer.main(["push"]) == 0
    _lose_everything(s3_project)
    assert transfer.main(["pull"]) == 0
    assert _sums(s3_project) == before
    assert freshness().fresh
    assert _nothing_to_do(s3_project)


def test_what_ran_once_runs_nowhere_again(
    s3_project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    """Even if its lock was never committed: the run cache says what was made, and the remote has it."""
    assert transfer.main(["push"]) == 0
    before = _sums(s3_project)
    _lose_everything(s3_project)
    (s3_project / "dvc.lock").unlink()
    call(s3_project, "git", "commit", "-qam", "No results")
    assert transfer.main(["pull", "--partial"]) == 0
    capfd.readouterr()
    monkeypatch.chdir(s3_project)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    assert results.main(["make"]) == 0
    printed = capfd.readouterr().out
    assert "Running stage 'prepare'" not in printed
    assert "Running stage 'train'" not in printed
    assert _sums(s3_project) == before


def test_a_new_bucket_is_filled(s3_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of all: dvc.lock names data that were never pushed anywhere."""
    before = _sums(s3_project)
    _lose_everything(s3_project)
    assert transfer.main(["pull"]) == 1
    assert transfer.main(["pull", "--partial"]) == 0
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    assert results.main(["make"]) == 0
    assert transfer.main(["push"]) == 0
    _lose_everything(s3_project)
    assert transfer.main(["pull"]) == 0
    assert _sums(s3_project) == before


def test_a_push_that_was_killed_loses_nothing_and_goes_on(
    s3_project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.s3.models import S3Backend

    store: Callable[..., Any] = S3Backend.put_object
    middle, killed, stored = threading.Event(), threading.Event(), []

    def until_the_middle(*arguments: Any, **named: Any) -> Any:
        if len(stored) >= 10:
            middle.set()
            killed.wait(100)
        stored.append(None)
        return store(*arguments, **named)

    monkeypatch.setattr(S3Backend, "put_object", until_the_middle)
    before = _sums(s3_project)
    command = [sys.executable, "-m", "scripts.transfer", "push"]
    with subprocess.Popen(
        command, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL
    ) as pushing:
        try:
            assert middle.wait(100), "the push has not begun"
        finally:
            os.killpg(pushing.pid, signal.SIGKILL)
            killed.set()
    there = s3.objects()
    assert 10 <= len(there) < 40
    # A folder's list comes after its files: nobody takes the part for the whole.
    assert not [name for name in there if name.endswith(".dir")]
    assert _sums(s3_project) == before

    assert transfer.main(["push"]) == 0
    assert set(there) <= set(s3.objects())
    _lose_everything(s3_project)
    assert transfer.main(["pull"]) == 0
    assert _sums(s3_project) == before
    assert _nothing_to_do(s3_project)


@pytest.mark.parametrize("command", ["push", "pull"])
def test_wrong_keys_are_told_and_right_ones_go_on(
    s3_project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch, capfd: Output, command: str
) -> None:
    before = _sums(s3_project)
    if command == "pull":
        assert transfer.main(["push"]) == 0
        _lose_everything(s3_project)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert transfer.main([command]) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: s3://{s3.bucket}/prefix at {s3.url}: access refused")
    assert "Check the keys" in last
    assert s3.keys["AWS_SECRET_ACCESS_KEY"] not in last
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.keys["AWS_SECRET_ACCESS_KEY"])
    assert transfer.main([command]) == 0
    assert _sums(s3_project) == before


def test_a_missing_bucket_is_told_and_made_it_serves(
    s3_project: Path, s3: S3, capfd: Output
) -> None:
    s3.client.delete_bucket(Bucket=s3.bucket)
    assert transfer.main(["push"]) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert f"Create s3://{s3.bucket}, or use another URL" in last
    s3.client.create_bucket(Bucket=s3.bucket)
    assert transfer.main(["push"]) == 0
    assert s3.objects()


def test_data_that_were_never_pushed_are_told(s3_project: Path, capfd: Output) -> None:
    _lose_everything(s3_project)
    assert transfer.main(["pull"]) == 1
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert "run `make push` where dvc.lock was committed" in last


def test_stages_can_be_named(s3_project: Path) -> None:
    assert transfer.main(["push"]) == 0
    _lose_everything(s3_project)
    assert transfer.main(["pull", "train"]) == 0
    assert Path("model.txt").exists()
    assert not Path("data").exists()


def test_without_a_remote_pull_goes_on_and_push_does_not(
    project: Path, plain: None, capsys: Output
) -> None:
    assert transfer.main(["pull"]) == 0
    assert "no DVC remote" in capsys.readouterr().out
    assert transfer.main(["push"]) == 1
    assert "make remote URL=" in capsys.readouterr().err


@pytest.fixture
def workflow(project: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project in a workflow of GitHub whose variables name the bucket."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("DVC_REMOTE_URL", f"s3://{s3.bucket}/prefix")
    monkeypatch.setenv("DVC_REMOTE_ENDPOINT", s3.url)
    return project


def test_a_workflow_sets_its_remote_up_and_keeps_no_keys(workflow: Path, s3: S3) -> None:
    before = _sums(workflow)
    assert transfer.main(["push"]) == 0
    _lose_everything(workflow)
    Path(".dvc/config.local").unlink()
    assert transfer.main(["pull"]) == 0
    assert _sums(workflow) == before
    assert s3.keys["AWS_ACCESS_KEY_ID"] not in Path(".dvc/config.local").read_text()


@pytest.mark.parametrize("where", ["workflow", "elsewhere"])
def test_a_workflow_without_secrets_goes_on_without_data(
    workflow: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output, where: str
) -> None:
    """As of a fork: GitHub gives it empty secrets. Elsewhere it is an error."""
    for name in remote.KEYS.values():
        monkeypatch.setenv(name, "")
    if where == "elsewhere":
        monkeypatch.delenv("GITHUB_ACTIONS")
    assert transfer.main(["pull"]) == (0 if where == "workflow" else 1)
    output = capfd.readouterr()
    assert "no credentials found" in (output.out if where == "workflow" else output.err)
    assert ("Pull requests from forks have no access to secrets" in output.out) == (
        where == "workflow"
    )
    assert transfer.main(["push"]) == 1


def test_a_workflow_with_wrong_secrets_fails(
    workflow: Path, monkeypatch: pytest.MonkeyPatch, capfd: Output
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert transfer.main(["pull"]) == 1
    assert "refused" in capfd.readouterr().err


def test_a_folder_serves_as_well(project: Path, plain: None) -> None:
    before = _sums(project)
    assert remote.main(["../storage"]) == 0
    assert transfer.main(["push"]) == 0
    _lose_everything(project)
    assert transfer.main(["pull"]) == 0
    assert _sums(project) == before
