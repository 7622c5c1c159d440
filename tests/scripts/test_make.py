"""Targets of make that are no other test's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.reset import RESULTS

ROOT = Path(__file__).resolve().parents[2]


def test_a_failed_environment_is_removed(tmp_path: Path) -> None:
    """As on Debian without python3-venv: what is left has a python, but no pip."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python-without-ensurepip"
    python.write_text("#!/bin/sh\nmkdir -p .venv/bin && cp $0 .venv/bin/python\nexit 1\n")
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert "install python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_results_are_what_the_pipeline_keeps_in_git() -> None:
    """``make reset`` and ``make commit-results`` know every output that is not in DVC's cache."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    kept = {
        path.replace("${out_path}", "out")
        for stage in stages.values()
        for out in stage["outs"]
        if isinstance(out, dict)
        for path, options in out.items()
        if options.get("cache") is False
    }
    assert kept
    assert {"/".join(path.split("/")[:2]) for path in kept} == set(RESULTS)


@pytest.mark.parametrize(("status", "arguments"), [(0, ""), (3, "--target=commit")])
def test_make_comment_calls_cml(tmp_path: Path, status: int, arguments: str) -> None:
    """With what make publish has written; CML's failure is its own."""
    (tmp_path / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    cml = tmp_path / ".venv/bin/cml"
    cml.write_text(f'#!/bin/sh\necho "$@" >called\nexit {status}\n')
    cml.chmod(0o755)
    done = subprocess.run(
        ["make", "comment", f"ARGS={arguments}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (status == 0), done.stderr
    words = (tmp_path / "called").read_text().split()
    assert words == ["comment", "update", *arguments.split(), "report/comment.md"]
    cml.unlink()
    done = subprocess.run(
        ["make", "comment"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "cml is not installed" in done.stderr
