"""Name under which this program runs: the installed command, or a module of a checkout."""

from __future__ import annotations

import sys

COMMAND = "swiss-plates"
PACKAGE = __name__.partition(".")[0]
"""Import name of this package: ``src`` in a checkout, ``swiss_plates`` when installed."""


def program(name: str) -> str:
    """Return what a user types to run a command, for its help text.

    Args:
        name: Name of the command, such as ``read``.
    """
    called = sys.argv[0]
    return called if called.startswith(f"{COMMAND} ") else f"python -m {PACKAGE}.{name}"
