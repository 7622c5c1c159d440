"""The probability that a text is right, and the threshold from which it is given (no torch).

A reader's own confidence is no probability: a network that has learnt to fit its training set is too
sure of itself elsewhere (Guo et al., On calibration of modern neural networks, ICML 2017). So a
logistic regression over a few numbers, each of which is higher where a text is more likely right, is
fitted on pictures that no network has learnt from (Platt scaling with more than one feature).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core.errors import UserError
from ..core.geometry import plate_height
from ..core.intervals import wilson

FEATURES = ("text_log_odds", "least_char_log_odds", "score_log_odds", "log_line_height")
"""What a probability is made of, in this order: log-odds of the text's own confidence, of its least
certain character's and of the localizer's score; logarithm of the height of a line of text."""

LIMIT = 1e-6
"""Probabilities are clipped to [LIMIT, 1 - LIMIT]: nothing is certain, and log-odds stay finite."""
HEIGHTS = (4.0, 64.0)
"""Heights of a line in pixels are clipped to these: characters higher than 64 pixels are shrunk for
the reader, and below 4 there are none."""
LEAST_SAMPLES = 50
"""Fewer readings than this fit nothing."""
LEAST_OF_A_KIND = 5
"""Fewer right ones or fewer wrong ones than this fit nothing: what tells them apart is chance."""
CLUTTER_SHARE = 0.003
"""Share of pictures without a Swiss plate in which a text may be given."""
LEAST_THRESHOLD = 0.5
"""A text that is more likely wrong than right is never given."""
_STEPS = 10**6
"""Thresholds have six decimals."""

Floats = NDArray[np.float64]
Kind = Literal["logistic", "reader"]


class CalibrationError(UserError):
    """A stored calibration is not one that this code can use."""


def line_height(corners: NDArray[np.floating], lines: ArrayLike) -> Floats:
    """Height of a line of text: the plate's, or half of it where there are two.

    Args:
        corners: ``(N, 4, 2)`` of plates, in pixels, clockwise from the plate's own top left.
        lines: ``(N,)`` 1 or 2.

    Returns:
        ``(N,)`` pixels: mean length of the left and right edge over the number of lines.
    """
    corners = np.asarray(corners, dtype=np.float64).reshape(-1, 4, 2)
    return plate_height(corners) / np.asarray(lines, dtype=np.float64)


def _log_odds(probability: ArrayLike) -> Floats:
    clipped = np.clip(np.asarray(probability, dtype=np.float64), LIMIT, 1 - LIMIT)
    return np.log(clipped) - np.log1p(-clipped)


def features(
    confidence: ArrayLike, least_char: ArrayLike, score: ArrayLike, height_px: ArrayLike
) -> Floats:
    """The features of readings, in the order of FEATURES.

    Args:
        confidence: ``(N,)`` the reader's own, of the whole text (Reading.confidence).
        least_char: ``(N,)`` the least of a text's Reading.char_confidences.
        score: ``(N,)`` the localizer's probability that there is a plate.
        height_px: ``(N,)`` height of a line of text in pixels of the picture (``line_height``).

    Returns:
        ``(N, 4)``, finite whatever the probabilities are.
    """
    height = np.log(np.clip(np.asarray(height_px, dtype=np.float64), *HEIGHTS))
    columns = [_log_odds(confidence), _log_odds(least_char), _log_odds(score), height]
    return np.stack([np.atleast_1d(column) for column in columns], axis=1)


@dataclass(frozen=True)
class Calibration:
    """A logistic model over the features; plain values, so that it can stand in a manifest.

    Attributes:
        kind: "logistic" where it was fitted; "reader" where there was too little to fit on: the
            probability is then the reader's own confidence.
        weights: of each feature, none of them negative; 0 for one that was left out.
        intercept: is added to the weighted features.
        samples: readings that it was fitted on.
        right: how many of these were right.
        note: why features were left out, or why nothing was fitted.
    """

    kind: Kind
    weights: tuple[float, ...]
    intercept: float
    samples: int
    right: int
    note: str = ""

    def probability(self, features: NDArray[np.floating]) -> Floats:
        """``(N, F)`` features to ``(N,)`` probabilities that the texts are right."""
        log_odds = features @ np.array(self.weights) + self.intercept
        # As a hyperbolic tangent it overflows nowhere.
        return np.clip(0.5 * (1 + np.tanh(0.5 * log_odds)), LIMIT, 1 - LIMIT)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the names of the features among them."""
        return {**asdict(self), "features": list(FEATURES), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """A calibration out of what ``to_dict`` gave.

        Raises:
            CalibrationError: a value is missing or odd, or the features are others.
        """
        names = {item.name for item in fields(cls)}
        try:
            if tuple(values["features"]) != FEATURES:
                raise ValueError(f"features {list(values['features'])}, not {list(FEATURES)}")
            known = {name: value for name, value in values.items() if name in names}
            numbers = [float(value) for value in known.pop("weights")]
            made = cls(**{**known, "weights": tuple(numbers)})
            if made.kind not in ("logistic", "reader") or len(numbers) != len(FEATURES):
                raise ValueError(f"kind {made.kind!r} with {len(numbers)} weights")
            if not all(math.isfinite(value) for value in (*numbers, made.intercept)):
                raise ValueError("a weight is no number")
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"the calibration cannot be used: {type(error).__name__}: {error}. "
                "Export the models again with `dvc repro -f export_stack`."
            ) from error
        return made


def reader_calibration(samples: int, right: int, note: str) -> Calibration:
    """What stands in for a calibration that cannot be fitted: the reader's own confidence."""
    weights = (1.0, *[0.0] * (len(FEATURES) - 1))
    return Calibration("reader", weights, 0.0, samples, right, note)


def fit_calibration(features: NDArray[np.floating], right: ArrayLike) -> Calibration:
    """Fit a logistic regression by maximum likelihood, with a weak L2 penalty (scikit-learn's).

    Each feature is made so that more of it means more certainty. One that gets a negative weight
    beside the others (they are correlated) is left out, so that a probability never falls as its
    parts rise. Where there are less than LEAST_SAMPLES readings, or less than LEAST_OF_A_KIND right
    or wrong ones, nothing can be fitted: the reader's own confidence stands in, and ``kind`` and
    ``note`` say so.

    Args:
        features: ``(N, F)`` of readings, as ``features`` gives them.
        right: ``(N,)`` whether each text was right.

    Raises:
        ValueError: the shapes do not fit, or a feature is no finite number.
    """
    values, truth = np.asarray(features, dtype=np.float64), np.asarray(right, dtype=bool)
    if values.ndim != 2 or values.shape != (len(truth), len(FEATURES)):
        raise ValueError(
            f"features {values.shape} for {truth.shape} readings; (N, {len(FEATURES)})"
        )
    if not np.isfinite(values).all():
        raise ValueError("a feature is no finite number")
    samples, count = len(truth), int(truth.sum())
    if samples < LEAST_SAMPLES or min(count, samples - count) < LEAST_OF_A_KIND:
        return reader_calibration(
            samples,
            count,
            f"not fitted: {samples} readings, {count} of them right; {LEAST_SAMPLES} are needed, "
            f"{LEAST_OF_A_KIND} right and {LEAST_OF_A_KIND} wrong ones among them",
        )
    used = list(range(len(FEATURES)))
    while True:
        weights, intercept = _fit(values[:, used], truth)
        if (weights >= 0).all():
            break
        del used[int(weights.argmin())]
    # At the worst nothing is left, and all probabilities are the share of right ones.
    dropped = [name for i, name in enumerate(FEATURES) if i not in used]
    note = f"left out, as their weights were negative: {', '.join(dropped)}" if dropped else ""
    whole = np.zeros(len(FEATURES))
    whole[used] = weights
    return Calibration("logistic", tuple(whole.tolist()), intercept, samples, count, note)


def _fit(values: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Weights ``(F,)`` and intercept for features ``(N, F)`` as they are, not standardised."""
    # scikit-learn takes a second to import, and reading plates needs none of it.
    from sklearn.linear_model import LogisticRegression

    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1.0
    if not values.shape[1]:
        share = truth.mean()
        return np.zeros(0), float(np.log(share / (1 - share)))
    model = LogisticRegression(max_iter=1000).fit((values - mean) / scale, truth)
    weights = model.coef_[0] / scale
    return weights, float(model.intercept_[0] - weights @ mean)


@dataclass(frozen=True)
class Threshold:
    """From which probability a text is given, and what it was derived from.

    Attributes:
        value: the threshold; a text with this probability is given.
        pictures: without a Swiss plate, from which it was derived.
        with_text: how many of them would get a text at the threshold.
        share: the same as a share of them.
        low, high: the share's 95 % interval (Wilson, 1927).
        allowed: share that was allowed.
    """

    value: float
    pictures: int
    with_text: int
    share: float
    low: float
    high: float
    allowed: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def choose_threshold(
    clutter: ArrayLike, allowed: float = CLUTTER_SHARE, least: float = LEAST_THRESHOLD
) -> Threshold:
    """The least probability at which few enough pictures without a plate would get a text.

    Args:
        clutter: ``(M,)`` for each picture without a Swiss plate, the highest probability of all
            texts in it; 0 where nothing was read.
        allowed: share of these pictures that may get a text.
        least: no threshold is lower, so that it is LEAST_THRESHOLD where there is no clutter at all.
    """
    best = np.sort(np.asarray(clutter, dtype=np.float64).ravel())[::-1]
    exceptions = math.floor(allowed * len(best) + 1e-9)
    value = least
    if exceptions < len(best) and best[exceptions] >= least:
        # The first picture too many sets it: just above its probability, in short digits.
        value = (math.floor(best[exceptions] * _STEPS + 1e-9) + 1) / _STEPS
    with_text = int((best >= value).sum())
    low, high = wilson(with_text, len(best))
    share = with_text / len(best) if len(best) else 0.0
    return Threshold(value, len(best), with_text, share, low, high, allowed)
