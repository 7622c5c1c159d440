"""Requests of the workflows to GitHub. They need only Python, so they can run before any set-up.

``python -m scripts.github allowed`` checks whether the user who started this workflow may run the
pipeline on the self-hosted runner. ``python -m scripts.github start FILE...`` starts workflows on the
branch that has new results, because a commit pushed with GITHUB_TOKEN does not start any.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from src.core.errors import UserError

WRITERS = {"admin", "write"}
"""GitHub's names of the permissions to push; "maintain" is reported as write, "triage" as read."""
_SECONDS = 30


class GitHubError(UserError):
    """GitHub refuses a request, or cannot be reached."""


def allow() -> str:
    """Check whether this run may use the self-hosted runner.

    Anyone who may push could run the same code by a commit. More people than that can set labels, and
    the code of a fork belongs to nobody whom this repository trusts.

    Returns:
        A line that says who starts what.

    Raises:
        GitHubError: The run may not use the runner, or GitHub cannot be reached.
    """
    repository = _variable("GITHUB_REPOSITORY")
    event = json.loads(Path(_variable("GITHUB_EVENT_PATH")).read_text(encoding="utf-8"))
    if pull_request := event.get("pull_request"):
        # The repository of a head is null if the fork was deleted.
        origin = (pull_request["head"]["repo"] or {}).get("full_name")
        if origin != repository:
            raise GitHubError(
                f"the pull request comes from {origin or 'a deleted fork'}, but the self-hosted runner "
                f"runs only branches of {repository}; after a review, a maintainer can push one"
            )
    user = _variable("GITHUB_TRIGGERING_ACTOR")
    path = f"/repos/{repository}/collaborators/{quote(user, safe='')}/permission"
    permission = _ask("GET", path).get("permission")
    if permission not in WRITERS:
        raise GitHubError(
            f"{user} may not push to {repository} and therefore may not start the pipeline"
        )
    return f"{user} may push to {repository} and may start the pipeline."


def start(workflows: list[str]) -> str:
    """Start workflows on the branch of this run.

    Args:
        workflows: Files of .github/workflows, each with the event workflow_dispatch.

    Returns:
        A line that says what was started.

    Raises:
        GitHubError: This run belongs to no branch, or GitHub refuses.
    """
    repository, branch = _variable("GITHUB_REPOSITORY"), branch_of_run()
    for workflow in workflows:
        path = f"/repos/{repository}/actions/workflows/{quote(workflow, safe='')}/dispatches"
        _ask("POST", path, {"ref": branch})
    return f"Started on {branch}: {', '.join(workflows)}."


def branch_of_run() -> str:
    """Return the branch that this workflow runs for: the head branch of a pull request.

    Raises:
        GitHubError: The workflow runs for a tag, or this is no workflow.
    """
    if branch := os.environ.get("GITHUB_HEAD_REF"):
        return branch
    if os.environ.get("GITHUB_REF_TYPE") != "branch":
        raise GitHubError("this run does not belong to a branch; start it on one")
    return _variable("GITHUB_REF_NAME")


def _variable(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise GitHubError(f"{name} is not set: this command runs only in GitHub workflows")
    return value


def _ask(method: str, path: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call GitHub's API and return its answer, which is empty if there is none."""
    address = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    request = urllib.request.Request(  # noqa: S310  # GitHub's own address
        address + path,
        method=method,
        data=None if content is None else json.dumps(content).encode(),
        headers={
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {_variable('GITHUB_TOKEN')}",
            "X-GitHub-Api-Version": "2022-11-28",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as response:  # noqa: S310  # the same
            return json.loads(response.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise GitHubError(
            f"{method} {path}: GitHub returned {error.code} {error.reason}"
        ) from error
    except OSError as error:
        raise GitHubError(f"{method} {path}: GitHub cannot be reached: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Make the request to GitHub and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.github", description="Requests of the workflows to GitHub."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "allowed", help="exit with status 0 if this run may use the self-hosted runner"
    )
    starter = commands.add_parser("start", help="start workflows on the branch of this run")
    starter.add_argument("workflows", nargs="+", metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        print(allow() if options.command == "allowed" else start(options.workflows))
    except GitHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
