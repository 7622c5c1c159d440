"""Settings of a server from its command line and the environment, with errors that can be printed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsError

SomeSettings = TypeVar("SomeSettings", bound=BaseSettings)


def settings_of(kind: type[SomeSettings], arguments: Sequence[str] | None) -> SomeSettings:
    """Return the settings that the command line and the environment give.

    Args:
        kind: Class of the settings.
        arguments: Arguments of the command; None for those of this process.

    Raises:
        SystemExit: A flag or a value is invalid; the message is printed, without URLs.
    """
    complaints = io.StringIO()
    try:
        with redirect_stderr(complaints):
            return CliApp.run(kind, cli_args=[*(sys.argv[1:] if arguments is None else arguments)])
    except (SettingsError, ValidationError) as error:
        print(_without_urls(f"error: {_explain(error)}"), file=sys.stderr)
        sys.exit(2)
    finally:
        print(_without_urls(complaints.getvalue()), end="", file=sys.stderr)


def _explain(error: SettingsError | ValidationError) -> str:
    """Return a message that names the setting, what is wrong with it, and its value."""
    if isinstance(error, SettingsError):
        return str(error)
    item = error.errors()[0]
    name = ".".join(str(part) for part in item["loc"])
    flag = f"--{name.replace('_', '-')} (PLATES_{name.upper()})"
    return f"{flag}: {item['msg']} (got {item['input']!r})"


def _without_urls(text: str) -> str:
    """Mask the URLs in a message about a wrong flag or value, since they may hold a password."""
    return re.sub(r"\S*://\S*", "<URL>", text)
