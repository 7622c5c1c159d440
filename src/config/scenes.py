"""Parameters of the scenes that plates are drawn into, and of what degrades them."""

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
        raise ValueError("an odd number is wanted: a box has a middle")
    return value


class StreetParams(Section):
    """How street scenes are composed and degraded. Lengths are shares of what is named."""

    KIND_WEIGHTS: Annotated[Weights, exactly(4)]
    """Weights of Swiss plates, foreign plates, signs, and nothing."""
    YAW: Degrees
    """Degrees that the plate is seen from the side, at most."""
    PITCH: Range[Annotated[Number, Field(ge=-60, le=60)]]
    """Degrees that it is seen from below (negative) to above."""
    ROLL: Degrees
    """Degrees that it is turned in the image, at most."""
    DISTANCE: PositiveRange
    """Of the camera, in lengths of the plate: the nearer, the stronger the perspective."""
    SUFFIX_PROBABILITY: Probability
    """Share of plates with a letter behind the number (dealers)."""
    PROVISIONAL_PROBABILITY: Probability
    """Share of front plates with the bar of provisional ones."""
    NO_RIM_PROBABILITY: Probability
    """Share of plates whose rim line does not show."""
    EMBOSS: ProbabilityRange
    """Contrast of the characters' lit edges."""
    MOSAIC_PROBABILITY: Probability
    """Share of backgrounds of several images at their own sharpness, not one enlarged."""
    TEXTURE_PROBABILITY: Probability
    """Share of backgrounds that are sharp structure alone."""
    OVERLAY_PROBABILITY: Probability
    """Share of the other backgrounds with sharp structure blended over them."""
    PLAIN_PROBABILITY: Probability
    """Share of backgrounds of one grey."""
    SURROUND_PROBABILITY: Probability
    """Share of plates with panels and edges of a car around them."""
    PANEL_PROBABILITY: Probability
    """Share of the three rings around a plate that show a panel."""
    PANEL_EDGE_PROBABILITY: Probability
    """Share of the panels with a darker edge."""
    STICKER_PROBABILITY: Probability
    """Share of the surroundings with a CH sticker."""
    CUT_PROBABILITY: Probability
    """Share of images that end around the plate; beyond is the grey of padding."""
    SHADOW_PROBABILITY: Probability
    """Share of scenes with the edge of a shadow."""
    GLARE_PROBABILITY: Probability
    """Share of scenes with a bright spot."""
    DIRT_PROBABILITY: Probability
    """Share of plates with dirt."""
    OCCLUSION_PROBABILITY: Probability
    """Share of plates whose edge something hides."""
    SHADE: ProbabilityRange
    """Fall of light across the scene."""
    CONTRAST: PositiveRange
    """Share of the grey range that is used."""
    GAMMA: PositiveRange
    """Exponent of the grey curve."""
    BLUR: ProbabilityRange
    """Sigma of the lens blur, in cap heights."""
    MOTION_PROBABILITY: Probability
    """Share of scenes with motion blur."""
    MOTION: ProbabilityRange
    """Length of the motion, in cap heights."""
    CLEAN_PROBABILITY: Probability
    """Share of scenes without resampling, noise and JPEG."""
    RESAMPLE_PROBABILITY: Probability
    """Share of scenes that were shrunk and enlarged again."""
    SHARPEN_PROBABILITY: Probability
    """Share of scenes that the camera sharpened."""
    NOISE: ProbabilityRange
    """Weight of noise."""
    JPEG_PROBABILITY: Probability
    """Share of scenes that went through JPEG."""
    JPEG_QUALITY: Range[Annotated[Integer, Field(ge=1, le=100)]]
    """Of JPEG."""
    BANDS_PROBABILITY: Probability
    """Share of scenes of the shifted set with rolling bands of light."""
    VIGNETTE_PROBABILITY: Probability
    """Share of scenes of the shifted set with a vignette."""
    POSTERISE_PROBABILITY: Probability
    """Share of scenes of the shifted set with few grey levels."""
    RAIN_PROBABILITY: Probability
    """Share of scenes of the shifted set with rain."""
    WEBP_PROBABILITY: Probability
    """Share of scenes of the shifted set that went through WebP."""


class SceneParams(Section):
    """How a scene is composed. Lengths are pixels of a 250-pixel scene unless said otherwise."""

    BACKGROUND_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """The background is turned by up to this many degrees either way."""
    BACKGROUND_CROP: Range[Annotated[Integer, Field(ge=4, le=32)]]
    """Side of the crop of the 32x32 background, in its own pixels."""
    BACKGROUND_PERSPECTIVE_PROBABILITY: Probability
    """Share of backgrounds seen in perspective."""
    BACKGROUND_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.9)]
    """Change of scale from the background's middle to its edge, at most."""
    STRUCTURE_WEIGHT: ProbabilityRange
    """Share of sharp structure in a background that has some."""
    CLUTTER_PROBABILITY: Probability
    """Share of scenes with grey circles and rectangles under the plate."""
    CLUTTER_CIRCLES: Annotated[Integer, Field(ge=0, le=64)]
    """Most circles in a scene."""
    CLUTTER_CIRCLE_RADIUS: Annotated[Integer, Field(ge=1, le=125)]
    """Largest radius."""
    CLUTTER_RECTANGLES: Annotated[Integer, Field(ge=0, le=64)]
    """Most rectangles in a scene."""
    CLUTTER_RECTANGLE_SIDE: Annotated[Integer, Field(ge=1, le=250)]
    """Longest side of a rectangle."""
    PLATE_SCALE: PositiveRange
    """Scale of the plate; at 1 its long side is 235 pixels of 250."""
    PLATE_STRETCH: PositiveRange
    """Factor on the plate's height alone."""
    PLATE_ROTATION: Annotated[Number, Field(ge=0, le=180)]
    """The plate is turned by up to this many degrees either way."""
    PLATE_SHEAR: Annotated[Number, Field(ge=0, le=60)]
    """Horizontal, then vertical shear of up to this many degrees either way."""
    PLATE_PERSPECTIVE: Annotated[Number, Field(ge=0, le=0.5)]
    """Change of scale from the plate's middle to its edge, by perspective, at most."""
    PLATE_SHIFT: Probability
    """The plate is shifted by up to this share of the free space beside it."""
    ALIASED_PROBABILITY: Probability
    """Share of plates pasted by the nearest pixel, edge and print aliased, as the original pastes all."""


class DegradeParams(Section):
    """Ranges of the functions of src/generators/degrade.py, by their names."""

    NOISE_BLUR: Range[Annotated[Integer, Field(ge=1, le=63), AfterValidator(_odd)]]
    """Side of the box that blurs uniform noise, in pixels of a 250-pixel scene."""
    NOISE_WEIGHT: ProbabilityRange
    """Share of the noise in the image."""
    SHARPNESS: Range[Weight]
    """Factor of sharpening: 0 is smooth, 1 unchanged."""
    BRIGHTNESS: PositiveRange
    """Factor on the grey values."""
    BLUR_SIGMA: PositiveRange
    """Standard deviation of the Gaussian blur, in pixels of the image as it is stored."""
    AUTOCONTRAST_PROBABILITY: Probability
    """Share of images stretched to the full range of grey."""
