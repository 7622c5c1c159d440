"""Parameters of the scenes that plates are drawn into, and of their degradation."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from .types import (
    Degrees,
    Integer,
    Number,
    PositiveRange,
    Probability,
    ProbabilityRange,
    Range,
    Section,
    Weight,
    Weights,
    exactly,
)


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd, so that the box filter has a centre pixel")
    return value


class StreetParams(Section):
    """Composition and degradation of street scenes. Lengths are relative to the quantity named."""

    KIND_WEIGHTS: Annotated[Weights, exactly(4)]
    """Sampling weights of scenes with a Swiss plate, a foreign plate, a sign, and nothing."""
    YAW: Degrees
    """Maximum yaw of the plate in degrees, either way."""
    PITCH: Range[Annotated[Number, Field(ge=-60, le=60)]]
    """Range of the pitch in degrees, from a view from below (negative) to one from above."""
    ROLL: Degrees
    """Maximum roll of the plate in degrees, either way."""
    DISTANCE: PositiveRange
    """Range of the camera distance in plate lengths; a shorter one gives a stronger perspective."""
    SUFFIX_PROBABILITY: Probability
    """Probability of a letter after the number, as on dealers' plates."""
    PROVISIONAL_PROBABILITY: Probability
    """Probability that a front plate has the bar of provisional plates."""
    DIPLOMATIC_PROBABILITY: Probability
    """Probability that a plate is a diplomatic one."""
    NO_RIM_PROBABILITY: Probability
    """Probability that a plate's rim line is not visible."""
    EMBOSS: ProbabilityRange
    """Range of the contrast of the characters' lit edges, from 0 to 1."""
    MOSAIC_PROBABILITY: Probability
    """Probability that a background is a mosaic of several images at their own sharpness, not one
    enlarged image."""
    TEXTURE_PROBABILITY: Probability
    """Probability that a background consists of sharp structure only."""
    OVERLAY_PROBABILITY: Probability
    """Probability that sharp structure is blended over a background that is not plain grey."""
    STATIC_PROBABILITY: Probability
    """Probability that a background is noise of single pixels."""
    FITTINGS_PROBABILITY: Probability
    """Probability of lamps, reflectors and grilles beside the plate."""
    PLAIN_PROBABILITY: Probability
    """Probability that a background is plain grey."""
    SURROUND_PROBABILITY: Probability
    """Probability that a plate is surrounded by a car's panels and edges."""
    PANEL_PROBABILITY: Probability
    """Probability that each of the three rings around a plate shows a panel."""
    PANEL_EDGE_PROBABILITY: Probability
    """Probability that a panel has a darker edge."""
    STICKER_PROBABILITY: Probability
    """Probability of a CH sticker in the surroundings of a plate."""
    CUT_PROBABILITY: Probability
    """Probability that an image ends close to the plate and is filled up with grey padding."""
    SHADOW_PROBABILITY: Probability
    """Probability that the edge of a shadow crosses the scene."""
    GLARE_PROBABILITY: Probability
    """Probability of a bright spot in the scene."""
    DIRT_PROBABILITY: Probability
    """Probability of dirt on a plate."""
    OCCLUSION_PROBABILITY: Probability
    """Probability that an object hides part of a plate's edge."""
    SHADE: ProbabilityRange
    """Range of the decrease in brightness across the scene, from 0 to 1."""
    CONTRAST: PositiveRange
    """Range of the fraction of the grey scale that is used."""
    GAMMA: PositiveRange
    """Range of the exponent of the tone curve."""
    BLUR: ProbabilityRange
    """Range of the sigma of the lens blur in cap heights."""
    MOTION_PROBABILITY: Probability
    """Probability of motion blur."""
    MOTION: ProbabilityRange
    """Range of the length of the motion in cap heights."""
    CLEAN_PROBABILITY: Probability
    """Probability that a scene is not resampled, sharpened, made noisy or compressed as JPEG."""
    RESAMPLE_PROBABILITY: Probability
    """Probability that a scene is shrunk and enlarged again."""
    SHARPEN_PROBABILITY: Probability
    """Probability that a scene is sharpened, as a camera does."""
    NOISE: ProbabilityRange
    """Range of the weight of the noise, from 0 to 1."""
    JPEG_PROBABILITY: Probability
    """Probability that a scene is compressed as JPEG."""
    JPEG_QUALITY: Range[Annotated[Integer, Field(ge=1, le=100)]]
    """Range of the JPEG quality, from 1 to 100."""
    BANDS_PROBABILITY: Probability
    """Probability of rolling bands of light in a scene of the shifted set."""
    VIGNETTE_PROBABILITY: Probability
    """Probability of a vignette in a scene of the shifted set."""
    POSTERISE_PROBABILITY: Probability
    """Probability that a scene of the shifted set is reduced to a few grey levels."""
    RAIN_PROBABILITY: Probability
    """Probability of rain in a scene of the shifted set."""
    WEBP_PROBABILITY: Probability
    """Probability that a scene of the shifted set is compressed as WebP."""


class SceneParams(Section):
    """Composition of a scene. Lengths are in pixels of a 250-pixel scene unless stated otherwise."""

    BACKGROUND_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """Maximum rotation of the background in degrees, either way."""
    BACKGROUND_CROP: Range[Annotated[Integer, Field(ge=4, le=32)]]
    """Range of the side of the crop of the 32x32 background, in its own pixels."""
    BACKGROUND_PERSPECTIVE_PROBABILITY: Probability
    """Probability that the background is seen in perspective."""
    BACKGROUND_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.9)]
    """Maximum relative change of scale from the middle of the background to its edge."""
    STRUCTURE_WEIGHT: ProbabilityRange
    """Range of the weight of sharp structure in a background that has some."""
    CLUTTER_PROBABILITY: Probability
    """Probability that grey circles and rectangles are drawn below the plate."""
    CLUTTER_CIRCLES: Annotated[Integer, Field(ge=0, le=64)]
    """Maximum number of circles in a scene."""
    CLUTTER_CIRCLE_RADIUS: Annotated[Integer, Field(ge=1, le=125)]
    """Maximum radius of a circle."""
    CLUTTER_RECTANGLES: Annotated[Integer, Field(ge=0, le=64)]
    """Maximum number of rectangles in a scene."""
    CLUTTER_RECTANGLE_SIDE: Annotated[Integer, Field(ge=1, le=250)]
    """Maximum side of a rectangle."""
    PLATE_SCALE: PositiveRange
    """Range of the scale of the plate; at 1 its long side is 235 of 250 pixels."""
    PLATE_STRETCH: PositiveRange
    """Range of the scale factor of the plate's height alone."""
    PLATE_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """Maximum rotation of the plate in degrees, either way."""
    PLATE_SHEAR: Annotated[Number, Field(ge=0, le=60)]
    """Maximum horizontal shear, and vertical shear after it, in degrees, either way."""
    PLATE_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.5)]
    """Maximum relative change of scale from the middle of the plate to its edge."""
    PLATE_SHIFT: Probability
    """Maximum shift of the plate as a fraction of the free space beside it."""
    ALIASED_PROBABILITY: Probability
    """Probability that a plate is pasted with nearest-neighbour sampling, with edge and print aliased,
    as the original project pastes all plates."""


class DegradeParams(Section):
    """Ranges of the arguments of the functions in src/generators/degrade.py."""

    NOISE_BLUR: Range[Annotated[Integer, Field(ge=1, le=63), AfterValidator(_odd)]]
    """Range of the side of the box filter that blurs uniform noise, in pixels of a 250-pixel scene."""
    NOISE_WEIGHT: ProbabilityRange
    """Range of the weight of the noise, from 0 to 1."""
    SHARPNESS: Range[Weight]
    """Range of the sharpness factor: 0 smooths, 1 leaves the image unchanged."""
    BRIGHTNESS: PositiveRange
    """Range of the factor that multiplies the grey values."""
    BLUR_SIGMA: PositiveRange
    """Range of the standard deviation of the Gaussian blur, in pixels of the stored image."""
    AUTOCONTRAST_PROBABILITY: Probability
    """Probability that an image is stretched to the full grey scale."""
