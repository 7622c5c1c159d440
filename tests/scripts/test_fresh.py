"""make fresh: what is stale and why, with and without data, for people and for workflows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from scripts import fresh
from scripts.fresh import Freshness, freshness
from tests.scripts.conftest import call

ALL = ["prepare", "train", "evaluate", "publish"]


@pytest.fixture
def clone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone without data and cache, as a workflow has it; the current folder."""
    folder = tmp_path / "clone"
    call(project, "git", "clone", "-q", str(project), str(folder))
    monkeypatch.chdir(folder)
    return folder


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _edit_lock(folder: Path, stage: str, path: str, kind: str = "outs") -> None:
    """Give a path of the lock another hash, as a wrong merge does."""
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    entry = next(item for item in lock["stages"][stage][kind] if item["path"] == path)
    entry["md5"] = "0" * 32 + ("." + entry["md5"].partition(".")[2] if "." in entry["md5"] else "")
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def test_what_has_run_is_fresh(project: Path) -> None:
    assert freshness() == Freshness([], {}, only_parameters=False)
    assert str(freshness()).startswith("dvc.lock is fresh")


def test_missing_data_are_not_stale(clone: Path) -> None:
    assert not (clone / "data").exists()
    assert freshness().fresh


@pytest.mark.parametrize("where", ["project", "clone"])
def test_a_parameter_makes_its_stage_and_those_after_it_stale(
    where: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(where)
    _replace(folder / "params.py", "20", "21")
    assert freshness() == Freshness(
        ALL, {"prepare": ["params.py: PrepareParams"]}, only_parameters=True
    )
    _replace(folder / "params.py", "21", "20")
    _replace(folder / "params.yaml", "0.1", "0.2")
    assert freshness() == Freshness(ALL[1:], {"train": ["params.yaml: rate"]}, only_parameters=True)


@pytest.mark.parametrize("where", ["project", "clone"])
def test_code_is_no_parameter(where: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(where)
    _replace(folder / "params.yaml", "0.1", "0.2")
    (folder / "code/evaluate.py").write_text(
        f"# changed\n{(folder / 'code/evaluate.py').read_text()}"
    )
    assert freshness() == Freshness(
        ALL[1:],
        {"train": ["params.yaml: rate"], "evaluate": ["code/evaluate.py"]},
        only_parameters=False,
    )


def test_the_stages_are_those_that_dvc_would_run(project: Path) -> None:
    _replace(project / "params.yaml", "0.1", "0.2")
    output = call(project, "dvc", "repro", "--dry", "--force-downstream")
    assert freshness().stages == re.findall(r"Running stage '(\w+)'", output)


def test_missing_code_is_no_missing_data(clone: Path) -> None:
    (clone / "code/train.py").unlink()
    assert freshness().reasons == {"train": ["code/train.py"]}


def test_a_lock_of_two_runs_is_stale_without_data(clone: Path) -> None:
    _edit_lock(clone, "prepare", "data")
    assert freshness().reasons == {"train": ["data"]}


def test_data_that_were_changed_by_hand_are_stale(project: Path) -> None:
    (project / "data/val/more.txt").write_text("more")
    assert freshness().reasons == {
        "prepare": ["data"], "train": ["data"], "evaluate": ["data/val"],
    }  # fmt: skip


@pytest.mark.parametrize("edit", ["changed", "removed"])
def test_results_that_git_keeps_are_no_missing_data(clone: Path, edit: str) -> None:
    metrics = clone / "results/metrics.json"
    if edit == "removed":
        shutil.rmtree(metrics.parent)
    else:
        metrics.write_text('{"read": 1000}')
    result = freshness()
    assert result.reasons["evaluate"] == ["results"]
    assert result.stages == ["evaluate", "publish"]


def test_a_command_and_a_new_stage_are_told(clone: Path) -> None:
    _replace(clone / "dvc.yaml", "code/train.py\n", "code/train.py --faster\n")
    assert freshness().reasons == {"train": ["the command of train"]}
    with (clone / "dvc.yaml").open("a") as stream:
        stream.write(
            "  last:\n    cmd: touch last.txt\n    deps: [results]\n    outs: [last.txt]\n"
        )
    result = freshness()
    assert result.stages == [*ALL[1:], "last"]
    assert "last.txt" in result.reasons["last"]


def test_what_a_frozen_stage_reads_has_no_say(clone: Path) -> None:
    _replace(clone / "params.py", "20", "21")
    pipeline = (clone / "dvc.yaml").read_text()
    _replace(clone / "dvc.yaml", "  prepare:\n", "  prepare:\n    frozen: true\n")
    assert freshness().fresh
    # Nor does it follow those before it; "evaluate" reads data of "prepare" itself.
    (clone / "dvc.yaml").write_text(pipeline.replace("  train:\n", "  train:\n    frozen: true\n"))
    assert freshness().stages == ["prepare", "evaluate", "publish"]


def test_the_status_says_what_to_do(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fresh.main([]) == 0
    _replace(project / "params.yaml", "0.1", "0.2")
    assert fresh.main([]) == fresh.STALE
    assert fresh.main(["--accept-parameters"]) == 0
    output = capsys.readouterr().out.splitlines()
    assert len(output) == 3
    assert "train, evaluate, publish would run because params.yaml: rate changed" in output[-1]
    assert f"label {fresh.LABEL}" in output[-1]
    (project / "code/prepare.py").write_text("raise SystemExit('changed')\n")
    assert fresh.main(["--accept-parameters"]) == fresh.STALE
    assert "make repro" in capsys.readouterr().out


def test_an_object_for_programs(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _replace(project / "params.yaml", "0.1", "0.2")
    assert fresh.main(["--json"]) == fresh.STALE
    assert json.loads(capsys.readouterr().out) == {
        "fresh": False,
        "stages": ALL[1:],
        "reasons": {"train": ["params.yaml: rate"]},
        "only_parameters": True,
    }


def test_workflows_get_outputs_and_a_summary(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, summary = tmp_path / "output", tmp_path / "summary"
    output.write_text("before=1\n")
    monkeypatch.setenv("GITHUB_OUTPUT", str(output))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    _replace(project / "params.yaml", "0.1", "0.2")
    fresh.main([])
    assert output.read_text() == (
        "before=1\nfresh=false\nonly_parameters=true\nstages=train evaluate publish\n"
    )
    assert summary.read_text() == f"{freshness()}\n"


def test_the_line_stands_below_the_title_of_a_report(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.md"
    assert fresh.main(["--into", str(report)]) == 1
    assert "make report" in capsys.readouterr().err
    report.write_text("# Same\n\nBase: main.\n")
    assert fresh.main(["--into", str(report)]) == 0
    assert report.read_text() == f"# Same\n\n{freshness()}\n\nBase: main.\n"


@pytest.mark.parametrize("wrong", ["no clone", "wrong pipeline"])
def test_what_cannot_be_told_is_an_error(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
) -> None:
    if wrong == "no clone":
        monkeypatch.chdir(tmp_path)
    else:
        (project / "dvc.yaml").write_text("stages:\n  train: 1\n")
    assert fresh.main([]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_a_running_pipeline_is_not_disturbed(project: Path) -> None:
    """DVC's lock, which ``dvc repro`` holds, is neither asked for nor taken."""
    with Repo() as repo, repo.lock:
        assert freshness().fresh
