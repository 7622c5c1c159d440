"""The benchmark of a GPU runs its steps in order, and says where there is none."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
BENCH: dict[str, Any] = runpy.run_path(str(ROOT / "bench" / "gpu.py"), run_name="bench")


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert BENCH["main"]([]) == 1
    assert "there is no CUDA device" in capsys.readouterr().err


@pytest.mark.parametrize("failing", [None, "training"])
def test_steps_follow_each_other(
    failing: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    others = subprocess.run

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        names = [name for name, step in BENCH["STEPS"].items() if step == command]
        if not names:
            return others(command, **options)
        ran.extend(names)
        return subprocess.CompletedProcess(command, 3 if ran[-1] == failing else 0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(subprocess, "run", run)
    status = BENCH["main"](["--json"])
    captured = capsys.readouterr()
    if failing:
        assert (status, ran) == (1, ["tests", "training"])
        assert "training: failed with status 3" in captured.err
        return
    assert (status, ran) == (0, ["tests", "training", "pipeline"])
    result = json.loads(captured.out)
    assert set(result["seconds"]) == set(ran)
    assert "a GPU" in result["machine"]
