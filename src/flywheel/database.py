"""Access to SQLite or PostgreSQL: transactions, the schema, and errors that reveal no secrets."""

from __future__ import annotations

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from .errors import StoreError
from .tables import Base

log = logging.getLogger("plates.flywheel")

VERSION_TABLE = "flywheel_version"
"""Alembic's version table, with a name of its own as other programs may use the same database."""

_DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_FORMS = "use sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
_LOCK_WAIT_S = 5
_SCHEMA_LOCK, _FILES_LOCK = 0x506C6174_01, 0x506C6174_02
"""Keys of PostgreSQL's advisory locks; SQLite has a single lock for all writers."""
_REMEDIES = (
    ("locked", "Another program has locked it; try again, or stop that program."),
    ("readonly", "Make the file and its folder writable."),
    ("unable to open", "Create its folder, and make it writable."),
    ("full", "Free some disk space."),
    ("disk i/o", "Free some disk space, or check the disk for errors."),
    ("not a database", "The file is damaged or not a database; restore a backup, or use another file."),
    ("malformed", "The file is damaged; restore a backup, or use another file."),
    ("permission denied", "Grant the user the required permissions."),
    ("read-only", "Use a database that accepts writes."),
    ("", "Check that the database is running, and that the URL is correct."),
)  # fmt: skip


class Database:
    """A database that is given by its URL.

    Args:
        url: URL of a SQLite or PostgreSQL database.
        option: Command-line option that gave the URL, for messages.

    Raises:
        StoreError: The URL is invalid, or names another kind of database.
    """

    def __init__(self, url: str, option: str = "--feedback") -> None:
        parsed = _parsed(url, option)
        self.name = _shown(parsed)
        """Name of the database for messages: its URL without user, password and options."""
        self.file = Path(parsed.database or "") if parsed.drivername == "sqlite" else None
        """Path of the file for SQLite; None for PostgreSQL."""
        self._engine = _engine(parsed)
        self._writer = self._engine.execution_options(is_writing=True)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction for reading.

        Raises:
            StoreError: The database fails.
        """
        with self._explained(), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Open a transaction that is committed to disk when the block ends without an error.

        Raises:
            StoreError: The database fails, and nothing was written.
        """
        session = Session(self._writer, expire_on_commit=False)
        with self._explained(), session, session.begin():
            # Take SQLite's lock here rather than at the first statement.
            session.connection()
            yield session

    def lock_files(self, session: Session, alone: bool) -> None:
        """Wait until no other transaction deletes files or, with ``alone``, until none works on them.

        The lock is held until the end of the transaction. In SQLite, every transaction that writes is
        exclusive anyway.
        """
        if self.file is None:
            shared = "" if alone else "_shared"
            lock = text(f"SELECT pg_advisory_xact_lock{shared}(:key)")
            session.execute(lock, {"key": _FILES_LOCK})

    def checkpoint(self) -> None:
        """Move SQLite's write-ahead log into its file, because deleted data is still in the log.

        While another connection is reading, the log stays; the next call, or the last connection to
        close, empties it.
        """
        if self.file is None:
            return
        connection = self._engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:
            # The requested change is on disk; failing to empty the log does not undo it.
            log.warning("%s: the write-ahead log could not be emptied: %s", self.name, error)
        finally:
            connection.close()

    def migrate(self) -> None:
        """Create the schema or bring it up to date, and check that the database can be used.

        Raises:
            StoreError: The database is damaged, cannot be written, or its schema is newer than this
                program.
        """
        config = Config()
        # configparser interpolates its values, so percent signs are escaped.
        folder = str(Path(__file__).parent / "migrations").replace("%", "%%")
        config.set_main_option("script_location", folder)
        known = {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}
        self._make_file()
        with self._explained(), self._writer.begin() as connection:
            if self.file is None:
                lock = text("SELECT pg_advisory_xact_lock(:key)")
                connection.execute(lock, {"key": _SCHEMA_LOCK})
            else:
                _check_pages(connection, self.name)
            options = {"version_table": VERSION_TABLE}
            found = set(MigrationContext.configure(connection, opts=options).get_current_heads())
            if not found <= known:
                raise StoreError(
                    f"{self.name}: its schema ({', '.join(sorted(found))}) is newer than this program. "
                    "Update the program, or use another database."
                )
            config.attributes |= {
                "connection": connection,
                "metadata": Base.metadata,
                "version_table": VERSION_TABLE,
            }
            command.upgrade(config, "head")
            # Fail now, not at the first feedback, if the database cannot be written.
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = version_num"))  # noqa: S608

    def _make_file(self) -> None:
        """Create SQLite's file, readable only by its owner."""
        if self.file is None:
            return
        try:
            self.file.touch(mode=0o600)
        except OSError as error:
            raise StoreError(
                f"{self.name}: cannot be opened: {error.strerror or error}. Create its folder, and make "
                "both writable."
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            reason = _reason(error)
            remedy = next(words for part, words in _REMEDIES if part in reason.lower())
            # Drop the cause: its details contain the data to be written.
            raise StoreError(f"{self.name}: {reason}. {remedy}") from None


def _parsed(url: str, option: str) -> URL:
    """Return the URL with the driver to use; no message shows it, since it may hold a password."""
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.drivername]
    except (ArgumentError, KeyError, ValueError):
        raise StoreError(f"{option}: the database URL is invalid; {_FORMS}") from None
    if driver == "sqlite" and (parsed.database in (None, "", ":memory:") or parsed.query):
        raise StoreError(f"{option}: the SQLite URL must name a file and have no options; {_FORMS}")
    if re.search(r"[@\s]", f"{parsed.host}{parsed.database}") and driver != "sqlite":
        raise StoreError(
            f"{option}: the database URL is invalid; {_FORMS}, and percent-encode special characters "
            "in the password, such as %40 for @"
        )
    return parsed.set(drivername=driver)


def _shown(url: URL) -> str:
    if url.drivername == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def _engine(url: URL) -> Engine:
    if url.drivername != "sqlite":
        # Detect a server that is gone, so that no thread waits for it for hours.
        waits = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
        return create_engine(
            url,
            connect_args={name: value for name, value in waits.items() if name not in url.query},
            pool_pre_ping=True,
            hide_parameters=True,
        )
    engine = create_engine(url, connect_args={"timeout": _LOCK_WAIT_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: object) -> None:
        # Transactions are begun explicitly below, not implicitly by the driver.
        connection.isolation_level = None
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            # Overwrite deleted content.
            "secure_delete = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails if another one wrote in between.
        is_writing = connection.get_execution_options().get("is_writing")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_writing else "BEGIN")

    return engine


def _check_pages(connection: Connection, name: str) -> None:
    found = connection.execute(text("PRAGMA quick_check(1)")).scalar_one()
    if found != "ok":
        raise StoreError(f"{name}: is damaged. Restore a backup, or use another file.")


def _reason(error: SQLAlchemyError) -> str:
    """Return the first line of the database's message; later lines may contain the data written."""
    if isinstance(error, DBAPIError) and str(error.orig).strip():
        return str(error.orig).strip().splitlines()[0].rstrip(".")
    return type(error).__name__
