"""A list of plates that are looked for, and whether an event's vehicle is one of them.

    plate,label,valid_from,valid_to,colour,format
    ZH 123456,tenant of 3b,2026-01-01,2026-12-31,white,front|rear_long

Texts are never compared by their letters alone: the probability that the vehicle has a listed plate comes
from the event's alternatives and from what the recognizer takes for what (src/video/confusions.py).
"""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import msgspec

from ..core.charset import CHARSET
from ..core.errors import UserError
from ..core.layout import FORMATS
from ..core.spelling import without_separators
from ..inference.colour import COLOURS
from .confusions import Confusions, confusions, posterior
from .events import Alternative, Event, Match

LEAST = 0.5
"""Least probability of a match where nothing else is asked for: more probable than not."""
_NEEDED = ("plate", "label")
_COLUMNS = (*_NEEDED, "valid_from", "valid_to", "colour", "format")
_DELIMITERS = (",", ";", "\t")
_BETWEEN = "|"
"""Stands between several formats of an entry: a car has plates of two."""


class WatchListError(UserError):
    """A watch list cannot be read; the message names row and column."""


@dataclass(frozen=True)
class Entry:
    """A plate that is looked for.

    Attributes:
        plate: Text of the plate.
        label: What it is called in matches.
        valid_from: When the entry begins to count; None for always.
        valid_to: When it no longer counts; None for never.
        colour: Colour of the plate; None for any.
        formats: Formats of the plate; empty for any.
    """

    plate: str
    label: str
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    colour: str | None = None
    formats: tuple[str, ...] = ()

    def counts(self, event: Event, now: datetime) -> bool:
        """Return whether the entry is valid at a time, and colour and format of an event allow it."""
        return (
            (self.valid_from is None or now >= self.valid_from)
            and (self.valid_to is None or now < self.valid_to)
            and (self.colour is None or event.colour in (None, self.colour))
            and (not self.formats or event.format is None or event.format in self.formats)
        )


def load_entries(path: Path) -> list[Entry]:
    """Load a watch list.

    Args:
        path: CSV file (comma, semicolon or tab) in UTF-8 with a row of headings: plate and label, and, where
            they are wanted, valid_from and valid_to (ISO 8601; days or times, of this machine's time zone
            where they name none, and the last day counts), colour, and format (several with | between).

    Raises:
        WatchListError: The file cannot be read, or a row is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise WatchListError(f"{path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise WatchListError(f"{path}: is not UTF-8; save it as CSV in UTF-8") from error
    except OSError as error:
        raise WatchListError(f"{path}: cannot be read: {error.strerror or error}") from error
    entries = []
    for number, row in _rows(path, text):
        try:
            entries.append(_entry(row))
        except _CellError as error:
            raise WatchListError(
                f"{path}: row {number}, column {error.column}: {error.reason}"
            ) from None
    return entries


class _CellError(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(column, reason)
        self.column, self.reason = column, reason


def _rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows that are not empty, with their line numbers, as cells by column."""
    heading = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [cell.strip().lower() for cell in next(reader, [])]
    if missing := [name for name in _NEEDED if name not in columns]:
        raise WatchListError(
            f"{path}: row 1: has no column {missing[0]}; its headings must be "
            f"{','.join(_COLUMNS)}, of which {' and '.join(_NEEDED)} are needed"
        )
    for name in columns:
        if name not in _COLUMNS or columns.count(name) > 1:
            what = "occurs twice" if name in _COLUMNS else "is unknown"
            raise WatchListError(
                f"{path}: row 1: the column {name!r} {what}; use {', '.join(_COLUMNS)}"
            )
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(columns):
                raise WatchListError(
                    f"{path}: row {reader.line_num}: has {len(cells)} cells, but there are "
                    f"{len(columns)} columns"
                )
            filled = [cell.strip() for cell in cells] + [""] * (len(columns) - len(cells))
            yield reader.line_num, dict(zip(columns, filled, strict=True))
    except csv.Error as error:
        raise WatchListError(f"{path}: row {reader.line_num}: {error}") from error


def _entry(row: Mapping[str, str]) -> Entry:
    plate = without_separators(row["plate"])
    if not CHARSET.is_valid(plate):
        raise _CellError(
            "plate",
            f"{row['plate']!r} is no plate; it must be a canton and a number, such as ZH 123456",
        )
    if not row["label"]:
        raise _CellError("label", "is empty; say what matches are to be called")
    start, end = _time(row, "valid_from"), _time(row, "valid_to")
    if start is not None and end is not None and start >= end:
        raise _CellError("valid_to", f"{row['valid_to']!r} is not after valid_from")
    colour = row.get("colour", "").lower()
    if colour and colour not in COLOURS:
        raise _CellError("colour", f"{colour!r} is none; use {', '.join(COLOURS)}")
    formats = [part.strip().lower() for part in row.get("format", "").split(_BETWEEN)]
    formats = [part for part in formats if part]
    for part in formats:
        if part not in FORMATS:
            raise _CellError("format", f"{part!r} is none; use {', '.join(FORMATS)}")
    return Entry(plate, row["label"], start, end, colour or None, tuple(formats))


def _time(row: Mapping[str, str], column: str) -> datetime | None:
    """Return a time with a time zone; of a last day, when it ends."""
    cell = row.get(column, "")
    if not cell:
        return None
    try:
        day = date.fromisoformat(cell)
    except ValueError:
        pass
    else:
        # The last day counts.
        start = day + timedelta(days=1) if column == "valid_to" else day
        return datetime.combine(start, time()).astimezone()
    try:
        return datetime.fromisoformat(cell).astimezone()
    except (ValueError, OverflowError):
        raise _CellError(
            column, f"{cell!r} is no time; write 2026-01-31, or 2026-01-31T18:00"
        ) from None


class WatchList:
    """A watch list in a file, which is loaded anew when the file changes.

    Args:
        path: CSV file (``load_entries``).
        report: Takes a message when the file has changed.
        least: Least probability of a match.
        table: What the recognizer takes for what; by default the installed one.

    Raises:
        WatchListError: The file cannot be read, or a row is wrong.
    """

    def __init__(
        self,
        path: Path,
        report: Callable[[str], None],
        least: float = LEAST,
        table: Confusions | None = None,
    ) -> None:
        self._path, self._report, self._least = path, report, least
        self._table = table or confusions()
        self._lock = threading.Lock()
        self._state = _state(path)
        self._entries = load_entries(path)

    def matched(self, event: Event) -> Event:
        """Return an event with its match."""
        self._reload()
        now = event.last_at if isinstance(event.last_at, datetime) else datetime.now(UTC)
        counting = [entry for entry in self._entries if entry.counts(event, now)]
        return msgspec.structs.replace(
            event, match=best_match(event.alternatives, counting, self._least, self._table)
        )

    def _reload(self) -> None:
        with self._lock:
            state = _state(self._path)
            if state == self._state:
                return
            self._state = state
            try:
                self._entries = load_entries(self._path)
            except WatchListError as error:
                # A half-written file must not end the watch; the next change is tried again.
                self._report(f"{error}. The watch list stays as it was.")
            else:
                self._report(f"{self._path}: loaded anew, entries: {len(self._entries)}")


def _state(path: Path) -> tuple[int, int, int] | None:
    """Return what differs when a file was changed or replaced; None if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def best_match(
    texts: Sequence[Alternative], entries: Sequence[Entry], least: float, table: Confusions
) -> Match | None:
    """Return the entry that an event's vehicle most probably is, if it is probable enough.

    Args:
        texts: Alternatives of the event.
        entries: Entries that count for it.
        least: Least probability of a match.
        table: What the recognizer takes for what.
    """
    alternatives = [(each.plate, each.confidence) for each in texts if CHARSET.is_valid(each.plate)]
    if not alternatives or not entries:
        return None
    chances = posterior([entry.plate for entry in entries], alternatives, table)
    best = max(range(len(entries)), key=chances.__getitem__)
    if chances[best] < least:
        return None
    entry = entries[best]
    return Match(plate=entry.plate, label=entry.label, probability=round(chances[best], 6))
