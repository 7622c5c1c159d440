"""How a stage ends when something is wrong: one clear message, and a status that stops DVC."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..core.errors import UserError
from . import Config, load_config


def run_stage(main: Callable[[Config], None]) -> None:
    """Call a stage with the checked parameters; exit with status 1 on an error a user can fix."""
    try:
        main(load_config())
    except UserError as error:
        sys.exit(f"error: {error}")
