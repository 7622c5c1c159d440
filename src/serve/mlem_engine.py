"""Serving with MLEM, which runs in an environment of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from ..core.errors import UserError
from ..inference.mlem_environment import MODEL, hand_over

if TYPE_CHECKING:
    from .settings import Settings

_SETTINGS = frozenset({"engine", "host", "port"})
"""Settings that MLEM's server has too."""


def serve(settings: Settings) -> NoReturn:
    """Replace this process with MLEM's server of the saved stack.

    Raises:
        UserError: MLEM's environment is missing, no stack was saved, or a setting would have no effect, such
            as one that asks for API keys.
    """
    if given := settings.model_fields_set - _SETTINGS:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given))
        raise UserError(
            f"{flags}: MLEM's server has no such setting. Leave it out, as a flag and as a variable "
            "PLATES_…, or use --engine native."
        )
    if not MODEL.with_suffix(".mlem").exists():
        raise UserError(f"{MODEL}.mlem is missing. Save the stack: `python -m src.save_stack`.")
    options = ["--model", str(MODEL), "--request_serializer", "pil_numpy"]
    address = ["--host", settings.host, "--port", str(settings.port)]
    hand_over("mlem", ["serve", "fastapi", *options, *address])
