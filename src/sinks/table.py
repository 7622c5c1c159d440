"""The table of events in the feedback store's database; nothing is kept there longer than was asked for."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from ..flywheel.database import Database
from ..flywheel.errors import StoreError
from ..flywheel.events import EventStore
from .base import Parcel
from .errors import DeliveryError

_HOUR = 3600.0


class EventTable:
    """A database that gets events.

    Args:
        url: URL of the database, sqlite:///FILE or postgresql://….
        key: Key that stays the same from start to start.
        keep_days: Days for which an event is kept.

    Raises:
        StoreError: The URL is wrong.
    """

    def __init__(self, url: str, key: str, keep_days: float) -> None:
        self.key = key
        self._url, self._kept = url, timedelta(days=keep_days)
        # The database itself may come up later.
        database = Database(url, "--to")
        self.name = self._shown = database.name
        database.close()
        self._store: EventStore | None = None
        self._purged = -_HOUR

    def deliver(self, parcel: Parcel) -> None:
        """Store an event.

        Raises:
            DeliveryError: The database fails.
        """
        try:
            self._opened().save(parcel.plain(), self._kept, parcel.image)
        except StoreError as error:
            raise self._failure(error) from error

    def upkeep(self) -> None:
        """Delete the events whose time is over, once an hour.

        Raises:
            DeliveryError: The database fails.
        """
        if time.monotonic() - self._purged < _HOUR:
            return
        try:
            self._opened().purge(datetime.now(UTC))
        except StoreError as error:
            raise self._failure(error) from error
        self._purged = time.monotonic()

    def close(self) -> None:
        """Close the connections."""
        if self._store is not None:
            self._store.close()

    def _opened(self) -> EventStore:
        if self._store is None:
            self._store = EventStore(self._url, "--to")
        return self._store

    def _failure(self, error: StoreError) -> DeliveryError:
        return DeliveryError(str(error).removeprefix(f"{self._shown}: "))
