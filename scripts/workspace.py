"""One run in a workspace: a second one is refused before it touches a file, with the way around it.

DVC's own locks come too late: `dvc exp run -S` has changed params.py by the time it meets them.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from src.core.errors import UserError

LOCK = Path(".dvc/tmp/run.lock")
RWLOCK = Path(".dvc/tmp/rwlock")
"""DVC's file of the processes that read or write the data of stages."""
_ELSEWHERE = (
    "Wait until it has finished, or stop it. For an experiment at the same time, use `dvc exp run --temp` or "
    "another clone"
)


class BusyError(UserError):
    """Something else is running in this workspace, or its lock cannot be had."""


@contextmanager
def exclusive(command: str, root: Path = Path()) -> Iterator[int]:
    """Keep other runs out of a workspace.

    Args:
        command: What runs, for the message to others.
        root: Root folder of the workspace.

    Yields:
        Descriptor of the lock. A process that inherits it holds the lock too, also after this one has ended.

    Raises:
        BusyError: Another run is here, or DVC is at work.
    """
    path = root / LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise BusyError(
            f"{path}: cannot be written: {error.strerror}. A run writes into the workspace: make it "
            "writable, or use a copy"
        ) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise BusyError(
                f"another run is in this workspace: {stream.read().strip() or 'it has just started'}. "
                f"{_ELSEWHERE}"
            ) from error
        _check_dvc(root)
        stream.truncate(0)
        stream.write(f"{command} (process {os.getpid()})\n")
        stream.flush()
        yield stream.fileno()


def _check_dvc(root: Path) -> None:
    """Raise an error if DVC is at work in a workspace.

    Raises:
        BusyError: It is.
    """
    if not (root / ".dvc/config").is_file():
        return
    try:
        # It holds this lock for moments, and its stages hold the other one.
        with Repo(str(root)) as repo, repo.lock:
            busy = _at_work(root)
    except LockError as error:
        raise BusyError(f"DVC is at work in this workspace. {_ELSEWHERE}") from error
    except (DvcException, OSError) as error:
        raise BusyError(f"DVC cannot use this workspace: {error}") from error
    if busy:
        raise BusyError(f"DVC is at work in this workspace: {', '.join(busy)}. {_ELSEWHERE}")


def _at_work(root: Path) -> list[str]:
    """Return the processes of DVC that run stages in a workspace."""
    try:
        content = json.loads((root / RWLOCK).read_text(encoding="utf-8") or "{}")
    except (OSError, ValueError):
        return []
    holders: list[dict[str, Any]] = [*content.get("write", {}).values()]
    holders += [each for readers in content.get("read", {}).values() for each in readers]
    return sorted(
        {
            f"{each['cmd']} (process {each['pid']})"
            for each in holders
            if psutil.pid_exists(int(each["pid"]))
        }
    )


def call_dvc(
    command: list[str],
    environment: dict[str, str],
    lock: int,
    started: Callable[[int], object] = lambda _: None,
    line_read: Callable[[str], object] = lambda _: None,
) -> int:
    """Run DVC, show its output, and return its exit status.

    If this process is terminated, so are DVC and its stage, and DVC cleans up.

    Args:
        command: Command line of DVC.
        environment: Its environment.
        lock: Descriptor of the lock, which it holds too.
        started: Called with the process of DVC.
        line_read: Called with each line of its output.
    """
    # Stages may print any bytes, such as names of files.
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, errors="backslashreplace",
        pass_fds=(lock,),
    ) as process:  # fmt: skip
        try:
            started(process.pid)
            for line in process.stdout or ():
                print(line, end="", flush=True)
                line_read(line)
        except KeyboardInterrupt:
            # DVC has been interrupted too, and is cleaning up its files.
            process.wait()
            raise
        except SystemExit:
            _terminate(process)
            raise
    return process.returncode


def _terminate(process: subprocess.Popen[str]) -> None:
    """Terminate the stage that DVC runs, and wait until it has ended and DVC has cleaned up."""
    stages: list[psutil.Process] = []
    try:
        stages = psutil.Process(process.pid).children(recursive=True)
        # DVC ignores this while a stage runs, and then sees that the stage has failed.
        process.send_signal(signal.SIGINT)
        for stage in stages:
            stage.terminate()
    except psutil.NoSuchProcess:
        pass
    process.wait()
    # DVC waits for the shell that it runs a stage in, and some shells end before their command.
    psutil.wait_procs(stages)
