"""make setup, where Python cannot make an environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_failed_environment_is_removed(tmp_path: Path) -> None:
    """As on Debian without python3-venv: what is left has a python, but no pip."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "python-without-ensurepip"
    python.write_text("#!/bin/sh\nmkdir -p .venv/bin && cp $0 .venv/bin/python\nexit 1\n")
    python.chmod(0o755)
    result = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode != 0
    assert "install python3-venv" in result.stderr
    assert not (tmp_path / ".venv").exists()
