"""Serve the plate reader over HTTP: ``python -m src.serve [--host 127.0.0.1] [--port 8080]``."""

from __future__ import annotations

import io
import logging
import re
import sys
from contextlib import redirect_stderr

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from ..core.errors import UserError
from .settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop, and return the exit status."""
    complaints = io.StringIO()
    try:
        with redirect_stderr(complaints):
            settings = CliApp.run(
                Settings, cli_args=sys.argv[1:] if arguments is None else arguments
            )
    except (SettingsError, ValidationError) as error:
        print(_without_urls(f"error: {_explain(error)}"), file=sys.stderr)
        return 2
    finally:
        print(_without_urls(complaints.getvalue()), end="", file=sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # Alembic logs several uninformative lines at each start.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        if settings.engine == "mlem":
            from .mlem_engine import serve

            return serve(settings)
        from .server import Server

        server = Server(settings)
        server.run()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if isinstance(server.failure, UserError):
        print(f"error: {server.failure}", file=sys.stderr)
        return 1
    if server.failure is not None:
        raise server.failure
    return 0


def _explain(error: SettingsError | ValidationError) -> str:
    """Return a message that names the setting, what is wrong with it, and its value."""
    if isinstance(error, SettingsError):
        return str(error)
    item = error.errors()[0]
    name = ".".join(str(part) for part in item["loc"])
    flag = f"--{name.replace('_', '-')} (PLATES_{name.upper()})"
    return f"{flag}: {item['msg']} (is {item['input']!r})"


def _without_urls(text: str) -> str:
    """Mask the URLs in a message about a wrong flag or value, since they may hold a password."""
    return re.sub(r"\S*://\S*", "<URL>", text)


if __name__ == "__main__":
    sys.exit(main())
