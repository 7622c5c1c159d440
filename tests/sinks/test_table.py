"""Events in a database: sent through the outbox, kept for a time, and deleted after it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from src.flywheel.errors import StoreError
from src.flywheel.events import EventFilter, EventStore
from src.sinks.delivery import BackOff, Dispatcher
from src.sinks.errors import DeliveryError
from src.sinks.outbox import Outbox
from src.sinks.table import EventTable
from tests.flywheel.databases import Cluster, cluster
from tests.serving import wait_until
from tests.sinks.samples import JPEG, event, parcel


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


def plates(url: str) -> list[str | None]:
    store = EventStore(url)
    try:
        return sorted(each.plate or "" for each in store.search(EventFilter(), limit=1000))
    finally:
        store.close()


def test_an_event_is_stored_with_its_image(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    table = EventTable(url, "key", keep_days=30)
    assert table.name == f"{tmp_path}/events.db"
    # Nothing is there before it is needed.
    assert not (tmp_path / "events.db").exists()
    table.deliver(parcel(1, JPEG))
    table.deliver(parcel(1, JPEG))
    table.close()
    store = EventStore(url)
    (row,) = store.search(EventFilter())
    assert row.event == parcel(1).plain()
    assert row.kept_until - row.seen == timedelta(days=30)
    assert store.image(row.id) == JPEG
    store.close()


def test_events_whose_time_is_over_are_deleted_without_new_ones(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/events.db"
    table = EventTable(url, "key", keep_days=30)
    old = datetime.now(UTC) - timedelta(days=31)
    table.deliver(parcel(1, first_at=old, last_at=old))
    table.deliver(parcel(2, plate="BE1"))
    assert plates(url) == ["BE1", "ZH123456"]
    table.upkeep()
    assert plates(url) == ["BE1"]
    table.close()


def test_a_database_that_cannot_be_used_is_told_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^--to: the database URL is invalid"):
        EventTable("postgresql://reader:hunter2@a@b/c", "key", 30)
    for url in (f"sqlite:///{tmp_path}/no/events.db", "postgresql://u:hunter2@127.0.0.1:1/plates"):
        table = EventTable(url, "key", 30)
        for action in (table.upkeep, lambda table=table: table.deliver(parcel())):
            with pytest.raises(DeliveryError) as error:
                action()
            assert not error.value.is_final
            assert "hunter2" not in str(error.value) + table.name
            assert not str(error.value).startswith(table.name)
        table.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_postgresql_restarts_and_gets_every_event(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.new_url()
    said: list[str] = []
    dispatcher = Dispatcher(
        Outbox(tmp_path / "outbox.db"),
        [EventTable(url, "key", 30)],
        said.append,
        back_off=BackOff(first=0.05, longest=0.2),
    )
    for number in range(1, 101):
        dispatcher.take(event(plate=f"ZH{number}", number=number))
        if number in (30, 60):
            postgres.kill()
        if number in (45, 75):
            postgres.start()
    wait_until(lambda: not dispatcher._outbox.waiting(), 100)
    dispatcher.close()
    assert plates(url) == sorted(f"ZH{number}" for number in range(1, 101))
    assert any("events wait" in each for each in said)
    assert all("hunter" not in each for each in said)
