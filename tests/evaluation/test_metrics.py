"""Measures, tables and files that the evaluations share."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import StageError
from src.evaluation import metrics as evaluation
from src.evaluation.metrics import NOTHING


def test_wilson_gives_the_interval_of_the_textbook() -> None:
    # 81 of 263, as in Newcombe (1998), table I, method 3.
    assert evaluation.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@given(count=st.integers(1, 10_000), data=st.data())
def test_wilson_holds_the_share_and_stays_in_range(count: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    low, high = evaluation.wilson(right, count)
    assert 0 <= low <= right / count + 1e-12
    assert right / count - 1e-12 <= high <= 1
    assert low < high


def test_shares_come_with_their_interval_and_count() -> None:
    share = evaluation.share(81, 263)
    assert share == pytest.approx(
        {"share": 81 / 263, "low": 0.2553, "high": 0.3662, "count": 263}, abs=1e-4
    )
    assert evaluation.share(0, 0) == {"share": None, "low": 0.0, "high": 1.0, "count": 0}


def test_recall_counts_plates_at_and_above_the_threshold() -> None:
    measures = evaluation.iou_measures(np.array([0.4, 0.5, 0.75, 0.95]))
    assert measures == pytest.approx(
        {"mean_iou": 0.65, "recall_50": 0.75, "recall_70": 0.5, "recall_90": 0.25}
    )


def test_average_precision_of_boxes() -> None:
    true = [np.array([[0.0, 0, 10, 10]])] * 4
    # An IoU of 0.62: right at 0.5, 0.55 and 0.6, three of the ten thresholds.
    near = np.array([[0.0, 0, 10, 6.2]])
    far = np.array([[20.0, 20, 30, 30]])
    scores = [np.array([0.9])] * 4
    assert evaluation.average_precision(true, scores, true)["map"] == pytest.approx(1)
    assert evaluation.average_precision([near] * 4, scores, true) == pytest.approx(
        {"map": 0.3, "map_50": 1, "map_75": 0}
    )
    assert evaluation.average_precision([far] * 4, scores, true)["map_50"] == 0


def test_corner_errors_are_distances() -> None:
    true = np.zeros((2, 4, 2))
    found = true.copy()
    found[1, :2] = [3, 4]
    assert evaluation.corner_errors(found, true).tolist() == [0, 2.5]


SURE = np.array([0.9, 0.8, 0.7, 0.6])
RIGHT = np.array([True, False, True, True])


def test_brier_is_the_mean_square() -> None:
    # 0.1, 0.8, 0.3 and 0.4 off.
    assert evaluation.brier(SURE, RIGHT) == pytest.approx((0.01 + 0.64 + 0.09 + 0.16) / 4)


def test_calibration_error_by_hand() -> None:
    # Two bins of two: 0.65 where both are right, 0.85 where one of two is.
    assert evaluation.calibration_error(SURE, RIGHT, bins=2) == pytest.approx(
        (abs(0.65 - 1) + abs(0.85 - 0.5)) / 2
    )
    # One bin: 0.75 where three of four are right.
    assert evaluation.calibration_error(SURE, RIGHT, bins=1) == pytest.approx(0)


def test_bins_of_reliability_hold_equally_many() -> None:
    generator = np.random.default_rng(3)
    confidence = 1 - generator.random(1500) ** 4
    right = generator.random(1500) < confidence
    table = evaluation.reliability(confidence, right)
    assert table["count"].tolist() == [100] * 15
    # Far more of them lie near 1 than near 0, and no bin is without readings.
    assert table["confidence"].is_monotonic_increasing
    assert (table["confidence"] > 0.9).sum() >= 5
    assert ((table["low"] <= table["accuracy"]) & (table["accuracy"] <= table["high"])).all()
    assert evaluation.calibration_error(confidence, right) < 0.04


def test_equal_probabilities_are_in_one_bin_whatever_their_order() -> None:
    confidence = np.array([0.5] * 6 + [0.9] * 2)
    right = np.array([True, True, True, False, False, False, True, True])
    shuffled = np.random.default_rng(1).permutation(8)
    for order in (np.arange(8), shuffled):
        table = evaluation.reliability(confidence[order], right[order], bins=4)
        assert table[["confidence", "accuracy", "count"]].to_numpy().tolist() == [
            [pytest.approx(0.5), pytest.approx(0.5), 6],
            [pytest.approx(0.9), 1, 2],
        ]


def test_risk_rises_with_coverage_by_hand() -> None:
    table = evaluation.risk_coverage(SURE, RIGHT)
    assert table["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    assert table["risk"].tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert table["confidence"].tolist() == SURE.tolist()
    shuffled = np.array([2, 0, 3, 1])
    again = evaluation.risk_coverage(SURE[shuffled], RIGHT[shuffled])
    pd.testing.assert_frame_equal(again, table)


def test_risk_of_equal_probabilities_does_not_depend_on_their_order() -> None:
    for right in ([True, True, False], [True, False, True]):
        table = evaluation.risk_coverage(np.array([0.9, 0.5, 0.5]), np.array(right))
        assert table["risk"].tolist() == pytest.approx([0, 0.25, 1 / 3])


def test_doubt_is_measured_against_the_best_that_could_be() -> None:
    measured = evaluation.uncertainty(SURE, RIGHT)
    assert measured["accuracy"] == 0.75
    assert measured["brier_constant"] == pytest.approx(0.1875)
    assert measured["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    # At the best the wrong one comes last.
    assert measured["excess_aurc"] == pytest.approx(measured["aurc"] - (1 / 4) / 4)
    best = evaluation.uncertainty(np.array([0.9, 0.1, 0.8, 0.7]), RIGHT)
    assert best["excess_aurc"] == pytest.approx(0)


def test_a_constant_is_as_good_as_itself() -> None:
    right = np.arange(100) < 80
    measured = evaluation.uncertainty(np.full(100, 0.8), right)
    assert measured["brier"] == pytest.approx(measured["brier_constant"])
    assert measured["ece"] == pytest.approx(0)
    assert measured["aurc"] == pytest.approx(0.2)


def test_doubt_of_nothing_is_none() -> None:
    measured = evaluation.uncertainty(np.zeros(0), np.zeros(0, bool))
    assert measured.pop("count") == 0
    assert set(measured.values()) == {None}
    assert len(evaluation.reliability(np.zeros(0), np.zeros(0, bool))) == 0
    assert len(evaluation.risk_coverage(np.zeros(0), np.zeros(0, bool))) == 0


def test_character_errors_are_summed_over_all_texts() -> None:
    # One error of 3 and none of 8 characters: 1 in 11, not the mean of 1/3 and 0.
    rate = evaluation.character_error_rate(["ZH2", "ZH123456"], ["ZH1", "ZH123456"])
    assert rate == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("true", "read", "pairs"),
    [
        ("123", "123", [("1", "1"), ("2", "2"), ("3", "3")]),
        ("123", "143", [("1", "1"), ("2", "4"), ("3", "3")]),
        ("123", "13", [("1", "1"), ("2", NOTHING), ("3", "3")]),
        ("13", "123", [("1", "1"), (NOTHING, "2"), ("3", "3")]),
        ("", "1", [(NOTHING, "1")]),
    ],
)
def test_alignment(true: str, read: str, pairs: list[tuple[str, str]]) -> None:
    assert evaluation.align(true, read) == pairs


@given(true=st.text("12", max_size=6), read=st.text("12", max_size=6))
def test_alignment_loses_no_character(true: str, read: str) -> None:
    pairs = evaluation.align(true, read)
    assert "".join(a for a, _ in pairs if a != NOTHING) == true
    assert "".join(b for _, b in pairs if b != NOTHING) == read
    assert sum(a != b for a, b in pairs) <= max(len(true), len(read))


def test_confusion_counts_a_canton_as_one_character() -> None:
    table = evaluation.confusion(["ZH12", "ZH12", "ZG1"], ["ZH12", "ZG1", "ZG1"])
    rows = {(a, p): n for a, p, n in table.itertuples(index=False, name=None)}
    assert rows == {
        ("1", "1"): 3,
        ("2", "2"): 1,
        ("2", NOTHING): 1,
        ("ZG", "ZG"): 1,
        ("ZH", "ZG"): 1,
        ("ZH", "ZH"): 1,
    }


def test_bins_hold_their_lower_edge_and_leave_nothing_out() -> None:
    frame = pd.DataFrame({"height": [9.9, 10.0, 14.0, 400.0], "right": [True, False, True, True]})
    bins = evaluation.by_bins(frame, "height", (0, 10, 20, math.inf), {"accuracy": "right"})
    assert bins == {
        "0-10": {"count": 1, "accuracy": 1.0},
        "10-20": {"count": 2, "accuracy": 0.5},
        "20+": {"count": 1, "accuracy": 1.0},
    }


def test_curves_have_the_middles_of_bins() -> None:
    frame = pd.DataFrame({"angle": [-3.0, 2.0, 4.0], "right": [True, False, True]})
    table = evaluation.curve(frame, "angle", 10, {"accuracy": "right"})
    assert table.to_dict("list") == {"angle": [-5, 5], "accuracy": [1, 0.5], "count": [1, 2]}


def test_metrics_are_plain_json_with_short_numbers(tmp_path: Path) -> None:
    metrics = {
        "a": np.float32(1 / 3),
        "b": {"n": np.int64(2), "nothing": math.nan},
        "c": ["ü", 0.5],
    }
    evaluation.write_metrics(tmp_path, metrics)
    text = (tmp_path / "metrics.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": 0.33333, "b": {"n": 2, "nothing": None}, "c": ["ü", 0.5]}


def test_results_take_the_place_of_older_ones_only_when_whole(tmp_path: Path) -> None:
    target = tmp_path / "out" / "stack"
    with evaluation.results_folder(target) as folder:
        evaluation.write_metrics(folder, {"run": 1})
        assert not target.exists()

    def fail(folder: Path) -> None:
        evaluation.write_metrics(folder, {"run": 2})
        raise RuntimeError

    with pytest.raises(RuntimeError), evaluation.results_folder(target) as folder:
        fail(folder)
    assert json.loads((target / "metrics.json").read_text()) == {"run": 1}
    assert [path.name for path in target.parent.iterdir()] == ["stack"]


def test_a_full_disk_is_named_with_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "stack"
    message = pytest.raises(
        StageError, match=r"stack: cannot be written: No space left.*params\.yaml"
    )
    with message, evaluation.results_folder(target):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_the_choice_of_images_depends_on_the_seed_alone() -> None:
    assert evaluation.chosen(1000, 7) == evaluation.chosen(1000, 7)
    assert evaluation.chosen(1000, 7) != evaluation.chosen(1000, 8)
    assert len(set(evaluation.chosen(1000, 7))) == 10
    assert sorted(evaluation.chosen(3, 7)) == [0, 1, 2]
    assert evaluation.chosen(0, 7) == []


def test_the_worst_are_failures_and_the_worst_first() -> None:
    frame = pd.DataFrame({"iou": [0.9, 0.1, 0.5, 0.3]})
    assert evaluation.worst(frame, frame["iou"] < 0.4, "iou", ascending=True) == [1, 3]
    many = pd.DataFrame({"iou": np.linspace(0, 1, 100)})
    assert len(evaluation.worst(many, many["iou"] < 2, "iou", ascending=True)) == evaluation.SHEET
