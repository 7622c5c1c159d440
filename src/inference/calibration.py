"""Calibrate the probability that a text is right, and choose the threshold for it (no torch).

A recognizer's own confidence is not a probability: a network that has learnt to fit its training set is
overconfident elsewhere (Guo et al., On calibration of modern neural networks, ICML 2017). Therefore a
logistic regression over a few features, each of which is higher where a text is more likely right, is
fitted on images that no network was trained on (Platt scaling with more than one feature).
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

FEATURES = (
    "text_log_odds", "least_char_log_odds", "score_log_odds", "log_line_height", "complete_log_odds",
)  # fmt: skip
"""Features of the calibration, in this order: log-odds of the confidence of the whole text, of its
least certain character and of the localizer's score; logarithm of the height of a text line; log-odds of
the probability that all characters of the plate can be read."""

LIMIT = 1e-6
"""Probabilities are clipped to [LIMIT, 1 - LIMIT]: nothing is certain, and log-odds stay finite."""
HEIGHTS = (4.0, 64.0)
"""Range in pixels that line heights are clipped to: characters taller than 64 pixels are downscaled
for the recognizer, and there are none below 4."""
LEAST_SAMPLES = 50
"""Minimum number of readings to fit a calibration on."""
LEAST_OF_A_KIND = 5
"""Minimum number each of right and of wrong readings to fit a calibration on; with fewer, what tells
them apart is chance."""
CLUTTER_SHARE = 0.003
"""Maximum fraction of images without a Swiss plate in which a text may be returned."""
HIDDEN_SHARE = 0.007
"""Maximum fraction of plates with an illegible character for which a wrong text may be returned."""
LEAST_THRESHOLD = 0.5
"""Lower bound of the threshold: a text that is more likely wrong than right is never returned."""
_STEPS = 10**6
"""Number of steps between 0 and 1: thresholds have six decimals."""

Floats = NDArray[np.float64]
Kind = Literal["logistic", "reader"]


class CalibrationError(UserError):
    """A stored calibration is not one that this code can use."""


def line_height(corners: NDArray[np.floating], lines: ArrayLike) -> Floats:
    """Return the height of a text line: the plate's height, or half of it where there are two lines.

    Args:
        corners: Corners of plates in pixels, shape ``(N, 4, 2)``, clockwise from the plate's own top
            left.
        lines: Number of text lines of each plate, 1 or 2, shape ``(N,)``.

    Returns:
        Height in pixels, shape ``(N,)``: mean length of the left and right edge over the number of
        lines.
    """
    corners = np.asarray(corners, dtype=np.float64).reshape(-1, 4, 2)
    return plate_height(corners) / np.asarray(lines, dtype=np.float64)


def log_odds(probability: ArrayLike) -> Floats:
    """Return the log-odds of probabilities, clipped to [LIMIT, 1 - LIMIT], of the same shape."""
    clipped = np.clip(np.asarray(probability, dtype=np.float64), LIMIT, 1 - LIMIT)
    return np.log(clipped) - np.log1p(-clipped)


def features(
    confidence: ArrayLike,
    least_char: ArrayLike,
    score: ArrayLike,
    height_px: ArrayLike,
    complete: ArrayLike,
) -> Floats:
    """Return the features of readings, in the order of ``FEATURES``.

    Args:
        confidence: Recognizer's own confidence in the whole text (``Reading.confidence``), shape
            ``(N,)``.
        least_char: Lowest of the text's ``Reading.char_confidences``, shape ``(N,)``.
        score: Localizer's probability that there is a plate, shape ``(N,)``.
        height_px: Height of a text line in pixels of the image (``line_height``), shape ``(N,)``.
        complete: Probability that all characters of the plate can be read, shape ``(N,)``.

    Returns:
        Features, shape ``(N, 5)``, finite whatever the probabilities are.
    """
    height = np.log(np.clip(np.asarray(height_px, dtype=np.float64), *HEIGHTS))
    columns = [
        log_odds(confidence), log_odds(least_char), log_odds(score), height, log_odds(complete),
    ]  # fmt: skip
    return np.stack([np.atleast_1d(column) for column in columns], axis=1)


@dataclass(frozen=True)
class Calibration:
    """A logistic model over the features, in plain values that a manifest can hold.

    Attributes:
        kind: "logistic" if the model was fitted; "reader" if there was too little to fit it on, where
            the probability is the recognizer's own confidence.
        weights: Weight of each feature, never negative; 0 for a feature that was left out.
        intercept: Constant added to the weighted features.
        samples: Number of readings that the model was fitted on.
        right: Number of these readings that were right.
        note: Reason why features were left out, or why nothing was fitted.
    """

    kind: Kind
    weights: tuple[float, ...]
    intercept: float
    samples: int
    right: int
    note: str = ""

    def probability(self, features: NDArray[np.floating]) -> Floats:
        """Return the probabilities ``(N,)`` that texts with features ``(N, F)`` are right."""
        logits = features @ np.array(self.weights) + self.intercept
        # Sigmoid as a hyperbolic tangent, which never overflows.
        return np.clip(0.5 * (1 + np.tanh(0.5 * logits)), LIMIT, 1 - LIMIT)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, including the names of the features."""
        return {**asdict(self), "features": list(FEATURES), "weights": list(self.weights)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Create a calibration from the result of ``to_dict``.

        Raises:
            CalibrationError: A value is missing or invalid, or the features are not ``FEATURES``.
        """
        names = {item.name for item in fields(cls)}
        try:
            if not set(values["features"]) <= set(FEATURES):
                raise ValueError(
                    f"expected the features {list(FEATURES)}, not {list(values['features'])}"
                )
            known = {name: value for name, value in values.items() if name in names}
            # Bundles of version 1 know no complete_log_odds.
            weights = dict(zip(values["features"], known.pop("weights"), strict=True))
            numbers = [float(weights.get(name, 0.0)) for name in FEATURES]
            made = cls(**{**known, "weights": tuple(numbers)})
            if made.kind not in ("logistic", "reader") or len(numbers) != len(FEATURES):
                raise ValueError(f"kind {made.kind!r} with {len(numbers)} weights is not supported")
            if not all(math.isfinite(value) for value in (*numbers, made.intercept)):
                raise ValueError("a weight is not finite")
        except (KeyError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"the calibration cannot be used: {type(error).__name__}: {error}. "
                "Export the models again with `dvc repro -f export_stack`."
            ) from error
        return made


def reader_calibration(samples: int, right: int, note: str) -> Calibration:
    """Return the fallback where no calibration can be fitted: the recognizer's own confidence."""
    weights = (1.0, *[0.0] * (len(FEATURES) - 1))
    return Calibration("reader", weights, 0.0, samples, right, note)


def fit_calibration(features: NDArray[np.floating], right: ArrayLike) -> Calibration:
    """Fit a logistic regression by maximum likelihood, with a weak L2 penalty (scikit-learn's).

    Each feature is defined so that a higher value means more certainty. A feature that gets a negative
    weight beside the others (they are correlated) is left out, so that a probability never falls as its
    features rise. With fewer than ``LEAST_SAMPLES`` readings, or fewer than ``LEAST_OF_A_KIND`` right or
    wrong ones, nothing can be fitted: the recognizer's own confidence is used instead, and ``kind`` and
    ``note`` say so.

    Args:
        features: Features of readings as returned by ``features``, shape ``(N, F)``.
        right: Whether each text was right, shape ``(N,)``.

    Raises:
        ValueError: The shapes do not match, or a feature is not finite.
    """
    values, truth = np.asarray(features, dtype=np.float64), np.asarray(right, dtype=bool)
    if values.ndim != 2 or values.shape != (len(truth), len(FEATURES)):
        raise ValueError(
            f"features must have the shape (N, {len(FEATURES)}), not {values.shape}, for "
            f"{truth.shape} readings"
        )
    if not np.isfinite(values).all():
        raise ValueError("a feature is not finite")
    samples, count = len(truth), int(truth.sum())
    if samples < LEAST_SAMPLES or min(count, samples - count) < LEAST_OF_A_KIND:
        return reader_calibration(
            samples,
            count,
            f"not fitted: {samples} readings, {count} of them right; at least {LEAST_SAMPLES} are "
            f"needed, {LEAST_OF_A_KIND} of them right and {LEAST_OF_A_KIND} wrong",
        )
    used = list(range(len(FEATURES)))
    while True:
        weights, intercept = _fit(values[:, used], truth)
        if (weights >= 0).all():
            break
        del used[int(weights.argmin())]
    # In the worst case no feature is left, and every probability is the fraction of right readings.
    dropped = [name for i, name in enumerate(FEATURES) if i not in used]
    note = f"excluded because their weights were negative: {', '.join(dropped)}" if dropped else ""
    whole = np.zeros(len(FEATURES))
    whole[used] = weights
    return Calibration("logistic", tuple(whole.tolist()), intercept, samples, count, note)


def _fit(values: Floats, truth: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Return weights ``(F,)`` and intercept for features ``(N, F)`` that are not standardised."""
    # Importing scikit-learn takes a second, and reading plates does not need it.
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
    """Minimum probability of a text that is returned, and what it was derived from.

    Attributes:
        value: Threshold; a text with exactly this probability is returned.
        pictures: Number of images without a Swiss plate, or of plates with an illegible character, that it
            was derived from.
        with_text: Number of these images that would get a text at the threshold.
        share: Fraction of these images that would get a text at the threshold.
        low, high: Bounds of the 95 % confidence interval of ``share`` (Wilson, 1927).
        allowed: Fraction of these images that was allowed to get a text.
    """

    value: float
    pictures: int
    with_text: int
    share: float
    low: float
    high: float
    allowed: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def choose_threshold(
    clutter: ArrayLike, allowed: float = CLUTTER_SHARE, least: float = LEAST_THRESHOLD
) -> Threshold:
    """Return the lowest threshold at which few enough images would get a text that they must not get.

    Args:
        clutter: Highest probability of such a text in each image, shape ``(M,)``; 0 where there is none.
            In an image without a Swiss plate it is any text, in one of a plate with an illegible
            character any text but the plate's.
        allowed: Fraction of these images that may get such a text.
        least: Lower bound of the threshold, which is therefore ``LEAST_THRESHOLD`` by default where
            there is no clutter at all.
    """
    best = np.sort(np.asarray(clutter, dtype=np.float64).ravel())[::-1]
    exceptions = math.floor(allowed * len(best) + 1e-9)
    value = least
    if exceptions < len(best) and best[exceptions] >= least:
        # The first image beyond the allowance sets it: just above its probability, in few digits.
        value = (math.floor(best[exceptions] * _STEPS + 1e-9) + 1) / _STEPS
    with_text = int((best >= value).sum())
    low, high = wilson(with_text, len(best))
    share = with_text / len(best) if len(best) else 0.0
    return Threshold(value, len(best), with_text, share, low, high, allowed)
