"""A web server that gets webhooks, in a thread or in a process of its own."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DROP = 0
"""Instead of a status: the connection ends without an answer."""


@dataclass(frozen=True)
class Request:
    """What was sent."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


class Hook:
    """A web server.

    Args:
        port: Port; 0 for any.
        certificate: Certificate with its key for TLS.
    """

    def __init__(self, port: int = 0, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        """Statuses and headers of the next answers; 204 after them."""
        self.delay = 0.0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers = hook.answers.pop(0) if hook.answers else (204, {})
                hook.requests.append(Request(self.path, dict(self.headers.items()), body))
                time.sleep(hook.delay)
                if status == DROP:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", "2")
                self.end_headers()
                if status != 204:
                    self.wfile.write(b"{}")

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_: Any) -> None:
                # Clients that do not wait for an answer are a part of the tests.
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.port = self.server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}/hook"

    @property
    def plates(self) -> list[str | None]:
        return [request.event["plate"] for request in self.requests]


@contextmanager
def hook(port: int = 0, certificate: Path | None = None) -> Iterator[Hook]:
    """A server in a thread."""
    server = Hook(port, certificate)
    thread = threading.Thread(target=server.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.server.shutdown()
        server.server.server_close()
        thread.join(10)


def hook_process(port: int, path: Path) -> subprocess.Popen[bytes]:
    """Start a server that can be killed; it appends each body to a file before it answers."""
    command = [sys.executable, "-m", "tests.sinks.hooks", str(port), str(path)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[2])


def main(port: int, path: Path) -> None:
    server = Hook(port)

    class Log(list[Request]):
        def append(self, request: Request) -> None:
            with path.open("ab") as file:
                file.write(request.body + b"\n")

    server.requests = Log()
    # So that kills hit requests that were read and not answered.
    server.delay = 0.02
    server.server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
