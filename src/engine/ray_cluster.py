"""Connect to a Ray cluster.

The only module that imports Ray for the engine; it does so inside functions, so that nothing needs Ray
that does not ask for it.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from ..core.dependencies import PACKAGE
from ..core.errors import UserError
from ..core.program import COMMAND

AUTO = "auto"
_ANSWER_SECONDS = 10.0
"""How long a head may take to accept a connection."""


class ClusterError(UserError):
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
            logging_level="WARNING",
            runtime_env={"py_modules": [str(PACKAGE)], "excludes": ["__pycache__"]},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster answers at {cluster}: {error} Start one with `ray start --head`, or give "
            "the address of its head as host:port."
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
