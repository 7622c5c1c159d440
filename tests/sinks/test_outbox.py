"""What an outbox has taken is there until it is delivered: after a kill too, and not for ever."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from src.sinks.outbox import Outbox, OutboxError
from tests.sinks.samples import JPEG, parcel

ROOT = Path(__file__).parents[2]


def drain(outbox: Outbox, sink: str) -> list[str]:
    """Take all events out, as a sink does."""
    ids = []
    while (found := outbox.first(sink)) is not None:
        number, taken = found
        ids.append(taken.id)
        outbox.done(number, sink)
    return ids


def ids(*numbers: int) -> list[str]:
    return [f"{number:032x}" for number in numbers]


def test_each_sink_gets_all_events_in_order(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    assert outbox.first("a") is None
    for number in (3, 1, 2):
        outbox.put(parcel(number, JPEG), ["a", "b"])
    assert outbox.waiting() == {"a": 3, "b": 3}
    first = outbox.first("a")
    assert first is not None
    assert first[1] == parcel(3, JPEG)
    assert drain(outbox, "a") == ids(3, 1, 2)
    assert outbox.waiting() == {"b": 3}
    assert drain(outbox, "b") == ids(3, 1, 2)
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.db") as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (0,)


def test_it_is_there_at_the_next_start(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put(parcel(1), ["a"])
    outbox.close()
    with pytest.raises(OutboxError):
        outbox.put(parcel(2), ["a"])
    outbox = Outbox(tmp_path / "outbox.db")
    assert drain(outbox, "a") == ids(1)
    outbox.close()


def test_only_its_owner_reads_it_and_what_is_gone_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    outbox = Outbox(path)
    assert path.stat().st_mode & 0o777 == 0o600
    outbox.put(parcel(1, plate="TI7654321"), ["a"])
    assert b"TI7654321" in path.read_bytes()
    drain(outbox, "a")
    assert all(b"TI7654321" not in each.read_bytes() for each in tmp_path.iterdir())
    outbox.close()


def test_one_process_uses_it_at_a_time(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    code = (
        "import sys; from pathlib import Path; from src.sinks.outbox import Outbox, OutboxError\n"
        "try: Outbox(Path(sys.argv[1]))\nexcept OutboxError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "outbox.db")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "outbox.db: another process uses it; end it, or name another file" in done.stdout
    outbox.close()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE photos (x)")
    connection.close()
    with pytest.raises(OutboxError, match="is another database"):
        Outbox(other)
    with sqlite3.connect(other) as connection:
        assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("photos",)]
    text = tmp_path / "text.db"
    text.write_text("no database at all, but a long text" * 100)
    with pytest.raises(OutboxError, match="is no outbox, or damaged"):
        Outbox(text)
    assert text.read_text().startswith("no database")
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(tmp_path / "no folder" / "outbox.db")


def test_the_oldest_make_room(tmp_path: Path) -> None:
    size = len(parcel(1, bytes(1000)).event) + 1000
    outbox = Outbox(tmp_path / "outbox.db", max_bytes=3 * size)
    dropped = [outbox.put(parcel(number, bytes(1000)), ["a"]) for number in range(1, 6)]
    assert dropped == [0, 0, 0, 1, 1]
    # One that is larger than all room drops all others, but is taken.
    assert drain(outbox, "a") == ids(3, 4, 5)
    outbox.put(parcel(6), ["a"])
    assert outbox.put(parcel(7, bytes(4 * size)), ["a"]) == 1
    assert drain(outbox, "a") == ids(7)
    outbox.close()


def test_what_is_set_aside_lets_others_pass_and_comes_back(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    for number in (1, 2):
        outbox.put(parcel(number), ["a"])
    first = outbox.first("a")
    assert first is not None
    outbox.set_aside(first[0], "a")
    assert outbox.waiting() == {"a": 1}
    assert drain(outbox, "a") == ids(2)
    outbox.restore()
    assert drain(outbox, "a") == ids(1)
    outbox.close()


def test_what_is_old_is_deleted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.put(parcel(1), ["a", "b"], now=100.0)
    outbox.put(parcel(2), ["a"], now=200.0)
    assert outbox.expire(before=150.0) == 1
    assert outbox.waiting() == {"a": 1}
    assert outbox.expire(before=150.0) == 0
    outbox.close()


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    outbox._connection.execute("PRAGMA max_page_count = 6")
    with pytest.raises(OutboxError, match="full; free some disk space"):
        outbox.put(parcel(1, bytes(100_000)), ["a"])
    assert outbox.waiting() == {}
    outbox.put(parcel(2), ["a"])
    assert drain(outbox, "a") == ids(2)
    outbox.close()


def test_a_killed_process_loses_nothing_that_it_has_taken(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from src.sinks.outbox import Outbox\n"
        "from tests.sinks.samples import parcel\n"
        "outbox = Outbox(Path(sys.argv[1]))\n"
        "for number in range(1, 10**6):\n"
        "    outbox.put(parcel(number, bytes(5000)), ['a']); print(number, flush=True)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "outbox.db")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    said = 20 + output.count("\n")
    outbox = Outbox(tmp_path / "outbox.db")
    kept = drain(outbox, "a")
    assert kept[:said] == ids(*range(1, said + 1))
    assert len(kept) <= said + 1
    outbox.close()
