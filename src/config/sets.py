"""Parameters of the prepared sets."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .types import (
    Count,
    Integer,
    Natural,
    Number,
    PositiveRange,
    Probability,
    SceneSize,
    Section,
    Seed,
    Share,
)


class BackgroundsConfig(Section):
    source: Literal["auto", "cifar10", "procedural"]
    """Source of the backgrounds; auto prefers CIFAR-10."""
    cifar10_root: str
    """Folder that contains cifar-10-batches-py; the environment variable CIFAR10_ROOT overrides it."""


class _Prepare(Section):
    SEED: Seed
    """Random seed of the samples; sample i depends on the seed and i only."""
    MAX_IMAGES: Annotated[Integer, Field(ge=10)]
    """Total number of samples; at least 10."""
    STRUCTURE_PROBABILITY: Probability
    """Probability that a background gets sharp structure (edges, grilles, text, panels)."""


class _PrepareTraining(_Prepare):
    TRAIN_SPLIT: Share
    """Fraction of the samples used for training; the others are for validation."""
    STREET_SHARE: Probability
    """Fraction of street scenes; the others are composed as in the original project."""
    STREET_WIDTH: PositiveRange
    """Range of the width of plates in street scenes, relative to the width of the scene."""
    OBSTACLE_SHARE: Probability
    """Share of Swiss plates with an obstacle in front of them; half of the obstacles hide a character."""


class PrepareLocalizeParams(_PrepareTraining):
    """Parameters of the localizer's sets."""


class PrepareOCRParams(_PrepareTraining):
    IMG_SIZE: SceneSize
    """Size in pixels of the scene that the crop is taken from: [side, side]."""
    MARGIN: Annotated[Number, Field(ge=0.05, le=1)]
    """Margin of the crop around the plate's box, as a fraction of the box's sides."""
    CUT_SHARE: Probability
    """Share of the crops that end within the plate's box, as images do that show a part of it."""
    NARROWEST: Annotated[Number, Field(ge=0.4, le=1)]
    """Smallest factor on the width of street plates, as far as their text leaves room: how much room there is
    beside a text must not tell whether the plate is complete."""
    LOWEST: Annotated[Number, Field(ge=0.85, le=1)]
    """Smallest factor on the height of street plates, for the same reason: lower, and lines would touch."""


class PrepareStackParams(_Prepare):
    IMG_SIZE: SceneSize
    """Size in pixels of the scenes composed as in the original project: [side, side]."""
    STREET_SIZE: SceneSize
    """Size of street scenes in pixels: [side, side]."""
    STREET_WIDTH: PositiveRange
    """Range of the width of plates in street scenes, relative to the width of the scene."""
    OBSTACLE_SHARE: Probability
    """Share of plates with an obstacle in the set that the probabilities are calibrated on."""


class PrepareFeedbackParams(Section):
    SEED: Seed
    """Random seed of the windows."""
    WINDOWS: Count
    """Number of windows per plate for the localizer."""
    NEGATIVES: Natural
    """Number of windows without a plate per image."""
