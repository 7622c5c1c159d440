"""uvicorn with bounds on what clients take, graceful shutdown on SIGTERM and bundle reload on SIGHUP."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
from functools import partial
from types import FrameType

import uvicorn

from ..core.errors import UserError
from .app import create_app
from .protocol import BoundedHttp
from .settings import Settings

_OTHER_FILES = 256
"""Number of files that are open besides the connections: the database's, the bundle's, the log's."""

log = logging.getLogger("plates")


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
                http=partial(BoundedHttp, settings),  # type: ignore[arg-type]  # it is only called
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=settings.trusted_proxies,
                timeout_keep_alive=settings.keep_alive_s,
                timeout_graceful_shutdown=max(1, round(settings.grace_s)),
            )
        )

    def _fail(self, error: BaseException) -> None:
        self.failure = error
        self.should_exit = True

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        _allow_open_files(self._settings.max_connections + _OTHER_FILES)
        super().run(sockets or self._sockets())

    def _sockets(self) -> list[socket.socket] | None:
        """Return a socket for IPv6 and IPv4 if the host is ``::``, for which asyncio would open IPv6 alone.

        Raises:
            UserError: The address cannot be listened on.
        """
        host, port = self._settings.host, self._settings.port
        if host != "::":
            return None
        try:
            return [
                socket.create_server(
                    (host, port),
                    family=socket.AF_INET6,
                    backlog=self.config.backlog,
                    dualstack_ipv6=socket.has_dualstack_ipv6(),
                )
            ]
        except OSError as error:
            raise _unavailable(self._settings, error) from error

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as end:
            # Where uvicorn cannot listen, it logs why, without naming a setting, and exits.
            if isinstance(end.__context__, OSError):
                raise _unavailable(self._settings, end.__context__) from end
            raise
        loop = asyncio.get_running_loop()
        if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        for server in self.servers:
            for listening in server.sockets:
                host, port = listening.getsockname()[:2]
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
        if counter % 10 == 0:
            self._sweep()
        return await super().on_tick(counter)

    def _sweep(self) -> None:
        """End the connections of clients that are late, and, where there are too many, those that wait."""
        now = asyncio.get_running_loop().time()
        connections = [
            each for each in self.server_state.connections if isinstance(each, BoundedHttp)
        ]
        for connection in connections:
            connection.end_if_late(now)
        most = self._settings.max_connections
        if len(connections) >= most:
            # Make some room: half a request for the longest time first, then those that are idle.
            surplus = len(connections) - most * 9 // 10
            waiting = [each for each in connections if each.is_between_requests]
            waiting.sort(key=lambda each: each.waits_since or now)
            for connection in waiting[:surplus]:
                connection.transport.close()


_REMEDIES = {
    errno.EADDRINUSE: "; choose another --port, or end the program that listens on it",
    errno.EACCES: "; choose a --port from 1024 on",
    errno.EADDRNOTAVAIL: "; --host has to be an address of this machine",
}


def _unavailable(settings: Settings, error: OSError) -> UserError:
    """Return the error for an address that cannot be listened on."""
    # Event loops put their own words into ``strerror``; errors of name resolution have negative numbers.
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or str(error)
    remedy = _REMEDIES.get(number, "")
    return UserError(f"--host {settings.host} --port {settings.port}: {reason}{remedy}")


def _allow_open_files(needed: int) -> None:
    """Raise this process's limit of open files to what the system allows, and warn if that is too few."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Some systems report no limit, but accept none either.
    most = max(soft, needed) if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if hard != resource.RLIM_INFINITY and hard < needed:
        log.warning(
            "only %d files may be open, too few for --max-connections: lower it, or raise `ulimit -Hn`",
            hard,
        )
