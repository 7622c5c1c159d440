"""Where results come from: the commit, the lock file, the machine (no torch)."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

from .machine import available_cores

# What results depend on; beside it everything may have changed.
_CODE = ["src", "params.py", "params.yaml", "dvc.yaml"]


def git_revision() -> str | None:
    """The commit that is checked out, with "-dirty" where the code has changed since; None: no Git."""
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def dvc_lock() -> str | None:
    """sha256 of dvc.lock; None where there is none."""
    path = Path("dvc.lock")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def machine(graphics: str | None = None) -> str:
    """This machine in a few words.

    Args:
        graphics: name of its GPU, which nothing here knows.
    """
    processor = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        names = [line for line in path.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":", 1)[1].strip() if names else processor
    parts = [platform.system(), f"{available_cores()} cores of {processor}", graphics]
    return ", ".join(part for part in parts if part)
