"""Tasks in processes of this machine: all outputs, few tasks in flight, errors as they were raised."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from src.engine.tasks import EngineError, LocalEngine

ROOT = Path(__file__).parents[2]


@dataclass
class Start:
    """Notes in a file each time that a worker starts."""

    notes: Path

    def __call__(self) -> int:
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return 100


def add(state: int, task: int) -> tuple[int, int]:
    return state + task, os.getpid()


def fail(state: int, task: int) -> int:
    if task == 5:
        raise KeyError("the fifth")
    return task


def die(state: int, task: int) -> int:
    if task == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def no_start() -> int:
    raise ValueError("cannot start")


@pytest.mark.parametrize("workers", [1, 2])
def test_each_task_has_its_output_and_each_worker_starts_once(tmp_path: Path, workers: int) -> None:
    engine = LocalEngine(workers)
    found = dict(engine.map(Start(tmp_path / "starts"), add, range(40)))
    assert {task: total for task, (total, _) in found.items()} == {i: 100 + i for i in range(40)}
    processes = {process for _, process in found.values()}
    assert (processes == {os.getpid()}) is (workers == 1)
    starts = [int(line) for line in (tmp_path / "starts").read_text().splitlines()]
    assert sorted(starts) == sorted(processes)


def test_no_task_is_no_output(tmp_path: Path) -> None:
    assert list(LocalEngine(2).map(Start(tmp_path / "starts"), add, [])) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_few_tasks_are_taken_ahead(tmp_path: Path, workers: int) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for i in range(10**9):
            taken += 1
            yield i

    outputs = LocalEngine(workers).map(Start(tmp_path / "starts"), add, tasks())
    for _ in range(20):
        next(outputs)
    assert taken <= 20 + 4 * workers
    outputs.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize("workers", [1, 2])
def test_the_exception_of_a_task_is_raised(tmp_path: Path, workers: int) -> None:
    with pytest.raises(KeyError, match="the fifth"):
        list(LocalEngine(workers).map(Start(tmp_path / "starts"), fail, range(10**9)))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_at_the_start_of_a_worker_is_raised(workers: int) -> None:
    with pytest.raises(ValueError, match="cannot start"):
        list(LocalEngine(workers).map(no_start, add, range(9)))


def test_a_worker_that_is_killed_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="out of memory"):
        list(LocalEngine(2).map(Start(tmp_path / "starts"), die, range(9)))


def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    code = f"""
import itertools
from pathlib import Path
from tests.engine.test_tasks import LocalEngine, Start, add

if __name__ == "__main__":
    for _ in LocalEngine(2).map(Start(Path({str(starts)!r})), add, itertools.count()):
        pass
"""
    script = tmp_path / "endless.py"
    script.write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, script], env=environment, cwd=tmp_path)
    try:
        _wait(lambda: starts.exists() and len(starts.read_text().splitlines()) == 2)
    finally:
        driver.kill()
        driver.wait()
    workers = [int(line) for line in starts.read_text().splitlines()]
    _wait(lambda: not any(psutil.pid_exists(worker) for worker in workers))


def _wait(is_true: object, seconds: float = 90) -> None:
    assert callable(is_true)
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.05)
