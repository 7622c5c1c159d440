"""Read the CSV of an annotation file as programs and spreadsheets write it.

The separator is a comma, a semicolon (Excel where commas are decimal, and in Switzerland) or a tab, and the
text UTF-8, with or without a byte order mark. Lines end in any way. Where the separator is no comma, numbers
may have a decimal comma. Plates may be written with blanks, dots and other separators.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from ..core.spelling import without_separators
from .shards import DatasetError

PIXEL_COLUMNS = ["x1", "y1", "x2", "y2"]
_NUMBERS = {*BOX_COLUMNS, *PIXEL_COLUMNS, *CORNER_COLUMNS}
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """Rows of a CSV, as text.

    Attributes:
        columns: Names of the columns.
        rows: Values by column, of each row that is not empty.
        lines: Number of the line in which each row ends; the first line is 1.
    """

    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]


def read_rows(path: Path) -> Table:
    """Read the rows of an annotation file.

    Raises:
        DatasetError: The file cannot be read, is no CSV in UTF-8, or a row has more values than columns.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read as CSV: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DatasetError(
            f"{path}, line {line}: is not UTF-8; save the file as UTF-8 (in Excel as `CSV UTF-8`)"
        ) from error
    first = re.split(r"[\r\n]", text.lstrip(), maxsplit=1)[0].strip().lower()
    # Excel's own hint, which stands above the header.
    hinted = len(first) == len("sep=;") and first.startswith("sep=")
    separator = first[-1] if hinted else max(_SEPARATORS, key=first.count)
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True
    )
    try:
        if hinted:
            next(lines)
        return _table(path, lines, separator)
    except csv.Error as error:
        raise DatasetError(f"{path}, line {lines.line_num}: is no valid CSV: {error}") from error


def _table(path: Path, lines: Iterator[list[str]], separator: str) -> Table:
    headings = ([name.strip() for name in line] for line in lines)
    columns = next((names for names in headings if any(names)), None)
    if columns is None:
        raise DatasetError(f"{path}: cannot be read as CSV: it is empty")
    for name in columns:
        if name and columns.count(name) > 1:
            raise DatasetError(f"{path}: has several columns `{name}`")
    table = Table([name for name in columns if name], [], [])
    for values in lines:
        cells = [value.strip() for value in values]
        if not any(cells):
            continue
        line = lines.line_num  # type: ignore[attr-defined]  # of csv's reader
        if any(cells[len(columns) :]):
            raise DatasetError(
                f"{path}, line {line}: has {len(cells)} values, but there are {len(columns)} columns"
            )
        cells += [""] * (len(columns) - len(cells))
        row = {name: cell for name, cell in zip(columns, cells, strict=False) if name}
        if separator != ",":
            row |= {name: row[name].replace(",", ".") for name in _NUMBERS & row.keys()}
        if plate := row.get("plate"):
            row["plate"] = without_separators(plate)
        table.rows.append(row)
        table.lines.append(line)
    return table
