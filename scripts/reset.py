"""Restore the committed parameters and results after a run (``make reset``).

A run changes params.py, params.yaml, dvc.lock and the folders that dvc.yaml names as outputs, and so
does this; nothing else. What it changes is shown first, and the changes of files that Git knows are
kept as a patch.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from src.config import PARAMS_FILE, PATHS_FILE

LOCK = "dvc.lock"
RESULTS = [f"out/{kind}" for kind in ("prepared", "runs", "evaluations")]
PATHS = [str(PARAMS_FILE), str(PATHS_FILE), LOCK, *RESULTS]
PATCH = Path(".dvc/tmp/reset.patch")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, text=True, stdout=subprocess.PIPE).stdout


def reset() -> None:
    """Restore the committed files, drop results that are not committed, then check the data out."""
    changes = _git("status", "--short", "--", *PATHS)
    if changes:
        print(f"Changed since the last commit, and restored now:\n{changes}", end="")
        PATCH.parent.mkdir(parents=True, exist_ok=True)
        PATCH.write_text(_git("diff", "--binary", "HEAD", "--", *PATHS), encoding="utf-8")
        known = _git("ls-tree", "-r", "--name-only", "HEAD", "--", *PATHS).splitlines()
        if known:
            present = [
                path for path in PATHS if any(k == path or k.startswith(f"{path}/") for k in known)
            ]
            _git("checkout", "HEAD", "--", *present)
        # Results of a run that the commit does not have; ignored files (TensorBoard's) stay.
        _git("clean", "--quiet", "-d", "--force", "--", LOCK, *RESULTS)
        print(f"Undo with: git apply {PATCH}. The runs themselves are kept: dvc exp list")
    else:
        print("Parameters and results are the committed ones.")
    if Path(LOCK).exists():
        # Without --force DVC refuses to drop data that are not in its cache.
        status = subprocess.run(["dvc", "checkout", "--quiet"], check=False).returncode
        if status != 0:
            print(
                "Some data of the committed run are not in this machine's cache: "
                "`dvc pull` fetches them from a remote, `dvc repro` makes them again."
            )


if __name__ == "__main__":
    try:
        reset()
    except subprocess.CalledProcessError as error:
        sys.exit(
            f"error: {' '.join(error.cmd)} failed; `make reset` needs a Git clone with a commit"
        )
