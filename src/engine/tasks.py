"""Call a function for many tasks in processes of this machine, or of others (src/engine/ray_cluster.py)."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

from ..core.errors import UserError

State = TypeVar("State")
Task = TypeVar("Task")
Output = TypeVar("Output")

_AHEAD = 4
"""Tasks in flight for each worker: enough that none is idle, few enough that memory stays flat."""


class EngineError(UserError):
    """Processes or machines were lost; what is complete is kept, and the same command goes on."""


class Engine(Protocol):
    """Where tasks run."""

    @property
    def is_this_process(self) -> bool:
        """Whether tasks run in this process, one after the other."""

    def map(
        self,
        start: Callable[[], State],
        function: Callable[[State, Task], Output],
        tasks: Iterable[Task],
    ) -> Iterator[tuple[Task, Output]]:
        """Call a function for each task; yield tasks with their outputs as they finish, in any order.

        Few tasks are in flight at a time, so there may be any number of them. A task may be called again
        after it was lost with its worker, so a function that writes does so under a temporary name.

        Args:
            start: Called once in each worker process, before its first task; picklable, and sent to it
                once.
            function: Takes what ``start`` returned, and a task; picklable, as are tasks and outputs.
            tasks: Descriptions of the tasks, small; paths in them are absolute, because workers have
                another current folder.

        Raises:
            EngineError: Workers were lost, more often than is tried again.
            Exception: Whatever ``start``, ``function`` or ``tasks`` raises; tasks in flight are dropped.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine, or with one worker this process.

    Attributes:
        workers: Number of processes.
    """

    workers: int = 1

    @property
    def is_this_process(self) -> bool:
        return self.workers <= 1

    def map(
        self,
        start: Callable[[], State],
        function: Callable[[State, Task], Output],
        tasks: Iterable[Task],
    ) -> Iterator[tuple[Task, Output]]:
        """Implement ``Engine.map``."""
        if self.is_this_process:
            state = start()
            yield from ((task, function(state, task)) for task in tasks)
            return
        # Spawned, not forked: OpenCV's threads do not survive a fork.
        pool = ProcessPoolExecutor(
            self.workers,
            multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(start, function),
        )
        waiting: dict[Future[Output], Task] = {}
        source = iter(tasks)
        try:
            while True:
                for task in islice(source, self.workers * _AHEAD - len(waiting)):
                    waiting[pool.submit(_call, task)] = task
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        except BaseException as error:
            # Whoever stops this, by Ctrl-C or a signal, does not want to wait for long tasks.
            pool.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise EngineError(
                    "a worker process ended abruptly; the system may have run out of memory. Use fewer "
                    "workers, or a machine with more memory, and run the same command again."
                ) from error
            raise
        pool.shutdown()


_worker: list[Any] = []
"""In a worker process: ``start`` and ``function``, and from the first task on what ``start`` returned."""


def _start_worker(start: Callable[[], Any], function: Callable[[Any, Any], Any]) -> None:
    _worker[:] = [start, function]
    # Ctrl-C reaches all processes of a terminal: the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it has been killed: it would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(task: Any) -> Any:
    if len(_worker) == 2:
        # Not in the initializer, whose errors the pool does not hand on.
        _worker.append(_worker[0]())
    return _worker[1](_worker[2], task)
