"""Connect to a Ray cluster, and call a function for many tasks in it.

The only module of the engine that imports Ray; it does so inside functions, so that nothing needs Ray
that does not ask for it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.dependencies import PACKAGE
from ..core.program import COMMAND
from .tasks import EngineError, Output, State, Task

AUTO = "auto"
_ANSWER_SECONDS = 10.0
"""How long a head may take to accept a connection."""


_LEAST_IN_FLIGHT = 256
_IN_FLIGHT_PER_CPU = 4
"""Number of tasks that are submitted: what an autoscaler sees of the work to come, and memory holds."""
_AT_ONCE = 100
_TAKE_SECONDS = 0.5
"""Outputs are taken so many at once, or as many as there are after this time: looking costs time."""
_RETRIES = 10
"""How often a task is tried again whose node or process was lost; machines may be taken away often."""


class ClusterError(EngineError):
    """There is no Ray, or no cluster that answers, or it has lost a task for good."""


def connect(cluster: str) -> None:
    """Connect this process to a cluster; do nothing if it is connected already.

    The code of this package goes to every node, so that all compute with the driver's.

    Args:
        cluster: ``auto`` for the cluster that ``RAY_ADDRESS`` names or that runs on this machine, or the
            address of a head as ``host:port``.

    Raises:
        ClusterError: Ray is not installed, or no cluster answers.
    """
    # Read at Ray's import: nothing is reported to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ClusterError(
            f"a cluster needs {error.name}, which is not installed: pip install '{COMMAND}[cluster]'"
        ) from error
    if ray.is_initialized():
        return
    address = cluster
    if cluster == AUTO:
        address = os.environ.get("RAY_ADDRESS") or AUTO
    if address != AUTO:
        _check_answer(address)
    _protect_token()
    try:
        ray.init(
            address=address,
            logging_level=logging.WARNING,
            runtime_env={"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]},
        )
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ClusterError(
            f"cannot connect to the Ray cluster {cluster}: {error} Start one with `ray start --head`, or "
            "give the address of its head as host:port; if it asks for a token, give that in RAY_AUTH_TOKEN "
            "or ~/.ray/auth_token."
        ) from error


def _check_answer(address: str) -> None:
    """Raise an error if nobody listens at an address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in address:
        raise ClusterError(
            f"cluster: expected auto or host:port, such as 10.0.0.1:6379 (got {address!r}). From outside "
            "of a cluster, submit the command as a job: `ray job submit`."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {address}: {error}. Start one there with `ray start --head`, or "
            "give the address of its head."
        ) from error


def _protect_token() -> None:
    """Let nobody but its owner read the file of the cluster's token.

    Ray up to 2.60.0 writes it readable by all, and whoever has it runs code in the cluster.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.is_file() and token.stat().st_mode & 0o077 and os.access(token, os.W_OK):
        token.chmod(0o600)


@dataclass(frozen=True)
class RayEngine:
    """Tasks of Ray Core, each with one CPU.

    Attributes:
        cluster: As for ``connect``.
    """

    cluster: str = AUTO

    @property
    def is_this_process(self) -> bool:
        return False

    def map(
        self,
        start: Callable[[], State],
        function: Callable[[State, Task], Output],
        tasks: Iterable[Task],
    ) -> Iterator[tuple[Task, Output]]:
        """Implement ``Engine.map``."""
        connect(self.cluster)
        import ray

        # In a list, Ray hands the reference on. It would else unpickle the object for every task.
        work = [ray.put((start, function))]
        call = ray.remote(num_cpus=1, max_retries=_RETRIES)(_call)
        waiting: dict[Any, Task] = {}
        source = iter(tasks)
        try:
            while True:
                # The cluster may have grown.
                cpus = int(ray.cluster_resources().get("CPU", 0))
                most = max(_LEAST_IN_FLIGHT, cpus * _IN_FLIGHT_PER_CPU)
                for task in islice(source, max(0, most - len(waiting))):
                    waiting[call.remote(work, task)] = task
                if not waiting:
                    return
                count = min(len(waiting), _AT_ONCE)
                ready, _ = ray.wait([*waiting], num_returns=count, timeout=_TAKE_SECONDS)
                for reference in ready:
                    yield waiting.pop(reference), _output(reference)
        finally:
            if waiting:
                # Ends the tasks in flight. To cancel them one by one is a race with their outputs, in which
                # Ray aborts this process (ray #54798).
                ray.shutdown()


def _output(reference: Any) -> Any:
    """Return the output of a task that is done.

    Raises:
        ClusterError: It was lost for good.
        Exception: What the function has raised.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        # The function's own exception, with the traceback of its worker as the cause.
        raise (error.cause or error) from error
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a task was lost in the cluster, and {_RETRIES} times again: {error} If it ran out of memory, "
            "give the nodes more, or fewer CPUs. The same command goes on with what is complete."
        ) from error


_worker: dict[str, tuple[Callable[[Any, Any], Any], Any]] = {}
"""In a worker process: the function of a ``map``, and what its ``start`` returned, by the reference."""


def _call(work: list[Any], task: Any) -> Any:
    import ray

    (reference,) = work
    key = reference.hex()
    if key not in _worker:
        start, function = ray.get(reference)
        _worker.clear()
        _worker[key] = function, start()
    function, state = _worker[key]
    return function(state, task)
