"""Feedback while its store fails: what was acknowledged is kept, the rest gets a 503, without a restart."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import event, select
from sqlalchemy.pool import Pool

from src.flywheel import database
from src.flywheel.store import Store
from src.flywheel.tables import Feedback, StoredImage
from src.serve import recorder
from tests.bundles import write_bundle
from tests.flywheel.databases import PNG, Cluster, cluster
from tests.serving import process, serving, wait_until


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("outages") / "bundle")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    with cluster() as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "_PAUSE_S", 0.3)


def read(client: httpx.Client) -> str | None:
    """Id of an image that was read; readings never fail."""
    response = client.post("/v1/read", content=PNG)
    assert response.status_code == 200, response.text
    return response.json()["results"][0].get("id")


def give(client: httpx.Client, entry: str, text: str = "ZH1") -> httpx.Response:
    given = {"id": entry, "plate": 0, "verdict": "wrong", "text": text}
    return client.post("/v1/feedback", json=given)


def assert_clear(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.json()["error"]["code"] in ("store_failed", "deadline")
    assert "try again" in response.json()["error"]["message"]
    assert response.headers["retry-after"]


class Load:
    """Clients of one or more servers, who read and give feedback until they are stopped."""

    def __init__(self, *urls: str) -> None:
        self._urls = urls
        self.ids: set[str] = set()
        """Ids that were given in responses."""
        self.acknowledged: list[tuple[str, str]] = []
        """Feedback that was answered with 201: id and text."""
        self.refusals: Counter[str] = Counter()
        self._is_over = threading.Event()

    def _work(self, worker: int) -> None:
        with httpx.Client(timeout=60) as client:
            for turn in range(100_000):
                if self._is_over.is_set():
                    return
                # What one server has read, the other gets feedback on.
                urls = [self._urls[(worker + place) % len(self._urls)] for place in range(2)]
                client.base_url = urls[0]
                entry = read(client)
                if entry is None:
                    time.sleep(0.05)
                    continue
                self.ids.add(entry)
                client.base_url = urls[1]
                text = f"ZH{worker + 1}{turn + 1:04}"
                response = give(client, entry, text)
                if response.status_code == 201:
                    self.acknowledged.append((entry, text))
                elif response.status_code == 404 and len(self._urls) > 1:
                    self.refusals["unknown"] += 1  # The other server has not stored it yet.
                else:
                    assert_clear(response)
                    self.refusals["unavailable"] += 1

    @contextmanager
    def running(self, workers: int = 4) -> Iterator[None]:
        with ThreadPoolExecutor(workers) as pool:
            done = [pool.submit(self._work, worker) for worker in range(workers)]
            try:
                yield
            finally:
                self._is_over.set()
            for each in done:
                each.result()

    def wait(self, more: int) -> None:
        """Wait until some more feedback was acknowledged."""
        enough = len(self.acknowledged) + more
        wait_until(lambda: len(self.acknowledged) >= enough, 100)

    def assert_kept(self, store: Store) -> None:
        with store.reading() as session:
            feedback = {*session.execute(select(Feedback.picture_id, Feedback.text)).tuples()}
            images = set(session.scalars(select(StoredImage.id)))
        store.close()
        assert len(self.acknowledged) == len(set(self.acknowledged))
        assert set(self.acknowledged) <= feedback
        assert self.ids <= images


@pytest.mark.timeout(600)
def test_two_servers_share_a_sqlite_file(folder: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/f.db"
    options = ("--model", str(folder), "--feedback", url)
    with process(*options) as first, process(*options) as second:
        load = Load(first.url, second.url)
        with load.running():
            load.wait(40)
        for each in (first, second):
            assert httpx.get(f"{each.url}/readyz").status_code == 200
            assert "Traceback" not in each.log
        # They store what was read last before they end.
        for each in (first, second):
            each.process.terminate()
            each.process.wait(60)
    load.assert_kept(Store(url))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_postgresql_restarts_under_load(folder: Path, tmp_path: Path, postgres: Cluster) -> None:
    url = postgres.new_url()
    pictures = tmp_path / "pictures"
    with serving(folder, feedback=url, feedback_pictures=pictures) as client:
        load = Load(str(client.base_url))
        entry = read(client)
        assert entry is not None
        assert give(client, entry).status_code == 201
        with load.running():
            for _ in range(3):
                load.wait(15)
                postgres.kill()
                assert_clear(give(client, entry))
                assert client.get("/readyz").status_code == 200
                postgres.start()
            load.wait(15)
        for entry in load.ids:
            assert give(client, entry, "ZH2").status_code == 201
    load.assert_kept(Store(url, pictures))


@pytest.mark.timeout(600)
def test_another_program_locks_the_sqlite_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOCK_WAIT_S", 0.3)
    url = f"sqlite:///{tmp_path}/f.db"
    with serving(folder, feedback=url) as client:
        load = Load(str(client.base_url))
        entry = read(client)
        assert entry is not None
        assert give(client, entry).status_code == 201
        with load.running():
            load.wait(10)
            locking = sqlite3.connect(tmp_path / "f.db", isolation_level=None)
            locking.execute("BEGIN EXCLUSIVE")
            try:
                with ThreadPoolExecutor(10) as pool:
                    for response in pool.map(lambda _: give(client, entry), range(20)):
                        assert_clear(response)
                assert client.get("/livez").status_code == 200
                read(client)
            finally:
                locking.rollback()
                locking.close()
            load.wait(10)
        assert give(client, entry).status_code == 201
    load.assert_kept(Store(url))


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of 2 MiB, or a test that is skipped."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def survive_full_disk(
    folder: Path, url: str, fill: Callable[[], None], free: Callable[[], None]
) -> None:
    """Read and give feedback before, while and after the disk of a store is full."""
    with serving(folder, feedback=url) as client:
        load = Load(str(client.base_url))
        entry = read(client)
        assert entry is not None
        with load.running(2):
            load.wait(5)
            fill()
            assert_full(client, entry)
            free()
            load.wait(5)
        assert give(client, entry).status_code == 201
        assert client.delete(f"/v1/feedback/{entry}").status_code == 204
    load.assert_kept(Store(url))


@pytest.mark.timeout(600)
def test_a_disk_that_is_full(folder: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        other = disk / "other"
        survive_full_disk(folder, f"sqlite:///{disk}/f.db", lambda: fill(other), other.unlink)


@pytest.mark.timeout(600)
def test_a_disk_that_says_that_it_is_full(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, where no file system may be mounted: what SQLite and the system say then."""
    is_full = threading.Event()

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        # Never less than there are; a page that is free is used yet.
        connection.execute(f"PRAGMA max_page_count = {1 if is_full.is_set() else 2**30}")

    sync = os.fsync

    def flush(number: int) -> None:
        if is_full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(number)

    monkeypatch.setattr("os.fsync", flush)
    event.listen(Pool, "checkout", limit)
    try:
        survive_full_disk(folder, f"sqlite:///{tmp_path}/f.db", is_full.set, is_full.clear)
    finally:
        event.remove(Pool, "checkout", limit)


def assert_full(client: httpx.Client, entry: str) -> None:
    """Feedback is refused after what fits into pages that are there; readings go on without ids."""
    for _ in range(60):
        response = give(client, entry)
        if response.status_code != 201:
            break
    assert_clear(response)
    wait_until(lambda: read(client) is None, 60)
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
