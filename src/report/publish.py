"""Prepare a report for a GitHub comment: ``python -m src.publish report/ [--branch reports]``.

Comments on GitHub can only show images that are hosted somewhere. The images of the report are therefore
pushed to a separate branch of the repository, unrelated to the code, and comment.md is the report with
links to them. No third party sees the images, nor does anyone without access to the repository.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ..core.errors import UserError
from ..core.program import program
from .__main__ import REPORT

COMMENT = "comment.md"
BRANCH = "reports"
LONGEST = 60_000
"""Maximum length of a comment in characters; GitHub allows 65536, including the marker of CML."""
_LINK = re.compile(r"(!\[[^]]*\]\()([^):]+)(\))")
_ATTEMPTS = 3
_AUTHOR = {
    "GIT_AUTHOR_NAME": "reports",
    "GIT_AUTHOR_EMAIL": "reports@localhost",
    "GIT_COMMITTER_NAME": "reports",
    "GIT_COMMITTER_EMAIL": "reports@localhost",
}


class PublishError(UserError):
    """Raised if the report cannot be published."""


def publish(report: Path, branch: str = BRANCH, remote: str = "origin") -> Path:
    """Push the images of a report and write the comment next to it.

    Args:
        report: Folder of the report.
        branch: Branch to push the images to, which is created if it does not exist.
        remote: Name of the Git remote to push to.

    Returns:
        Path of the comment file.

    Raises:
        PublishError: There is no report, or Git cannot push.
    """
    try:
        text = (report / REPORT).read_text(encoding="utf-8")
    except OSError as error:
        raise PublishError(
            f"{report / REPORT}: cannot be read: {error.strerror}. Write it with `make report`."
        ) from error
    images = sorted({report / found[2] for found in _LINK.finditer(text)})
    url = web_address(remote)
    folder = _git("rev-parse", "HEAD")
    for attempt in range(1, _ATTEMPTS + 1):
        commit = _commit(images, folder, _tip(remote, branch))
        try:
            _git("push", "--quiet", remote, f"{commit}:refs/heads/{branch}")
            break
        except PublishError:
            # Another report may have been pushed in the meantime.
            if attempt == _ATTEMPTS:
                raise
    comment = report / COMMENT
    # Link by commit, so that a comment keeps showing its own images.
    linked = _LINK.sub(
        lambda found: f"{found[1]}{url}/raw/{commit}/{folder}/{found[2]}{found[3]}", text
    )
    temporary = comment.with_name(f".{COMMENT}.partial")
    temporary.write_text(fitted(linked), encoding="utf-8")
    temporary.replace(comment)
    return comment


def fitted(text: str) -> str:
    """Fit a report into a comment by leaving out folded parts that are too long, with a note."""
    kept, *parts = re.split(r"^(?=<details>)", text, flags=re.MULTILINE)
    left_out = 0
    for part in parts:
        if len(kept) + len(part) <= LONGEST:
            kept += part
        else:
            left_out += 1
    if left_out:
        kept += (
            f"\nToo long for a comment: {left_out} of {len(parts)} parts are left out. "
            f"{REPORT}, which the workflow keeps, has all parts.\n"
        )
    return kept


def web_address(remote: str) -> str:
    """Return the web address of the repository.

    GitHub workflows provide it in the environment; otherwise, it is derived from the HTTPS or SSH
    address of the remote.

    Raises:
        PublishError: No web address can be derived from the remote.
    """
    server, repository = os.getenv("GITHUB_SERVER_URL"), os.getenv("GITHUB_REPOSITORY")
    if server and repository:
        return f"{server}/{repository}"
    url = _git("remote", "get-url", remote)
    found = re.fullmatch(
        r"(?:https://(?:[^/@]+@)?|ssh://git@|git@)([^/:]+)[/:](.+?)(?:\.git)?/?", url
    )
    if found is None:
        raise PublishError(
            f"{remote} is {url}, from which no web address can be derived; set GITHUB_SERVER_URL and "
            "GITHUB_REPOSITORY"
        )
    return f"https://{found[1]}/{found[2]}"


def _tip(remote: str, branch: str) -> str | None:
    """Fetch the tip of a branch and return its commit, or None if there is no such branch."""
    if not _git("ls-remote", "--heads", remote, f"refs/heads/{branch}"):
        return None
    _git("fetch", "--quiet", "--depth", "1", remote, f"refs/heads/{branch}")
    return _git("rev-parse", "FETCH_HEAD")


def _commit(images: list[Path], folder: str, parent: str | None) -> str:
    """Create a commit that adds images in a folder, without touching the index or the workspace."""
    with tempfile.TemporaryDirectory() as temporary:
        index = {"GIT_INDEX_FILE": str(Path(temporary) / "index")}
        _git("read-tree", *([parent] if parent else ["--empty"]), **index)
        for image in images:
            blob = _git("hash-object", "-w", "--", str(image))
            _git(
                "update-index",
                "--add",
                "--cacheinfo",
                f"100644,{blob},{folder}/{image.name}",
                **index,
            )
        tree = _git("write-tree", **index)
    parents = ["-p", parent] if parent else []
    return _git("commit-tree", tree, *parents, "-m", f"Add report images for {folder}", **_AUTHOR)


def _git(*arguments: str, **environment: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], env={**os.environ, **environment},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except OSError as error:
        raise PublishError(f"git cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise PublishError(f"`git {' '.join(arguments)}` failed: {error.stderr.strip()}") from error
    return done.stdout.strip()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("publish"),
        description="Push the images of a report to a branch, and write a comment that links to them.",
    )
    parser.add_argument("report", type=Path, help="folder written by `python -m src.report`")
    parser.add_argument(
        "--branch", default=BRANCH, help="branch for the images (default: %(default)s)"
    )
    parser.add_argument(
        "--remote", default="origin", help="Git remote to push to (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Publish the report and return the exit status."""
    options = parse(arguments)
    try:
        written = publish(options.report, options.branch, options.remote)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Wrote {written}; run `make comment` to publish it.")
    return 0
