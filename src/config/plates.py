"""Parameters of the synthetic plates."""

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
    """Appearance of the synthetic plates. The lists are as long as the tables in src/generators."""

    FORMAT_WEIGHTS: Annotated[Weights, exactly(6)]
    """Sampling weights of the formats front, front_long, rear_long, rear_high, motorcycle and
    moped."""
    COLOUR_WEIGHTS: Annotated[Weights, exactly(7)]
    """Sampling weights of the colours white, blue, brown, green, yellow, black and red."""
    DIGIT_WEIGHTS: Annotated[Weights, exactly(MAX_DIGITS)]
    """Sampling weights of numbers with 1 to 7 digits."""
    FAMILY_WEIGHTS: Annotated[Weights, exactly(3)]
    """Sampling weights of the glyph families din, narrow and grotesk."""
    GLYPH_VARIANTS: Annotated[Integer, Field(ge=1, le=1024)]
    """Number of glyph variants in the atlas, which depends on the random seed."""
    # Both have the same limits as GlyphStyle in src/generators/glyphs.py.
    GLYPH_WIDTH: Range[Annotated[Number, Field(ge=0.8, le=1.25)]]
    """Range of the horizontal scale factor of the glyphs' skeletons."""
    GLYPH_STROKE: Range[Annotated[Number, Field(ge=0.1, le=0.16)]]
    """Range of the stroke width in cap heights."""
    SPACING: PositiveRange
    """Range of the scale factor of the distance between neighbouring characters."""
    SHIELD_HEIGHT: PositiveRange
    """Range of the scale factor of the height of the coats of arms."""
    GROUP_GAP_PROBABILITY: Probability
    """Probability of a wider gap before the last three digits, as on new plates."""
    FOOT_PROBABILITY: Probability
    """Probability that the 1 of a glyph variant stands on a foot."""
    ALTERNATE_PROBABILITY: Probability
    """Probability that a character takes an alternate form instead of its family's, if there
    is one."""
    GLYPH_WARP: Probability
    """Amount by which proportions and roundness vary, relative to the largest variation at which every
    character stays legible."""
    FONT_PROBABILITY: Probability
    """Probability that a glyph variant uses the typeface embedded in OpenCV."""
    GROUND: ProbabilityRange
    """Range of the scale factor of the brightness of the plate's background colour."""
    FRAME_PROBABILITY: Probability
    """Probability that a plate has a dealer's frame."""
    SCREW_PROBABILITY: Probability
    """Probability that a plate has visible screws."""
    EDGE_PROBABILITY: Probability
    """Probability that a plate without a frame has a black outline, as in the original project."""


class StreetPlateParams(PlateParams):
    """Appearance of the plates in street scenes, which imitate photos."""
