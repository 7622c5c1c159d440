"""Entry point of the stages, which reports user errors in one message and exits with status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable

from ..core.errors import UserError
from . import Config, load_config


def run_stage(main: Callable[[Config], None]) -> None:
    """Call a stage with the validated parameters; exit with status 1 on a user-fixable error."""
    try:
        main(load_config())
    except UserError as error:
        sys.exit(f"error: {error}")
