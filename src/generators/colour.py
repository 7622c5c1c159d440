"""Street scenes in colour: the colours of plates and of what is around them, under coloured light.

The networks read grey images; these scenes are for what tells the colours of plates apart. A grey scene
is multiplied by the tint of each surface, so that ink, shadows and noise stay what they are, and then by
the colour of the light.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.random import SampleDraws
from .painting import LUMA, apply
from .plate import (
    COLOURS,
    DIPLOMATIC_BOX,
    SHIELD_HEIGHT,
    VIGNETTE,
    PlateSpec,
    provisional_bar,
)
from .shields import SHIELD_ASPECT
from .street import StreetBlock

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Tint = NDArray[np.float32]


@dataclass(frozen=True)
class Light:
    """Kind of light, with the ranges that its scenes are drawn from.

    Attributes:
        name: Name of the light.
        red, blue: Ranges of the logarithm of the gain of red and of blue, relative to green.
        saturation: Range of the factor on the distance of colours from grey: light of few wavelengths
            shows few colours.
        brightness: Range of the factor on all values.
        hue: Range of the strength of an additional random tint.
    """

    name: str
    red: tuple[float, float]
    blue: tuple[float, float]
    saturation: tuple[float, float]
    brightness: tuple[float, float] = (0.8, 1.1)
    hue: tuple[float, float] = (0.0, 0.0)


INFRARED = "infrared"
LIGHTS = (
    Light("daylight", (-0.06, 0.06), (-0.07, 0.07), (0.8, 1.15)),
    Light("dusk", (-0.2, -0.03), (0.03, 0.2), (0.5, 0.9), (0.35, 0.8)),
    Light("sodium", (0.15, 0.4), (-0.8, -0.25), (0.4, 0.8), (0.5, 1.0)),
    Light("coloured", (-0.05, 0.05), (-0.05, 0.05), (0.6, 1.0), (0.5, 1.0), (0.1, 0.4)),
    Light(INFRARED, (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.6, 1.1), (0.0, 0.3)),
)
"""Kinds of light. No colour can be seen in infrared: such images are grey, or have one tint throughout."""
LIGHT_WEIGHTS = (0.4, 0.15, 0.15, 0.15, 0.15)

_RED = (200.0, 40.0, 45.0)
_FIELDS = ((40.0, 120.0, 70.0), (40.0, 70.0, 150.0))
"""Colours of the field of diplomatic plates: green or blue."""
_PAINT_PROBABILITY = 0.25
"""Share of vehicles whose paint is not white, grey or black."""


def paint(grey: Pixels, block: StreetBlock, i: int, light: Light, numbers: SampleDraws) -> Pixels:
    """Return scene ``i`` of a block in colour.

    Args:
        grey: The scene in grey, shape ``(H, H)``, uint8.
        block: Block that the scene belongs to.
        i: Number of the scene in its block.
        light: Light of the scene.
        numbers: Random generator of the scene's colours.

    Returns:
        Scene ``(H, H, 3)`` RGB, uint8.
    """
    side = len(grey)
    tint = _surroundings(side, numbers)
    outline = block.outlines[i].astype(np.float64)
    body = outline.mean(axis=0) + (outline - outline.mean(axis=0)) * numbers.uniform(1.5, 4.0)
    body_paint = _random(numbers, 0.5) if numbers.chance(_PAINT_PROBABILITY) else (1.0, 1.0, 1.0)
    _fill(tint, body, body_paint)
    # A dealer's frame and the line around a plate are black.
    _fill(tint, outline, (1.0, 1.0, 1.0))
    spec = block.specs[i]
    _fill(tint, block.corners[i], _tint(COLOURS[spec.colour_index].ground))
    if isinstance(spec, PlateSpec):
        for box, colour in _coloured_parts(spec, numbers):
            _fill(tint, _placed(box, block.matrices[i]), colour)
    lit = grey[..., None] * tint
    lit = _under(lit, light, numbers)
    noise = numbers.uniform(0, 6) ** 2 / 6
    lit += (numbers.field((side, side, 3)) - 0.5) * np.float32(noise * 3.5)
    image = np.clip(lit, 0, 255).astype(np.uint8)
    quality = int(numbers.uniform(50, 98))
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(
        np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    )


def _surroundings(side: int, numbers: SampleDraws) -> Tint:
    """Return the tint of everything but the plate: a few soft or sharp patches of any colour."""
    cells = numbers.integer(2, 8)
    # Hardly any photo is without all colour.
    strength = 0.1 + 0.4 * numbers.uniform() ** 2
    grid = np.array(
        [[_random(numbers, strength) for _ in range(cells)] for _ in range(cells)], np.float32
    )
    how = cv2.INTER_LINEAR if numbers.chance(0.7) else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(grid, (side, side), interpolation=how), np.float32)


def _coloured_parts(
    spec: PlateSpec, numbers: SampleDraws
) -> list[tuple[tuple[float, float, float, float], tuple[float, float, float]]]:
    """Return the boxes in millimetres of what has a colour of its own on a plate, with its tint."""
    wide, tall = spec.width, spec.height
    parts = []
    half = SHIELD_HEIGHT * spec.cap_height / 2
    colours = (_tint(_RED), _random(numbers, 0.6))
    for (x, y), colour in zip(spec.layout.shields[: len(spec.arms)], colours, strict=False):
        parts.append(
            ((x - half * SHIELD_ASPECT, y - half, x + half * SHIELD_ASPECT, y + half), colour)
        )
    if spec.diplomatic:
        field = _FIELDS[numbers.integer(0, 1)]
        x1, y1, x2, y2 = DIPLOMATIC_BOX
        parts.append(((x1 * wide, y1 * tall, x2 * wide, y2 * tall), _tint(field)))
    if spec.provisional:
        parts.append((provisional_bar(spec), _tint(_RED)))
    if spec.vignette:
        x1, y1, x2, y2 = VIGNETTE
        parts.append(((x1 * wide, y1 * tall, x2 * wide, y2 * tall), _random(numbers, 0.6)))
    return parts


def _under(image: Tint, light: Light, numbers: SampleDraws) -> Tint:
    """Return an image ``(H, W, 3)`` as it looks under a light."""
    grey = (image @ LUMA.astype(np.float32))[..., None]
    image = grey + (image - grey) * np.float32(numbers.uniform(*light.saturation))
    gains = np.exp([numbers.uniform(*light.red), 0.0, numbers.uniform(*light.blue)])
    gains *= _random(numbers, numbers.uniform(*light.hue))
    # The exposure is that of the whole: no channel gets brighter than the others are dark.
    gains *= numbers.uniform(*light.brightness) / max(float(LUMA @ gains), 1e-6)
    return image * gains.astype(np.float32)


def _random(numbers: SampleDraws, strength: float) -> tuple[float, float, float]:
    """Return a tint of any hue, whose distance from grey is at most ``strength``."""
    angle, size = 2 * np.pi * numbers.uniform(), strength * numbers.uniform() ** 0.5
    return _tint(
        (
            float(np.exp(size * np.cos(angle))),
            float(np.exp(size * np.cos(angle - 2 * np.pi / 3))),
            float(np.exp(size * np.cos(angle + 2 * np.pi / 3))),
        )
    )


def _tint(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Return factors on grey values that give them the hue of a colour, and keep their brightness."""
    red, green, blue = (value / float(LUMA @ colour) for value in colour)
    return red, green, blue


def _placed(box: tuple[float, float, float, float], matrix: Floats) -> Floats:
    """Return the corners ``(4, 2)`` of a box on the plate, normalised to the scene."""
    x1, y1, x2, y2 = box
    return apply(matrix[None], np.array([[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]]))[0]


def _fill(tint: Tint, outline: Floats, colour: tuple[float, float, float]) -> None:
    """Give an outline ``(p, 2)``, normalised to the scene, a tint, in place."""
    points = np.round((outline * len(tint) - 0.5) * 16).clip(-(2**19), 2**19).astype(np.int32)
    cv2.fillPoly(tint, [points], colour, cv2.LINE_8, 4)
