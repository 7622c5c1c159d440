"""Serving with MLEM, which runs in an environment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ..core.errors import UserError
from ..inference.mlem_environment import MODEL, hand_over

if TYPE_CHECKING:
    from .settings import Settings


def serve(settings: Settings) -> NoReturn:
    """Replace this process with MLEM's server of the saved stack.

    Raises:
        UserError: MLEM's environment is missing, no stack was saved, or the settings ask to keep images.
    """
    if settings.feedback_url is not None:
        raise UserError("--feedback: MLEM's server stores nothing; use --engine native.")
    if not MODEL.with_suffix(".mlem").exists():
        raise UserError(f"{MODEL}.mlem is missing. Save the stack: `python -m src.save_stack`.")
    options = ["--model", str(MODEL), "--request_serializer", "pil_numpy"]
    address = ["--host", settings.host, "--port", str(settings.port)]
    hand_over("mlem", ["serve", "fastapi", *options, *address])
