"""How sinks fail."""

from __future__ import annotations

from ..core.errors import UserError
from ..core.program import COMMAND


class SinkError(UserError):
    """A sink is asked for in a wrong way, or what it needs is missing."""


class DeliveryError(UserError):
    """A sink has not taken an event.

    Args:
        reason: What went wrong, without the name of the sink.
        is_final: Whether trying again cannot help.
        wait: Least seconds until the next try, if the other side has said so.
    """

    def __init__(self, reason: str, is_final: bool = False, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.is_final, self.wait = is_final, wait


def missing(package: str) -> SinkError:
    """Return the error that a package of the extra is not installed."""
    return SinkError(
        f"--to needs {package}, which is not installed: pip install '{COMMAND}[sinks]'"
    )
