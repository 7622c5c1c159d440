"""Uploaded clips: received into a file, read by a process each, answered as JSON lines while it reads.

Whether the clip is a video at all is known before the answer begins: what is none gets a status of its own.
Otherwise the status is 200, and every line is a JSON object with a ``type``; the last one has all events or
an error. There is a line at least once a second, so that nobody takes the connection for dead.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import math
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryFile
from typing import IO, Any

import msgspec
from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from ..core.program import PACKAGE
from .access import Buckets
from .clip_task import (
    DECODER,
    ClipTask,
    Damaged,
    Finished,
    Message,
    Opened,
    Reached,
    Refusal,
    Seen,
)
from .engine import Engine
from .measures import Measures
from .refusals import (
    RefusedError,
    clips_off,
    crowded_by_clips,
    draining,
    internal,
    late_clip,
)
from .schemas import ClipLine
from .settings import Settings
from .uploads import disconnected, receive_clip

_TICK = 1.0
"""Seconds after which a line is sent although nothing has happened."""
_LONGEST_LINE = 2**27
"""Maximum number of bytes of a message: an event with its best frame."""
_HASTE = 0.75
"""Part of the time that a stopping server gives its requests after which a clip is given up, which its sender
is told."""
_MEDIA_TYPE = "application/x-ndjson"
_MESSAGES = msgspec.json.Decoder(Message)
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers for proxies, which would else collect the lines (the second is nginx's)."""

log = logging.getLogger("plates")


class _Nothing:
    """No message has come yet."""


class LineResponse(StreamingResponse):
    """Lines of a clip, whose process ends with the response, however that ends.

    Args:
        lines: The lines.
        clip: The clip.
    """

    media_type = _MEDIA_TYPE

    def __init__(self, lines: AsyncIterator[bytes], clip: Clip) -> None:
        super().__init__(lines, headers=_HEADERS)
        self._clip = clip

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._clip.close()


def unavailable(settings: Settings) -> str | None:
    """Return why a server reads no clips; None if it does."""
    if not settings.max_clips:
        return "--max-clips is 0"
    if importlib.util.find_spec("scipy") is None:
        return "SciPy is not installed, which the extra serve has"
    return None


class Clips:
    """The clips of a server, and how many there may be.

    Args:
        settings: Settings of the server, with the limits.
        engine: Engine that knows whether the server is stopping, and which bundle is in use.
        measures: Metrics to record.
    """

    def __init__(self, settings: Settings, engine: Engine, measures: Measures) -> None:
        self.settings, self.engine, self.measures = settings, engine, measures
        self.turns = asyncio.Semaphore(settings.clip_processes)
        self._count = 0
        """Number of clips that arrive, wait or are read."""

    def admit(self) -> Clip:
        """Return a new clip.

        Raises:
            RefusedError: Clips are not read at all, the server is starting, or there are too many already.
        """
        if reason := unavailable(self.settings):
            raise clips_off(reason)
        # Raises while the server starts.
        _ = self.engine.model
        if self._count >= self.settings.max_clips:
            raise crowded_by_clips()
        self._count += 1
        return Clip(self)

    def leave(self) -> None:
        """Note that a clip has gone."""
        self._count -= 1


@contextmanager
def _temporary_file() -> Iterator[tuple[IO[bytes], str]]:
    """Open a file, and yield it with a path for another process; nothing is left of it in the end."""
    if sys.platform == "linux":
        # It has no name, so that nothing is left even if this process is killed.
        with TemporaryFile() as file:
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with NamedTemporaryFile(prefix="plates-clip-") as file:
            yield file, file.name


class Clip:
    """One clip, from its arrival to its events.

    Args:
        clips: The clips of the server.
    """

    def __init__(self, clips: Clips) -> None:
        self._clips, self._settings, self._measures = clips, clips.settings, clips.measures
        self._file = ExitStack()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[bytes] | None = None
        self._holds_turn = False
        self._outcome = "gone"
        self._deadline = math.inf
        self._is_hurried = False
        self._opened = Opened(seconds=None, width=0, height=0)
        self._reached = 0.0
        self._events: dict[str, dict[str, Any]] = {}
        self._warnings: list[str] = []
        self.name = ""

    async def open(self, request: Request, images: bool, unread: bool) -> Opened:
        """Receive the clip, and start the process that opens it.

        Args:
            request: Request whose body is the clip.
            images: Whether events have their best frame.
            unread: Whether plates without a text give events.

        Returns:
            What is known of the clip before it is read.

        Raises:
            RefusedError: The clip is no video, exceeds a limit, or cannot be stored.
            ClientDisconnect: The client has disconnected.
        """
        self._deadline = request.state.deadline
        self._outcome = "refused"
        try:
            file, path = self._file.enter_context(_temporary_file())
            self.name = await receive_clip(request, file)
            await self._start(file, path, images, unread)
        except ClientDisconnect:
            self._outcome = "gone"
            raise
        except OSError as error:
            log.error("a clip cannot be stored: %s", error)
            raise RefusedError(
                503, "no_space", "the server has no room for the clip; try again later", None, 60.0
            ) from error
        first = await self._first(request)
        if isinstance(first, Refusal):
            raise RefusedError(first.status, first.code, first.message, first.limit)
        if not isinstance(first, Opened):
            raise await self._failure()
        self._outcome = "gone"
        self._opened = first
        return first

    async def _start(self, file: IO[bytes], path: str, images: bool, unread: bool) -> None:
        settings = self._settings
        task = ClipTask(
            path=path,
            name=self.name,
            model=None if settings.model is None else str(settings.model.resolve()),
            max_seconds=settings.max_clip_s,
            max_pixels=settings.max_pixels,
            max_side=settings.max_side,
            images=images,
            unread=unread,
        )
        # What decodes the files of strangers needs no secret of this server.
        variables = {
            name: value for name, value in os.environ.items() if not name.startswith("PLATES_")
        }
        folders = [str(Path(__file__).parents[2]), variables.get("PYTHONPATH", "")]
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, folders))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"{PACKAGE}.serve.clip_process",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
            pass_fds=[file.fileno()], env={**variables, **DECODER},
        )  # fmt: skip
        self._process = process
        assert process.stdin is not None  # noqa: S101  # for the type checker
        process.stdin.write(msgspec.json.encode(task) + b"\n")

    async def _first(self, request: Request) -> Message | None:
        """Return the first message; None if the process has ended without one."""
        leaving = asyncio.create_task(disconnected(request.receive))
        try:
            while isinstance(message := await self._tick(leaving), _Nothing):
                if leaving.done():
                    self._outcome = "gone"
                    raise ClientDisconnect
            return message
        finally:
            leaving.cancel()

    async def _tick(self, leaving: asyncio.Task[None] | None = None) -> Message | _Nothing | None:
        """Wait for the next message for a moment; return ``_Nothing`` if there is none yet.

        Raises:
            RefusedError: The clip's time is over.
        """
        assert self._process is not None  # noqa: S101
        assert self._process.stdout is not None  # noqa: S101
        self._check_time()
        if self._reading is None:
            self._reading = asyncio.create_task(self._process.stdout.readline())
        waited: set[asyncio.Future[Any]] = {self._reading, *([leaving] if leaving else [])}
        await asyncio.wait(waited, timeout=_TICK, return_when="FIRST_COMPLETED")
        if not self._reading.done():
            return _Nothing()
        line, self._reading = self._reading.result(), None
        return _MESSAGES.decode(line) if line.endswith(b"\n") else None

    def _check_time(self) -> None:
        now = time.monotonic()
        if self._clips.engine.is_draining and not self._is_hurried:
            self._is_hurried = True
            settings = self._settings
            left = settings.drain_s + _HASTE * settings.grace_s
            self._deadline = min(self._deadline, now + left)
        if now > self._deadline:
            self._outcome = "late"
            raise draining() if self._is_hurried else late_clip()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of the answer."""
        try:
            yield self._progress()
            while not self._holds_turn:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK):
                        await self._clips.turns.acquire()
                        self._holds_turn = True
                if not self._holds_turn:
                    self._check_time()
                    yield _line({"type": "waiting"})
            self._allow()
            async for line in self._read():
                yield line
        except RefusedError as error:
            self._measures.rejections.labels(error.code).inc()
            yield _line({"type": "error", "error": error.content()})

    def _allow(self) -> None:
        assert self._process is not None  # noqa: S101
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(b"\n")

    async def _read(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._tick()
            if isinstance(message, _Nothing):
                yield self._progress()
            elif isinstance(message, Reached):
                self._measures.clip_seconds.inc(max(message.second - self._reached, 0.0))
                self._reached = message.second
                yield self._progress()
            elif isinstance(message, Seen):
                event = message.event
                yield _line({"type": "event", "event": event})
                best = {name: value for name, value in event["best"].items() if name != "image"}
                self._events[event["id"]] = {**event, "best": best}
            elif isinstance(message, Damaged):
                self._warnings.append(message.text)
            elif isinstance(message, Finished):
                yield self._result(message)
                return
            elif isinstance(message, Refusal):
                self._outcome = "refused"
                raise RefusedError(message.status, message.code, message.message, message.limit)
            else:
                raise await self._failure()

    def _progress(self) -> bytes:
        return _line({"type": "progress", "second": self._reached, "seconds": self._opened.seconds})

    def _result(self, message: Finished) -> bytes:
        self._outcome = "read"
        self._measures.clip_seconds.inc(max(message.second - self._reached, 0.0))
        events = sorted(self._events.values(), key=lambda event: event["first"])
        for event in events:
            self._measures.events.labels("text" if event["plate"] else "plate").inc()
        return _line(
            {
                "type": "result",
                "name": self.name,
                "seconds": round(message.second, 3),
                "width": self._opened.width,
                "height": self._opened.height,
                "frames": message.frames,
                "events": events,
                "warnings": self._warnings,
                "model": message.model,
            }
        )

    async def _failure(self) -> RefusedError:
        """Return why there is no message although there should be one."""
        self._outcome = "failed"
        assert self._process is not None  # noqa: S101
        status = await self._process.wait()
        log.error("the process that reads a clip has ended with status %s", status)
        if status < 0:
            return RefusedError(422, "damaged_clip", "the clip: made its decoder fail")
        return internal("the server failed to read this clip; its log has the reason")

    async def close(self) -> None:
        """End the process, and make room for another clip."""
        try:
            if self._process is not None:
                # To the end, also where the request is cancelled.
                await asyncio.shield(asyncio.create_task(_ended(self._process, self._reading)))
        finally:
            self._file.close()
            if self._holds_turn:
                self._clips.turns.release()
                self._holds_turn = False
            self._measures.clips.labels(self._outcome).inc()
            self._clips.leave()


async def _ended(process: asyncio.subprocess.Process, reading: asyncio.Task[bytes] | None) -> None:
    """End a process and the task that waits for its messages."""
    with suppress(ProcessLookupError):
        process.kill()
    if reading is not None:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    await process.wait()


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def routes(
    clips: Clips,
    buckets: Buckets,
    sender: Callable[[Request], Awaitable[str]],
    refusals: dict[int | str, dict[str, Any]],
    body: dict[str, Any],
) -> APIRouter:
    """Return the router of the route that accepts clips.

    Args:
        clips: The clips of the server.
        buckets: Rate limits.
        sender: Returns who sends a request.
        refusals: Descriptions of the statuses that refuse a request.
        body: Description of the body.
    """
    router = APIRouter(tags=["reading"])

    @router.post(
        "/v1/events",
        summary="Read a clip: one event for each vehicle",
        status_code=200,
        responses={**refusals, 200: {"model": ClipLine}},
        response_class=LineResponse,
        response_model=None,
        openapi_extra=body,
    )
    async def read_events(
        request: Request, who: str = Depends(sender), images: bool = False, unread: bool = False
    ) -> LineResponse:
        """Send a form with one clip, or the clip as the body: MP4, MKV, AVI, MOV, WebM and others.

        The response is a JSON object a line, sent while the clip is read: its progress, events as they come,
        and in the last line the result with all events, or the error that ended it. A client that leaves ends
        the work. With `images`, the lines of events have the best frame as a JPEG in Base64. With `unread`,
        plates without a text give events too. Clips are never stored.
        """
        buckets.take(who, 1)
        clip = clips.admit()
        try:
            opened = await clip.open(request, images, unread)
            # A second of video counts as an image, once it is known how many there are.
            buckets.take(who, max(math.ceil(opened.seconds or 0) - 1, 0), in_debt=True)
        except BaseException:
            await clip.close()
            raise
        return LineResponse(clip.lines(), clip)

    return router
