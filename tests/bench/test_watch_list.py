"""What bench/watch_list.py compares."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from src.core.charset import CHARSET
from tests.benches import load


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load("watch_list")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ZH1", "ZH1", 0),
        ("ZH12", "ZH1", 1),
        ("ZH12", "BE13", 3),
        ("", "ZH", 2),
        ("ZH21", "ZH12", 2),
    ],
)
def test_edit_distance(bench: ModuleType, first: str, second: str, expected: int) -> None:
    assert bench.distance(first, second) == bench.distance(second, first) == expected


def test_near_plates_differ_by_one_digit(bench: ModuleType) -> None:
    numbers = np.random.default_rng(0)
    for plate in ("UR7", "ZH123456", "TG1000"):
        plates = bench.near(plate, numbers)
        assert len(set(plates)) == bench.NEAR
        for each in plates:
            assert CHARSET.is_valid(each)
            assert bench.distance(each, plate) == 1
            assert len(each) == len(plate)


def test_an_edit_distance_takes_another_plate_and_a_probability_does_not(bench: ModuleType) -> None:
    readings = [("ZH128456", [("ZH128456", 0.99), ("ZH126456", 0.005)])] * 20
    rows = {row["matches"]: row for row in bench.compare(readings, 0)}
    assert all(row["found"]["share"] == 1 for row in rows.values())
    assert rows["edit distance of at most 1"]["false_beside_near_ones"]["share"] == 1
    assert rows["probability of at least 0.5"]["false_beside_near_ones"]["share"] == 0
    assert rows["the same text"]["false_beside_near_ones"]["share"] == 0
