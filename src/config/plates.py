"""Parameters of the plates that are drawn."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ..core.charset import MAX_DIGITS
from .types import (
    Integer,
    Number,
    PositiveRange,
    Probability,
    ProbabilityRange,
    Range,
    Section,
    Weights,
    exactly,
)


class PlateParams(Section):
    """What plates are drawn. Lengths of the lists are those of the tables in src/generators."""

    FORMAT_WEIGHTS: Annotated[Weights, exactly(6)]
    """Weights of front, front_long, rear_long, rear_high, motorcycle, light_motorcycle."""
    COLOUR_WEIGHTS: Annotated[Weights, exactly(7)]
    """Weights of white, blue, brown, green, yellow, black, red."""
    DIGIT_WEIGHTS: Annotated[Weights, exactly(MAX_DIGITS)]
    """Weights of 1 to 7 digits."""
    FAMILY_WEIGHTS: Annotated[Weights, exactly(3)]
    """Weights of the glyph families din, narrow, grotesk."""
    GLYPH_VARIANTS: Annotated[Integer, Field(ge=1, le=1024)]
    """Glyph variants in the seeded atlas."""
    # The limits of both are those of GlyphStyle in src/generators/glyphs.py.
    GLYPH_WIDTH: Range[Annotated[Number, Field(ge=0.8, le=1.25)]]
    """Horizontal scale of the glyphs' skeletons."""
    GLYPH_STROKE: Range[Annotated[Number, Field(ge=0.1, le=0.16)]]
    """Stroke width in cap heights."""
    SPACING: PositiveRange
    """Factor on the distance of neighbouring characters."""
    SHIELD_HEIGHT: PositiveRange
    """Factor on the height of the arms."""
    GROUP_GAP_PROBABILITY: Probability
    """Share of plates with a wider gap before the last three digits (new plates have it)."""
    FOOT_PROBABILITY: Probability
    """Share of glyph variants whose 1 stands on a foot."""
    ALTERNATE_PROBABILITY: Probability
    """Share of characters that take another form than their family's, where there is one."""
    GLYPH_WARP: Probability
    """How far proportions and roundness vary, as a share of what keeps every character legible."""
    FONT_PROBABILITY: Probability
    """Share of glyph variants in the typeface that OpenCV embeds."""
    GROUND: ProbabilityRange
    """Factor on the brightness of the plate's ground."""
    FRAME_PROBABILITY: Probability
    """Share of plates in a dealer's frame."""
    SCREW_PROBABILITY: Probability
    """Share of plates with visible screws."""
    EDGE_PROBABILITY: Probability
    """Share of plates without a frame that have a black line around, as the original's have."""


class StreetPlateParams(PlateParams):
    """What plates are drawn in street scenes, those that stand for photographs."""
