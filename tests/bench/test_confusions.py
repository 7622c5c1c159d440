"""What bench/confusions.py makes of the counts of evaluate_ocr."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from src.core.charset import CANTONS, DIGITS
from src.core.errors import UserError
from src.video.confusions import Confusions
from tests.benches import load


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("confusions")


def counts() -> dict[tuple[str, str], int]:
    found = {(each, each): 1000 for each in DIGITS} | {(each, each): 100 for each in CANTONS}
    return found | {
        ("8", "6"): 20,
        ("3", "(none)"): 5,
        ("(none)", "1"): 7,
        ("ZH", "ZG"): 4,
        # Alignments that mean something else.
        ("5", "BE"): 2,
        ("ZH", "(none)"): 1,
        ("(none)", "GR"): 3,
    }


def test_probabilities_are_those_of_the_counts(bench: ModuleType) -> None:
    table: Confusions = bench.measure(counts(), "test")
    digit = {each: place for place, each in enumerate(DIGITS)}
    canton = {each: place for place, each in enumerate(CANTONS)}
    assert table.digits[digit["8"]][digit["6"]] == pytest.approx(20 / 1020, rel=0.02)
    # What was not seen is possible.
    assert 0 < table.digits[digit["6"]][digit["8"]] < 1e-3
    assert table.missed[digit["3"]] == pytest.approx(5 / 1005, rel=0.05)
    assert table.missed[digit["5"]] == pytest.approx(2 / 1002, rel=0.1)
    assert table.cantons[canton["ZH"]][canton["ZG"]] == pytest.approx(4 / 105, rel=0.05)
    assert 0 < table.cantons[canton["BE"]][canton["ZG"]] < 1e-3
    assert table.plates == 26 * 100 + 5
    assert table.extra == pytest.approx(8 / (2605 + 10_027), rel=0.01)
    assert table.extras[digit["1"]] == pytest.approx(7.1 / 8, rel=0.01)
    assert table.extras[digit["2"]] == pytest.approx(0.1 / 8, rel=0.01)
    assert bench.most_frequent(table, 2) == [
        (table.cantons[canton["ZH"]][canton["ZG"]], "ZH", "ZG"),
        (table.digits[digit["8"]][digit["6"]], "8", "6"),
    ]


def test_a_table_that_is_missing_or_another_is_explained(bench: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="dvc repro evaluate_ocr"):
        bench.read_counts(tmp_path / "none.csv")
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="must have the columns"):
        bench.read_counts(path)
