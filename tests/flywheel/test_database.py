"""The database: its URL, its schema, and what is said where it cannot be used."""

from __future__ import annotations

import os
import resource
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.engine.reflection import Inspector

from src.flywheel.database import VERSION_TABLE, Database
from src.flywheel.errors import StoreError
from src.flywheel.store import Store
from src.flywheel.tables import Base, Feedback, StoredImage
from tests.flywheel.databases import Cluster, capture


def file_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


@contextmanager
def connected(url: str) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(file_of(url))) as connection, connection:
        yield connection


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/feedback.db"


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "mysql://reader:hunter2@host/plates",
        "postgresql+psycopg2://reader:hunter2@host/plates",
        "postgresql:reader:hunter2@host/plates",
        "postgresql://host/plates@hunter2",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///feedback.db?key=hunter2",
        "",
    ],
)
def test_other_urls_are_explained_without_their_passwords(url: str, tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"--feedback: .*sqlite:///FILE or postgresql://"
    ) as caught:
        Store(url, tmp_path / "pictures")
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:hunter2@127.0.0.1:1/plates",
        "postgres://reader:hunter2@127.0.0.1:1/plates",
        "postgresql://reader@127.0.0.1:1/plates?password=hunter2&connect_timeout=2",
        "postgresql://reader:hunter2%40@127.0.0.1:1/plates",
    ],
)
def test_a_server_that_is_not_there_is_told_without_the_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"127\.0\.0\.1") as caught:
        Store(url, tmp_path / "pictures")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert Database(url).name == "postgresql://127.0.0.1:1/plates"


def test_postgresql_needs_a_folder_for_its_images() -> None:
    with pytest.raises(StoreError, match="--feedback-pictures"):
        Store("postgresql://reader:hunter2@127.0.0.1:1/plates")


def test_the_default_folder_is_beside_the_file(sqlite_url: str, tmp_path: Path) -> None:
    Store(sqlite_url).close()
    assert (tmp_path / "feedback-pictures").is_dir()


# The schema


def shape(inspector: Inspector) -> dict[str, object]:
    """All that can be told of tables."""
    return {
        table: [
            [(c["name"], str(c["type"]), c["nullable"]) for c in inspector.get_columns(table)],
            inspector.get_pk_constraint(table),
            sorted(inspector.get_foreign_keys(table), key=lambda key: str(key["name"])),
            sorted(inspector.get_indexes(table), key=lambda index: str(index["name"])),
            sorted(inspector.get_check_constraints(table), key=lambda check: str(check["name"])),
        ]
        for table in sorted(inspector.get_table_names())
        if table != VERSION_TABLE
    }


def test_migrations_make_what_the_models_say(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    Database(url).migrate()
    if url.startswith("sqlite"):
        other = f"sqlite:///{tmp_path}/other.db"
    else:
        other = request.getfixturevalue("postgres").new_url()
    migrated, made = (
        create_engine(each.replace("postgresql:", "postgresql+psycopg:")) for each in (url, other)
    )
    Base.metadata.create_all(made)
    with migrated.connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, Base.metadata) == []
    found = shape(inspect(migrated))
    assert set(found) == {"identity", "pictures", "predictions", "feedback", "reviews", "events"}
    assert found == shape(inspect(made))
    for engine in (migrated, made):
        engine.dispose()


def test_an_up_to_date_database_stays_as_it_is(url: str, tmp_path: Path) -> None:
    first = Store(url, tmp_path / "pictures")
    kept = capture()
    first.save([kept])
    first.close()
    second = Store(url, tmp_path / "pictures")
    with second.reading() as session:
        assert session.scalars(select(StoredImage.id)).all() == [kept.id]
    second.close()


def test_a_schema_that_is_newer_is_an_error(url: str, tmp_path: Path) -> None:
    store = Store(url, tmp_path / "pictures")
    with store.writing() as session:
        session.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))  # noqa: S608
    store.close()
    with pytest.raises(StoreError, match=r"\(9999\) is newer than this program. Update"):
        Store(url, tmp_path / "pictures")


def test_servers_that_start_together_make_one_schema(url: str, tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        try:
            Store(url, tmp_path / "pictures").close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_migration_that_fails_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(url)
    with database.writing() as session:
        session.execute(text("CREATE TABLE reviews (x INTEGER)"))
    with pytest.raises(StoreError, match="already exists"):
        database.migrate()
    with database.writing() as session:
        assert inspect(session.connection()).get_table_names() == ["reviews"]
        session.execute(text("DROP TABLE reviews"))
    database.migrate()
    database.close()


# Times


def test_times_are_utc(store: Store) -> None:
    east = timezone(timedelta(hours=2))
    kept = capture(created=datetime(2026, 5, 1, 14, 30, 15, 123456, tzinfo=east))
    store.save([kept])
    with store.reading() as session:
        (found,) = session.scalars(select(StoredImage.created)).all()
    assert found == kept.created
    assert found.tzinfo is UTC
    assert found.hour == 12


def test_a_time_without_a_zone_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        store.save([capture(created=datetime(2026, 5, 1))])  # noqa: DTZ001  # what is wrong with it


# SQLite


def test_sqlite_is_as_safe_as_it_can_be(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    database.migrate()
    with database.reading() as session:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        found = [session.scalar(text(f"PRAGMA {pragma}")) for pragma in pragmas]
    assert found == ["wal", 2, 1, 1]
    database.close()
    assert file_of(sqlite_url).stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("damage", ["garbage", "middle", "truncated"])
def test_a_damaged_file_is_told(sqlite_url: str, damage: str, tmp_path: Path) -> None:
    store = Store(sqlite_url)
    store.save([capture() for _ in range(20)])
    store.close()
    path = file_of(sqlite_url)
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:] = b"x" * len(content)
    elif damage == "middle":
        # Rows, and nothing that is looked at before the first of them is asked for.
        content[-4096 : 64 - 4096] = b"\xff" * 64
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"damaged.*estore a backup") as caught:
        Store(sqlite_url)
    assert str(path) in str(caught.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        StoreError, match=r"nowhere/feedback.db: cannot be opened.*Create its folder"
    ):
        Store(f"sqlite:///{tmp_path}/nowhere/feedback.db")


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of the user nobody, who we are meanwhile: to root nothing is read-only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            os.seteuid(65534)
            try:
                yield folder
            finally:
                os.seteuid(0)
        else:
            yield folder


def test_a_read_only_database_is_told() -> None:
    with as_nobody() as folder:
        url = f"sqlite:///{folder}/feedback.db"
        Store(url).close()
        for path in folder.glob("feedback.db*"):
            path.chmod(0o400)
        with pytest.raises(StoreError, match=r"feedback.db: .*writable"):
            Store(url)


def test_a_read_only_folder_is_told() -> None:
    with as_nobody() as folder:
        url = f"sqlite:///{folder}/feedback.db"
        Store(url).close()
        (folder / "feedback-pictures").chmod(0o500)
        with pytest.raises(StoreError, match=r"feedback-pictures: images cannot be written"):
            Store(url)
        (folder / "feedback-pictures").chmod(0o700)


@contextmanager
def disk_of(most_bytes: int) -> Iterator[None]:
    """No file may have more bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told(sqlite_url: str) -> None:
    with disk_of(0), pytest.raises(StoreError, match=r"feedback\.db: .*Free some disk space"):
        Store(sqlite_url)
    Store(sqlite_url).close()
    # Now the schema is there, and its log has no room to grow.
    with disk_of(4096), pytest.raises(StoreError, match=r"feedback\.db: .*Free some disk space"):
        Store(sqlite_url)
    # Room for the database, but not for an image.
    with (
        disk_of(2**15 + 2**14),
        pytest.raises(StoreError, match=r"-pictures: .*free some disk space"),
    ):
        Store(sqlite_url)
    with disk_of(2**20):
        Store(sqlite_url).close()


def test_a_database_that_is_held_is_told(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.flywheel.database._LOCK_WAIT_S", 0.1)
    store = Store(sqlite_url)
    with connected(sqlite_url) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"locked.*Another program has locked it"):
            store.save([capture()])
        other.execute("ROLLBACK")
    store.save([capture()])
    store.close()


# PostgreSQL


@pytest.mark.slow
def test_postgresql_that_takes_no_writes_is_told(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.new_url()
    Store(url, tmp_path / "pictures").close()
    with pytest.raises(StoreError, match=r"read-only transaction.*accepts writes"):
        Store(f"{url}%20-cdefault_transaction_read_only%3Don", tmp_path / "pictures")


@pytest.mark.slow
def test_postgresql_without_rights_is_told(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.new_url()
    name = url.rpartition("%3D")[2]
    postgres.run(f"CREATE ROLE {name} LOGIN")
    postgres.run(f"GRANT USAGE ON SCHEMA {name} TO {name}")
    with pytest.raises(StoreError, match=r"permission denied.*Grant the user"):
        Store(url.replace("postgres@", f"{name}@"), tmp_path / "pictures")


def test_errors_do_not_tell_what_was_to_be_written(store: Store) -> None:
    store.save([kept := capture()])
    with pytest.raises(StoreError) as caught, store.writing() as session:
        session.add(
            Feedback(
                picture_id=kept.id, plate=0, verdict="secret", text="ZH424242", created=kept.created
            )
        )
    shown = f"{caught.value} {caught.value.__cause__}"
    assert "constraint" in shown.lower()
    assert "ZH424242" not in shown
