"""Commands that run in MLEM's environment: it needs a pydantic and a FastAPI that nothing else does."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from src.errors import UserError

if TYPE_CHECKING:
    from src.serve.settings import Settings

MODEL = Path("models/model_stack")
"""What is saved, with its .mlem file beside it."""
_ENVIRONMENT = Path(".venv-mlem")


def mlem_is_here() -> bool:
    """Whether this environment is MLEM's."""
    return find_spec("mlem") is not None


def hand_over(command: str, arguments: list[str]) -> NoReturn:
    """Become a command of MLEM's environment.

    Raises:
        UserError: that environment is not there.
    """
    path = _ENVIRONMENT / "bin" / command
    if not path.exists():
        raise UserError(
            f"MLEM is not installed here, and {path} is missing. Build MLEM's environment with "
            "`make mlem`, from the project's root."
        )
    sys.stdout.flush()
    os.execv(path, [str(path), *arguments])  # noqa: S606  # a list, and no shell's text


def serve(settings: Settings) -> NoReturn:
    """Become MLEM's server of what was saved.

    Raises:
        UserError: MLEM's environment is missing, nothing was saved, or pictures should be kept.
    """
    if settings.feedback_url is not None:
        raise UserError("--feedback: MLEM's server keeps nothing; use --engine native.")
    if not MODEL.with_suffix(".mlem").exists():
        raise UserError(f"{MODEL}.mlem is missing. Save the stack: `python -m src.save_stack`.")
    options = ["--model", str(MODEL), "--request_serializer", "pil_numpy"]
    address = ["--host", settings.host, "--port", str(settings.port)]
    hand_over("mlem", ["serve", "fastapi", *options, *address])
