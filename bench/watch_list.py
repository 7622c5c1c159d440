"""Compare ways to look for plates of a watch list.

    python bench/watch_list.py [--data data/prepared/stack/shifted] [--model DIR] [--seed 0]

Reads the plates of a prepared set, which are hard to read, each with its most probable texts. Each is looked
for in two lists of plates that are drawn from the seed: one in which it is, and one in which plates are that
differ from it by one digit. A match with an entry of the second list is false, and so is one with another
entry of the first.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.core.charset import CANTONS, DIGITS
from src.core.errors import UserError
from src.datasets.shards import ShardedSet
from src.evaluation.metrics import align, rounded, share
from src.inference.reader import PlateReader
from src.video.confusions import confusions
from src.video.events import Alternative
from src.video.vote import ALTERNATIVES
from src.video.watch_list import Entry, best_match

ENTRIES, NEAR = 100, 8
"""Number of unrelated plates in each list, and of those that differ by one digit in the second."""

Texts = Sequence[tuple[str, float]]
"""Texts of a reading with their probabilities, the most probable one first."""


def distance(first: str, second: str) -> int:
    """Return the edit distance of two texts."""
    return sum(one != other for one, other in align(first, second))


def by_distance(most: int) -> Callable[[Texts, Sequence[str]], str | None]:
    """Return a function that takes the nearest entry of a list, up to an edit distance."""

    def match(texts: Texts, entries: Sequence[str]) -> str | None:
        nearest = min(entries, key=lambda entry: distance(texts[0][0], entry))
        return nearest if distance(texts[0][0], nearest) <= most else None

    return match


def by_probability(least: float) -> Callable[[Texts, Sequence[str]], str | None]:
    """Return a function that takes the most probable entry, from a probability on, as watch lists do."""

    def match(texts: Texts, entries: Sequence[str]) -> str | None:
        alternatives = [Alternative(plate=text, confidence=chance) for text, chance in texts]
        listed = [Entry(entry, "") for entry in entries]
        found = best_match(alternatives, listed, least, confusions())
        return found.plate if found else None

    return match


WAYS = {
    "the same text": by_distance(0),
    "edit distance of at most 1": by_distance(1),
    "probability of at least 0.5": by_probability(0.5),
    "probability of at least 0.05": by_probability(0.05),
}


def unrelated(numbers: np.random.Generator, count: int) -> list[str]:
    """Draw plates with five or six digits."""
    return [
        CANTONS[numbers.integers(len(CANTONS))] + str(numbers.integers(10_000, 1_000_000))
        for _ in range(count)
    ]


def near(plate: str, numbers: np.random.Generator) -> list[str]:
    """Draw plates that differ from one by a digit."""
    found: set[str] = set()
    while len(found) < min(NEAR, 8 * len(plate[2:])):
        place = 2 + numbers.integers(len(plate) - 2)
        other = plate[:place] + DIGITS[numbers.integers(len(DIGITS))] + plate[place + 1 :]
        if other != plate and other[2] != "0":
            found.add(other)
    return sorted(found)


def read(folder: Path, reader: PlateReader) -> list[tuple[str, Texts]]:
    """Return the plates of a set of which a text is possible, and these texts."""
    data = ShardedSet(folder)
    found: list[tuple[str, Texts]] = []
    for i in tqdm(np.flatnonzero(data.labels["plate"] != ""), unit=" plates"):
        plates = reader.read(data.image(int(i)), min_confidence=0.0, alternatives=ALTERNATIVES)
        texts = [each for plate in plates[:1] for each in plate.alternatives or ()]
        if texts:
            found.append((str(data.labels["plate"].iloc[i]), texts))
    return found


def compare(readings: Sequence[tuple[str, Texts]], seed: int) -> list[dict[str, Any]]:
    """Return by way how many plates are found in lists that have them, and how many matches are false."""
    numbers = np.random.default_rng(seed)
    lists = []
    for plate, texts in readings:
        others = [each for each in unrelated(numbers, ENTRIES) if each != plate]
        lists.append((plate, texts, [plate, *others], [*near(plate, numbers), *others]))
    rows = []
    for name, match in WAYS.items():
        first = [(match(texts, entries), plate) for plate, texts, entries, _ in lists]
        second = [match(texts, entries) is not None for _, texts, _, entries in lists]
        rows.append(
            {
                "matches": name,
                "found": share(sum(entry == plate for entry, plate in first), len(lists)),
                "another_found": share(
                    sum(entry not in (None, plate) for entry, plate in first), len(lists)
                ),
                "false_beside_near_ones": share(sum(second), len(lists)),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data/prepared/stack/shifted"))
    parser.add_argument("--model", type=Path, metavar="DIR", help="bundle (the promoted one)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        readings = read(options.data, PlateReader.load(options.model))
    except UserError as error:
        sys.exit(f"error: {error}")
    for row in compare(readings, options.seed):
        print(json.dumps(rounded(row)))


if __name__ == "__main__":
    main()
