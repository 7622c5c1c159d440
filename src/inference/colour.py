"""Tell the colour of a plate's ground from the colour image (no torch).

The colour of a surface and that of the light on it cannot be told apart by the surface alone. What tells
is how the ground differs from its surroundings, from the ink and from the ends of the plate. So a
multinomial logistic regression judges the colours of all of these together, and what the recognizer says
of the plate, since those of the army and of diplomats have no text; it is fitted on drawn scenes under many
lights (src/generators/colour.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import FloatArray, plate_width, rectify
from ..core.images import DecodedImage, Pixels
from .calibration import log_odds
from .decoding import Reading

Colour = Literal["white", "blue", "brown", "green", "yellow", "red", "black", "other"]
COLOURS: tuple[Colour, ...] = get_args(Colour)
"""Colours of plates (VZV Art. 82); "other" are those with a coloured field, as of diplomats."""
NONE = "none"
"""Class of images in which no colour can be told, as they are grey or of one tint throughout."""
CLASSES = (*COLOURS, NONE)
WIDTH = 48
"""Minimum width in pixels that plates keep when a large image is decoded at reduced size."""

_SIZE, _MARGIN = (60, 160), 0.2
"""Size in pixels of the rectified plate with its surroundings, and the share of these at each side."""
_STROKE = np.ones((9, 11), np.uint8)
"""More than the width of a stroke in the rectified plate."""
_THUMBNAIL, _COARSE = (32, 32), (20, 8)
_LOW = 8.0
"""Added to values before their logarithm: noise makes the ratio of dark values meaningless."""


@dataclass(frozen=True, eq=False)
class ColourModel:
    """Multinomial logistic regression.

    Attributes:
        weights: Weights, shape ``(len(CLASSES), F)``.
        intercepts: Intercepts, shape ``(len(CLASSES),)``.
    """

    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]

    def probabilities(self, features: FloatArray) -> NDArray[np.float64]:
        """Return the probability of each of ``CLASSES``, ``(N, C)``, from features ``(N, F)``."""
        logits = np.asarray(features) @ self.weights.T + self.intercepts
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def colours(self, features: FloatArray) -> list[tuple[Colour | None, float | None]]:
        """Return the most probable colour of each plate and its probability; None, None without one."""
        told: list[tuple[Colour | None, float | None]] = []
        for row in self.probabilities(features):
            best = int(row.argmax())
            told.append((COLOURS[best], float(row[best])) if best < len(COLOURS) else (None, None))
        return told

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "classes": list(CLASSES),
            "weights": np.round(self.weights, 6).tolist(),
            "intercepts": np.round(self.intercepts, 6).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ColourModel:
        """Return the model that ``to_dict`` was called on.

        Raises:
            ValueError: The values do not describe a model of these classes and features.
        """
        entry = msgspec.convert(values, _Entry)
        weights, intercepts = np.array(entry.weights), np.array(entry.intercepts)
        if weights.shape == (len(CLASSES), _OF_PIXELS):
            # A bundle from when the recognizer was not asked.
            weights = np.pad(weights, ((0, 0), (0, FEATURES - _OF_PIXELS)))
        if tuple(entry.classes) != CLASSES or weights.shape != (len(CLASSES), FEATURES):
            raise ValueError(
                f"its colours are {entry.classes} with weights of shape {weights.shape}, not "
                f"{CLASSES} with {FEATURES} features"
            )
        return cls(weights, intercepts)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    classes: list[str]
    weights: list[list[float]]
    intercepts: list[float]


def fit_colours(features: FloatArray, colours: Sequence[str]) -> ColourModel:
    """Fit the model on features ``(N, F)`` of plates and their colours, each one of ``CLASSES``.

    A class of which there is no plate gets a probability of zero.
    """
    # Importing scikit-learn takes a second, and reading plates does not need it.
    from sklearn.linear_model import LogisticRegression

    values = np.asarray(features, dtype=np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0)
    scale[scale == 0] = 1.0
    model = LogisticRegression(max_iter=2000, C=1.0).fit((values - mean) / scale, list(colours))
    rows, constants = model.coef_ / scale, model.intercept_
    constants = constants - rows @ mean
    if len(rows) == 1:
        # Of two classes, only the logit of the second is fitted.
        rows, constants = np.stack([0 * rows[0], rows[0]]), np.array([0.0, constants[0]])
    weights = np.zeros((len(CLASSES), values.shape[1]))
    intercepts = np.full(len(CLASSES), -_NEVER)
    places = [CLASSES.index(name) for name in model.classes_]
    weights[places], intercepts[places] = rows, constants
    return ColourModel(weights, intercepts)


_NEVER = 1e6


def colour_features(
    image: DecodedImage,
    plates: Sequence[FloatArray],
    confidences: Sequence[float],
    readings: Sequence[Reading],
) -> NDArray[np.float64] | None:
    """Return the features of plates in an image, ``(N, F)``; None for a grey image.

    Args:
        image: Image with the plates.
        plates: Corners of each plate in pixels of the displayed image, shape ``(4, 2)``.
        confidences: Calibrated probability of each plate's text.
        readings: What the recognizer says of each plate.
    """
    if image.decode_colour is None or not plates:
        return None
    least = min(float(plate_width(corners)) for corners in plates)
    divisor = 1
    while divisor < 8 and least >= 2 * divisor * WIDTH:
        divisor *= 2
    pixels = image.decode_colour(divisor)
    whole = cv2.resize(pixels, _THUMBNAIL, interpolation=cv2.INTER_AREA)
    scale = np.array([pixels.shape[1] / image.width, pixels.shape[0] / image.height])
    seen = [_features(pixels, np.asarray(corners) * scale, whole) for corners in plates]
    layouts = [reading.layout[:_LAYOUT] or _UNKNOWN for reading in readings]
    told = np.column_stack([log_odds(confidences), layouts])
    return np.hstack([np.stack(seen), np.clip(told, -_SURE, _SURE)])


_LAYOUT = 2
"""Number of outputs of ``LAYOUT`` that are features: whether a plate is complete, and whether it is Swiss."""
_UNKNOWN, _SURE = (0.0,) * _LAYOUT, 8.0
"""Logits of a recognizer without these outputs, and the size to which logits are clipped."""


def _features(image: Pixels, corners: FloatArray, whole: Pixels) -> NDArray[np.float64]:
    height, width = _SIZE
    crop = rectify(image, corners, _SIZE, _MARGIN).astype(np.float64)
    rows = slice(round(_MARGIN * height), height - round(_MARGIN * height))
    columns = slice(round(_MARGIN * width), width - round(_MARGIN * width))
    around = np.ones(_SIZE, bool)
    around[rows, columns] = False
    plate = crop[rows, columns]
    # Without the rim.
    inner = plate[3:-3, 3:-3]
    pixels = inner.reshape(-1, 3)
    order = pixels[pixels.sum(axis=1).argsort()]
    count = len(order)
    dark, ground, bright = (
        # Medians, as the arms of a white plate have colours too.
        np.median(order[round(low * count) : round(high * count)], axis=0)
        for low, high in ((0.0, 0.08), (0.35, 0.7), (0.9, 0.98))
    )
    ends = [
        inner[:, part].reshape(-1, 3).mean(axis=0)
        for part in (slice(0, inner.shape[1] // 8), slice(-(inner.shape[1] // 8), None))
    ]
    surroundings = crop[around]
    thumbnail = whole.reshape(-1, 3).astype(np.float64)
    brightest = thumbnail[thumbnail.sum(axis=1).argsort()[-len(thumbnail) // 40 :]]
    own, around_it, everywhere = (_chroma(each) for each in (ground, surroundings, thumbnail))
    # Grey edges and white patches are what the colour of the light is estimated from (van de Weijer,
    # Gevers, Gijsenij: Edge-based color constancy, 2007); here the regression weighs such estimates.
    lights = [
        _chroma(bright),
        around_it.mean(axis=0),
        everywhere.mean(axis=0),
        np.median(everywhere, axis=0),
        _chroma(brightest).mean(axis=0),
        _edges(whole),
    ]
    brightness = np.array(
        [each.sum() for each in (dark, bright, surroundings.mean(axis=0), ground)]
    )
    levels = np.log((brightness + 3 * _LOW) / 768)
    # Averaged first, as noise has colours too.
    coarse = cv2.resize(crop, _COARSE, interpolation=cv2.INTER_AREA).reshape(-1, 3)
    spread = np.log([each.std(axis=0).mean() + 0.01 for each in (_chroma(coarse), everywhere)])
    left, right = (_chroma(end) - own for end in ends)
    heights = np.log([(end.sum() + 3 * _LOW) / (ground.sum() + 3 * _LOW) for end in ends])
    return np.concatenate(
        [
            own, *lights, levels[:3] - levels[3], [_polarity(inner)], levels[3:], spread, left, right,
            heights, np.abs(left),
        ]
    )  # fmt: skip


_OF_PIXELS = 29
FEATURES = _OF_PIXELS + 1 + _LAYOUT
"""Number of features."""


def _edges(whole: Pixels) -> NDArray[np.float64]:
    """Return the mean contrast of red and of blue relative to that of green, as logarithms."""
    image = whole.astype(np.float64)
    steps = sum(np.abs(np.diff(image, axis=axis)).mean(axis=(0, 1)) for axis in (0, 1))
    return np.asarray(np.log((steps[[0, 2]] + 1) / (steps[1] + 1)))


def _polarity(plate: NDArray[np.float64]) -> float:
    """Return whether the characters are darker (positive) or brighter than what is around them.

    Shadows and dirt are larger than strokes, so they do not count.
    """
    grey = plate.mean(axis=2).astype(np.float32)
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, _STROKE).mean()
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, _STROKE).mean()
    return float(np.log((dark + 1) / (bright + 1)))


def _chroma(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of red and blue relative to green, ``(..., 2)``, of colours ``(..., 3)``."""
    logs = np.log(colours + _LOW)
    return np.asarray(logs[..., [0, 2]] - logs[..., [1]])
