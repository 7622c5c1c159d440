"""Compute and commit the results of the committed parameters: ``make repro``, ``make commit-results``.

``make run`` overrides parameters by a profile. Here, the pipeline runs with the committed parameters, so
that dvc.lock is fresh (``make fresh``) once it is committed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from scripts.fresh import append
from scripts.github import branch_of_run
from scripts.remote import RemoteError, check, configured, in_workflow
from scripts.reset import LOCK, RESULTS
from scripts.run import stage_environment
from scripts.workspace import call_dvc, exclusive
from src.config.stage import INTERRUPTED, TERMINATED
from src.core.errors import UserError

_BOT = ("github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com")


class ResultsError(UserError):
    """The results cannot be committed."""


def make(arguments: list[str]) -> int:
    """Run the stages that have changed, as a DVC experiment.

    Results of another machine are fetched from the remote, where there is one, and not computed again.

    Args:
        arguments: Arguments of ``dvc exp run``.

    Returns:
        The exit status of DVC.

    Raises:
        RemoteError: The remote cannot be used.
        BusyError: Another run is in this workspace.
    """
    pull = []
    if remote := configured():
        try:
            check(remote, write=False)
        except RemoteError as error:
            raise RemoteError(
                f"{error} To compute here what it may have, run `dvc exp run` without it"
            ) from error
        pull = ["--pull"]
    command = [sys.executable, "-m", "dvc", "exp", "run", *pull, *arguments]
    environment = {**stage_environment(), "PYTHONUNBUFFERED": "1"}
    with exclusive("make repro") as lock:
        return call_dvc(command, environment, lock)


def commit() -> str:
    """Commit dvc.lock and the results that Git keeps, and push them to the branch of this run.

    Nothing is overwritten: a branch that has moved on does not take results of its earlier state.

    Returns:
        A line that says what was committed.

    Raises:
        ResultsError: The results cannot be committed, or this is no Git clone.
        GitHubError: This run belongs to no branch.
    """
    branch = _branch()
    _git("add", "--all", "--", LOCK, *_existing())
    if not _git("diff", "--cached", "--name-only", "--", LOCK, *RESULTS):
        append("GITHUB_OUTPUT", "committed=false\n")
        return "The results match the commit; there is nothing to commit."
    short = _git("rev-parse", "--short", "HEAD")
    _git("commit", "--quiet", "-m", f"Add the results of {short}", "--", LOCK, *_existing())
    try:
        _git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
    except ResultsError as error:
        raise ResultsError(
            f"{error}\nThe results of {short} could not be pushed to {branch}. If the branch has moved "
            "on, run the pipeline again there; it reuses this run's results from the DVC remote"
        ) from error
    append("GITHUB_OUTPUT", "committed=true\n")
    return f"Committed the results of {short} to {branch}."


def _existing() -> list[str]:
    """Return the result folders that the workspace or the commit has, because Git refuses others."""
    return [path for path in RESULTS if os.path.isdir(path) or _git("ls-files", "--", path)]  # noqa: PTH112


def _branch() -> str:
    if in_workflow():
        return branch_of_run()
    branch = _git("branch", "--show-current")
    if not branch:
        raise ResultsError("no branch is checked out; run `git switch BRANCH` first")
    return branch


def _git(*arguments: str) -> str:
    """Run Git and return its standard output; in a workflow, its bot is the author of commits."""
    environment = stage_environment()
    if in_workflow():
        for role in ("AUTHOR", "COMMITTER"):
            environment |= {f"GIT_{role}_NAME": _BOT[0], f"GIT_{role}_EMAIL": _BOT[1]}
    done = subprocess.run(
        ["git", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ResultsError(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Make or commit the results and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.results",
        description="Compute and commit the results of the committed parameters.",
    )
    parser.add_argument("command", choices=("make", "commit"))
    options, others = parser.parse_known_args(arguments)
    if others and options.command == "commit":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        if options.command == "make":
            return make(others)
        print(commit())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.exit(main())
