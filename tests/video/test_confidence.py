"""The calibration that is installed, and what raises and lowers an event's probability."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from src.video.confidence import FEATURES, EventCalibration, event_calibration, event_features
from src.video.vote import Sighting, Vote
from tests.video.footage import plate


def vote_of(*confidences: float, against: float = 0.0) -> Vote:
    vote = Vote()
    for confidence in confidences:
        others = [("ZH7", against)] if against else []
        vote.add(Sighting(0.0, plate("ZH1", confidence=confidence, others=others)))
    return vote


def test_the_installed_calibration_rises_with_each_feature() -> None:
    calibration = event_calibration()
    assert all(weight >= 0 for weight in calibration.weights)
    assert 0.5 <= calibration.threshold < 1
    weak, strong = vote_of(0.55), vote_of(0.99, 0.99, 0.98)
    assert calibration.probability(weak) < calibration.probability(strong) < 1
    contested = vote_of(0.6, 0.6, 0.6, against=0.4)
    assert calibration.probability(contested) < calibration.probability(vote_of(0.6, 0.6, 0.6))


def test_features_are_finite_whatever_the_probabilities_are() -> None:
    for vote in (vote_of(1.0), vote_of(0.0), vote_of(1e-9, 1.0, against=0.0)):
        features = event_features(vote)
        assert features.shape == (len(FEATURES),)
        assert np.isfinite(features).all()


def test_a_hundred_equal_frames_are_not_certain() -> None:
    # A product of probabilities would be: 0.4 ** 100 is nothing.
    assert event_calibration().probability(vote_of(*[0.6] * 100, against=0.4)) < 0.999


def test_a_calibration_for_other_features_is_refused() -> None:
    values = msgspec.to_builtins(event_calibration())
    values["features"] = ["share"]
    with pytest.raises(msgspec.ValidationError, match=r"bench/video\.py --fit"):
        msgspec.convert(values, EventCalibration)
