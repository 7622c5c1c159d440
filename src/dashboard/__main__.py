"""Show the dashboard: ``python -m src.dashboard [--feedback sqlite:///feedback.db] [--port 8501]``."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

from ..core.settings import settings_of
from .settings import Settings

SCRIPT = Path(__file__).with_name("script.py")


def command(settings: Settings) -> list[str]:
    """Return the command line that starts Streamlit with the dashboard."""
    options = {
        "server.address": settings.host,
        "server.port": settings.port,
        "server.headless": "true",
        "server.maxUploadSize": settings.max_body_mib,
        "server.fileWatcherType": "none",
        # Send no usage statistics to Streamlit's makers.
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        # Errors are in the log; the browser should not see what a traceback may contain.
        "client.showErrorDetails": "none",
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    if _is_loopback(settings.host):
        # Prevent DNS rebinding: a foreign page cannot get in under a name that it resolves to here.
        words += [f"--server.allowedHosts={name}" for name in ("localhost", settings.host)]
    return [sys.executable, "-m", "streamlit", "run", str(SCRIPT), *words]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main(arguments: list[str] | None = None) -> None:
    """Replace this process with Streamlit's server.

    Raises:
        SystemExit: A setting is invalid; the message is printed.
    """
    settings = settings_of(Settings, arguments)
    words = command(settings)
    # Pass the settings by the environment: everybody on the machine can see arguments.
    os.execve(words[0], words, {**os.environ, **settings.variables()})  # noqa: S606  # no shell


if __name__ == "__main__":
    main()
