"""A server in a thread or in a process of its own, with a bundle that knows what to say."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from src.serve.server import Server
from src.serve.settings import Settings


def wait_until(is_so: Any, seconds: float = 20.0) -> None:
    """Wait for something, or fail."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def write_keys(path: Path, *keys: str) -> Path:
    """Write the file of API keys, as the guide does."""
    lines = [f"sha256:{hashlib.sha256(key.encode()).hexdigest()}  -\n" for key in keys]
    path.write_text("".join(lines), encoding="utf-8")
    return path


@contextmanager
def serving(model: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a server that runs in a thread of this process; ``client.server`` is the server."""
    server = Server(Settings(model=model, port=0, **settings))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: (server.started and server.engine.is_ready) or server.failure)
    assert server.failure is None, server.failure
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            client.server = server  # type: ignore[attr-defined]
            yield client
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


class Process:
    """``python -m src.serve`` on a free port."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "src.serve", "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        wait_until(lambda: "serving on" in self.log or self.process.poll() is not None, 60)
        found = re.search(r"serving on (\S+)", self.log)
        assert found, self.log
        return found.group(1)

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        self._reader.join(5)


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """A server in a process of its own, ready."""
    server = Process(*arguments)
    try:
        wait_until(server.is_ready, 60)
        yield server
    finally:
        server.stop()
