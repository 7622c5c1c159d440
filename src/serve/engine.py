"""Batched reading of images from concurrent requests, off the event loop, with a bounded queue.

A batch consists of the images that wait when a worker becomes free, so batches grow with the load by
themselves. A worker that is free while requests are still arriving waits a few milliseconds for them.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from ..core.errors import UserError
from ..core.images import (
    UPLOAD_FORMATS,
    DecodedImage,
    ImageError,
    TooLargeImageError,
    UnsupportedImageError,
    load_image,
)
from ..flywheel.images import encode
from ..inference.reader import Plate, PlateReader
from .bundles import bundle_version
from .measures import Measures
from .refusals import RefusedError, internal, late, overloaded
from .settings import Settings

BATCH_BYTES = 4_000_000
"""Maximum total size in bytes of the files in a batch, unless it is a single file.

Large photos are thus read one at a time with all cores, and no request waits for another's.
"""
BATCH_PIXELS = 16_000_000
"""Number of pixels after which the images that are decoded are read before others are decoded.

The sizes of files do not tell: a file of 200 kB can hold as many pixels as a server accepts, in 200 MB.
"""
WARM_UP = ((256, 256), (480, 640))
"""Heights and widths of the blank images that warm up a reader before it is used."""

_NICENESS = 10

log = logging.getLogger("plates")


@dataclass(frozen=True)
class Answer:
    """The plates that were read in an image.

    Attributes:
        plates: Plates sorted by descending confidence.
        width: Width of the displayed image in pixels.
        height: Height of the displayed image in pixels.
        version: Version of the bundle.
        queue_ms: Time that the image waited, in milliseconds.
        compute_ms: Time to decode and read the batch with the image, in milliseconds.
        warnings: What is wrong with the file, though it was read.
        preview: The image as a JPEG, if it was asked for and its colours can be decoded.
    """

    plates: Sequence[Plate]
    width: int
    height: int
    version: str
    queue_ms: float
    compute_ms: float
    warnings: tuple[str, ...] = ()
    preview: bytes | None = None


@dataclass(eq=False)
class _Job:
    content: bytes
    deadline: float
    answer: asyncio.Future[Answer]
    with_preview: bool
    since: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, eq=False)
class Model:
    """A reader in use.

    Attributes:
        reader: Reader that has been checked and warmed up.
        version: Version of its bundle as given in responses.
    """

    reader: PlateReader
    version: str


def load_model(path: Path | None, threads: int | None = None) -> Model:
    """Load the model in a bundle's folder, check it and warm it up.

    Args:
        path: Folder of the bundle; None for the promoted one.
        threads: Maximum number of threads used per call; by default the number of available cores.

    Raises:
        BundleError: The bundle is missing or damaged.
        RuntimeUnavailableError: No installed runtime can run the bundle.
    """
    reader = PlateReader.load(path, threads=threads)
    for shape in WARM_UP:
        blank = np.full(shape, 128, np.uint8)
        reader.read(blank)
        reader.read_batch([blank, blank])
    return Model(reader, bundle_version(reader.manifest))


def _preview(image: DecodedImage) -> bytes | None:
    """Return an image as a JPEG of limited size; None if it is too damaged for that."""
    try:
        if image.decode_colour is None:
            return encode(cv2.cvtColor(image.grey, cv2.COLOR_GRAY2RGB))
        return encode(image.decode_colour(image.scale))
    except Exception:
        # Its plates were read; that it cannot be shown must not lose them.
        log.warning("an image was read that cannot be shown", exc_info=True)
        return None


def _step_back() -> None:
    """Give the event loop priority, so that its immediate responses do not wait for images."""
    # On Linux the niceness applies to the thread; elsewhere it would apply to the whole process.
    if sys.platform == "linux":
        os.nice(_NICENESS)


def _failed() -> RefusedError:
    return internal("the server failed to read this image")


def _starting() -> RefusedError:
    return RefusedError(503, "starting", "the server is starting; try again")


class Engine:
    """A queue of images, and workers that read them.

    Args:
        settings: Settings of the server, with the limits of the queue.
        measures: Metrics to record.
    """

    def __init__(self, settings: Settings, measures: Measures) -> None:
        self._settings, self._measures = settings, measures
        self._model: Model | None = None
        self._loading = asyncio.Lock()
        """Held while a bundle is loaded, so that the last one that was asked for is used in the end."""
        self._waiting: OrderedDict[_Job, None] = OrderedDict()
        """Images that wait, the oldest first: a set, because any of them may leave."""
        self._pending = 0
        """Number of images that wait or are being read."""
        self._arrived = asyncio.Event()
        self._idle = settings.workers
        """Number of workers that have nothing to do."""
        self._freed = asyncio.Event()
        self._pool = ThreadPoolExecutor(settings.workers, "read", _step_back)
        self._dispatcher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.arriving = 0
        """Number of requests whose bodies are still arriving."""
        self.is_draining = False

    @property
    def is_ready(self) -> bool:
        """Whether a warmed-up model is loaded and work is accepted."""
        return self._model is not None and not self.is_draining

    @property
    def model(self) -> Model:
        """Model that the next batch is read with."""
        if self._model is None:
            raise _starting()
        return self._model

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another image."""
        return self._pending >= self._settings.queue

    @property
    def pending(self) -> int:
        """Number of images that wait or are being read."""
        return self._pending

    async def start(self) -> None:
        """Load the bundle and start to read batches.

        Raises:
            UserError: The bundle cannot be used.
        """
        # OpenCV would start a thread for each core, whatever the container's CPU quota is.
        cv2.setNumThreads(self._settings.workers)
        async with self._loading:
            self._model = await self._load_model()
        self._measures.reloads.labels("loaded").inc()
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def reload(self) -> None:
        """Reload the bundle; if it cannot be used, log the error and keep the old one."""
        async with self._loading:
            try:
                self._model = await self._load_model()
            except UserError as error:
                self._measures.reloads.labels("refused").inc()
                log.error("the new bundle cannot be used, so the old one is kept: %s", error)
                return
        self._measures.reloads.labels("loaded").inc()
        log.info("now using bundle %s", self.model.version)

    async def _load_model(self) -> Model:
        return await asyncio.to_thread(load_model, self._settings.model, self._settings.workers)

    async def stop(self) -> None:
        """Read the images that wait, then stop."""
        self.is_draining = True
        while self._pending:
            await asyncio.sleep(0.01)
        if self._dispatcher is not None:
            self._dispatcher.cancel()
        await asyncio.to_thread(self._pool.shutdown)

    def check_room(self, images: int) -> None:
        """Raise a ``RefusedError`` if this many images would not be accepted."""
        if self._model is None:
            raise _starting()
        if self._pending + images > self._settings.queue:
            raise overloaded()

    def submit(
        self, contents: Sequence[bytes], deadline: float, with_preview: bool = False
    ) -> list[asyncio.Future[Answer]]:
        """Queue the images of one request.

        Args:
            contents: Contents of the files.
            deadline: Time of ``time.monotonic`` after which nothing is computed.
            with_preview: Whether to return the images as JPEG too.

        Returns:
            A future for each image, with its answer or a ``RefusedError``. Images whose futures are
            cancelled before their turn are not read, and leave the queue at once.

        Raises:
            RefusedError: The queue has no room for the images.
        """
        self.check_room(len(contents))
        loop = asyncio.get_running_loop()
        jobs = [_Job(content, deadline, loop.create_future(), with_preview) for content in contents]
        for job in jobs:
            self._waiting[job] = None
            job.answer.add_done_callback(partial(self._leave, job))
        self._pending += len(jobs)
        self._measures.queue.set(len(self._waiting))
        self._arrived.set()
        return [job.answer for job in jobs]

    # Methods that run on the event loop

    def _leave(self, job: _Job, _: object) -> None:
        """Remove an image from the queue if nobody waits for it any more: its place, and its content."""
        if job in self._waiting:
            del self._waiting[job]
            self._pending -= 1
            self._measures.skipped.inc()
            self._measures.queue.set(len(self._waiting))

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
            # Images being read mean that there are several clients: those just answered send again.
            busy = self.arriving or self._pending > len(self._waiting)
            if busy and len(self._waiting) < self._settings.batch:
                await asyncio.sleep(self._settings.window_ms / 1000)
            # Share the waiting images among the idle workers.
            most = min(self._settings.batch, math.ceil(len(self._waiting) / self._idle))
            batch: list[_Job] = []
            size = 0
            while self._waiting and len(batch) < most:
                job = next(iter(self._waiting))
                if batch and size + len(job.content) > BATCH_BYTES:
                    break
                del self._waiting[job]
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
        except Exception:
            # A bug in this program: clients must not wait for answers that will never come.
            log.exception("failed to read a batch of %d images", len(jobs))
            outcomes = [_failed() for _ in jobs]
        finally:
            self._pending -= len(jobs)
            self._idle += 1
            self._freed.set()
        for job, outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Answer):
                texts = sum(plate.plate is not None for plate in outcome.plates)
                self._measures.image(texts, [plate.confidence for plate in outcome.plates])
            if job.answer.done():
                continue
            if isinstance(outcome, Answer):
                job.answer.set_result(outcome)
            else:
                job.answer.set_exception(outcome)

    # Methods that run in a worker's thread

    def _compute(self, jobs: Sequence[_Job], model: Model) -> list[Answer | RefusedError]:
        outcomes: list[Answer | RefusedError] = []
        while len(outcomes) < len(jobs):
            outcomes += self._compute_first(jobs[len(outcomes) :], model)
        return outcomes

    def _compute_first(self, jobs: Sequence[_Job], model: Model) -> list[Answer | RefusedError]:
        """Decode and read the first images, as many as may be in memory at the same time."""
        started = time.monotonic()
        loaded: list[DecodedImage | RefusedError] = []
        pixels = 0
        for job in jobs:
            image = self._load(job.content)
            loaded.append(image)
            if isinstance(image, DecodedImage):
                pixels += image.grey.size
            if pixels > BATCH_PIXELS:
                break
        images = [image for image in loaded if isinstance(image, DecodedImage)]
        found = iter(self._read(images, model))
        read = [
            (image, next(found)) if isinstance(image, DecodedImage) else image for image in loaded
        ]
        compute_ms = (time.monotonic() - started) * 1000
        outcomes: list[Answer | RefusedError] = []
        for job, result in zip(jobs[: len(read)], read, strict=True):
            if isinstance(result, RefusedError):
                outcomes.append(result)
                continue
            image, plates = result
            if isinstance(plates, RefusedError):
                outcomes.append(plates)
                continue
            queue_ms = (started - job.since) * 1000
            outcomes.append(
                Answer(
                    plates,
                    image.width,
                    image.height,
                    model.version,
                    queue_ms,
                    compute_ms,
                    image.warnings,
                    _preview(image) if job.with_preview else None,
                )
            )
        return outcomes

    def _load(self, content: bytes) -> DecodedImage | RefusedError:
        settings = self._settings
        try:
            return load_image(content, settings.max_pixels, settings.max_side, UPLOAD_FORMATS)
        except UnsupportedImageError as error:
            return RefusedError(415, "unsupported_format", str(error), "formats")
        except TooLargeImageError as error:
            return RefusedError(413, "image_too_large", str(error), error.limit)
        except ImageError as error:
            return RefusedError(400, "damaged_image", str(error))

    def _read(
        self, images: Sequence[DecodedImage], model: Model
    ) -> list[Sequence[Plate] | RefusedError]:
        if not images:
            return []
        try:
            if len(images) == 1:
                return [model.reader.read(images[0])]
            return [*model.reader.read_batch(images)]
        except Exception:
            # A bug in this program: the images that do not trigger it must not fail because of it.
            if len(images) > 1:
                return [self._read([image], model)[0] for image in images]
            log.exception(
                "failed to read an image of %d x %d pixels", images[0].width, images[0].height
            )
            return [_failed()]
