"""Benchmarks as modules, for the tests of their functions."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "bench"


def load(name: str) -> ModuleType:
    """Import ``bench/NAME.py`` as it is when it runs: with the other benchmarks beside it."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
