"""Measure what the recognizer takes for what, for watch lists (src/video/confusions.py).

    python bench/confusions.py            # the most frequent confusions
    python bench/confusions.py --write    # and src/video/confusions.json

The counts are those of stage evaluate_ocr, on the recognizer's validation set: which character of a plate
was read as which, as missing, or where there is none. So call it after ``dvc repro evaluate_ocr``.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec
import numpy as np
from numpy.typing import NDArray

from src.core.charset import CANTONS, DIGITS
from src.core.errors import UserError
from src.video.confusions import FILE, Confusions

TABLE = Path("out/evaluations/ocr/plots/confusion.csv")
NOTHING = "(none)"
_PRIOR = 1.0
"""Confusions that are added to each row, spread evenly: what was not seen may happen yet."""

Counts = Mapping[tuple[str, str], int]


def read_counts(path: Path) -> Counts:
    """Return how often each character was read as each other one.

    Raises:
        UserError: The file does not exist or is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            counts: Counter[tuple[str, str]] = Counter()
            for row in csv.DictReader(file):
                counts[row["actual"], row["predicted"]] += int(row["count"])
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; call `dvc repro evaluate_ocr`") from None
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: must have the columns actual, predicted, count") from error
    return counts


def measure(counts: Counts, command: str) -> Confusions:
    """Return the probabilities that counts support.

    A digit that was aligned with a canton counts as one that was not read, and a canton that was aligned
    with nothing or with a digit counts as any other canton: a text that was read always has one canton.
    """
    cantons = _smoothed(counts, CANTONS)
    digits = _matrix(counts, DIGITS)
    total_of = {
        each: sum(n for (actual, _), n in counts.items() if actual == each) for each in DIGITS
    }
    totals = np.array([total_of[each] for each in DIGITS], float) + _PRIOR
    # The last column is that the digit is not read.
    missed = totals - _PRIOR - digits.sum(axis=1)
    rows = np.column_stack([digits, missed]) + _PRIOR / (len(DIGITS) + 1)
    rows /= totals[:, None]
    extras = np.array([counts.get((NOTHING, each), 0) for each in DIGITS], float)
    plates = sum(n for (actual, _), n in counts.items() if actual in CANTONS)
    # An extra digit may be before, between and behind the digits.
    places = plates + sum(total_of.values())
    spread = extras + _PRIOR / len(DIGITS)
    return Confusions(
        cantons=_rows(cantons),
        digits=_rows(rows[:, :-1]),
        missed=tuple(round(value, 8) for value in rows[:, -1].tolist()),
        extra=round((float(extras.sum()) + _PRIOR) / (places + _PRIOR), 8),
        extras=tuple(round(value, 8) for value in (spread / spread.sum()).tolist()),
        plates=plates,
        command=command,
    )


def _matrix(counts: Counts, tokens: Sequence[str]) -> NDArray[np.float64]:
    return np.array([[counts.get((a, b), 0) for b in tokens] for a in tokens], float)


def _smoothed(counts: Counts, tokens: Sequence[str]) -> NDArray[np.float64]:
    matrix = _matrix(counts, tokens)
    total = np.array([sum(n for (a, _), n in counts.items() if a == each) for each in tokens])
    others = 1 - np.eye(len(tokens))
    elsewhere = (total - matrix.sum(axis=1) + _PRIOR)[:, None] / (len(tokens) - 1)
    matrix += elsewhere * others
    return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 8) for value in row) for row in matrix.tolist())


def most_frequent(table: Confusions, count: int = 15) -> list[tuple[float, str, str]]:
    """Return the confusions with the highest probabilities: probability, what is there, what is read."""
    pairs = [
        (chance, tokens[row], tokens[column])
        for tokens, matrix in ((CANTONS, table.cantons), (DIGITS, table.digits))
        for row, chances in enumerate(matrix)
        for column, chance in enumerate(chances)
        if row != column
    ]
    pairs += [(chance, DIGITS[row], "nothing") for row, chance in enumerate(table.missed)]
    pairs += [(table.extra * chance, "nothing", DIGITS[i]) for i, chance in enumerate(table.extras)]
    return sorted(pairs, reverse=True)[:count]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--counts", type=Path, default=TABLE, metavar="FILE",
                        help="table of evaluate_ocr (default: %(default)s)")  # fmt: skip
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    options = parser.parse_args(arguments)
    try:
        table = measure(read_counts(options.counts), "python bench/confusions.py --write")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{table.plates} plates; an extra digit at a place: {table.extra:.4%}")
    for chance, there, read in most_frequent(table):
        print(f"{there:>8} read as {read:<8} {chance:.3%}")
    if options.write:
        temporary = FILE.with_name(f".{FILE.name}.partial")
        # A row of a matrix is a line.
        temporary.write_bytes(msgspec.json.encode(table).replace(b"],", b"],\n") + b"\n")
        temporary.replace(FILE)
        print(f"Wrote {FILE}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
