"""HTTP protocol of the server: uvicorn's, with bounds on the headers and on the time that clients take.

uvicorn ends connections that are idle after a response, but waits forever for a first request, for the
rest of its headers, and for a client that does not read. A subclass of its protocol can note the time
where the parser calls it anyway, and keeps all that is built on uvicorn; another server as a library would
replace that. One sweep per second looks at all connections: a timer for each would be set and cancelled
with every request, and nearly none would ever expire.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .guard import IS_CROWDED
from .settings import Settings

_SLACK = 32 * 1024
"""Bytes by which the headers may exceed their limit here: the guard's refusal says more, and sooner."""
_LEAST_TAKEN = 48 * 1024
"""Bytes of a response that a client has to take within the deadline, if there are as many.

A response that is sent in parts needs this too: asyncio asks for the next part when so much of its buffer of
64 KiB is free."""


class BoundedHttp(HttpToolsProtocol):
    """HTTP protocol that bounds the size of headers, and the time in which clients send and receive.

    Args:
        settings: Settings of the server, with the limits.
        of_uvicorn: Arguments of uvicorn's protocol.
    """

    def __init__(self, settings: Settings, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._settings = settings
        self._most = settings.max_header_kib * 1024 + _SLACK
        self._header_bytes = 0
        self._in_headers = True
        self.waits_since: float | None = None
        """Time of the event loop since when the client owes the rest of headers or of a body; None if it
        owes nothing."""
        self._stalled_since: float | None = None
        """Time since when the client has not taken enough of what was sent to it."""
        self._unsent = 0
        """Bytes that were to be sent then."""

    @property
    def is_between_requests(self) -> bool:
        """Whether no request is in progress, other than headers that have not arrived."""
        return self._in_headers and not self._is_answering

    @property
    def _is_answering(self) -> bool:
        # There is none before the first request, whatever its type says.
        has_cycle = self.cycle is not None
        return has_cycle and not self.cycle.response_complete

    # Events of the connection

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if self.client is not None:
            self.client = (_unmapped(self.client[0]), self.client[1])
        self.waits_since = self.loop.time()

    def data_received(self, data: bytes) -> None:
        # Data that follows the end of a request in the same chunk is not counted: it is little.
        self._header_bytes += len(data)
        if self._in_headers and self.waits_since is None:
            self.waits_since = self.loop.time()
        super().data_received(data)
        if not self._in_headers or self.transport.is_closing():
            return
        if self._header_bytes > self._most:
            self.send_400_response("The headers are too large.")

    def pause_writing(self) -> None:
        self._stall(self.loop.time())
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = None
        super().resume_writing()

    # Events of the parser

    def on_message_begin(self) -> None:
        if self.waits_since is None:
            self.waits_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        self.waits_since = self.loop.time()
        # Uvicorn's own limit would refuse the last connection that is allowed, and health checks with it.
        is_crowded = len(self.connections) > self._settings.max_connections
        self.scope["state"][IS_CROWDED] = is_crowded
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_headers, self._header_bytes = True, 0
        self.waits_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self.waits_since is not None:
            # It could not be expected to send more before.
            self.waits_since = self.loop.time()
        super().on_response_complete()

    # Sweeps

    def end_if_late(self, now: float) -> None:
        """End the connection if its client has exceeded a time limit.

        Args:
            now: Time of the event loop.
        """
        if self.transport.is_closing() and self._stalled_since is None:
            self._stall(now)
        if self._stalled_since is not None:
            # A response may be large, so it need not be taken as a whole in that time.
            if self._unsent - self.transport.get_write_buffer_size() >= _LEAST_TAKEN:
                self._stall(now)
            elif now - self._stalled_since > self._settings.deadline_s:
                self.transport.abort()
        elif self.waits_since is None or self._is_answering:
            # The guard has the deadline of a body that a route is waiting for.
            pass
        elif not self._in_headers:
            # The rest of a body that no route wanted.
            if now - self.waits_since > self._settings.deadline_s:
                self.transport.close()
        elif now - self.waits_since > self._settings.header_s:
            if self._header_bytes:
                self.transport.write(_LATE)
            self.transport.close()

    def _stall(self, now: float) -> None:
        """Begin to wait for the client to take what is to be sent."""
        self._stalled_since, self._unsent = now, self.transport.get_write_buffer_size()


_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: 36\r\n"
    b"connection: close\r\n\r\n"
    b"The headers did not arrive in time.\n"
)


def _unmapped(host: str) -> str:
    """Return an IPv4 address as such, where a socket for IPv6 and IPv4 has it as ::ffff:1.2.3.4."""
    if host.startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        return str(mapped) if mapped else host
    return host
