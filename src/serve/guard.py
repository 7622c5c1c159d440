"""ASGI middleware for all requests: request ids, limits on size and time, metrics and the log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import RedirectResponse

from .engine import Engine
from .measures import Measures
from .refusals import (
    RefusedError,
    crowded,
    draining,
    internal,
    overloaded,
    unsupported_encoding,
)
from .settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READING = frozenset({"/predict", "/v1/read"})
"""Paths that accept images."""
EVENTS = "/v1/events"
"""Path that accepts clips, which take longer than images and are larger."""
FEEDBACK = "/v1/feedback"
STATUS = frozenset({"/livez", "/readyz", "/metrics"})
"""Paths that are answered however busy the server is: who would restart it must learn that it is alive."""
IS_CROWDED = "is_crowded"
"""Key of a request's state: whether there were more connections than allowed when it arrived."""
_BODIES = READING | {EVENTS, FEEDBACK}
_ROUTES = _BODIES | STATUS | {"/", "/docs", "/openapi.json", "/v1/model"}
_FEEDBACK_BYTES = 16 * 1024
"""Maximum size of a feedback body in bytes; a typical one has a few hundred."""
_LEAST_SENT = 48 * 1024
"""Bytes of a clip that have to arrive within the deadline of an image, if there are as many."""

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_DOCS_CSP = _CSP.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")
"""Policy for /docs, where Swagger UI sets inline styles on its elements."""
_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"geolocation=(), microphone=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")

log = logging.getLogger("plates.access")


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: Application to guard.
        settings: Settings of the server, with the limits.
        engine: Engine that knows whether the server is stopping, and is told how many requests are
            arriving.
        measures: Metrics that record each request.
    """

    def __init__(self, app: App, settings: Settings, engine: Engine, measures: Measures) -> None:
        self._app, self._settings = app, settings
        self._engine, self._measures = engine, measures
        self._held = 0
        """Total size in bytes of the bodies that are held."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = next((value for name, value in headers if name == b"x-request-id"), b"")
        if not _ID.fullmatch(request_id):
            request_id = uuid.uuid4().hex.encode()
        prefix = self._settings.root_path
        path = without_prefix(scope["path"], prefix)
        # Starlette expects the prefix in the path, whether the proxy has removed it or not.
        scope["root_path"], scope["path"] = prefix, prefix + path
        state = scope.setdefault("state", {})
        is_clip = path == EVENTS
        seconds = self._settings.clip_deadline_s if is_clip else self._settings.deadline_s
        state["deadline"] = started + seconds
        state["request_id"] = request_id.decode()
        policy = _DOCS_CSP if path == "/docs" else _CSP
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *_HEADERS,
                    (b"content-security-policy", policy.encode()),
                    (b"x-request-id", request_id),
                ]
            await send(message)

        body = _Body(self, receive, state["deadline"], path)
        try:
            if refusal := self._refusal(path, scope, headers):
                self._measures.rejections.labels(refusal.code).inc()
                await refusal.response()(scope, receive, answer)
            elif not path:
                # The links of the page are relative to a folder.
                await RedirectResponse(f"{prefix}/")(scope, receive, answer)
            else:
                await self._app(scope, body.receive, answer)
        except Exception:
            if status:
                # The response has begun: the connection can only be closed, which uvicorn does.
                raise
            # A bug in this program, which must be an answer like others: logged, counted, with its id.
            log.exception("%s failed", state["request_id"])
            error = internal("the server failed to answer; its log has the reason")
            await error.response()(scope, receive, answer)
        finally:
            body.close()
            seconds = time.monotonic() - started
            route = _route(path)
            self._measures.latency.labels(route, str(status)).observe(seconds)
            log.info(
                "%s %s %s %d %.1f ms",
                state["request_id"], scope["method"], route, status, seconds * 1000,
            )  # fmt: skip

    def _refusal(
        self, path: str, scope: Scope, headers: list[tuple[bytes, bytes]]
    ) -> RefusedError | None:
        """Return why a request is refused before it reaches its route, or None if it is not."""
        most = self._settings.max_header_kib * 1024
        size = sum(len(name) + len(value) for name, value in headers)
        if size + len(scope["raw_path"]) + len(scope["query_string"]) > most:
            return RefusedError(
                431,
                "headers_too_large",
                f"the headers are larger than {most} bytes",
                "max_header_kib",
            )
        if scope["state"].get(IS_CROWDED) and path not in STATUS:
            return crowded()
        return self._refusal_of_body(path, headers) if path in _BODIES else None

    def _refusal_of_body(
        self, path: str, headers: list[tuple[bytes, bytes]]
    ) -> RefusedError | None:
        """Return why a request is refused before its body is read, or None if it is not."""
        if encoding := _encoding(headers):
            return unsupported_encoding(encoding)
        if self._engine.is_draining:
            return draining()
        if path in READING and self._engine.is_full:
            # Refuse here, where it costs least: under overload most of the work is refusing requests.
            return overloaded()
        length = next((value for name, value in headers if name == b"content-length"), b"")
        is_too_large = length.isdigit() and int(length) > self.most(path)
        return self.too_large(path) if is_too_large else None

    def most(self, path: str) -> int:
        """Return the maximum size in bytes of a body that is sent to a path."""
        if path == EVENTS:
            return self._settings.max_clip
        return self._settings.max_body if path in READING else _FEEDBACK_BYTES

    def too_large(self, path: str) -> RefusedError:
        """Return the refusal of a body that exceeds the maximum size for a path."""
        limit = {EVENTS: "max_clip_mib"}.get(path, "max_body_mib" if path in READING else None)
        most = self.most(path)
        return RefusedError(413, "body_too_large", f"the body is larger than {most} bytes", limit)

    def hold(self, size: int) -> None:
        """Add to the number of body bytes held; a negative size releases bytes.

        Raises:
            RefusedError: Too many bytes would be held.
        """
        if size > 0 and self._held + size > self._settings.max_pending:
            raise RefusedError(
                503,
                "memory_full",
                "the pending requests exceed the memory limit; try again",
                "max_pending_mib",
            )
        self._held += size

    @property
    def patience(self) -> float:
        """Time in seconds in which a part of a clip has to arrive."""
        return self._settings.deadline_s

    def arriving(self, change: int) -> None:
        """Tell the engine that one more (1) or one fewer (-1) request is arriving."""
        self._engine.arriving += change


def without_prefix(path: str, prefix: str) -> str:
    """Return a path without the prefix of the setting ``root_path``, if it has it."""
    return path[len(prefix) :] if path == prefix or path.startswith(f"{prefix}/") else path


def _encoding(headers: list[tuple[bytes, bytes]]) -> str:
    """Return how a body is encoded beyond what the parser has undone; empty if it is not."""
    names = (b"content-encoding", b"transfer-encoding")
    values = b",".join(value for name, value in headers if name in names).decode("latin-1")
    codings = [coding.strip().lower() for coding in values.split(",")]
    return ", ".join(coding for coding in codings if coding not in ("", "identity", "chunked"))


def _route(path: str) -> str:
    """Return a path as it is counted and logged, without ids and without arbitrary text from clients."""
    if path in _ROUTES:
        return path
    return f"{FEEDBACK}/{{id}}" if path.startswith(f"{FEEDBACK}/") else "other"


class _Body:
    """The body of one request, counted as it arrives and awaited only until the deadline."""

    def __init__(self, guard: Guard, receive: Receive, deadline: float, path: str) -> None:
        self._guard, self._receive, self._deadline = guard, receive, deadline
        self._path = path
        self._size = self._held = 0
        self._is_arriving = path in _BODIES
        # A clip may take long to arrive, but whoever sends it too slowly keeps others from sending theirs.
        self._due, self._since_due = time.monotonic() + guard.patience, 0
        if path in READING:
            guard.arriving(1)

    async def receive(self) -> Message:
        if not self._is_arriving:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._remaining()):
                message = await self._receive()
        except TimeoutError:
            raise RefusedError(
                408, "slow_body", "the body did not arrive in time", "deadline_s"
            ) from None
        size = len(message.get("body", b""))
        if self._size + size > self._guard.most(self._path):
            raise self._guard.too_large(self._path)
        self._size += size
        if self._path == EVENTS:
            # It is written to a file as it arrives.
            self._since_due += size
            if self._since_due >= _LEAST_SENT:
                self._due, self._since_due = time.monotonic() + self._guard.patience, 0
        else:
            self._guard.hold(size)
            self._held += size
        if not message.get("more_body", False):
            self._arrived()
        return message

    def _remaining(self) -> float:
        deadline = min(self._deadline, self._due) if self._path == EVENTS else self._deadline
        return asyncio.get_running_loop().time() + max(deadline - time.monotonic(), 0.0)

    def _arrived(self) -> None:
        if self._is_arriving and self._path in READING:
            self._guard.arriving(-1)
        self._is_arriving = False

    def close(self) -> None:
        """Release the bytes that are held."""
        self._arrived()
        self._guard.hold(-self._held)
        self._held = 0
