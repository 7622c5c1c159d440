"""How a stage ends when something is wrong: one clear message, and a status that stops DVC."""

from __future__ import annotations

import sys
from collections.abc import Callable

from src.config import Config, ConfigError, load_config
from src.datasets.shards import DatasetError


class StageError(Exception):
    """Something a user can mend: the message says what is wrong, in which file, and the remedy."""


def run_stage(main: Callable[[Config], None]) -> None:
    """Call a stage with the checked parameters; exit with status 1 on an error a user can mend."""
    try:
        main(load_config())
    except (ConfigError, DatasetError, StageError) as error:
        sys.exit(f"error: {error}")
