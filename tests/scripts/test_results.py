"""make repro and make commit-results: what is run, what is committed, and where it is pushed."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from scripts import results
from tests.scripts.conftest import call

Output = pytest.CaptureFixture[str]


@pytest.fixture
def clone(tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone on the branch "faster" with results in Git and new ones; the current folder."""
    origin, clone = tmp_path / "origin.git", tmp_path / "clone"
    call(tmp_path, "git", "init", "-q", "--bare", str(origin))
    call(tmp_path, "git", "clone", "-q", str(origin), str(clone))
    call(clone, "git", "switch", "-q", "-c", "faster")
    _write(clone, "dvc.lock", "first")
    _write(clone, "params.py", "first")
    _write(clone, "out/evaluations/stack/metrics.json", "first")
    _write(clone, "out/evaluations/stack/plots/old.png", "first")
    (clone / ".gitignore").write_text("/out/models/\n")
    call(clone, "git", "add", "-A")
    call(clone, "git", "commit", "-qm", "Start")
    call(clone, "git", "push", "-q", "origin", "faster")
    _write(clone, "dvc.lock", "second")
    _write(clone, "params.py", "second")
    _write(clone, "notes.txt", "second")
    _write(clone, "out/models/model.onnx", "second")
    _write(clone, "out/evaluations/stack/metrics.json", "second")
    _write(clone, "out/runs/ocr/metrics.json", "second")
    (clone / "out/evaluations/stack/plots/old.png").unlink()
    monkeypatch.chdir(clone)
    return clone


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def _pushed(folder: Path, *arguments: str) -> list[str]:
    return call(folder.parent / "origin.git", "git", *arguments).splitlines()


def _work(monkeypatch: pytest.MonkeyPatch, folder: Path, branch: str) -> Path:
    """As in a workflow of a pull request, which has checked a commit out and no branch."""
    output = folder.parent / "output"
    call(folder, "git", "checkout", "-q", "--detach")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_HEAD_REF", branch)
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    return output


def test_the_lock_and_the_results_are_committed_and_nothing_else(
    clone: Path, capsys: Output
) -> None:
    assert results.main(["commit"]) == 0
    assert "to faster" in capsys.readouterr().out
    assert _pushed(clone, "show", "--name-status", "--format=", "faster") == [
        "M\tdvc.lock",
        "M\tout/evaluations/stack/metrics.json",
        "D\tout/evaluations/stack/plots/old.png",
        "A\tout/runs/ocr/metrics.json",
    ]
    left = call(clone, "git", "status", "--short").splitlines()
    assert left == [" M params.py", "?? notes.txt"]


def test_what_others_have_staged_stays_out(clone: Path) -> None:
    call(clone, "git", "add", "notes.txt")
    assert results.main(["commit"]) == 0
    assert "notes.txt" not in "".join(_pushed(clone, "show", "--name-only", "--format=", "faster"))


def test_a_workflow_commits_to_its_pull_requests_branch_as_the_bot(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = _work(monkeypatch, clone, "faster")
    assert results.main(["commit"]) == 0
    assert _pushed(clone, "log", "-1", "--format=%an %cn", "faster") == [
        "github-actions[bot] github-actions[bot]"
    ]
    assert output.read_text() == "committed=true\n"


def test_the_same_results_are_no_commit(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert results.main(["commit"]) == 0
    before = _pushed(clone, "rev-parse", "faster")
    output = _work(monkeypatch, clone, "faster")
    assert results.main(["commit"]) == 0
    assert "nothing to commit" in capsys.readouterr().out
    assert output.read_text() == "committed=false\n"
    assert _pushed(clone, "rev-parse", "faster") == before


def test_a_branch_that_has_gone_on_is_not_overwritten(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    other = tmp_path / "other"
    call(tmp_path, "git", "clone", "-q", "-b", "faster", str(tmp_path / "origin.git"), str(other))
    _write(other, "params.py", "third")
    call(other, "git", "commit", "-qam", "Go on")
    call(other, "git", "push", "-q")
    before = _pushed(clone, "rev-parse", "faster")
    output = _work(monkeypatch, clone, "faster")
    assert results.main(["commit"]) == 1
    assert "run the pipeline again there" in capsys.readouterr().err
    assert _pushed(clone, "rev-parse", "faster") == before
    assert not output.exists()


def test_no_branch_is_told(clone: Path, capsys: Output) -> None:
    call(clone, "git", "checkout", "-q", "--detach")
    assert results.main(["commit"]) == 1
    assert "git switch" in capsys.readouterr().err


def test_the_parameters_are_run_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[list[str]] = []

    def call_dvc(command: list[str], *_: object) -> int:
        called.append(command)
        return 3

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "stage_environment", dict)
    monkeypatch.setattr(results, "configured", lambda: None)
    monkeypatch.setattr(results, "call_dvc", call_dvc)
    assert results.main(["make", "--dry", "train_ocr"]) == 3
    assert called[0][1:] == ["-m", "dvc", "exp", "run", "--dry", "train_ocr"]
    with pytest.raises(SystemExit):
        results.main(["commit", "--dry"])


def test_a_remote_that_is_away_is_told_before_a_stage_runs(
    project: Path, plain: None, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    call(project, "dvc", "remote", "add", "-q", "-d", "storage", "s3://plates/cache")
    call(project, "dvc", "remote", "modify", "-q", "storage", "endpointurl", url)
    (project / "params.yaml").write_text("rate: 0.3\n")
    lock = (project / "dvc.lock").read_bytes()
    assert results.main(["make"]) == 1
    message = capsys.readouterr().err
    assert re.search(
        r"error: s3://plates/cache at http.*: cannot be reached: .*`dvc exp run`", message
    )
    assert "Traceback" not in message
    assert (project / "dvc.lock").read_bytes() == lock


def test_new_parameters_become_results_of_the_branch(
    project: Path, tmp_path: Path, plain: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way, with DVC: what has run and was committed is fresh in another clone."""
    origin, other = tmp_path / "origin.git", tmp_path / "other"
    call(project, "git", "clone", "-q", "--bare", str(project), str(origin))
    call(project, "git", "remote", "add", "origin", str(origin))
    (project / "params.yaml").write_text("rate: 0.2\n")
    call(project, "git", "commit", "-qam", "Learn faster")
    call(project, "git", "push", "-q", "origin", "main")
    monkeypatch.setattr(results, "RESULTS", ["results"])
    monkeypatch.setenv("PYTHONPATH", ".")
    assert results.main(["make", "--quiet"]) == 0
    assert results.main(["commit"]) == 0
    call(tmp_path, "git", "clone", "-q", "-b", "main", str(origin), str(other))
    assert call(other, "python", "-m", "scripts.fresh").startswith("dvc.lock is fresh")
    assert "Add the results of" in call(other, "git", "log", "-1", "--format=%s")
