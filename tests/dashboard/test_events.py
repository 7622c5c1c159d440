"""The page of events: what is searched is found and counted, and what is deleted is gone, image and all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import pytest
from streamlit.testing.v1 import AppTest

from src.dashboard.events import DAYS, PAGE, edges_of, listed
from src.flywheel.events import EventFilter, EventStore
from src.flywheel.store import Store
from tests.dashboard.pages import opened, press, shown, texts
from tests.video.footage import frame_with

TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
KEPT = timedelta(days=3)


@pytest.fixture
def events(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventStore]:
    url = f"sqlite:///{workspace}/events.db"
    monkeypatch.setenv("PLATES_EVENTS", url)
    store = EventStore(url)
    yield store
    store.close()


def jpeg() -> bytes:
    return cv2.imencode(".jpg", frame_with(("ZH123456", 100, 100, 96)))[1].tobytes()


def keep(
    store: EventStore,
    number: int,
    plate: str | None = "ZH123456",
    image: bytes | None = None,
    **changes: Any,
) -> None:
    event = {
        "id": f"{number:032x}", "revision": 1, "source": "gate", "plate": plate, "colour": "white",
        "format": "rear_long", "confidence": 0.987, "direction": "approaching", "frames": 9,
        "reads": 8, "first_at": (TODAY - timedelta(minutes=number)).isoformat(), "match": None,
        "best": {"time": 1.0, "corners": [[100, 100], [196, 100], [196, 124], [100, 124]]},
    }  # fmt: skip
    store.save({**event, **changes}, KEPT, image, TODAY)


def table(page: AppTest) -> list[str]:
    (found,) = page.dataframe
    return list(found.value["plate"])


def search(page: AppTest, **wanted: Any) -> list[str]:
    """The plates that a search finds."""
    for label, value in wanted.items():
        fields = [*page.text_input, *page.selectbox, *page.date_input]
        (field,) = [each for each in fields if each.label == label.replace("_", " ")]
        field.set_value(value)
    shown(page.run())
    return table(page) if page.dataframe else []


def test_without_a_database_it_is_said_that_nothing_is_stored() -> None:
    said = texts(opened("events"))
    assert "Events are stored only where that is asked for" in said
    assert "--keep-days" in said


def test_an_empty_table(events: EventStore) -> None:
    said = texts(opened("events"))
    assert "No event was found." in said
    assert f"0 events in the last {DAYS} days" in said


def test_the_database_of_feedback_is_taken_where_no_other_is_named(
    store: Store, workspace: Path
) -> None:
    events = EventStore(f"sqlite:///{workspace}/feedback.db")
    keep(events, 1, "BE1")
    events.close()
    assert table(opened("events")) == ["BE 1"]


def test_events_are_found_by_part_of_a_text_day_source_and_colour(events: EventStore) -> None:
    keep(events, 1, "ZH123456")
    keep(events, 2, "BE12", source="yard")
    keep(events, 3, "ZH12345", colour="blue")
    keep(events, 4, None, colour=None)
    yesterday = TODAY - timedelta(days=1)
    keep(events, 5, "GE9", first_at=yesterday.isoformat())
    page = opened("events")
    assert table(page) == ["ZH 123456", "BE 12", "ZH 12345", "no text", "GE 9"]
    assert f"5 events in the last {DAYS} days" in texts(page)
    assert search(page, Part_of_the_text="zh 12") == ["ZH 123456", "ZH 12345"]
    assert f"2 events in the last {DAYS} days" in texts(page)
    assert search(page, Colour="blue") == ["ZH 12345"]
    assert search(page, Part_of_the_text="", Colour="all", Source="yard") == ["BE 12"]
    assert search(page, Source="all", Day=yesterday.date()) == ["GE 9"]
    assert f"1 event on {yesterday.date()}" in texts(page)
    assert search(page, Part_of_the_text="XX") == []
    assert "No event was found." in texts(page)


def test_an_event_is_shown_with_its_best_frame(events: EventStore) -> None:
    match = {"plate": "ZH123456", "label": "tenant `of` 3b", "probability": 0.9}
    keep(events, 1, image=jpeg(), match=match)
    page = opened("events")
    assert page.header[0].value == "ZH 123456"
    said = texts(page)
    for part in ("98.7%", "rear long", "approaching", "9, read in 8", "`gate`", "`tenant of 3b`"):
        assert part in said, part
    assert f"Kept until: {TODAY - timedelta(minutes=1) + KEPT:%Y-%m-%d %H:%M:%S}" in said
    assert len(page.get("image")) == 2
    keep(events, 1, image=b"no image", revision=2)
    assert "The stored image is damaged." in texts(opened("events"))


def test_an_event_without_an_image(events: EventStore) -> None:
    keep(events, 1)
    assert "There is no image" in texts(opened("events"))


def test_an_event_is_deleted_with_its_image(events: EventStore, workspace: Path) -> None:
    keep(events, 1, "TI7654321", jpeg())
    keep(events, 2, "BE1")
    page = opened("events")
    press(page, "Delete for good")
    assert table(page) == ["BE 1"]
    assert page.toast[0].value == "The event and its image are deleted."
    assert [row.plate for row in events.search(EventFilter())] == ["BE1"]
    assert events.image(f"{1:032x}") is None
    # And nothing of it is left in the file.
    for path in workspace.glob("events.db*"):
        assert b"TI7654321" not in path.read_bytes(), path
    # Somebody else was faster.
    events.delete(f"{2:032x}")
    press(page, "Delete for good")
    assert "there is no event" in page.toast[0].value


def test_what_is_over_its_time_is_deleted_by_the_page(events: EventStore) -> None:
    keep(events, 1)
    old = TODAY - KEPT - timedelta(days=1)
    keep(events, 2, "BE1", first_at=old.isoformat())
    page = opened("events")
    assert table(page) == ["ZH 123456"]
    assert len(events.search(EventFilter())) == 1


def test_long_lists_have_pages(events: EventStore) -> None:
    for number in range(PAGE + 1):
        keep(events, number, f"ZH{number + 1}")
    page = opened("events")
    assert len(table(page)) == PAGE
    page.number_input[0].set_value(2)
    shown(page.run())
    assert table(page) == [f"ZH {PAGE + 1}"]
    # A search with fewer results begins at its first page.
    assert search(page, Part_of_the_text="ZH7")[0] == "ZH 7"


def test_days_and_hours_follow_the_time_zone() -> None:
    zurich = ZoneInfo("Europe/Zurich")
    days = edges_of(None, date(2026, 4, 1), zurich)
    assert len(days) == DAYS + 1
    assert days[-1].isoformat() == "2026-04-02T00:00:00+02:00"
    assert days[0].isoformat() == "2026-03-03T00:00:00+01:00"
    hours = edges_of(date(2026, 3, 29), date(2026, 4, 1), zurich)
    assert len(hours) == 23 + 1
    assert hours[0].astimezone(zurich).hour == 0
    assert hours[-1].astimezone(zurich).date() == date(2026, 3, 30)


def test_the_list_has_local_times(events: EventStore) -> None:
    keep(events, 0)
    found = listed(events.search(EventFilter()), ZoneInfo("Asia/Kolkata"))
    wanted = (TODAY + timedelta(hours=5, minutes=30)).strftime("%Y-%m-%d %H:%M:%S")
    assert list(found["seen"]) == [wanted]
