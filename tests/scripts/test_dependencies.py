"""dvc.yaml's dependencies are written by the imports, and nothing else in it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.dependencies import main

PIPELINE = """\
# A comment that stays.
stages:
  draw:
    desc: "Draw: images"
    cmd: python -m src.draw
    deps:
      - ${data}/backgrounds
      - ${src_path}/old.py
    outs:
      # Another one.
      - ${data}/drawn:
          cache: false
"""


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(PIPELINE)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "draw.py").write_text("from .pen import Pen\n")
    (tmp_path / "src" / "pen.py").write_text("Pen = 1\n")
    return tmp_path


def test_they_are_written_and_all_else_stays(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--check"]) == 1
    assert "deps of draw do not match the imports; run `make deps`" in capsys.readouterr().err
    assert (workspace / "dvc.yaml").read_text() == PIPELINE
    assert main([]) == 0
    new = "      - ${src_path}/draw.py\n      - ${src_path}/pen.py\n"
    text = (workspace / "dvc.yaml").read_text()
    assert text == PIPELINE.replace("      - ${src_path}/old.py\n", new)
    assert sorted(path.name for path in workspace.iterdir()) == ["dvc.yaml", "src"]
    assert main(["--check"]) == 0
    assert "nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("echo 1", "draw: cmd: 'echo 1' runs no module"),
        ("python -m src.gone", "draw: cmd: 'python -m src.gone' runs no module"),
    ],
)
def test_a_command_that_runs_no_module_is_named(
    workspace: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    text = PIPELINE.replace("python -m src.draw", command)
    (workspace / "dvc.yaml").write_text(text)
    assert main([]) == 1
    assert message in capsys.readouterr().err
    assert (workspace / "dvc.yaml").read_text() == text


def test_code_that_is_not_python_is_named(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / "src" / "pen.py").write_text("Pen = = 1\n")
    assert main(["--check"]) == 1
    assert "pen.py" in capsys.readouterr().err
