"""Restore the committed parameters and results after a run (``make reset``).

A run changes params.py, params.yaml, dvc.lock and the folders that dvc.yaml names as outputs; this
changes the same files and nothing else. The changes are shown first and kept as a patch, together with
the results that Git does not track yet.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from scripts.workspace import exclusive
from src.config import PARAMS_FILE, PATHS_FILE
from src.core.errors import UserError

LOCK = "dvc.lock"
RESULTS = [f"out/{kind}" for kind in ("prepared", "runs", "evaluations", "quality")]
"""Outputs of dvc.yaml that are kept in Git."""
PATHS = [str(PARAMS_FILE), str(PATHS_FILE), LOCK, *RESULTS]
PATCH = Path(".dvc/tmp/reset.patch")


def _git(*arguments: str, index: Path | None = None) -> bytes:
    environment = {**os.environ, "GIT_INDEX_FILE": str(index)} if index else None
    command = ["git", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment).stdout


def _keep(paths: list[str]) -> None:
    """Write the differences from the commit into the patch, including new files."""
    # A separate index leaves what the user has staged as it is.
    index = PATCH.with_suffix(".index").resolve()
    PATCH.parent.mkdir(parents=True, exist_ok=True)
    try:
        _git("read-tree", "HEAD", index=index)
        _git("add", "--all", "--", *paths, index=index)
        # Written as bytes: a patch with different line endings would not apply.
        PATCH.write_bytes(_git("diff", "--cached", "--binary", "HEAD", "--", *paths, index=index))
    finally:
        index.unlink(missing_ok=True)


def reset() -> None:
    """Restore the committed files, drop uncommitted results, then check out the data.

    Raises:
        BusyError: A run is in this workspace.
    """
    with exclusive("make reset"):
        _reset()


def _reset() -> None:
    # List each file by name, even where a whole folder is new.
    changes = _git("status", "--short", "--untracked-files=all", "--", *PATHS).decode()
    if changes:
        print(f"Changed since the last commit (?? means new); now restored:\n{changes}", end="")
        known = _git("ls-tree", "-r", "--name-only", "HEAD", "--", *PATHS).decode().splitlines()
        committed = [
            path for path in PATHS if any(k == path or k.startswith(f"{path}/") for k in known)
        ]
        _keep([path for path in PATHS if path in committed or Path(path).exists()])
        if committed:
            _git("checkout", "HEAD", "--", *committed)
        # Remove results of a run that are not in the commit; ignored files (TensorBoard's) stay.
        _git("clean", "--quiet", "-d", "--force", "--", LOCK, *RESULTS)
        print(
            f"To undo this, run `git apply {PATCH} && dvc checkout`. "
            "The experiments are kept; `dvc exp list` shows them."
        )
    else:
        print("Nothing to restore: parameters and results match the commit.")
    if Path(LOCK).exists():
        # Without --force, DVC refuses to drop data that is not in its cache.
        status = subprocess.run(["dvc", "checkout", "--quiet"], check=False).returncode
        if status != 0:
            print(
                "Some data of the committed run is not in this machine's cache. Run `dvc pull` to fetch "
                "it from a remote, or `dvc repro` to compute it again."
            )


if __name__ == "__main__":
    try:
        reset()
    except UserError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"error: {' '.join(error.cmd)} failed; `make reset` needs a Git clone with a commit"
        )
