"""Serve the plate reader over HTTP: ``python -m src.serve [--host 127.0.0.1] [--port 8080]``."""

from __future__ import annotations

import logging
import sys

from ..core.errors import UserError
from ..core.settings import settings_of
from .settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop, and return the exit status."""
    settings = settings_of(Settings, arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    # Alembic logs several uninformative lines at each start.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What is wrong with a form is said to its sender, who could fill the log with it.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
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


if __name__ == "__main__":
    sys.exit(main())
