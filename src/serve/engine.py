"""Reads pictures of concurrent requests in batches, off the event loop, with a bound on what waits.

A batch is what waits when a worker gets free, so batches grow with the load by themselves; a worker
that is free while requests are still arriving waits a few milliseconds for them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..core.images import ImageError, Picture, TooLargeImageError, UnsupportedImageError, load_image
from ..inference.reader import Plate, PlateReader
from .measures import Measures
from .refusals import RefusedError, late, overloaded
from .settings import Settings

FORMATS = ("JPEG", "PNG", "WebP")
BATCH_BYTES = 4_000_000
"""Files of a batch have so many bytes together, unless it is one: large photographs are read one by
one, with all cores, and nobody waits for another's."""
WARM_UP = ((256, 256), (480, 640))
"""Heights and widths that a reader sees before it is used."""

_NICENESS = 10

log = logging.getLogger("plates")


@dataclass(frozen=True)
class Answer:
    """What was read in a picture.

    Attributes:
        plates: sorted by descending confidence.
        width, height: of the picture as it is displayed.
        version: of the bundle.
        queue_ms: that the picture waited.
        compute_ms: of the batch that it was in.
    """

    plates: Sequence[Plate]
    width: int
    height: int
    version: str
    queue_ms: float
    compute_ms: float


@dataclass(eq=False)
class _Job:
    content: bytes
    deadline: float
    answer: asyncio.Future[Answer]
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class Model:
    """A reader in use.

    Attributes:
        reader: checked and warmed up.
        version: of its bundle, as answers name it.
    """

    reader: PlateReader
    version: str


def load_model(path: Path | None) -> Model:
    """The model of a bundle's folder, checked and warmed up.

    Raises:
        BundleError: the bundle is missing or damaged.
        RuntimeUnavailableError: nothing here can run it.
    """
    reader = PlateReader.load(path)
    for shape in WARM_UP:
        blank = np.full(shape, 128, np.uint8)
        reader.read(blank)
        reader.read_batch([blank, blank])
    files = reader.manifest.files
    return Model(reader, "-".join(files[name].sha256[:8] for name in sorted(files)))


def _step_back() -> None:
    """Let the event loop go first: what it answers at once must not wait for pictures."""
    # On Linux this is the thread's own; elsewhere it would be the whole process's.
    if sys.platform == "linux":
        os.nice(_NICENESS)


def _starting() -> RefusedError:
    return RefusedError(503, "starting", "the server is starting; try again")


class Engine:
    """A queue, and workers that empty it.

    Args:
        settings: its bounds.
        measures: are told what it does.
    """

    def __init__(self, settings: Settings, measures: Measures) -> None:
        self._settings, self._measures = settings, measures
        self._model: Model | None = None
        self._waiting: deque[_Job] = deque()
        self._pending = 0
        """Pictures that wait or are computed."""
        self._arrived = asyncio.Event()
        self._idle = settings.workers
        """Workers that have nothing to do."""
        self._freed = asyncio.Event()
        self._pool = ThreadPoolExecutor(settings.workers, "read", _step_back)
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.arriving = 0
        """Requests whose bodies are on their way."""
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether a warm model is there, and work is taken."""
        return self._model is not None and not self.is_draining

    @property
    def model(self) -> Model:
        """The one that the next batch is read with."""
        if self._model is None:
            raise _starting()
        return self._model

    @property
    def is_full(self) -> bool:
        """Whether there is no room for a single picture."""
        return self._pending >= self._settings.queue

    @property
    def pending(self) -> int:
        """Pictures that wait or are computed."""
        return self._pending

    async def start(self) -> None:
        """Load the bundle and begin.

        Raises:
            UserError: the bundle cannot be used.
        """
        self._model = await asyncio.to_thread(load_model, self._settings.model)
        self._measures.reloads.labels("loaded").inc()
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def reload(self) -> None:
        """Load the bundle anew; what is wrong with it is logged, and the old one goes on."""
        try:
            model = await asyncio.to_thread(load_model, self._settings.model)
        except UserError as error:
            self._measures.reloads.labels("refused").inc()
            log.error("the new bundle is not used: %s", error)
            return
        self._model = model
        self._measures.reloads.labels("loaded").inc()
        log.info("bundle %s is used from now on", model.version)

    async def stop(self) -> None:
        """Compute what waits, then end."""
        self.is_draining = True
        while self._pending:
            await asyncio.sleep(0.01)
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        await asyncio.to_thread(self._pool.shutdown)

    def check_room(self, pictures: int) -> None:
        """Raise the ``RefusedError`` that would keep so many pictures from being read."""
        if self._model is None:
            raise _starting()
        if self._pending + pictures > self._settings.queue:
            raise overloaded()

    def submit(self, contents: Sequence[bytes], deadline: float) -> list[asyncio.Future[Answer]]:
        """Queue pictures of one request.

        Args:
            contents: of files.
            deadline: of ``time.monotonic``; after it nothing is computed.

        Returns:
            A future for each: its answer, or a ``RefusedError``. Those that are cancelled before their turn
            are not computed.

        Raises:
            RefusedError: there is no room for them.
        """
        self.check_room(len(contents))
        loop = asyncio.get_running_loop()
        jobs = [_Job(content, deadline, loop.create_future()) for content in contents]
        self._waiting.extend(jobs)
        self._pending += len(jobs)
        self._measures.queue.set(len(self._waiting))
        self._arrived.set()
        return [job.answer for job in jobs]

    # On the event loop

    async def _dispatch(self) -> None:
        while True:
            while not self._idle:
                self._freed.clear()
                await self._freed.wait()
            jobs = await self._next_batch()
            self._idle -= 1
            task = asyncio.create_task(self._run(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _next_batch(self) -> list[_Job]:
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            # While others are computed there are several clients: those just answered ask again.
            busy = self.arriving or self._pending > len(self._waiting)
            if busy and len(self._waiting) < self._settings.batch:
                await asyncio.sleep(self._settings.window_ms / 1000)
            # What waits is shared among the workers that are idle.
            most = min(self._settings.batch, math.ceil(len(self._waiting) / self._idle))
            batch: list[_Job] = []
            size = 0
            while self._waiting and len(batch) < most:
                job = self._waiting[0]
                if batch and size + len(job.content) > BATCH_BYTES:
                    break
                self._waiting.popleft()
                if not self._is_wanted(job):
                    self._pending -= 1
                    continue
                batch.append(job)
                size += len(job.content)
            self._measures.queue.set(len(self._waiting))
            if batch:
                return batch

    def _is_wanted(self, job: _Job) -> bool:
        if job.answer.done():
            self._measures.skipped.inc()
            return False
        if time.monotonic() > job.deadline:
            self._measures.skipped.inc()
            job.answer.set_exception(late())
            return False
        return True

    async def _run(self, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        try:
            started = time.monotonic()
            outcomes = await loop.run_in_executor(self._pool, self._compute, jobs, self.model)
            self._measures.batch.observe(len(jobs))
            self._measures.compute.observe(time.monotonic() - started)
        finally:
            self._pending -= len(jobs)
            self._idle += 1
            self._freed.set()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Answer):
                texts = sum(plate.plate is not None for plate in outcome.plates)
                self._measures.picture(texts, [plate.confidence for plate in outcome.plates])
            if job.answer.done():
                continue
            if isinstance(outcome, Answer):
                job.answer.set_result(outcome)
            else:
                job.answer.set_exception(outcome)

    # In a worker's thread

    def _compute(self, jobs: Sequence[_Job], model: Model) -> list[Answer | RefusedError]:
        started = time.monotonic()
        loaded = [self._load(job.content) for job in jobs]
        pictures = [picture for picture in loaded if isinstance(picture, Picture)]
        found = iter(self._read(pictures, model))
        read = [
            (picture, next(found)) if isinstance(picture, Picture) else picture
            for picture in loaded
        ]
        compute_ms = (time.monotonic() - started) * 1000
        outcomes: list[Answer | RefusedError] = []
        for job, result in zip(jobs, read, strict=True):
            if isinstance(result, RefusedError):
                outcomes.append(result)
                continue
            picture, plates = result
            if isinstance(plates, RefusedError):
                outcomes.append(plates)
                continue
            queue_ms = (started - job.since) * 1000
            outcomes.append(
                Answer(plates, picture.width, picture.height, model.version, queue_ms, compute_ms)
            )
        return outcomes

    def _load(self, content: bytes) -> Picture | RefusedError:
        settings = self._settings
        try:
            return load_image(content, settings.max_pixels, settings.max_side, FORMATS)
        except UnsupportedImageError as error:
            return RefusedError(415, "unsupported_format", str(error), "formats")
        except TooLargeImageError as error:
            return RefusedError(413, "image_too_large", str(error), error.limit)
        except ImageError as error:
            return RefusedError(400, "damaged_image", str(error))

    def _read(
        self, pictures: Sequence[Picture], model: Model
    ) -> list[Sequence[Plate] | RefusedError]:
        if not pictures:
            return []
        try:
            if len(pictures) == 1:
                return [model.reader.read(pictures[0])]
            return [*model.reader.read_batch(pictures)]
        except Exception:
            # A fault of this program; the pictures that it is not in must not suffer from it.
            if len(pictures) > 1:
                return [self._read([picture], model)[0] for picture in pictures]
            log.exception("a picture of %d x %d", pictures[0].width, pictures[0].height)
            return [RefusedError(500, "internal", "the server failed to read this picture")]
