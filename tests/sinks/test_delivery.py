"""Events reach every sink in order, whatever a sink does, and are told about where they do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from src.sinks.base import Parcel
from src.sinks.delivery import BackOff, Dispatcher
from src.sinks.outbox import Outbox, OutboxError
from tests.serving import wait_until
from tests.sinks.samples import Failing, away, event, refusal

SOON = BackOff(first=0.01, longest=0.02)


class Setting:
    """A dispatcher with an outbox in a folder, and what it has said."""

    def __init__(self, folder: Path, *sinks: Failing, **options: object) -> None:
        self.said: list[str] = []
        path = folder / "outbox.db"
        max_bytes = options.pop("max_bytes", 2**28)
        outbox = Outbox(path, max_bytes)  # type: ignore[arg-type]
        values: dict[str, object] = {"back_off": SOON, **options}
        self.dispatcher = Dispatcher(outbox, sinks, self.said.append, **values)  # type: ignore[arg-type]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Setting]:
    return lambda *sinks, **options: Setting(tmp_path, *sinks, **options)


def numbers(sink: Failing) -> list[int]:
    return [int(parcel.id, 16) for parcel in sink.taken]


def test_all_sinks_get_all_events_in_order(start: Callable[..., Setting]) -> None:
    first, second = Failing(name="first"), Failing(away(), name="second")
    setting = start(first, second)
    for number in range(1, 31):
        setting.dispatcher.take(event(number=number))
    setting.dispatcher.close()
    assert numbers(first) == numbers(second) == list(range(1, 31))
    assert first.is_closed
    assert second.is_closed
    outcome = setting.dispatcher.outcome
    assert (outcome.waiting, outcome.set_aside, outcome.dropped) == (0, 0, 0)


def test_a_sink_that_is_away_is_tried_again_and_that_is_said_once(
    start: Callable[..., Setting],
) -> None:
    sink = Failing(away(), away(), away(), ValueError("odd"))
    setting = start(sink)
    for number in (1, 2):
        setting.dispatcher.take(event(number=number))
    wait_until(lambda: len(sink.taken) == 2)
    setting.dispatcher.close()
    assert numbers(sink) == [1, 2]
    assert setting.said == [
        "sink: is away; events wait, and are tried again",
        "sink: ValueError: odd; events wait, and are tried again",
        "sink: reached again",
    ]


def test_what_a_sink_refuses_is_set_aside_until_the_next_start(
    start: Callable[..., Setting],
) -> None:
    sink = Failing(None, refusal(), refusal())
    setting = start(sink)
    for number in range(1, 6):
        setting.dispatcher.take(event(number=number))
    setting.dispatcher.close()
    assert numbers(sink) == [1, 4, 5]
    assert setting.dispatcher.outcome.set_aside == 2
    assert setting.said == ["sink: says no; the event is set aside until the next start"]
    again = Failing()
    start(again).dispatcher.close()
    assert numbers(again) == [2, 3]


def test_what_is_left_is_sent_at_the_next_start(start: Callable[..., Setting]) -> None:
    gone = Failing(*[away() for _ in range(10_000)])
    setting = start(gone, back_off=BackOff(first=60, longest=60))
    for number in (1, 2):
        setting.dispatcher.take(event(number=number))
    wait_until(lambda: gone.tries > 0)
    begin = time.monotonic()
    setting.dispatcher.close()
    assert time.monotonic() - begin < 5
    assert setting.dispatcher.outcome.waiting == 2
    other = start(Failing(name="other"))
    other.dispatcher.close()
    assert "events that wait for other sinks than those given: 2" in other.said[0]
    sink = Failing()
    setting = start(sink)
    setting.dispatcher.close()
    assert numbers(sink) == [1, 2]
    assert "events of before that are sent now: 2" in setting.said[0]


def test_a_sink_that_hangs_holds_up_neither_others_nor_the_end(
    start: Callable[..., Setting],
) -> None:
    released = threading.Event()

    class Hanging(Failing):
        def deliver(self, parcel: Parcel) -> None:
            self.tries += 1
            released.wait(60)

    hanging, sink = Hanging(name="hanging"), Failing()
    setting = start(hanging, sink)
    for number in (1, 2, 3):
        setting.dispatcher.take(event(number=number))
    wait_until(lambda: len(sink.taken) == 3 and hanging.tries == 1)
    begin = time.monotonic()
    setting.dispatcher.close(patience=0.3)
    assert time.monotonic() - begin < 5
    assert setting.dispatcher.outcome.waiting == 3
    released.set()
    again = Failing(name="hanging")
    start(again).dispatcher.close()
    assert numbers(again) == [1, 2, 3]


def test_the_end_waits_as_long_as_there_is_progress(start: Callable[..., Setting]) -> None:
    class Slow(Failing):
        def deliver(self, parcel: Parcel) -> None:
            time.sleep(0.3)
            super().deliver(parcel)

    sink = Slow()
    setting = start(sink)
    for number in range(1, 13):
        setting.dispatcher.take(event(number=number))
    setting.dispatcher.close(patience=3)
    assert len(sink.taken) == 12
    hurried = Slow()
    setting = start(hurried)
    for number in range(1, 31):
        setting.dispatcher.take(event(number=number))
    setting.dispatcher.close(longest=0.5)
    assert 0 < setting.dispatcher.outcome.waiting <= 30


def test_another_side_may_ask_to_wait(start: Callable[..., Setting]) -> None:
    sink = Failing(away(wait=0.5))
    setting = start(sink)
    begin = time.monotonic()
    setting.dispatcher.take(event())
    wait_until(lambda: bool(sink.taken))
    assert time.monotonic() - begin >= 0.5
    setting.dispatcher.close()


def test_pauses_grow_up_to_the_longest_with_jitter() -> None:
    back_off = BackOff(first=1.0, longest=60.0)
    for failures, whole in ((1, 1), (2, 2), (5, 16), (7, 60), (10_000, 60)):
        pauses = {back_off.pause(failures) for _ in range(50)}
        assert whole / 2 <= min(pauses) < max(pauses) <= whole
    assert back_off.pause(1, least=120) == 120
    assert back_off.pause(1, least=1e9) == 3600


def test_a_full_outbox_drops_the_oldest_and_says_so(start: Callable[..., Setting]) -> None:
    sink = Failing(*[away() for _ in range(10_000)])
    setting = start(sink, max_bytes=2500, back_off=BackOff(first=60, longest=60))
    for number in range(1, 11):
        setting.dispatcher.take(event(number=number))
    setting.dispatcher.close()
    outcome = setting.dispatcher.outcome
    assert outcome.dropped > 0
    assert outcome.waiting + outcome.dropped == 10
    assert sum(
        "the oldest events were dropped, as it is full: 1" in each for each in setting.said
    ) == (outcome.dropped)
    again = Failing()
    start(again).dispatcher.close()
    assert numbers(again) == list(range(outcome.dropped + 1, 11))


def test_what_has_waited_for_too_long_is_dropped(
    start: Callable[..., Setting], tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    from tests.sinks.samples import parcel

    outbox.put(parcel(1), ["sink"], now=time.time() - 8 * 86400)
    outbox.put(parcel(2), ["sink"], now=time.time() - 6 * 86400)
    outbox.close()
    sink = Failing()
    setting = start(sink)
    setting.dispatcher.close()
    assert numbers(sink) == [2]
    assert "as they have waited for 7 days: 1" in setting.said[0]


def test_an_outbox_that_fails_is_an_error_of_the_caller(start: Callable[..., Setting]) -> None:
    setting = start(Failing())
    setting.dispatcher._outbox._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(OutboxError):
        setting.dispatcher.take(event())
    setting.dispatcher.close()


def test_an_outbox_that_fails_for_a_while_ends_nothing(start: Callable[..., Setting]) -> None:
    sink = Failing(away(), away())
    setting = start(sink)
    setting.dispatcher.take(event())
    connection = setting.dispatcher._outbox._connection
    connection.execute("PRAGMA query_only = ON")
    # It is delivered, but that cannot be noted: at least once.
    wait_until(lambda: len(sink.taken) > 2)
    connection.execute("PRAGMA query_only = OFF")
    wait_until(lambda: not setting.dispatcher._outbox.waiting())
    setting.dispatcher.close()
    assert set(numbers(sink)) == {1}
    assert sum("free some disk space" in each for each in setting.said) == 1


def test_upkeep_is_done_without_events_and_failures_of_it_are_said(
    start: Callable[..., Setting],
) -> None:
    class Unreachable(Failing):
        def upkeep(self) -> None:
            super().upkeep()
            if self.upkeeps < 4:
                raise away()

    sink = Unreachable()
    setting = start(sink, upkeep=0.05)
    wait_until(lambda: sink.upkeeps > 5)
    setting.dispatcher.close()
    assert setting.said == [
        "sink: is away; events wait, and are tried again",
        "sink: reached again",
    ]


def test_images_go_where_they_are_asked_for(start: Callable[..., Setting]) -> None:
    for with_images in (False, True):
        sink = Failing()
        setting = start(sink, with_images=with_images)
        setting.dispatcher.take(event(image=b"jpeg"))
        setting.dispatcher.close()
        (parcel,) = sink.taken
        assert parcel.image == (b"jpeg" if with_images else None)
        assert "image" not in parcel.plain()["best"]
