"""The paired test of two models, and the file of which plates were read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from src.evaluation.paired import (
    SIGNIFICANT,
    Outcomes,
    compare,
    compare_outcomes,
    exact_mcnemar,
    holm,
    parse_outcomes,
    write_outcomes,
)

COUNT = 1000


def right(wrong: Any = (), count: int = COUNT) -> np.ndarray:
    values = np.ones(count, bool)
    values[list(wrong)] = False
    return values


def test_mcnemar_is_a_fair_coin() -> None:
    assert exact_mcnemar(0, 0) == 1
    assert exact_mcnemar(5, 0) == pytest.approx(1 / 32)
    assert exact_mcnemar(0, 5) == 1
    assert exact_mcnemar(12, 3) == pytest.approx(binom.sf(11, 15, 0.5))


def test_mcnemar_is_wrong_as_rarely_as_it_says() -> None:
    """Of equal models, one in twenty at most looks better."""
    draws = np.random.default_rng(1)
    gained = draws.binomial(40, 0.5, 4000)
    found = np.mean([exact_mcnemar(int(more), int(40 - more)) < SIGNIFICANT for more in gained])
    assert 0.02 < found <= 0.05


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_counts_of_pairs() -> None:
    each = compare("x", right({1, 2, 3}), right({3, 4}))
    assert (each.count, each.old, each.new, each.gained, each.lost) == (
        1000,
        997,
        998,
        2,
        1,
    )
    assert each.difference == pytest.approx(0.001)
    with pytest.raises(ValueError, match=r"x: .* got 1000 and 4"):
        compare("x", right(), right(count=4))


def test_outcomes_are_what_was_written(tmp_path: Path) -> None:
    sets = {"val": Outcomes("one", right({1, 2})), "empty": Outcomes("none", right(count=0))}
    write_outcomes(tmp_path / "file.json", sets)
    found = parse_outcomes((tmp_path / "file.json").read_text())
    assert list(found) == ["val", "empty"]
    for name, each in sets.items():
        assert found[name].data == each.data
        np.testing.assert_array_equal(found[name].right, each.right)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{}x",
        '{"val": 1}',
        '{"val": {"data": "x"}}',
        '{"val": {"data": "x", "right": "1a"}}',
    ],
)
def test_a_damaged_file_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # its caller names the file
        parse_outcomes(text)


def test_only_the_same_plates_are_compared() -> None:
    old = {
        "val": Outcomes("one", right({1})),
        "other": Outcomes("two", right()),
        "gone": Outcomes("", right()),
    }
    new = {
        "val": Outcomes("one", right({2, 3})),
        "other": Outcomes("three", right()),
        "new": Outcomes("", right()),
    }
    found = compare_outcomes(old, new)
    assert list(found) == ["val"]
    assert (found["val"].gained, found["val"].lost) == (1, 2)
    # Damaged, or cut off: as many digits as plates are wanted.
    assert compare_outcomes({"val": Outcomes("one", right(count=5))}, new) == {}
