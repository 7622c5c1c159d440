"""The calibrated probability that an event's text is right (no torch).

Probabilities of successive frames are correlated, so that they can neither be multiplied nor averaged into
one of the event. A logistic regression over a few sums is fitted on the events of drawn clips instead:
``python bench/video.py --fit`` writes its weights and the threshold into ``confidence.json`` beside this
file, the only place that has them.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..inference.calibration import LIMIT
from .vote import Vote

FEATURES = ("surest_log_odds", "share_log_odds", "margin", "log_reads")
"""Features of an event, in this order: log-odds of the surest reading of the text; log-odds of the mean
probability that readings give to it; its part of the two highest sums, as log-odds; logarithm of the number
of readings that it stands for."""
FILE = Path(__file__).with_name("confidence.json")
GLIMPSE = 0.98
"""Probability from which on a plate that was seen in a single frame has a text: no other frame confirms it,
and far off a number is easily taken for another one."""
_MARGIN_PRIOR = 0.1
"""Added to both sums of the margin, so that a single weak reading is not unanimous."""


class EventCalibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logistic model over ``FEATURES``.

    Attributes:
        features: Names of the features.
        weights: Weight of each feature.
        intercept: Constant added to the weighted features.
        threshold: Probability from which on an event has a text.
        events: Number of events that it was fitted on; the same vehicles after a few sightings were, too.
        right: Number of these whose text was right.
        bundle: Revision of the bundle that read them.
        command: Command that fitted it.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    threshold: float
    events: int
    right: int
    bundle: str
    command: str

    def __post_init__(self) -> None:
        if self.features != FEATURES or len(self.weights) != len(FEATURES):
            raise ValueError(
                f"it is for the features {self.features}, not {FEATURES}: python bench/video.py --fit"
            )

    def is_given(self, vote: Vote, probability: float) -> bool:
        """Return whether an event has the text that is right with a probability.

        What no single frame shows clearly enough is not taken from all of them together.
        """
        least = self.threshold if vote.sightings > 1 else max(self.threshold, GLIMPSE)
        return vote.reads > 0 and probability >= least

    def probability(self, vote: Vote) -> float:
        """Return the probability that the text with the highest sum is right."""
        log_odds = float(event_features(vote) @ np.array(self.weights)) + self.intercept
        return min(max(0.5 * (1 + math.tanh(0.5 * log_odds)), LIMIT), 1 - LIMIT)


@cache
def event_calibration() -> EventCalibration:
    """Return the calibration that is installed with this package."""
    return msgspec.json.decode(FILE.read_bytes(), type=EventCalibration)


def event_features(vote: Vote) -> NDArray[np.float64]:
    """Return the features of a vote with at least one reading, shape ``(len(FEATURES),)``."""
    ranked = vote.ranked
    text, total = ranked[0]
    second = ranked[1][1] if len(ranked) > 1 else 0.0
    surest = vote.surest[text].plate.confidence if text in vote.surest else 0.0
    return np.array(
        [
            _log_odds(surest),
            _log_odds(vote.share),
            math.log((total + _MARGIN_PRIOR) / (second + _MARGIN_PRIOR)),
            math.log1p(total),
        ]
    )


def _log_odds(probability: float) -> float:
    # Less than LIMIT apart from 0 and 1 nothing is known of a frame, let alone of all of them.
    clipped = min(max(probability, 1e-3), 1 - 1e-3)
    return math.log(clipped / (1 - clipped))
