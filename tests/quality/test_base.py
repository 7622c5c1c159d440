"""A check: what it flags, what it compares with its limit, and what it says of sets that are too small."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from src.quality.base import Check, Evidence, NotCheckedError, Scores
from tests.quality.sets import evidence_of, samples_of


def by_number(evidence: Evidence) -> Scores:
    """All that a new check needs."""
    numbers = evidence.samples.labels["sample"].to_numpy(float)
    return Scores(np.where(numbers == 0, np.nan, numbers), lambda row: f"number {row}")


ByNumber = partial(Check, "by_number", "samples with a high number", by_number, least=5)


def test_samples_beyond_the_threshold_are_flagged_the_worst_first() -> None:
    finding = ByNumber(7.0, 0.5)(evidence_of(samples_of(11)))
    assert finding.flagged.tolist() == [10, 9, 8]
    assert finding.checked == 10
    assert finding.value == pytest.approx(0.3)
    assert not finding.failed
    assert finding.scores is not None
    assert finding.scores.why(9) == "number 9"


@pytest.mark.parametrize(("limit", "failed"), [(0.0, True), (0.02, True), (0.2, False)])
def test_a_share_fails_beyond_doubt_only(limit: float, failed: bool) -> None:
    # 5 of 99: between 2.2 and 11.3 % with 95 %.
    finding = ByNumber(94.0, limit)(evidence_of(samples_of(100)))
    assert len(finding.flagged) == 5
    assert finding.failed == failed


def test_nothing_flagged_is_within_any_limit() -> None:
    assert not ByNumber(100.0, 0.0)(evidence_of(samples_of(50))).failed


def test_a_small_set_gets_a_warning() -> None:
    finding = ByNumber(0.0, 0.0)(evidence_of(samples_of(4)))
    assert finding.warning == "4 samples; 5 are needed"
    assert (finding.checked, finding.value, finding.failed) == (0, None, False)
    assert not len(finding.flagged)


def test_a_value_of_the_set_is_compared_as_it_is() -> None:
    def of_set(value: float, judged: bool = True) -> bool:
        def score(evidence: Evidence) -> Scores:
            return Scores(np.zeros(len(evidence.samples)), value=value, judged=judged)

        return Check("of_set", "", score, 0.5, 0.7)(evidence_of(samples_of(10))).failed

    assert of_set(0.71)
    assert not of_set(0.7)
    assert not of_set(0.9, judged=False)


def test_what_a_set_lacks_is_a_warning() -> None:
    def score(evidence: Evidence) -> Scores:
        raise NotCheckedError("it lacks something")

    finding = Check("lacks", "", score, 0.5, 0.0)(evidence_of(samples_of(10)))
    assert (finding.warning, finding.failed) == ("it lacks something", False)
