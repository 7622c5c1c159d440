"""Background storage of images that were read: off the event loop, batched, with a bounded queue.

A store that fails or is full never makes a reading fail: the response then has no id, and this is
counted. Images whose ids were given are stored when the store works again, if that is soon.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TypeVar
from uuid import uuid4

from ..flywheel.corrections import Correction
from ..flywheel.errors import StoreError, StoreFullError
from ..flywheel.store import Capture, Store
from ..flywheel.tables import Feedback
from .engine import Answer
from .measures import Measures
from .refusals import RefusedError

_WAITING = 64
_WAITING_BYTES = 64 * 2**20
"""Maximum number of images that wait, and maximum total size of their files in bytes."""
_BATCH = 16
"""Maximum number of images that are stored in one transaction."""
_PAUSE_S = 5.0
"""Seconds after a failure until the next attempt; meanwhile no other image is kept."""
_ATTEMPTS = 25
"""Number of attempts to store an image: two minutes, for a restart of the database or a disk that is full."""
_PURGE_S = 3600.0
_LOG_S = 3600.0
"""Seconds in which a kind of failure is logged once; /metrics counts each of them."""
_THREADS = 4
"""Number of threads for feedback and deletions, which clients wait for."""

_T = TypeVar("_T")

log = logging.getLogger("plates.feedback")


class Recorder:
    """A queue in front of a store.

    Args:
        store: Open store, which the recorder closes.
        measures: Metrics that record what is kept.
    """

    def __init__(self, store: Store, measures: Measures) -> None:
        self._store, self._measures = store, measures
        self._waiting: deque[Capture] = deque()
        self._waiting_bytes = 0
        self._unsaved: dict[str, asyncio.Future[None]] = {}
        """Futures by id of the image, done when the image is stored or will never be."""
        self._arrived = asyncio.Event()
        self._refusal: str | None = None
        """Reason why nothing is kept until ``_refused_until``."""
        self._refused_until = 0.0
        self._logged: dict[str, float] = {}
        """Times at which kinds of failures were logged last."""
        self._saver = ThreadPoolExecutor(1, "keep")
        self._pool = ThreadPoolExecutor(_THREADS, "feedback")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start to store images and to delete those that are too old."""
        self._tasks = [asyncio.create_task(self._save()), asyncio.create_task(self._purge())]

    async def stop(self, seconds: float) -> None:
        """Store the images that wait, for at most ``seconds``, then stop."""
        self._refusal, self._refused_until = "stopping", math.inf
        if self._unsaved:
            _, lost = await asyncio.wait(self._unsaved.values(), timeout=seconds)
            if lost:
                log.error("%d images are lost: the store has failed until the end", len(lost))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._saver, self._pool):
            pool.shutdown(wait=False, cancel_futures=True)
        self._store.close()

    def keep(self, content: bytes, answer: Answer) -> str | None:
        """Queue an image to be stored.

        Args:
            content: Content of the file as it was sent.
            answer: Plates that were read in the image.

        Returns:
            The id of the image, or None if it is not kept.
        """
        if self._refusal is not None and time.monotonic() < self._refused_until:
            self._measures.captures.labels(self._refusal).inc()
            return None
        if len(self._waiting) >= _WAITING or self._waiting_bytes + len(content) > _WAITING_BYTES:
            self._measures.captures.labels("queue_full").inc()
            self._log("queue_full", "images arrive faster than they can be stored")
            return None
        entry = uuid4().hex
        self._waiting.append(
            Capture(
                entry,
                content,
                answer.plates,
                answer.width,
                answer.height,
                answer.version,
                datetime.now(UTC),
            )
        )
        self._waiting_bytes += len(content)
        self._unsaved[entry] = asyncio.get_running_loop().create_future()
        self._arrived.set()
        return entry

    async def add_feedback(
        self, entry: str, plate: int | None, verdict: str, correction: Correction, deadline: float
    ) -> Feedback:
        """Store feedback, which is on disk when this method returns.

        Args:
            entry: Id of an image, which may still be waiting.
            plate: Index of the plate in the image, or None.
            verdict: Verdict as in ``Store.add_feedback``.
            correction: Correction as in ``Store.add_feedback``.
            deadline: Deadline as a time of ``time.monotonic``.

        Raises:
            UnknownEntryError: The image or the plate does not exist.
            CorrectionError: The feedback contradicts itself, or violates the plate grammar.
            RefusedError: The store fails, or took too long.
        """
        feedback = await self._in_time(
            entry, deadline, lambda: self._store.add_feedback(entry, plate, verdict, correction)
        )
        self._measures.feedback.labels(verdict).inc()
        return feedback

    async def delete(self, entry: str, deadline: float) -> None:
        """Delete an image with everything that belongs to it.

        Args:
            entry: Id of the image.
            deadline: Deadline as a time of ``time.monotonic``.

        Raises:
            UnknownEntryError: The image does not exist.
            RefusedError: The store fails, or took too long.
        """
        await self._in_time(entry, deadline, lambda: self._store.delete(entry))

    async def _in_time(self, entry: str, deadline: float, work: Callable[[], _T]) -> _T:
        """Run work on an image once it is stored, and give up at the deadline."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                if entry in self._unsaved:
                    await asyncio.shield(self._unsaved[entry])
                return await loop.run_in_executor(self._pool, work)
        except TimeoutError:
            raise RefusedError(
                503, "deadline", "the store did not respond in time; try again", "deadline_s"
            ) from None
        except StoreError as error:
            self._log("feedback", str(error))
            raise RefusedError(
                503, "store_failed", "the feedback store is not available; try again"
            ) from None

    # Background tasks

    async def _save(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                self._waiting_bytes -= sum(len(capture.content) for capture in batch)
                await self._save_batch(batch)

    async def _save_batch(self, batch: list[Capture]) -> None:
        stored: set[str] = set()
        outcome = "failed"
        try:
            stored = await self._attempt_to_save(batch)
        except StoreFullError as error:
            outcome = "store_full"
            self._pause(outcome, str(error))
        except StoreError:
            log.error("%d images are lost: the store has failed for too long", len(batch))
        except Exception:
            # A bug in this program: the images that come next must not fail because of it.
            log.exception("failed to store images")
        finally:
            for capture in batch:
                self._unsaved.pop(capture.id).set_result(None)
        if stored:
            self._measures.captures.labels("kept").inc(len(stored))
        if len(stored) < len(batch):
            self._measures.captures.labels(outcome).inc(len(batch) - len(stored))

    async def _attempt_to_save(self, batch: list[Capture]) -> set[str]:
        """Store images, as their ids have been given, and return the ids of those that are stored.

        Raises:
            StoreFullError: The store has no room for more.
            StoreError: The last attempt has failed.
        """
        loop = asyncio.get_running_loop()
        attempt = 1
        while True:
            try:
                return await loop.run_in_executor(self._saver, self._store.save, batch)
            except StoreFullError:
                raise
            except StoreError as error:
                self._pause("failed", str(error))
                if attempt == _ATTEMPTS:
                    raise
            attempt += 1
            await asyncio.sleep(_PAUSE_S)

    async def _purge(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                deleted = await loop.run_in_executor(
                    self._pool, self._store.purge, datetime.now(UTC)
                )
                if deleted:
                    log.info("deleted %d images past their retention period", deleted)
            except StoreError as error:
                self._log("purge", str(error))
            except Exception:
                log.exception("failed to delete expired images")
            await asyncio.sleep(_PURGE_S)

    def _pause(self, outcome: str, reason: str) -> None:
        self._refusal, self._refused_until = outcome, time.monotonic() + _PAUSE_S
        self._log(outcome, reason)

    def _log(self, kind: str, reason: str) -> None:
        """Log a failure, unless one of its kind was logged a short time ago."""
        now = time.monotonic()
        if now - self._logged.get(kind, -math.inf) >= _LOG_S:
            self._logged[kind] = now
            log.error("%s (logged at most once an hour; see /metrics for the count)", reason)
