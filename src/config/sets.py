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
    """Where backgrounds come from; auto prefers CIFAR-10."""
    cifar10_root: str
    """Folder that holds cifar-10-batches-py; CIFAR10_ROOT in the environment goes before it."""


class _Prepare(Section):
    SEED: Seed
    """Sample i depends on the seed and i alone."""
    MAX_IMAGES: Annotated[Integer, Field(ge=10)]
    """Samples in all; at least 10."""
    STRUCTURE_PROBABILITY: Probability
    """Share of scenes whose background gets sharp structure (edges, grilles, text, panels)."""


class _PrepareTraining(_Prepare):
    TRAIN_SPLIT: Share
    """Share of the samples that train; the others validate."""
    STREET_SHARE: Probability
    """Share of street scenes; the others are the original's."""
    STREET_WIDTH: PositiveRange
    """Width of the plates of street scenes, as a share of the scene."""


class PrepareLocalizeParams(_PrepareTraining):
    """The localizer's sets."""


class PrepareOCRParams(_PrepareTraining):
    IMG_SIZE: SceneSize
    """Size of the scene that the crop is taken from."""
    MARGIN: Annotated[Number, Field(ge=0.05, le=1)]
    """Margin of the crop around the plate's box, as a share of the box's sides."""


class PrepareStackParams(_Prepare):
    IMG_SIZE: SceneSize
    """Size of the original's scenes."""
    STREET_SIZE: SceneSize
    """Size of street scenes."""
    STREET_WIDTH: PositiveRange
    """Width of the plates of street scenes, as a share of the scene."""


class PrepareFeedbackParams(Section):
    SEED: Seed
    """Of the windows."""
    WINDOWS: Count
    """Windows of each plate for the localizer."""
    NEGATIVES: Natural
    """Windows of each image where there is no plate."""
