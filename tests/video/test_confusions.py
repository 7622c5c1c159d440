"""Probabilities of texts, given what is taken for what: they sum to one, and follow Bayes' rule."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest

from src.core.charset import CANTONS
from src.video.confusions import FILE, Confusions, confusions, posterior


def table(extra: float = 1e-3, missed: float = 2e-3, six_for_eight: float = 0.01) -> Confusions:
    """Cantons and digits are mostly right; 8 is often read as 6."""
    cantons = np.full((26, 26), 0.02 / 25)
    np.fill_diagonal(cantons, 0.98)
    digits = np.full((10, 10), 1e-4)
    digits[8, 6] = six_for_eight
    np.fill_diagonal(digits, 0)
    np.fill_diagonal(digits, 1 - missed - digits.sum(axis=1))
    return Confusions(
        cantons=tuple(map(tuple, cantons.tolist())),
        digits=tuple(map(tuple, digits.tolist())),
        missed=(missed,) * 10,
        extra=extra,
        extras=(0.1,) * 10,
        plates=1000,
        command="test",
    )


def alignments(read: str, plate: str, by: Confusions) -> float:
    """The likelihood by going through all alignments, for short texts."""
    seen, there = [int(each) for each in read[2:]], [int(each) for each in plate[2:]]

    def ways(i: int, j: int) -> float:
        """Of the digits from ``i`` of the plate and from ``j`` as read, at a place for extra ones."""
        chance = 0.0
        for more in range(len(seen) - j + 1):
            weight = math.prod(by.extra * by.extras[digit] for digit in seen[j : j + more])
            weight *= 1 - by.extra
            k = j + more
            if i == len(there):
                chance += weight if k == len(seen) else 0.0
                continue
            chance += weight * by.missed[there[i]] * ways(i + 1, k)
            if k < len(seen):
                chance += weight * by.digits[there[i]][seen[k]] * ways(i + 1, k + 1)
        return chance

    canton = by.cantons[CANTONS.index(plate[:2])][CANTONS.index(read[:2])]
    return canton * ways(0, 0)


@pytest.mark.parametrize("installed", [False, True])
def test_a_likelihood_is_the_sum_over_all_alignments(installed: bool) -> None:
    by = confusions() if installed else table(extra=0.01, missed=0.02)
    for read, plate in itertools.product(("ZH1", "ZH12", "ZH11", "BE212"), repeat=2):
        assert by.likelihood(read, plate) == pytest.approx(alignments(read, plate, by), rel=1e-9)


def test_the_total_is_the_sum_over_all_plates() -> None:
    by = table()
    for read in ("ZH86", "BE1"):
        texts = (f"{canton}{number}" for canton in CANTONS for number in range(1, 100_0))
        direct = math.fsum(by.likelihood(read, text) for text in texts)
        # Of longer plates, two more digits at least would have to be missed.
        assert direct == pytest.approx(by.total(read), rel=0.05)
        assert direct < by.total(read)


def test_what_was_read_alone_has_its_calibrated_probability() -> None:
    assert posterior(["ZH86", "ZH66"], [("ZH86", 0.7), ("ZH66", 0.2)], table()) == [0.7, 0.2]


def test_what_the_alternatives_leave_goes_to_what_is_often_confused() -> None:
    by = table()
    often, seldom, far = posterior(["ZH128", "ZH125", "BE9999"], [("ZH126", 0.7)], by)
    # The same edit distance, but 8 is read as 6 a hundred times as often as 5 is.
    assert often == pytest.approx(100 * seldom, rel=0.01)
    assert far < seldom * 1e-6
    assert often < 0.3
    # And not the other way round: 6 is hardly ever read as 8.
    (back,) = posterior(["ZH126"], [("ZH128", 0.7)], by)
    assert back < often / 10


def test_one_digit_more_or_less_is_possible() -> None:
    more, less, other = posterior(["ZH1234", "ZH12", "ZH567"], [("ZH123", 0.5)], table())
    assert more > other
    assert less > other
    # All digits of a plate are missed in as many ways as there are equal digits in a row.
    twice, once = posterior(["ZH1223", "ZH1253"], [("ZH123", 0.5)], table())
    assert twice == pytest.approx(2 * once, rel=0.01)


def test_all_plates_together_have_a_probability_of_one() -> None:
    by = table()
    plates = [f"{canton}{number}" for canton in CANTONS for number in range(1, 1000)]
    read = [("ZH86", 0.6), ("ZH66", 0.1), ("ZG86", 0.05)]
    together = math.fsum(posterior(plates, read, by))
    assert 0.97 < together <= 1
    assert math.fsum(posterior(plates, [("ZH86", 1.0)], by)) == pytest.approx(1.0)


def test_uncertain_readings_are_weighed_by_their_probabilities() -> None:
    by = table()
    first = posterior(["ZH128"], [("ZH126", 0.5)], by)[0]
    second = posterior(["ZH128"], [("ZH226", 0.5)], by)[0]
    (mixed,) = posterior(["ZH128"], [("ZH126", 0.25), ("ZH226", 0.25)], by)
    # Nearly so, as the one alternative no longer takes a part of the other's rest.
    assert mixed == pytest.approx((first + second) / 2, rel=0.05)


def test_alternatives_of_no_probability_give_none() -> None:
    assert posterior(["ZH1"], [("ZH1", 0.0)], table()) == [0.0]


def test_the_installed_table_is_of_the_recognizer() -> None:
    by = confusions()
    assert by.plates >= 10_000
    # Nearly all characters of the validation set are right.
    assert min(row[i] for i, row in enumerate(by.digits)) > 0.9
    assert min(row[i] for i, row in enumerate(by.cantons)) > 0.9
    assert 0 < by.extra < 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"digits": ((0.1,) * 10,) * 9},
        {"missed": (0.5,) * 10},
        {"extra": 0.0},
        {"extras": (0.2,) * 10},
        {"cantons": ((1 / 26,) * 26,) * 25},
    ],
)
def test_a_table_that_is_wrong_is_not_loaded(change: dict[str, object]) -> None:
    values = {**msgspec.json.decode(FILE.read_bytes()), **change}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, Confusions)
