"""What is said of a whole set: coverage, clusters, uncertainty, difference from another set."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from src.core.charset import CANTONS
from src.quality.coverage import balance, declared
from src.quality.samples import FloatArray, Samples
from tests.quality.sets import (
    CONFIG,
    checked,
    evidence_of,
    finder,
    number_of,
    reader,
    samples_of,
    text_of,
)


def covered(count: int = 1500) -> Samples:
    """Plates as StreetPlateParams declares them."""
    draws = np.random.default_rng(4)
    shares = declared(CONFIG)["street"].shares

    def drawn(name: str) -> np.ndarray:
        return draws.choice(list(shares[name]), count, p=list(shares[name].values()))

    numbers = [
        str(draws.integers(10 ** (int(digits) - 1), 10 ** int(digits)))
        for digits in drawn("digits")
    ]
    formats = drawn("format")
    two = [name in ("rear_high", "motorcycle", "moped") for name in formats]
    return samples_of(
        count,
        plate=[
            f"{canton}{number}" for canton, number in zip(drawn("canton"), numbers, strict=True)
        ],
        format=formats,
        lines=np.where(two, 2, 1),
        colour=drawn("colour"),
        plate_height=draws.uniform(10, 60, count),
        angle=draws.uniform(-12, 12, count),
    )


def with_light(samples: Samples) -> Samples:
    """Images from dark to bright; of them alone the light is known."""

    def load(number: int) -> np.ndarray:
        return np.full((8, 8), 20 + 5 * (number % 45), np.uint8)

    return Samples(samples.name, samples.labels, load, samples.place, True, False, len(samples))


def test_a_set_as_it_is_declared_has_no_holes() -> None:
    samples = with_light(covered())
    finding = checked("coverage", samples)
    assert finding.value == 0
    assert not finding.failed
    assert finding.scores is not None
    assert finding.scores.measures["cells"] > 100
    assert finding.scores.measures["balance"]["canton"] > 0.98
    digit = finding.scores.tables["coverage"].query("range == 'digit'").set_index("cell")
    assert digit["count"].sum() == samples.labels["plate"].str[2:].str.len().sum()
    assert digit["count"].to_numpy() == pytest.approx(digit["expected"].to_numpy(), rel=0.15)
    assert digit["expected"]["0"] < 0.85 * digit["expected"]["9"]


@pytest.mark.parametrize(
    ("keep", "hole"),
    [
        (lambda t: t["plate"].str[:2] != "UR", ("canton", "UR")),
        (lambda t: t["format"] != "motorcycle", ("format", "motorcycle")),
        (lambda t: t["colour"] != "white", ("colour", "white")),
        (lambda t: t["plate"].str.len() != 6, ("digits", "4")),
        (lambda t: ~t["plate"].str.contains("7"), ("digit", "7")),
        (lambda t: ~t["plate"].str.contains("0"), ("digit", "0")),
        (lambda t: (t["plate_height"] < 20) | (t["plate_height"] >= 30), ("height", "20 to 30")),
        (lambda t: t["angle"] < 6, ("angle", "0.5 to 1")),
        (
            lambda t: ~((t["plate"].str[:2] == "BE") & (t["lines"] == 2)),
            ("canton and lines", "BE 2"),
        ),
        (lambda t: ~((t["image"] % 45).between(6, 17)), ("light", "0.2 to 0.4")),
    ],
)
def test_what_is_lacking_is_a_hole(keep: Callable[..., np.ndarray], hole: tuple[str, str]) -> None:
    samples = with_light(covered())
    part = samples.take(np.flatnonzero(keep(samples.labels)))
    finding = checked("coverage", part)
    assert finding.failed
    assert finding.scores is not None
    gaps = finding.scores.tables["holes"]
    assert hole in set(zip(gaps["range"], gaps["cell"], strict=True))


@pytest.mark.parametrize(("count", "holes"), [(5, 0), (0, 1)])
def test_a_cell_that_lacks_by_chance_is_no_hole(count: int, holes: int) -> None:
    # Of 4 cells of light with 30 samples each, one has less than a quarter of that.
    samples = covered(90 + count)
    samples.labels[["plate", "format"]] = ""

    def load(number: int) -> np.ndarray:
        light = 0.7 if number >= 90 else (0.3, 0.5, 0.9)[number % 3]
        return np.full((8, 8), round(255 * light), np.uint8)

    lit = Samples("val", samples.labels, load, samples.place, True, False, len(samples))
    params = {"LIGHTS": [0.2, 0.4, 0.6, 0.8, 1.0]}
    finding = checked("coverage", evidence_of(lit, params=params))
    assert finding.value == holes


def test_small_sets_and_unknown_styles_are_not_judged() -> None:
    assert "the set is too small" in checked("coverage", with_light(covered(15))).warning
    samples = with_light(covered())
    samples.labels["style"] = "photograph"
    assert "nothing is declared" in checked("coverage", samples).warning


def test_balance_is_the_entropy() -> None:
    assert balance(pd.Series([5, 5, 5, 5])) == pytest.approx(1)
    assert balance(pd.Series([5, 5, 0, 0])) == pytest.approx(0.5)
    assert balance(pd.Series([9, 0])) == 0


def groups(count: int = 8, lack: int | None = None) -> Callable[[Samples], FloatArray]:
    """Features of images that are of ``count`` kinds, by their number."""

    def describe(samples: Samples) -> FloatArray:
        draws = np.random.default_rng(9)
        centres = draws.normal(size=(count, 20))
        kinds = np.array([number_of(samples.image(row)) % count for row in range(len(samples))])
        if lack is not None:
            kinds = np.where(kinds == lack, (kinds + 1) % count, kinds)
        return centres[kinds] + 0.15 * np.random.default_rng(len(samples)).normal(
            size=(len(kinds), 20)
        )

    return describe


EIGHT = {"CLUSTERS": 8, "SEED": 1}


def test_clusters_are_the_kinds_of_images() -> None:
    finding = checked("clusters", evidence_of(samples_of(240), describe=groups(), params=EIGHT))
    assert finding.scores is not None
    assert finding.scores.tables["clusters"]["count"].tolist() == [30] * 8
    assert finding.scores.measures["entropy"] == pytest.approx(1)
    examples = list(finding.scores.groups.values())
    assert len(examples) == 8
    assert all(len({row % 8 for row in rows}) == 1 for rows in examples)
    assert not finding.failed


def test_a_cluster_that_a_set_lacks_is_told() -> None:
    whole = evidence_of(samples_of(400), describe=groups())
    less = evidence_of(samples_of(400), describe=groups(lack=3), against=whole, params=EIGHT)
    assert checked("clusters", less).value == 1
    assert checked("clusters", less).failed
    same = evidence_of(samples_of(400), describe=groups(), against=whole, params=EIGHT)
    assert checked("clusters", same).value == 0


def test_what_is_unlike_all_clusters_is_flagged() -> None:
    def describe(samples: Samples) -> FloatArray:
        features = groups()(samples)
        features[17] = -5 * np.sign(features.mean(axis=0))
        return features

    finding = checked("clusters", evidence_of(samples_of(400), describe=describe, params=EIGHT))
    assert 17 in finding.flagged
    assert len(finding.flagged) <= 4


def test_without_features_there_are_neither_clusters_nor_shift() -> None:
    evidence = evidence_of(samples_of(400), against=evidence_of(samples_of(400)))
    assert "features" in checked("clusters", evidence).warning
    assert "features" in checked("shift", evidence).warning


def test_sets_of_one_kind_cannot_be_told_apart() -> None:
    whole = evidence_of(samples_of(300), describe=groups())
    same = evidence_of(samples_of(310), describe=groups(), against=whole, params=EIGHT)
    finding = checked("shift", same)
    assert finding.value == pytest.approx(0.5, abs=0.1)
    assert not finding.failed
    assert finding.scores is not None
    assert finding.scores.measures["shifted_statistics"] == 0


def test_a_shifted_set_is_told_with_the_statistics_that_changed() -> None:
    whole = evidence_of(samples_of(300), describe=groups())
    turned = samples_of(310, angle=np.random.default_rng(1).normal(8, 2, 310))
    other = evidence_of(turned, describe=groups(lack=2), against=whole)
    other.features[:, 0] += 0.4
    finding = checked("shift", other)
    assert finding.failed
    assert finding.scores is not None
    assert finding.scores.measures["p"] < 1e-6
    assert finding.scores.tables["statistics"]["statistic"].iloc[0] == "angle"


def test_too_small_a_set_is_not_compared() -> None:
    whole = evidence_of(samples_of(20), describe=groups())
    other = evidence_of(samples_of(100), describe=groups(), against=whole, params=EIGHT)
    assert "20 samples; 50 are needed" in checked("shift", other).warning


def test_what_is_read_with_doubt_is_known_least() -> None:
    read = reader(text_of, lambda i: 0.7 if i in (3, 30) else 0.99)
    finding = checked(
        "uncertainty",
        evidence_of(samples_of(60), read=read, params={"UNCERTAINTY_SAMPLES": 60, "PASSES": 4}),
    )
    assert sorted(finding.flagged.tolist()) == [3, 30]
    assert finding.checked == 60
    assert finding.scores is not None
    assert finding.scores.measures["asked"] == "texts"
    assert finding.scores.why(3).startswith("confidence 0.1")


def test_some_samples_stand_for_all() -> None:
    finding = checked(
        "uncertainty",
        evidence_of(
            samples_of(60), read=reader(text_of), params={"UNCERTAINTY_SAMPLES": 25, "PASSES": 3}
        ),
    )
    assert finding.checked == 25


def test_boxes_are_found_with_doubt_too() -> None:
    finding = checked(
        "uncertainty",
        evidence_of(
            samples_of(40),
            find=finder({}, score=0.3),
            params={"UNCERTAINTY_SAMPLES": 60, "PASSES": 4},
        ),
    )
    assert len(finding.flagged) == 40
    # What is not known well may be right.
    assert not finding.failed
    assert finding.scores is not None
    assert finding.scores.measures["asked"] == "boxes"


def test_confidence_that_is_right_is_calibrated_and_another_is_not() -> None:
    sure = evidence_of(samples_of(300), read=reader(text_of))
    finding = checked("calibration", sure)
    assert finding.value is not None
    assert finding.value < 0.1
    # Sure of texts of which one in three is another.
    read = reader(lambda i: text_of(i + (i % 3 == 0)))
    wrong = checked("calibration", evidence_of(samples_of(300), read=read))
    assert wrong.value == pytest.approx(0.95 - 2 / 3, abs=0.1)
    assert wrong.failed
    assert wrong.scores is not None
    assert len(wrong.scores.tables["reliability"])


def test_a_few_answers_are_shown_and_not_judged() -> None:
    read = reader(lambda i: text_of(i + 1))
    finding = checked("calibration", evidence_of(samples_of(50), read=read))
    assert finding.value is not None
    assert finding.value > 0.8
    assert not finding.failed


def test_boxes_are_calibrated_by_their_overlap() -> None:
    finding = checked("calibration", evidence_of(samples_of(300), find=finder({}, score=0.95)))
    assert finding.value == pytest.approx(0.05)
    far = finder(dict.fromkeys(range(100), 0.9), score=0.95)
    assert checked("calibration", evidence_of(samples_of(300), find=far)).failed


def test_less_sure_than_right_is_not_the_data_s_fault() -> None:
    """As after a short training: its averaged weights doubt what they read right."""
    finding = checked("calibration", evidence_of(samples_of(300), find=finder({}, score=0.6)))
    assert finding.value == pytest.approx(0.4)
    assert not finding.failed


def test_a_network_that_is_mostly_wrong_is_not_the_data_s_fault() -> None:
    far = finder(dict.fromkeys(range(200), 0.9), score=0.95)
    finding = checked("calibration", evidence_of(samples_of(300), find=far))
    assert finding.value is not None
    assert finding.value > 0.5
    assert not finding.failed


def test_all_cantons_are_declared() -> None:
    shares = declared(CONFIG)
    assert set(shares["scene"].shares["canton"]) == set(CANTONS)
    for style in shares.values():
        for values in style.shares.values():
            assert sum(values.values()) == pytest.approx(1)
