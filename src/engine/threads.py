"""Process a stream of items in threads of this process, in order and with bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


def map_in_order(
    function: Callable[[list[Item]], Sequence[Output]],
    items: Iterable[Item],
    workers: int,
    largest: int = 1,
) -> Iterator[Output]:
    """Apply a function to batches of items and yield its outputs in the order of the items.

    An output is yielded as soon as it and all outputs before it are ready, even if the next item takes
    long to arrive. At most ``(2 * workers + 1) * largest`` items are held at any time. Closing the
    iterator drops batches that have not started.

    Args:
        function: Function that takes a batch of 1 to ``largest`` items and returns an output for each.
        items: Any iterable; it is consumed in a separate thread.
        workers: Number of threads that call the function.
        largest: Maximum batch size. Batches are smaller while items arrive slowly.

    Raises:
        Exception: Whatever the iterable or the function raises, after all outputs before it.
    """
    source = _Source(items, workers * largest)
    pool = ThreadPoolExecutor(workers, "map_in_order")
    pending: deque[Future[Sequence[Output]]] = deque()
    try:
        while True:
            # Keep one batch queued, so that no worker is idle.
            batch = source.take(pending, workers, largest)
            if batch:
                future = pool.submit(function, batch)
                future.add_done_callback(source.wake)
                pending.append(future)
            elif pending:
                yield from pending.popleft().result()
            else:
                return
    finally:
        source.close()
        pool.shutdown(wait=False, cancel_futures=True)


class _Source(Generic[Item]):
    """Queue of items waiting for a worker, filled from an iterable by a thread."""

    def __init__(self, items: Iterable[Item], limit: int) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[Item] = deque()
        self._limit = limit
        self._is_closed = False
        self._is_exhausted = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._fill, args=(items,), daemon=True).start()

    def _fill(self, items: Iterable[Item]) -> None:
        try:
            for item in items:
                with self._changed:
                    self._changed.wait_for(
                        lambda: len(self._waiting) < self._limit or self._is_closed
                    )
                    if self._is_closed:
                        return
                    self._waiting.append(item)
                    self._changed.notify_all()
        except BaseException as error:
            self._failure = error
        with self._changed:
            self._is_exhausted = True
            self._changed.notify_all()

    def take(self, pending: deque[Future[Sequence[Output]]], workers: int, size: int) -> list[Item]:
        """Wait for the next batch; return [] if the oldest pending one is done or no items are left.

        Raises:
            BaseException: Whatever the iterable raised, once all items before it are taken and done.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    (pending and pending[0].done())
                    or (self._waiting and len(pending) <= workers)
                    or (self._is_exhausted and not self._waiting)
                )
            )
            if (pending and pending[0].done()) or len(pending) > workers or not self._waiting:
                if not pending and self._failure is not None:
                    raise self._failure
                return []
            # Split evenly if too few items wait to fill the batches of all workers.
            count = min(size, 1 + len(self._waiting) // workers, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            self._changed.notify_all()
            return batch

    def wake(self, _: Future[Sequence[Output]]) -> None:
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
