"""The loaders' worker processes and the shared memory that they hand their batches over in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from src.training import data
from tests.conftest import ROOT

BATCH = (torch.zeros(1_000_000, dtype=torch.uint8), torch.zeros(10))


def room(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil._ntuple_diskusage(free, 0, free)  # type: ignore[attr-defined]  # it has no public name
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


@pytest.mark.parametrize(
    ("free", "workers"), [(10**9, 8), (64_000_000, 8), (20_000_000, 3), (1, 0)]
)
def test_workers_are_as_many_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], free: int, workers: int
) -> None:
    room(monkeypatch, free)
    assert data.workers_that_fit(8, BATCH) == workers
    message = capsys.readouterr().err
    assert ("--shm-size" in message) == (workers < 8)
    if workers < 8:
        assert f"enough for {workers} of 8 worker processes" in message
        assert "48 MB" in message


def test_processes_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    room(monkeypatch, 48_100_000)
    assert data.workers_that_fit(8, BATCH, devices=1) == 8
    assert data.workers_that_fit(8, BATCH, devices=2) == 4


def test_other_systems_have_no_such_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "SHARED_MEMORY", tmp_path / "none")
    assert data.workers_that_fit(8, BATCH) == 8


LOADS = """\
from types import SimpleNamespace
import torch
from torch.utils.data import Dataset
from src.config import load_config
from src.training import data

class Large(Dataset):
    def __len__(self):
        return 640
    def __getitems__(self, picked):
        return (torch.zeros(len(picked.samples), 500_000, dtype=torch.uint8),)

if __name__ == "__main__":
    data.available_cores = lambda: 4
    params = load_config().TrainLocalizeParams
    made = data.TrainingData(Large(), Large(), params, 16)
    made.trainer = SimpleNamespace(
        global_rank=0, world_size=1, num_devices=1,
        strategy=SimpleNamespace(root_device=torch.device("cuda")),
    )
    loaders = [made.train_dataloader(), made.val_dataloader()]
    iterators = [iter(loader) for loader in loaders]
    for _ in range(40):
        print([len(next(iterator)[0]) for iterator in iterators], flush=True)
    print("workers", loaders[0].num_workers)
"""


def test_a_small_shared_memory_is_enough(tiny_workspace: Path) -> None:
    """Docker's 64 MB with batches of 8 MB: with four workers, the loaders would wait for ever, or die."""
    wrapped = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    if (
        shutil.which("unshare") is None
        or subprocess.run([*wrapped, mount], check=False, capture_output=True).returncode
    ):
        pytest.skip("nothing can be mounted here")
    script = tiny_workspace / "loads.py"
    script.write_text(LOADS)
    done = subprocess.run(
        [*wrapped, f"{mount} && exec {sys.executable} {script}"],
        cwd=tiny_workspace, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[16, 16]") == 40
    assert "workers 1" in done.stdout
    assert "enough for 1 of 4 worker processes" in done.stderr
