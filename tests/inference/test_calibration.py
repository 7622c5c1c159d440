"""Calibration: known ones are found again, probabilities behave, thresholds follow from clutter."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.geometry import box_to_corners, xyxy_to_box
from src.evaluation import metrics as evaluation
from src.inference import calibration
from src.inference.calibration import (
    FEATURES,
    LIMIT,
    Calibration,
    CalibrationError,
    choose_threshold,
    fit_calibration,
    line_height,
)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def simulated(
    count: int, weights: list[float], intercept: float, seed: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Features as readers give them, and whether texts are right by a known calibration."""
    generator = np.random.default_rng(seed)
    certain = generator.normal(2.5, 2.0, count)
    values = calibration.features(
        sigmoid(certain),
        sigmoid(certain + generator.exponential(1.0, count)),
        sigmoid(generator.normal(3, 2, count)),
        np.exp(generator.uniform(np.log(6), np.log(60), count)),
        sigmoid(generator.normal(3, 2, count)),
    )
    probability = sigmoid(values @ np.array(weights) + intercept)
    return values, generator.random(count) < probability


def test_features_are_log_odds_and_the_logarithm_of_a_height() -> None:
    values = calibration.features([0.5, 0.9], [0.8, 0.2], [0.75, 0.99], [10, 20], [1.0, 0.5])
    assert values.shape == (2, len(FEATURES))
    np.testing.assert_allclose(
        values[0], [0, np.log(4), np.log(3), np.log(10), np.log(1 / LIMIT - 1)]
    )
    np.testing.assert_allclose(values[1, :2], [np.log(9), -np.log(4)])


def test_features_are_finite_and_ordered_whatever_comes_in() -> None:
    extremes = [0.0, 1e-300, 0.5, 1.0]
    values = calibration.features(extremes, extremes, extremes, [0.0, 1.0, 20.0, 1e9], extremes)
    assert np.isfinite(values).all()
    assert (np.diff(values, axis=0) >= 0).all()
    assert values[:, 0].max() == pytest.approx(np.log((1 - LIMIT) / LIMIT))
    # Above the height at which characters are shrunk for the reader, more of it says nothing.
    assert values[3, 3] == pytest.approx(np.log(64))


def test_a_line_is_half_as_high_where_there_are_two() -> None:
    corners = box_to_corners(xyxy_to_box(np.array([[0.0, 0, 100, 40], [0, 0, 50, 40]])))
    corners[1, 2] += [0, 20]
    np.testing.assert_allclose(line_height(corners, [1, 2]), [40, (40 + 60) / 2 / 2])


def test_a_known_calibration_is_found_again() -> None:
    weights, intercept = [0.6, 0.3, 0.2, 0.8, 0.4], -3.0
    values, right = simulated(40_000, weights, intercept)
    fitted = fit_calibration(values, right)
    assert (fitted.kind, fitted.samples, fitted.right) == ("logistic", 40_000, right.sum())
    np.testing.assert_allclose(fitted.weights, weights, atol=0.08)
    assert fitted.intercept == pytest.approx(intercept, abs=0.25)
    new, truth = simulated(20_000, weights, intercept, seed=2)
    probability = fitted.probability(new)
    np.testing.assert_allclose(probability, sigmoid(new @ np.array(weights) + intercept), atol=0.05)
    assert evaluation.calibration_error(probability, truth) < 0.015


def test_an_overconfident_reader_is_corrected() -> None:
    # Its log-odds are twice what they should be.
    values, right = simulated(5000, [0.5, 0, 0, 0, 0], 0)
    own = sigmoid(values[:, 0])
    fitted = fit_calibration(values[:2500], right[:2500])
    probability = fitted.probability(values[2500:])
    assert evaluation.brier(probability, right[2500:]) < evaluation.brier(own[2500:], right[2500:])
    assert evaluation.calibration_error(own[2500:], right[2500:]) > 0.05
    assert evaluation.calibration_error(probability, right[2500:]) < 0.035


def test_what_would_lower_a_probability_as_it_rises_is_left_out() -> None:
    values, right = simulated(20_000, [0.8, -0.5, 0.3, 0, 0], -0.5)
    fitted = fit_calibration(values, right)
    assert fitted.weights[1] == 0
    assert "least_char_log_odds" in fitted.note
    assert all(weight >= 0 for weight in fitted.weights)
    assert fitted.weights[0] > 0.1
    assert fitted.weights[2] == pytest.approx(0.3, abs=0.1)


def test_nothing_but_wrong_signs_leaves_the_share_of_right_ones() -> None:
    values, right = simulated(5000, [-1, -1, -1, -1, -1], 8)
    fitted = fit_calibration(values, right)
    assert fitted.weights == (0, 0, 0, 0, 0)
    np.testing.assert_allclose(fitted.probability(values[:3]), right.mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("count", "right"), [(10, 5), (49, 20), (0, 0), (300, 300), (300, 0), (300, 296), (300, 4)]
)
def test_too_little_to_fit_leaves_the_recognizers_own_confidence(count: int, right: int) -> None:
    values = calibration.features(
        *[np.linspace(0.1, 0.9, count)] * 3, np.full(count, 20.0), np.ones(count)
    )
    fitted = fit_calibration(values.reshape(count, 5), np.arange(count) < right)
    assert (fitted.kind, fitted.samples, fitted.right) == ("reader", count, right)
    assert f"{count} readings, {right} of them right" in fitted.note
    new = calibration.features(
        [0.3, 0.95, 1.0], [0.1, 0.9, 1.0], [0.5, 0.2, 0.9], [8, 80, 20], [1, 0.5, 1]
    )
    np.testing.assert_allclose(fitted.probability(new), [0.3, 0.95, 1 - LIMIT])


def test_what_cannot_be_fitted_is_an_error() -> None:
    values, right = simulated(100, [1, 0, 0, 0, 0], 0)
    with pytest.raises(ValueError, match="features"):
        fit_calibration(values[:, :3], right)
    with pytest.raises(ValueError, match="features"):
        fit_calibration(values, right[:-1])
    values[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        fit_calibration(values, right)


def test_probabilities_stay_between_the_limits() -> None:
    sure = Calibration("logistic", (1e6, 0, 0, 0, 0), 0.0, 100, 50)
    values = calibration.features([0.0, 1.0], [0, 1], [0, 1], [20, 20], [1, 1])
    np.testing.assert_allclose(sure.probability(values), [LIMIT, 1 - LIMIT], rtol=1e-9)


def test_a_calibration_survives_json() -> None:
    fitted = fit_calibration(*simulated(500, [0.6, 0.3, 0.2, 0.8, 0.4], -3))
    values = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    assert values["features"] == list(FEATURES)
    assert Calibration.from_dict(values) == fitted


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["confidence"]},
        {"weights": [1.0, 2.0]},
        {"weights": ["a", 1, 1, 1, 1]},
        {"weights": [float("nan"), 1, 1, 1, 1]},
        {"kind": "magic"},
        {"intercept": None},
    ],
)
def test_another_calibration_is_an_error(change: dict[str, object]) -> None:
    values = {**Calibration("logistic", (1, 0, 0, 0, 0), 0.0, 9, 4).to_dict(), **change}
    with pytest.raises(CalibrationError, match="export_stack"):
        Calibration.from_dict(values)
    del values["weights"]
    with pytest.raises(CalibrationError):
        Calibration.from_dict(values)


def test_a_threshold_lets_a_share_of_clutter_pass_and_no_more() -> None:
    # A thousand images; the five most probable texts in them have these probabilities.
    clutter = np.concatenate([np.full(995, 0.1), [0.99, 0.95, 0.9, 0.8, 0.7]])
    threshold = choose_threshold(np.random.default_rng(1).permutation(clutter))
    # Three in a thousand may pass, the fourth sets the threshold.
    assert threshold.value == pytest.approx(0.800001)
    assert (threshold.pictures, threshold.with_text, threshold.share) == (1000, 3, 0.003)
    assert threshold.low < 0.003 < threshold.high < 0.01
    assert choose_threshold(clutter, allowed=0.004).value == pytest.approx(0.700001)
    assert choose_threshold(clutter, allowed=0).value == pytest.approx(0.990001)


def test_a_threshold_is_never_low() -> None:
    assert choose_threshold(np.zeros(1000)).value == 0.5
    assert choose_threshold(np.full(1000, 0.4999)).value == 0.5
    assert choose_threshold(np.full(1000, 0.5)).value == pytest.approx(0.500001)
    nothing = choose_threshold([])
    assert (nothing.value, nothing.pictures, nothing.share, nothing.high) == (0.5, 0, 0, 1)


def test_sure_clutter_makes_a_threshold_that_nothing_reaches() -> None:
    threshold = choose_threshold(np.full(10, 1 - LIMIT))
    assert threshold.value <= 1
    assert threshold.with_text == 0
    assert json.loads(json.dumps(threshold.to_dict())) == threshold.to_dict()


@given(st.lists(st.floats(0, 1), max_size=400))
def test_a_threshold_is_the_least_that_keeps_the_promise(clutter: list[float]) -> None:
    threshold = choose_threshold(clutter, allowed=0.05)
    passed = sum(value >= threshold.value for value in clutter)
    assert passed == threshold.with_text <= 0.05 * len(clutter) + 1e-9
    lower = threshold.value - 2e-6
    if threshold.value > 0.5:
        assert sum(value >= lower for value in clutter) > 0.05 * len(clutter)


def test_reading_plates_needs_no_scikit_learn() -> None:
    code = (
        "import src.inference.calibration, sys; "
        "sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plate_that_is_not_whole_lowers_the_probability() -> None:
    values = calibration.features([0.99] * 3, [0.99] * 3, [0.9] * 3, [20.0] * 3, [1.0, 0.5, 0.001])
    last = values[:, FEATURES.index("complete_log_odds")]
    assert (np.diff(last) < 0).all()
    assert last[1] == 0
    assert last[2] == pytest.approx(np.log(0.001 / 0.999), abs=1e-6)


def test_a_calibration_of_before_completeness_still_applies() -> None:
    old = Calibration("logistic", (0.5, 0.25, 0.1, 0.2, 0.0), -1.0, 100, 90)
    values = old.to_dict()
    values["features"], values["weights"] = values["features"][:4], values["weights"][:4]
    assert Calibration.from_dict(values) == old
