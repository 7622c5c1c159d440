"""A SQLite file that holds events until every sink has taken them.

An event is in the file before it counts as taken, so neither a killed process nor a power loss loses it.
One process uses the file at a time. What is deleted is overwritten, as events are personal data.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import UserError
from .base import Parcel

MAX_BYTES = 2**28
"""Total size of the events from which on the oldest are dropped."""
_APPLICATION = 0x506C6F62
"""Marks the file as an outbox, so that no other database is taken for one."""
_SCHEMA = (
    """CREATE TABLE events (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL,
       revision INTEGER NOT NULL, source TEXT NOT NULL, taken REAL NOT NULL, size INTEGER NOT NULL,
       event BLOB NOT NULL, image BLOB)""",
    """CREATE TABLE deliveries (sink TEXT NOT NULL, number INTEGER NOT NULL
       REFERENCES events ON DELETE CASCADE, set_aside INTEGER NOT NULL DEFAULT 0,
       PRIMARY KEY (sink, number)) WITHOUT ROWID""",
    "CREATE INDEX deliveries_number ON deliveries (number)",
    f"PRAGMA application_id = {_APPLICATION}",
)


class OutboxError(UserError):
    """The outbox cannot be opened, read or written."""


class Outbox:
    """Events with the sinks that have not taken them yet; any number of threads may use it.

    Args:
        path: The file; it is created if it does not exist.
        max_bytes: Total size of the events from which on the oldest are dropped.

    Raises:
        OutboxError: The file cannot be used, or another process uses it.
    """

    def __init__(self, path: Path, max_bytes: int = MAX_BYTES) -> None:
        self.name = str(path)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        with self._explained():
            # Only its owner may read it.
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path, timeout=1, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._open()
        except OutboxError:
            self._connection.close()
            raise

    def _open(self) -> None:
        for pragma in (
            # Held until the end: two processes would send everything twice.
            "locking_mode = EXCLUSIVE",
            "journal_mode = TRUNCATE",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")
        with self._writing():
            ((application,),) = self._connection.execute("PRAGMA application_id")
            ((tables,),) = self._connection.execute("SELECT count(*) FROM sqlite_schema")
            if application != _APPLICATION and tables:
                raise OutboxError(
                    f"{self.name}: is another database; name another file as the outbox"
                )
            if not tables:
                for statement in _SCHEMA:
                    self._connection.execute(statement)

    def close(self) -> None:
        """Close the file; later calls raise ``OutboxError``."""
        with self._lock:
            self._connection.close()

    def put(self, parcel: Parcel, sinks: Sequence[str], now: float | None = None) -> int:
        """Take an event for some sinks. It is on disk when this method returns.

        Args:
            parcel: The event.
            sinks: Keys of the sinks.
            now: Current time in seconds since the epoch.

        Returns:
            The number of events that were dropped to make room, the oldest first.

        Raises:
            OutboxError: The file cannot be written; the event is not in it.
        """
        size = len(parcel.event) + len(parcel.image or b"")
        taken = time.time() if now is None else now
        values = (
            parcel.id,
            parcel.revision,
            parcel.source,
            taken,
            size,
            parcel.event,
            parcel.image,
        )
        with self._explained(), self._writing():
            dropped = self._make_room(size)
            number = self._connection.execute(
                "INSERT INTO events (id, revision, source, taken, size, event, image) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            ).lastrowid
            self._connection.executemany(
                "INSERT INTO deliveries (sink, number) VALUES (?, ?)",
                [(sink, number) for sink in sinks],
            )
        return dropped

    def _make_room(self, size: int) -> int:
        ((used,),) = self._connection.execute("SELECT coalesce(sum(size), 0) FROM events")
        excess = used + size - self._max_bytes
        dropped = 0
        while excess > 0:
            oldest = self._connection.execute(
                "SELECT number, size FROM events ORDER BY number LIMIT 1"
            ).fetchone()
            if oldest is None:
                break
            self._connection.execute("DELETE FROM events WHERE number = ?", oldest[:1])
            excess -= oldest[1]
            dropped += 1
        return dropped

    def first(self, sink: str) -> tuple[int, Parcel] | None:
        """Return the oldest event that a sink has not taken, with its number; None if there is none.

        Raises:
            OutboxError: The file cannot be read.
        """
        with self._explained(), self._lock:
            row = self._connection.execute(
                "SELECT number, id, revision, source, event, image "
                "FROM deliveries JOIN events USING (number) "
                "WHERE sink = ? AND NOT set_aside ORDER BY number LIMIT 1",
                (sink,),
            ).fetchone()
        return None if row is None else (row[0], Parcel(*row[1:]))

    def done(self, number: int, sink: str) -> None:
        """Note that a sink has taken an event; the event is deleted once all have.

        Raises:
            OutboxError: The file cannot be written; the event will be sent again.
        """
        with self._explained(), self._writing():
            self._connection.execute(
                "DELETE FROM deliveries WHERE sink = ? AND number = ?", (sink, number)
            )
            self._connection.execute(
                "DELETE FROM events WHERE number = ? AND number NOT IN (SELECT number FROM deliveries)",
                (number,),
            )

    def set_aside(self, number: int, sink: str) -> None:
        """Note that a sink will not take an event: it stays here, and others go before it.

        Raises:
            OutboxError: The file cannot be written.
        """
        with self._explained(), self._writing():
            self._connection.execute(
                "UPDATE deliveries SET set_aside = 1 WHERE sink = ? AND number = ?", (sink, number)
            )

    def restore(self) -> None:
        """Let the events that were set aside be tried again.

        Raises:
            OutboxError: The file cannot be written.
        """
        with self._explained(), self._writing():
            self._connection.execute("UPDATE deliveries SET set_aside = 0 WHERE set_aside")

    def expire(self, before: float) -> int:
        """Delete the events that were taken before a time, and return how many there were.

        Args:
            before: Seconds since the epoch.

        Raises:
            OutboxError: The file cannot be written.
        """
        with self._explained(), self._writing():
            return self._connection.execute(
                "DELETE FROM events WHERE taken < ?", (before,)
            ).rowcount

    def waiting(self) -> dict[str, int]:
        """Return how many events each sink has not taken, by its key, without those set aside.

        Raises:
            OutboxError: The file cannot be read.
        """
        with self._explained(), self._lock:
            return dict(
                self._connection.execute(
                    "SELECT sink, count(*) FROM deliveries WHERE NOT set_aside GROUP BY sink"
                ).fetchall()
            )

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                # Where the disk is full, SQLite has rolled back by itself.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise OutboxError(
                    f"{self.name}: another process uses it; end it, or name another file with --outbox"
                ) from error
            raise OutboxError(
                f"{self.name}: {error}; free some disk space, or name another file with --outbox"
            ) from error
        except sqlite3.DatabaseError as error:
            raise OutboxError(
                f"{self.name}: is no outbox, or damaged ({error}); delete it, or name another file with "
                "--outbox"
            ) from error
        except OSError as error:
            raise OutboxError(
                f"{self.name}: cannot be opened: {error.strerror or error}; name another file with --outbox"
            ) from error
