"""Fetch data from the DVC remote, or send it there: ``make pull``, ``make push``.

Both use DVC's own commands, with the results of earlier runs (its run cache), and explain failures
better. Where DVC_REMOTE_URL is set, as in the workflows, the remote is set up first.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from scripts.remote import (
    NoCredentialsError,
    RemoteError,
    asked_for,
    check,
    configured,
    in_workflow,
    save,
)


def pull(targets: list[str], is_partial: bool = False) -> int:
    """Fetch the data that dvc.lock names, where there is a remote.

    Without a remote, or in a workflow without credentials, nothing is fetched: a message says so, and
    the steps that follow go on without data.

    Args:
        targets: Stages or paths; an empty list means all.
        is_partial: Whether to accept that the remote lacks data, because later steps make it.

    Returns:
        The exit status.

    Raises:
        RemoteError: The remote cannot be used, or does not have the data.
    """
    remote = asked_for()
    if remote:
        try:
            check(remote, write=False)
        except NoCredentialsError as error:
            if not in_workflow():
                raise
            print(f"Nothing pulled: {error} Pull requests from forks have no access to secrets.")
            return 0
        save(remote)
    remote = remote or configured()
    if remote is None:
        print("Nothing pulled: no DVC remote; run `make remote URL=...` (see docs/remote.md).")
        return 0
    options = ["--allow-missing"] if is_partial else []
    # Data added by hand, such as exports of feedback, is read by the stages but belongs to none of them.
    added = sorted(map(str, Path("data").glob("*/*.dvc"))) if targets else []
    status = _dvc("pull", [*options, *targets, *added])
    if status != 0:
        check(remote, write=False)
        raise RemoteError(
            f"{remote}: some data could not be fetched; see the message above. Missing data was never "
            "pushed: run `make push` where dvc.lock was committed, or `make repro` to compute it here"
        )
    return status


def push(targets: list[str]) -> int:
    """Send the data that dvc.lock names to the remote.

    Args:
        targets: Stages or paths; an empty list means all.

    Returns:
        The exit status.

    Raises:
        RemoteError: There is no remote, or it cannot be used.
    """
    remote = asked_for()
    if remote:
        check(remote)
        save(remote)
    remote = remote or configured()
    if remote is None:
        raise RemoteError("there is no DVC remote: run `make remote URL=...` (see docs/remote.md)")
    status = _dvc("push", targets)
    if status != 0:
        check(remote)
        raise RemoteError(
            f"{remote}: the push has stopped; see the message above. Data sent so far is kept; run the "
            "same command again to send the rest"
        )
    return status


def _dvc(command: str, targets: list[str]) -> int:
    dvc = [sys.executable, "-m", "dvc"]
    return subprocess.run([*dvc, command, "--run-cache", *targets], check=False).returncode


def main(arguments: list[str] | None = None) -> int:
    """Fetch or send the data and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.transfer",
        description="Fetch data from the DVC remote, or send data to it.",
    )
    parser.add_argument("command", choices=("pull", "push"))
    parser.add_argument(
        "--partial", action="store_true", help="do not fail if data was never pushed (pull)"
    )
    parser.add_argument("targets", nargs="*", help="stages or paths in dvc.yaml (default: all)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "pull":
            return pull(options.targets, options.partial)
        return push(options.targets)
    except RemoteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
