"""From the outbox to the sinks: a thread for each, in order, again and again with growing pauses."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..video.events import Event
from .base import Sink, parcel_of
from .errors import DeliveryError
from .outbox import Outbox, OutboxError

Report = Callable[[str], None]
"""Takes a message for people."""

MAX_AGE_DAYS = 7.0
"""Days for which an event waits for a sink at most: events are personal data."""
_LONGEST_WAIT = 3600.0
"""Seconds that another side may ask to wait at most."""
_HOUR = 3600.0


@dataclass(frozen=True)
class BackOff:
    """Pauses between tries: each twice the one before, with jitter, up to a longest one.

    Half of a pause is random, so that many senders do not come back all at once (M. Brooker: Exponential
    backoff and jitter, AWS architecture blog, 2015).

    Attributes:
        first: Seconds after the first failure.
        longest: Longest pause in seconds.
    """

    first: float = 1.0
    longest: float = 60.0

    def pause(self, failures: int, least: float = 0.0) -> float:
        """Return the seconds to wait.

        Args:
            failures: Number of failures in a row, at least one.
            least: Least seconds that the other side asks for.
        """
        # 2 to the power of a large number is no float.
        whole = min(self.first * 2 ** min(failures - 1, 30), self.longest)
        return max(whole * random.uniform(0.5, 1.0), min(least, _LONGEST_WAIT))  # noqa: S311


@dataclass
class Outcome:
    """What became of the events.

    Attributes:
        waiting: Number of deliveries that are left for the next start.
        set_aside: Number of deliveries that a sink refused.
        dropped: Number of events that were dropped as the outbox was full, or as they were too old.
    """

    waiting: int = 0
    set_aside: int = 0
    dropped: int = 0


class Dispatcher:
    """Takes events and delivers them to all sinks, each in a thread of its own.

    Args:
        outbox: Holds what was not delivered yet; ``close`` closes it.
        sinks: Sinks with different keys.
        report: Takes messages for people; it is called from the sinks' threads.
        with_images: Whether events go with their best frame.
        max_age_days: Days for which an event waits at most.
        back_off: Pauses between tries.
        upkeep: Seconds between calls of the sinks' ``upkeep``.

    Raises:
        OutboxError: The outbox fails.
    """

    def __init__(
        self,
        outbox: Outbox,
        sinks: Sequence[Sink],
        report: Report,
        with_images: bool = False,
        max_age_days: float = MAX_AGE_DAYS,
        back_off: BackOff = BackOff(),
        upkeep: float = 30.0,
    ) -> None:
        self._outbox, self._report, self._with_images = outbox, report, with_images
        self._max_age = max_age_days * 86400
        self.outcome = Outcome()
        """What became of the events; complete after ``close``."""
        self._lock = threading.Lock()
        self._cleaned = -_HOUR
        self._keys = [sink.key for sink in sinks]
        self._couriers = [_Courier(sink, outbox, self, report, back_off, upkeep) for sink in sinks]
        outbox.restore()
        self.clean()
        if left := self._left():
            report(f"{outbox.name}: events of before that are sent now: {left}")
        if other := sum(outbox.waiting().values()) - left:
            report(f"{outbox.name}: events that wait for other sinks than those given: {other}")
        for courier in self._couriers:
            courier.start()

    def take(self, event: Event) -> None:
        """Take an event. It will be delivered, even if the process is killed after this call.

        Raises:
            OutboxError: The outbox cannot be written; the event will not be delivered.
        """
        dropped = self._outbox.put(parcel_of(event, self._with_images), self._keys)
        if dropped:
            self._drop(dropped, "it is full")
        for courier in self._couriers:
            courier.wake()

    def close(self, patience: float = 10.0, longest: float = 60.0) -> None:
        """Deliver what can be delivered at once, then end all threads.

        Args:
            patience: Seconds to wait for one more delivery.
            longest: Seconds to wait at most.
        """
        for courier in self._couriers:
            courier.end()
        begin = moved = time.monotonic()
        left = self._left()
        while alive := [courier for courier in self._couriers if courier.is_alive()]:
            now = time.monotonic()
            if now - moved >= patience or now - begin >= longest:
                break
            alive[0].join(0.05)
            before, left = left, self._left()
            moved = time.monotonic() if left < before else moved
        self.outcome.set_aside = sum(courier.set_aside for courier in self._couriers)
        self.outcome.waiting = self._left()
        self._outbox.close()

    def _left(self) -> int:
        """Return the number of deliveries to its sinks that are left."""
        waiting = self._outbox.waiting()
        return sum(waiting.get(key, 0) for key in self._keys)

    def clean(self) -> None:
        """Delete events that have waited for too long, at most once an hour.

        Raises:
            OutboxError: The outbox fails.
        """
        with self._lock:
            now = time.monotonic()
            if now - self._cleaned < _HOUR:
                return
            self._cleaned = now
        if old := self._outbox.expire(time.time() - self._max_age):
            self._drop(old, f"they have waited for {self._max_age / 86400:g} days")

    def _drop(self, count: int, why: str) -> None:
        with self._lock:
            self.outcome.dropped += count
        self._report(f"{self._outbox.name}: the oldest events were dropped, as {why}: {count}")


class _Courier(threading.Thread):
    """Delivers to one sink."""

    def __init__(
        self,
        sink: Sink,
        outbox: Outbox,
        dispatcher: Dispatcher,
        report: Report,
        back_off: BackOff,
        upkeep: float,
    ) -> None:
        # A thread that hangs in a connection must not keep the process.
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self.set_aside = 0
        self._sink, self._outbox, self._dispatcher = sink, outbox, dispatcher
        self._report, self._back_off, self._upkeep = report, back_off, upkeep
        self._cared = -upkeep
        self._failures = 0
        self._said = ""
        self._work, self._closing = threading.Event(), threading.Event()

    def wake(self) -> None:
        """Tell it that there is an event."""
        self._work.set()

    def end(self) -> None:
        """Tell it to end when it has nothing to do, or fails."""
        self._closing.set()
        self._work.set()

    def run(self) -> None:
        goes_on = True
        while goes_on:
            try:
                goes_on = self._step()
            except OutboxError as error:
                # At the end of the dispatcher's patience, the outbox is closed. A disk that is full or a
                # folder that is away may be there again later.
                goes_on = not self._closing.is_set() and self._failed(
                    DeliveryError(str(error)), None
                )
        self._sink.close()

    def _step(self) -> bool:
        """Deliver an event, or wait for one; return whether to go on.

        Raises:
            OutboxError: The outbox fails.
        """
        self._work.clear()
        found = self._outbox.first(self._sink.key)
        is_due = time.monotonic() - self._cared >= self._upkeep and not self._closing.is_set()
        try:
            if is_due:
                self._dispatcher.clean()
                self._sink.upkeep()
                self._cared = time.monotonic()
            if found is not None:
                self._sink.deliver(found[1])
        except DeliveryError as error:
            return self._failed(error, found and found[0])
        except OutboxError:
            raise
        except Exception as error:
            # A fault of this program must not lose what is waiting.
            return self._failed(DeliveryError(f"{type(error).__name__}: {error}"), None)
        if found is not None:
            self._outbox.done(found[0], self._sink.key)
        if is_due or found is not None:
            if self._failures:
                self._report(f"{self._sink.name}: reached again")
            self._failures, self._said = 0, ""
        if found is None:
            if self._closing.is_set():
                return False
            self._work.wait(self._upkeep)
        return True

    def _failed(self, error: DeliveryError, number: int | None) -> bool:
        if error.is_final and number is not None:
            self._outbox.set_aside(number, self._sink.key)
            self.set_aside += 1
            self._say(f"{error}; the event is set aside until the next start")
            return True
        self._failures += 1
        self._say(f"{error}; events wait, and are tried again")
        if self._closing.is_set():
            return False
        self._closing.wait(self._back_off.pause(self._failures, error.wait))
        return True

    def _say(self, text: str) -> None:
        """Report a failure, but not the same one again and again."""
        if text != self._said:
            self._said = text
            self._report(f"{self._sink.name}: {text}")
