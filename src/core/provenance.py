"""Provenance of results: the commit, the lock file and the machine (without torch)."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path

from .machine import available_cores

# Paths that results depend on; changes to any others do not matter.
_CODE = ["src", "params.py", "params.yaml", "dvc.yaml"]


def git_revision() -> str | None:
    """Return the checked-out commit, with "-dirty" if the code has changed, or None without Git."""
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
    """Return the SHA-256 of dvc.lock, or None if it does not exist."""
    path = Path("dvc.lock")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def machine(graphics: str | None = None) -> str:
    """Return a short description of this machine.

    Args:
        graphics: Name of its GPU, which this module cannot determine.
    """
    processor = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        names = [line for line in path.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].split(":", 1)[1].strip() if names else processor
    parts = [platform.system(), f"{available_cores()} cores of {processor}", graphics]
    return ", ".join(part for part in parts if part)
