"""Watch lists: files with clear errors, loaded anew, and matches with their probability."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from src.video.events import Match
from src.video.watch_list import Entry, WatchList, WatchListError, best_match, load_entries
from tests.sinks.samples import event
from tests.video.test_confusions import table

HEAD = "plate,label,valid_from,valid_to,colour,format\n"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture(autouse=True)
def _zone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Zurich")
        time.tzset()
        yield
    time.tzset()


# Files


def test_a_file_has_entries_with_days_times_colours_and_formats(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        HEAD
        + "zh 123·456,tenant of 3b,2026-01-01,20261231,white,front|rear_long\n"
        + "\n"
        + 'BE1,"taxi, old",2026-03-01T18:00,2026-03-02T06:00:00Z,,\n'
        + "GE2,short row\n",
    )
    first, second, third = load_entries(path)
    assert (first.plate, first.label) == ("ZH123456", "tenant of 3b")
    # The last day counts, in the time zone of this machine.
    assert first.valid_from == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert first.valid_to == datetime(2026, 12, 31, 23, tzinfo=UTC)
    assert (first.colour, first.formats) == ("white", ("front", "rear_long"))
    assert second.label == "taxi, old"
    assert second.valid_from == datetime(2026, 3, 1, 17, tzinfo=UTC)
    assert second.valid_to == datetime(2026, 3, 2, 6, tzinfo=UTC)
    assert third == Entry("GE2", "short row")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_are_as_spreadsheets_write_them(delimiter: str, tmp_path: Path) -> None:
    text = f"Label{delimiter}Plate\r\nmeine{delimiter}FR 17855\r\n"
    assert load_entries(write(tmp_path, text, "utf-8-sig")) == [Entry("FR17855", "meine")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", r"row 1: has no column plate; its headings must be plate,label,"),
        ("plate\nZH1", "row 1: has no column label"),
        ("plate,label,color\n", "row 1: the column 'color' is unknown; use plate, label"),
        ("plate,label,plate\n", "row 1: the column 'plate' occurs twice"),
        (HEAD + "ZH1,a\nXX1,b", "row 3, column plate: 'XX1' is no plate"),
        (HEAD + "ZH1,", "row 2, column label: is empty"),
        (
            HEAD + "ZH1,a,1.1.2026",
            "row 2, column valid_from: '1.1.2026' is no time; write 2026-01-31",
        ),
        (HEAD + "ZH1,a,,2026-13-01", "row 2, column valid_to: '2026-13-01' is no time"),
        (
            HEAD + "ZH1,a,2026-02-01,2026-01-01",
            "row 2, column valid_to: .* is not after valid_from",
        ),
        (HEAD + "ZH1,a,,,weiss", "row 2, column colour: 'weiss' is none; use white, "),
        (HEAD + "ZH1,a,,,,front|back", "row 2, column format: 'back' is none; use front, "),
        (HEAD + "ZH1,a,,,,,,", "row 2: has 8 cells, but there are 6 columns"),
    ],
)
def test_what_is_wrong_is_said_with_row_and_column(text: str, what: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(WatchListError, match=what) as error:
        load_entries(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_missing_or_of_another_encoding_is_explained(tmp_path: Path) -> None:
    with pytest.raises(WatchListError, match=r"none\.csv: there is no such file"):
        load_entries(tmp_path / "none.csv")
    with pytest.raises(WatchListError, match="is not UTF-8"):
        load_entries(write(tmp_path, "plate,label\nZH1,Tür", "latin-1"))
    with pytest.raises(WatchListError, match="cannot be read"):
        load_entries(tmp_path)


# Matches


def match(
    alternatives: list[tuple[str, float]], *entries: Entry, least: float = 0.01
) -> Match | None:
    return best_match(event(alternatives=alternatives).alternatives, entries, least, table())


def test_a_text_that_was_read_matches_with_its_probability() -> None:
    found = match([("ZH126", 0.97), ("ZH128", 0.02)], Entry("ZH126", "mine"))
    assert found == Match(plate="ZH126", label="mine", probability=0.97)


def test_the_entry_that_is_most_probable_is_named() -> None:
    entries = (Entry("ZH125", "five"), Entry("ZH128", "eight"), Entry("BE9", "other"))
    found = match([("ZH126", 0.5)], *entries)
    # One digit is another in both, but 8 is read as 6 more often.
    assert found is not None
    assert found.label == "eight"
    assert 0.01 < found.probability < 0.5
    found = match([("ZH126", 0.5), ("ZH125", 0.3)], *entries)
    assert found == Match(plate="ZH125", label="five", probability=0.3)


def test_nothing_below_the_least_probability_matches() -> None:
    read, entry = [("ZH126", 0.6)], Entry("ZH128", "mine")
    found = match(read, entry)
    assert found is not None
    assert match(read, entry, least=found.probability * 1.01) is None
    assert match([("ZH126", 0.999)], Entry("BE777777", "far")) is None
    assert match([("ZH126", 0.999)]) is None


def test_an_event_without_a_text_matches_by_what_it_probably_is() -> None:
    unread = event(plate=None, alternatives=[("ZH126", 0.55), ("", 0.2)])
    found = best_match(unread.alternatives, [Entry("ZH126", "mine")], 0.5, table())
    assert found == Match(plate="ZH126", label="mine", probability=0.55)
    nothing = event(plate=None, alternatives=[("", 0.55)])
    assert best_match(nothing.alternatives, [Entry("ZH126", "mine")], 0.01, table()) is None


def test_entries_count_in_their_time_with_their_colour_and_format() -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    hour = timedelta(hours=1)
    white = event()
    for entry, counts in (
        (Entry("ZH1", "a"), True),
        (Entry("ZH1", "a", valid_from=now), True),
        (Entry("ZH1", "a", valid_from=now + hour), False),
        (Entry("ZH1", "a", valid_to=now + hour), True),
        (Entry("ZH1", "a", valid_to=now), False),
        (Entry("ZH1", "a", colour="white"), True),
        (Entry("ZH1", "a", colour="green"), False),
        (Entry("ZH1", "a", formats=("rear_long", "front")), True),
        (Entry("ZH1", "a", formats=("motorcycle",)), False),
    ):
        assert entry.counts(white, now) == counts, entry
    # What cannot be told contradicts nothing.
    unknown = event(colour=None, format=None)
    assert Entry("ZH1", "a", colour="green", formats=("motorcycle",)).counts(unknown, now)


def test_a_live_event_is_judged_by_its_own_time(tmp_path: Path) -> None:
    path = write(tmp_path, HEAD + "ZH123456,then,2026-01-01,2026-01-31\n")
    watch_list = WatchList(path, print)
    then = datetime(2026, 1, 31, 22, 59, tzinfo=UTC)
    found = watch_list.matched(event(first_at=then, last_at=then)).match
    assert isinstance(found, Match)
    assert found.label == "then"
    later = then + timedelta(minutes=1)
    assert watch_list.matched(event(first_at=later, last_at=later)).match is None
    # The time of a file is not known: now is what counts.
    assert watch_list.matched(event()).match is None


def test_a_file_that_changes_is_loaded_anew(tmp_path: Path) -> None:
    said: list[str] = []
    path = write(tmp_path, HEAD)
    watch_list = WatchList(path, said.append, table=table())

    def label() -> str | None:
        found = watch_list.matched(event()).match
        return found.label if isinstance(found, Match) else None

    assert label() is None
    write(tmp_path, HEAD + "ZH123456,first\n")
    assert label() == "first"
    assert said == [f"{path}: loaded anew, entries: 1"]
    # Editors write a new file and rename it, with a time that may be the same.
    times = path.stat()
    other = tmp_path / "other.csv"
    other.write_text(HEAD + "ZH123456,other\n")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert label() == "other"
    write(tmp_path, HEAD + "nonsense,x\n")
    assert label() == "other"
    assert label() == "other"
    path.unlink()
    assert label() == "other"
    write(tmp_path, HEAD + "ZH123456,last\n")
    assert label() == "last"
    assert [each.partition(f"{path}: ")[2].split(",")[0] for each in said] == [
        "loaded anew", "loaded anew", "row 2", "there is no such file. The watch list stays as it was.",
        "loaded anew",
    ]  # fmt: skip


def test_an_event_says_what_it_matches() -> None:
    found = Match(plate="ZH123456", label="mine", probability=0.9)
    assert "on the watch list: mine (ZH123456, 90.0%)" in event(match=found).line()
    assert "watch list" not in event(match=None).line()
