"""A PostgreSQL server of one's own, and captures to put into a store."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
import psutil
import psycopg
import pytest

from src.flywheel.store import Capture
from src.inference.reader import Plate
from tests.bundles import scene
from tests.serving import wait_until

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CORNERS = ((60.0, 100.0), (180.0, 100.0), (180.0, 132.0), (60.0, 132.0))
PNG = cv2.imencode(".png", scene("BE1"))[1].tobytes()


def plate(text: str = "BE1", corners: tuple[tuple[float, float], ...] = CORNERS) -> Plate:
    xs, ys = zip(*corners, strict=True)
    return Plate(
        plate=text, canton=text[:2], number=text[2:], confidence=0.9, char_confidences=(0.9, 0.95),
        box=(min(xs), min(ys), max(xs), max(ys)), corners=corners, lines=1, score=0.99, text=text,
    )  # fmt: skip


def capture(
    content: bytes = PNG,
    plates: tuple[Plate, ...] = (plate(),),
    size: tuple[int, int] = (256, 256),
    created: datetime = NOW,
) -> Capture:
    return Capture(uuid4().hex, content, plates, *size, "model-1", created)


def noise(seed: int) -> bytes:
    """An image that no other seed has, of 64 x 48."""
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64)).astype(np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


class Cluster:
    """A PostgreSQL server in a folder, reached through a socket there."""

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # Not in pytest's folder: the user that PostgreSQL runs as may not look into it.
        self._folder = Path(tempfile.mkdtemp(prefix="plates-"))
        self._data = self._folder / "data"
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        account = ["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"]
        self._call("initdb", *account, "--locale=C", "--pgdata", str(self._data))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def _options(self) -> dict[str, object]:
        if self._user is None:
            return {}
        return {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False,
            **self._options(),  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        settings = ["listen_addresses=", f"unix_socket_directories={self._folder}"]
        # A process that is killed loses nothing by it; a machine might.
        settings += ["fsync=off", "full_page_writes=off"]
        words = [word for setting in settings for word in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *words],
                cwd=self._folder, stdout=log, stderr=log, **self._options(),  # type: ignore[call-overload]
            )  # fmt: skip
        wait_until(self._is_up)

    def _is_up(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _address(self) -> str:
        return f"postgresql://postgres@/postgres?host={self._folder}"

    def run(self, statement: str) -> None:
        with psycopg.connect(self._address, autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def new_url(self) -> str:
        """Of a new, empty schema: a database of its own would be a thousand files."""
        name = f"s{uuid4().hex[:12]}"
        self.run(f"CREATE SCHEMA {name}")
        return f"{self._address}&options=-csearch_path%3D{name}"

    def kill(self) -> None:
        """End it as a loss of power does, but for what the disk had not yet."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for each in (server, *server.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        self._process.wait(20)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
        shutil.rmtree(self._folder)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """PostgreSQL, or a test that is skipped."""
    found = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found is None and not installed:
        assert "CI" not in os.environ, "install postgresql: .ci/run does"
        pytest.skip("PostgreSQL's server programs are not installed here")
    server = Cluster(Path(found or installed[-1]).resolve().parent)
    try:
        yield server
    finally:
        server.stop()
