"""uvicorn with bounded headers, graceful shutdown on SIGTERM and bundle reload on SIGHUP."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import time
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import create_app
from .settings import Settings

log = logging.getLogger("plates")


class BoundedHttp(HttpToolsProtocol):
    """HTTP protocol that bounds the size of headers, which the parser itself would collect forever."""

    max_header_bytes = 64 * 1024
    _header_bytes = 0
    _in_headers = True

    def data_received(self, data: bytes) -> None:
        # Data that follows the end of a request in the same chunk is not counted: it is little.
        self._header_bytes += len(data)
        super().data_received(data)
        if not self._in_headers or self.transport.is_closing():
            return
        if self._header_bytes > self.max_header_bytes:
            self.send_400_response("The headers are too large.")

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers, self._header_bytes = True, 0
        super().on_message_complete()


class Server(uvicorn.Server):
    """A server for one application.

    Args:
        settings: Settings of the server.

    Raises:
        UserError: A file that the settings name cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self.failure: BaseException | None = None
        self._settings = settings
        self._drained_at: float | None = None
        self._reloads: set[asyncio.Task[None]] = set()
        app = create_app(settings, self._fail)
        self.engine = app.state.engine
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=BoundedHttp,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=settings.max_connections,
                timeout_keep_alive=10,
                timeout_graceful_shutdown=max(1, round(settings.grace_s)),
            )
        )

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.should_exit = True

    async def startup(self, sockets: object = None) -> None:
        await super().startup(sockets)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        for server in self.servers:
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                name = f"[{host}]" if ":" in host else host
                print(f"serving on http://{name}:{port}", file=sys.stderr, flush=True)

    def _reload(self) -> None:
        task = asyncio.get_running_loop().create_task(self.engine.reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Refuse new work at the first signal, and stop everything at the second."""
        if self._drained_at is None and not self.should_exit:
            self.engine.is_draining = True
            self._captured_signals.append(sig)
            self._drained_at = time.monotonic() + self._settings.drain_s
            log.info("stopping: %d images are in progress", self.engine.pending)
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if self._drained_at is not None and time.monotonic() >= self._drained_at:
            self.should_exit = True
        return await super().on_tick(counter)
