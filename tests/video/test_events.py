"""When events are given, revised and continued."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import count

import cv2
import msgspec
import numpy as np
from msgspec import UNSET

from src.inference.reader import Plate
from src.video.confidence import EventCalibration, event_calibration
from src.video.events import CONTINUED, Event, EventBook
from src.video.settings import Settings
from src.video.tracks import Tracker
from src.video.vote import Vote
from tests.video.footage import plate


class Surest(EventCalibration, frozen=True):
    """Takes the mean probability of the text for that of the event."""

    def probability(self, vote: Vote) -> float:
        return vote.share


CALIBRATION = Surest(**{**msgspec.structs.asdict(event_calibration()), "threshold": 0.5})


class Scene:
    """A source whose frames are lists of plates, four a second."""

    def __init__(self, started: datetime | None = None, **settings: object) -> None:
        numbers = count(1)
        self.tracker = Tracker()
        self.book = EventBook(
            "gate",
            msgspec.convert(settings, Settings),
            started,
            CALIBRATION,
            lambda: f"event-{next(numbers)}",
        )
        self.time = 0.0

    def show(self, plates: Sequence[Plate], seconds: float) -> list[Event]:
        """Show plates for a time."""
        events: list[Event] = []
        for _ in range(round(4 * seconds)):
            self.time += 0.25
            frame = np.full((8, 8, 3), 50, np.uint8)
            gone = self.tracker.update(self.time, plates, frame)
            events += self.book.update(self.time, self.tracker.tracks, gone)
        return events

    def close(self) -> list[Event]:
        return self.book.update(self.time, [], self.tracker.close())


def test_a_vehicle_is_one_event_when_it_has_gone() -> None:
    scene = Scene()
    assert not scene.show([plate(colour="blue", colour_confidence=0.9, format="front")], 2)
    (event,) = scene.show([], 3)
    assert (event.id, event.revision, event.source) == ("event-1", 1, "gate")
    assert (event.plate, event.canton, event.number) == ("ZH123456", "ZH", "123456")
    assert (event.colour, event.format, event.reason) == ("blue", "front", None)
    assert (event.first, event.last, event.frames, event.reads) == (0.25, 2.0, 8, 8)
    assert event.confidence == 0.9
    assert (event.first_at, event.best.time) == (UNSET, 0.25)
    assert not scene.show([], 5)
    assert not scene.close()


def test_one_that_stays_is_given_after_the_delay_and_once() -> None:
    scene = Scene(delay=2)
    assert not scene.show([plate()], 2)
    (event,) = scene.show([plate()], 0.25)
    assert event.last == 2.25
    assert not scene.show([plate()], 60)
    assert not scene.show([], 3)
    assert not scene.close()


def test_a_better_text_is_a_revision() -> None:
    scene = Scene(delay=1)
    weak = plate("ZH12345", confidence=0.6, others=[("ZH123456", 0.3)])
    (first,) = scene.show([weak], 2)
    assert (first.plate, first.revision) == ("ZH12345", 1)
    events = scene.show([plate(confidence=0.98)], 5)
    assert [(event.plate, event.revision, event.id) for event in events] == [
        ("ZH123456", 2, first.id)
    ]
    assert events[0].first == first.first
    assert not scene.show([], 3)


def test_a_text_that_is_no_better_is_none() -> None:
    scene = Scene(delay=1)
    (first,) = scene.show([plate(confidence=0.95)], 2)
    assert first.plate == "ZH123456"
    other = plate("ZH12345", confidence=0.55, others=[("ZH123456", 0.05)])
    assert not scene.show([other], 20)


def test_one_that_comes_back_within_a_minute_continues_its_event() -> None:
    scene = Scene()
    scene.show([plate()], 1)
    assert len(scene.show([], 3)) == 1
    scene.show([], CONTINUED - 10)
    assert not scene.show([plate(at=(900, 500))], 1)
    assert not scene.show([], 3)
    scene.show([], CONTINUED + 5)
    scene.show([plate()], 1)
    (event,) = scene.show([], 3)
    assert (event.id, event.revision) == ("event-2", 1)


def test_another_colour_or_format_is_another_vehicle() -> None:
    for first, second in (
        (
            {"colour": "blue", "colour_confidence": 0.9},
            {"colour": "white", "colour_confidence": 0.9},
        ),
        ({"format": "front"}, {"format": "motorcycle"}),
    ):
        scene = Scene()
        scene.show([plate(**first)], 1)
        scene.show([], 3)
        scene.show([plate(**second)], 1)
        assert len(scene.show([], 3)) == 1
        # What cannot be told contradicts nothing.
        scene.show([plate()], 1)
        assert not scene.show([], 3)


def test_two_plates_of_one_vehicle_at_once_are_one_event() -> None:
    scene = Scene(delay=1)
    unsure = plate("GE1", (700, 300), confidence=0.3, others=[("ZH123456", 0.6)])
    events = scene.show([plate(), unsure], 6) + scene.show([], 3) + scene.close()
    assert [event.plate for event in events] == ["ZH123456"]


def test_unread_plates_are_given_if_asked_for() -> None:
    hidden = plate("ZH1", confidence=0.2, reason="incomplete")
    for unread, expected in ((False, []), (True, [(None, "incomplete")])):
        scene = Scene(unread=unread)
        scene.show([hidden], 1)
        events = scene.show([], 3)
        assert [(event.plate, event.reason) for event in events] == expected
    # What is seen in one frame only may be anything.
    scene = Scene(unread=True)
    scene.show([hidden], 0.25)
    assert not scene.show([], 3)


def test_what_was_unread_gets_its_text_in_a_revision() -> None:
    scene = Scene(unread=True, delay=1)
    (first,) = scene.show([plate("ZH1", confidence=0.2)], 2)
    assert first.plate is None
    (second,) = scene.show([plate(confidence=0.99)], 5)
    assert (second.id, second.revision, second.plate) == (first.id, 2, "ZH123456")


def test_the_threshold_can_be_set() -> None:
    for least, count_ in ((0.85, 1), (0.95, 0)):
        scene = Scene(min_confidence=least)
        scene.show([plate(confidence=0.9)], 1)
        assert len(scene.show([], 3)) == count_


def test_a_single_frame_must_be_surer() -> None:
    """Nothing confirms it. With a threshold that was asked for, that alone counts."""
    for confidence, seconds, count_ in ((0.9, 0.25, 0), (0.9, 0.5, 1), (0.99, 0.25, 1)):
        scene = Scene()
        scene.show([plate(confidence=confidence)], seconds)
        assert len(scene.show([], 3)) == count_, (confidence, seconds)
    scene = Scene(min_confidence=0.85)
    scene.show([plate(confidence=0.9)], 0.25)
    assert len(scene.show([], 3)) == 1


def test_live_sources_have_the_wall_clock() -> None:
    scene = Scene(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    scene.show([plate()], 1)
    (event,) = scene.show([], 3)
    assert event.first_at == datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
    assert msgspec.to_builtins(event)["last_at"] == "2026-01-02T03:04:06Z"


def test_the_best_frame_is_that_of_the_surest_reading() -> None:
    scene = Scene()
    scene.show([plate(confidence=0.8)], 1)
    scene.show([plate(confidence=0.97, at=(120, 100))], 0.25)
    scene.show([plate(confidence=0.7, at=(130, 100))], 1)
    (event,) = scene.show([], 3)
    assert event.best.time == 1.25
    assert event.best.box == (90, 92.5, 150, 107.5)
    assert isinstance(event.best.image, bytes)
    decoded = cv2.imdecode(np.frombuffer(event.best.image, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (8, 8, 3)


def test_an_event_is_a_json_object_with_the_documented_fields() -> None:
    scene = Scene()
    scene.show([plate(others=[("ZH12345", 0.06)])], 1)
    (event,) = scene.show([], 3)
    value = msgspec.json.decode(msgspec.json.encode(event))
    assert {
        "id", "revision", "source", "plate", "canton", "number", "colour", "format", "confidence",
        "first", "last", "frames", "reads", "direction", "alternatives", "best",
    } <= set(value)  # fmt: skip
    assert value["alternatives"][0] == {"plate": "ZH123456", "confidence": 0.9}
    assert sum(each["confidence"] for each in value["alternatives"]) <= 1
    assert set(value["best"]) == {"time", "box", "corners", "image"}
    assert msgspec.convert(value, Event) == event


def test_memory_stays_flat() -> None:
    scene = Scene(delay=0.5)
    for number in range(300):
        scene.show([plate(f"ZH{number * 7919 % 1000000}", (100, 100))], 1)
        scene.show([], 2)
    assert len(scene.book._recent) <= CONTINUED / 3 + 2
    assert len(scene.book._given) <= 1
    assert all(
        each.frame is None
        for given in scene.book._recent
        if not given.is_open
        for each in given.track.vote.surest.values()
    )
