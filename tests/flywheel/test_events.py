"""The table of events: revisions replace, rows are found, counted, deleted, and do not outlive their time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from src.flywheel.database import Database
from src.flywheel.errors import UnknownEntryError
from src.flywheel.events import EventFilter, EventStore, day_of
from src.flywheel.store import Store
from tests.flywheel.databases import NOW, capture

ZURICH = ZoneInfo("Europe/Zurich")
KEPT = timedelta(days=30)


@pytest.fixture
def events(url: str) -> Iterator[EventStore]:
    opened = EventStore(url)
    yield opened
    opened.close()


def event(number: int = 1, revision: int = 1, **changes: Any) -> dict[str, Any]:
    seen = NOW + timedelta(minutes=number)
    values = {
        "id": f"{number:032x}", "revision": revision, "source": "gate", "plate": "ZH123456",
        "colour": "white", "first_at": seen.isoformat().replace("+00:00", "Z"),
        "best": {"time": 1.0},
    }  # fmt: skip
    return {**values, **changes}


def numbers(events: EventStore, **wanted: Any) -> list[int]:
    return [int(row.id, 16) for row in events.search(EventFilter(**wanted))]


def test_a_revision_replaces_the_one_before_with_its_image(events: EventStore) -> None:
    events.save(event(1, 1, plate=None), KEPT, b"first", NOW)
    events.save(event(1, 2, plate="BE1", first_at=None), KEPT, b"second", NOW)
    # Deliveries come at least once, and late.
    events.save(event(1, 1, plate=None), KEPT, b"first", NOW)
    (row,) = events.search(EventFilter())
    assert (row.revision, row.plate, row.event["plate"]) == (2, "BE1", "BE1")
    assert row.seen == NOW + timedelta(minutes=1)
    assert row.kept_until == row.seen + KEPT
    assert events.image(row.id) == b"second"
    events.save(event(1, 3), KEPT, None, NOW)
    assert events.image(row.id) is None
    assert events.image("nothing") is None


def test_an_event_of_a_file_counts_from_when_it_was_stored(events: EventStore) -> None:
    values = event(1)
    del values["first_at"]
    events.save(values, KEPT, now=NOW)
    events.save({**values, "revision": 2}, KEPT, now=NOW + timedelta(hours=1))
    (row,) = events.search(EventFilter())
    assert (row.seen, row.kept_until) == (NOW, NOW + KEPT)


def test_events_are_found_by_part_of_a_text_day_source_and_colour(events: EventStore) -> None:
    rows = (
        event(1, plate="ZH123456"),
        event(2, plate="BE12", source="yard"),
        event(3, plate="ZH12345", colour="blue"),
        event(4, plate=None),
        event(5, plate="ZH1%6", first_at=(NOW + timedelta(days=1)).isoformat()),
    )
    for row in rows:
        events.save(row, KEPT, now=NOW)
    assert numbers(events) == [5, 4, 3, 2, 1]
    assert numbers(events, text="12") == [3, 2, 1]
    assert numbers(events, text="zh 123·4") == [3, 1]
    assert numbers(events, text="56") == [1]
    # What is typed is no pattern.
    assert numbers(events, text="1%") == [5]
    assert numbers(events, text="Z_1") == []
    assert numbers(events, source="yard") == [2]
    assert numbers(events, colour="blue") == [3]
    assert numbers(events, text="ZH", colour="white", since=NOW + timedelta(hours=1)) == [5]
    since, until = day_of(NOW.date(), UTC)
    assert numbers(events, since=since, until=until) == [4, 3, 2, 1]
    assert events.sources() == ["gate", "yard"]


def test_searches_have_pages(events: EventStore) -> None:
    for number in range(1, 8):
        events.save(event(number), KEPT, now=NOW)
    pages = [
        [int(row.id, 16) for row in events.search(EventFilter(), limit=3, offset=offset)]
        for offset in (0, 3, 6, 9)
    ]
    assert pages == [[7, 6, 5], [4, 3, 2], [1], []]
    for limit, offset in ((0, 0), (1001, 0), (1, -1)):
        with pytest.raises(ValueError, match="limit"):
            events.search(EventFilter(), limit, offset)


def test_events_are_counted_by_periods_of_any_time_zone(events: EventStore) -> None:
    # The clocks of Zurich go forward on 29 March 2026: the day has 23 hours.
    for number, time in enumerate(
        (
            "2026-03-28T22:59:59Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T21:59:59Z",
            "2026-03-29T22:00:00Z",
        )
    ):
        events.save(
            event(number, first_at=time, source="gate" if number else "yard"), KEPT, now=NOW
        )
    days = [date(2026, 3, 28) + timedelta(days=number) for number in range(3)]
    edges = [*(day_of(day, ZURICH)[0] for day in days), day_of(days[-1], ZURICH)[1]]
    assert events.count(EventFilter(), edges) == [1, 2, 1]
    assert events.count(EventFilter(source="gate"), edges) == [0, 2, 1]
    assert events.count(EventFilter(text="BE"), edges) == [0, 0, 0]
    for wrong in (edges[:1], edges * 400):
        with pytest.raises(ValueError, match="times"):
            events.count(EventFilter(), wrong)


def test_an_event_is_deleted_and_overwritten(events: EventStore, url: str) -> None:
    events.save(event(1, plate="TI7654321"), KEPT, b"an image", NOW)
    events.save(event(2), KEPT, now=NOW)
    events.delete(f"{1:032x}")
    assert numbers(events) == [2]
    for unknown in (f"{1:032x}", "", "a\0b", "x" * 100):
        with pytest.raises(UnknownEntryError, match="there is no event"):
            events.delete(unknown)
    if url.startswith("sqlite"):
        path = Path(url.removeprefix("sqlite:///"))
        assert all(
            b"TI7654321" not in each.read_bytes() for each in path.parent.glob("feedback.db*")
        )


def test_events_do_not_outlive_their_time(events: EventStore) -> None:
    for number in range(1, 4):
        events.save(event(number), timedelta(days=number), now=NOW)
    later = NOW + timedelta(days=2, minutes=2)
    assert events.purge(later) == 2
    assert numbers(events) == [3]
    assert events.purge(later) == 0


def test_the_server_deletes_them_too(url: str, tmp_path: Path, events: EventStore) -> None:
    events.save(event(1), timedelta(days=1), now=NOW)
    events.save(event(2), timedelta(days=9), now=NOW)
    store = Store(url, tmp_path / "pictures", days=90)
    kept = capture()
    store.save([kept])
    assert store.purge(NOW + timedelta(days=2)) == 0
    store.close()
    assert numbers(events) == [2]


def test_a_name_with_any_characters_is_stored(events: EventStore) -> None:
    events.save(event(1, source="a\0b" + "ü" * 1000), KEPT, now=NOW)
    assert events.sources() == ["a\ufffdb" + "ü" * 1000]


def test_a_store_of_before_gets_the_table(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/feedback.db"
    Database(url).migrate()
    with sqlite3.connect(tmp_path / "feedback.db") as connection:
        connection.execute("DROP TABLE events")
        connection.execute("UPDATE flywheel_version SET version_num = '0001'")
    connection.close()
    store = EventStore(url)
    store.save(event(1), KEPT, now=datetime.now(UTC))
    assert numbers(store) == [1]
    store.close()
