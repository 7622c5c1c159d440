"""Run commands in MLEM's environment: MLEM needs a pydantic and a FastAPI that nothing else does."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from ..core.errors import UserError

MODEL = Path("models/model_stack")
"""Path of the saved model, with its .mlem file beside it."""
_ENVIRONMENT = Path(".venv-mlem")


def mlem_is_here() -> bool:
    """Return whether this environment is MLEM's."""
    return find_spec("mlem") is not None


def hand_over(command: str, arguments: list[str]) -> NoReturn:
    """Replace this process with a command of MLEM's environment.

    Raises:
        UserError: MLEM's environment does not exist.
    """
    path = _ENVIRONMENT / "bin" / command
    if not path.exists():
        raise UserError(
            f"MLEM is not installed, and {path} is missing. Build MLEM's environment with "
            "`make mlem` in the project's root."
        )
    sys.stdout.flush()
    os.execv(path, [str(path), *arguments])  # noqa: S606  # a list, not a shell command
