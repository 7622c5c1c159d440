"""Events of videos and cameras in the store's database: kept for a time, searched, counted and deleted.

Every row says itself how long it is kept, so that any program that uses the database can delete it then:
the one that watches and the server alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from itertools import pairwise
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, select
from sqlalchemy.orm import Session

from ..core.spelling import without_separators
from .database import Database
from .errors import UnknownEntryError
from .tables import StoredEvent

MOST_FOUND = 1000
"""Maximum number of events that a search returns, and of periods that are counted at once."""
_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
_TOGETHER = 1000
"""Number of events that are deleted in one transaction, which makes other transactions wait."""


@dataclass(frozen=True, kw_only=True)
class EventFilter:
    """Which events are meant; without any condition, all of them.

    Attributes:
        text: Part of the plate's text, as people type it: ``zh 12``, ``345``.
        since: Earliest time at which the vehicle was seen.
        until: Time before which it was seen.
        source: Name of the source.
        colour: Colour of the plate.
    """

    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    source: str | None = None
    colour: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions on ``StoredEvent``."""
        found: list[ColumnElement[bool]] = []
        if part := without_separators(self.text):
            # What people type is no pattern.
            found.append(StoredEvent.plate.contains(part, autoescape=True))
        if self.since is not None:
            found.append(StoredEvent.seen >= self.since)
        if self.until is not None:
            found.append(StoredEvent.seen < self.until)
        if self.source is not None:
            found.append(StoredEvent.source == self.source)
        if self.colour is not None:
            found.append(StoredEvent.colour == self.colour)
        return found


def day_of(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return when a day begins and ends in a time zone, for ``EventFilter.since`` and ``until``."""
    return (
        datetime.combine(day, time(), zone),
        datetime.combine(day + timedelta(days=1), time(), zone),
    )


class EventStore:
    """The table of events, which any number of threads may use at once.

    Args:
        url: URL of the database, sqlite:///FILE or postgresql://….
        option: Command-line option that gave the URL, for messages.

    Raises:
        StoreError: The database cannot be used.
    """

    def __init__(self, url: str, option: str = "--feedback") -> None:
        self._database = Database(url, option)
        self.name = self._database.name
        """Name of the database for messages, which contains no password."""
        self._database.migrate()

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def save(
        self, event: Mapping[str, Any], kept: timedelta, image: bytes | None = None,
        now: datetime | None = None,
    ) -> None:  # fmt: skip
        """Store an event in place of its earlier revisions; do nothing if a later one is there.

        Args:
            event: The event as plain values, without its image.
            kept: Time for which the event is kept after the vehicle was seen.
            image: The best frame as JPEG.
            now: Current time with a time zone.

        Raises:
            StoreError: The database fails, and nothing was stored.
        """
        now = now or datetime.now(UTC)
        seen = _time(event.get("first_at")) or now
        with self._database.writing() as session:
            row = session.get(StoredEvent, event["id"])
            if row is None:
                row = StoredEvent(id=event["id"], revision=0, seen=seen)
                session.add(row)
            if event["revision"] < row.revision:
                return
            row.revision = event["revision"]
            # PostgreSQL accepts no NUL in a text.
            row.source = event["source"].replace("\0", "\ufffd")
            row.plate, row.colour = event["plate"], event["colour"]
            row.kept_until = row.seen + kept
            row.event, row.image = dict(event), image

    def search(
        self, wanted: EventFilter, limit: int = 100, offset: int = 0
    ) -> Sequence[StoredEvent]:
        """Return events without their images, the latest first.

        Args:
            wanted: Which events.
            limit: Number of events at most, up to ``MOST_FOUND``.
            offset: Number of events to leave out, for the next page.

        Raises:
            ValueError: The limit or the offset is out of range.
            StoreError: The database fails.
        """
        if not 0 < limit <= MOST_FOUND or offset < 0:
            raise ValueError(f"the limit must be 1 to {MOST_FOUND}, and the offset 0 or more")
        query = (
            select(StoredEvent)
            .where(*wanted.conditions())
            .order_by(StoredEvent.seen.desc(), StoredEvent.id)
            .limit(limit)
            .offset(offset)
        )
        with self._database.reading() as session:
            return session.scalars(query).all()

    def image(self, event: str) -> bytes | None:
        """Return the best frame of an event as JPEG; None if there is none, or no such event.

        Raises:
            StoreError: The database fails.
        """
        with self._database.reading() as session:
            return session.scalar(select(StoredEvent.image).where(StoredEvent.id == event))

    def count(self, wanted: EventFilter, edges: Sequence[datetime]) -> list[int]:
        """Return the number of events in each of the periods between successive times.

        Args:
            wanted: Which events.
            edges: Times with a time zone, ascending, at least two: midnights, for instance.

        Raises:
            ValueError: There are fewer than two times, or too many.
            StoreError: The database fails.
        """
        if not 2 <= len(edges) <= MOST_FOUND:
            raise ValueError(f"there must be 2 to {MOST_FOUND} times, not {len(edges)}")
        columns = [
            func.count().filter(and_(StoredEvent.seen >= start, StoredEvent.seen < end))
            for start, end in pairwise(edges)
        ]
        within = and_(StoredEvent.seen >= edges[0], StoredEvent.seen < edges[-1])
        query = select(*columns).where(within, *wanted.conditions())
        with self._database.reading() as session:
            return list(session.execute(query).one())

    def sources(self) -> Sequence[str]:
        """Return the names of all sources that have events, in order.

        Raises:
            StoreError: The database fails.
        """
        query = select(StoredEvent.source).distinct().order_by(StoredEvent.source)
        with self._database.reading() as session:
            return session.scalars(query).all()

    def delete(self, event: str) -> None:
        """Delete an event with its image.

        Raises:
            UnknownEntryError: No event has this id.
            StoreError: The database fails, and the event is still there.
        """
        # PostgreSQL does not accept every character, and would report that as a failure.
        gone = None
        if _ID.fullmatch(event):
            with self._database.writing() as session:
                gone = session.scalar(
                    delete(StoredEvent).where(StoredEvent.id == event).returning(StoredEvent.id)
                )
        if gone is None:
            raise UnknownEntryError(f"there is no event {event!r}; it may have been deleted")
        self._database.checkpoint()

    def purge(self, now: datetime) -> int:
        """Delete the events whose time is over, and return how many there were.

        Raises:
            StoreError: The database fails.
        """
        return purge_events(self._database, now)


def purge_events(database: Database, now: datetime) -> int:
    """Delete the events of a database whose time is over, and return how many there were.

    Raises:
        StoreError: The database fails.
    """
    old = select(StoredEvent.id).where(StoredEvent.kept_until <= now).limit(_TOGETHER)
    deleted = 0
    while True:
        with database.reading() as session:
            ids = session.scalars(old).all()
        if not ids:
            break
        with database.writing() as session:
            deleted += _delete(session, ids)
    if deleted:
        database.checkpoint()
    return deleted


def _delete(session: Session, ids: Sequence[str]) -> int:
    gone = delete(StoredEvent).where(StoredEvent.id.in_(ids)).returning(StoredEvent.id)
    return len(session.scalars(gone).all())


def _time(value: Any) -> datetime | None:
    """Return a time that may be written in ISO 8601."""
    return datetime.fromisoformat(value) if isinstance(value, str) else value
