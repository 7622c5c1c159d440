"""Scenes in colour: a plate has its colour, in a light in which it can be seen."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.core.random import draws_of
from src.generators.colour import INFRARED, LIGHT_WEIGHTS, LIGHTS, Light, paint
from src.generators.painting import LUMA
from src.generators.plate import COLOURS, OTHER_COLOUR, PlateSpec
from src.generators.street import StreetBlock
from tests.generators.test_street import CLEAN, block, renderer

SIDE = 256
WHITE_LIGHT = Light("white", (0.0, 0.0), (0.0, 0.0), (1.0, 1.0), (1.0, 1.0))
KNOWN = {light.name: light for light in LIGHTS}


@cache
def scenes() -> tuple[StreetBlock, list[NDArray[np.uint8]]]:
    """Swiss plates, large, and their scenes in grey."""
    kinds = {"KIND_WEIGHTS": [1.0, 0.0, 0.0, 0.0], "DIPLOMATIC_PROBABILITY": 0.1}
    made = block(range(120), width=(0.6, 0.8), **kinds)
    return made, [renderer(SIDE, **CLEAN).render(made, i) for i in range(len(made))]


def painted(i: int, light: Light, seed: int = 3) -> NDArray[np.uint8]:
    made, greys = scenes()
    return paint(greys[i], made, i, light, draws_of(seed, "paint", i))


def ground(image: NDArray[np.uint8], i: int) -> NDArray[np.float64]:
    """Mean colour of the brighter half of the plate's middle, its ground."""
    made, _ = scenes()
    middle = made.corners[i].mean(axis=0)
    inside = (middle + (made.corners[i] - middle) * 0.75) * SIDE
    mask = cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.uint8), np.round(inside).astype(int), 1)
    pixels = image[mask.astype(bool)].astype(float)
    return pixels[pixels.sum(axis=1) >= np.median(pixels.sum(axis=1))].mean(axis=0)


def test_a_plate_has_its_colour_in_white_light() -> None:
    made, _ = scenes()
    seen = set()
    for i, spec in enumerate(made.specs):
        assert isinstance(spec, PlateSpec)
        if spec.is_army or spec.vignette or spec.provisional:
            continue
        wanted = np.array(COLOURS[spec.colour_index].ground, float)
        found = ground(painted(i, WHITE_LIGHT), i)
        assert found / found.sum() == pytest.approx(wanted / wanted.sum(), abs=0.03), spec
        seen.add(spec.colour)
    assert seen >= {"white", "blue", "brown", OTHER_COLOUR}


def test_the_field_of_a_diplomatic_plate_is_coloured() -> None:
    made, _ = scenes()
    numbers = [i for i, spec in enumerate(made.specs) if spec.diplomatic]
    assert numbers
    for i in numbers:
        corners = made.corners[i]
        left = corners[0] + (corners[3] - corners[0]) / 2 + (corners[1] - corners[0]) * 0.1
        x, y = (left * SIDE).astype(int)
        red, green, blue = painted(i, WHITE_LIGHT)[y - 2 : y + 3, x - 1 : x + 2].mean(axis=(0, 1))
        assert max(green, blue) > 1.2 * red


def test_paint_keeps_the_brightness() -> None:
    _, greys = scenes()
    for i in range(20):
        grey = painted(i, WHITE_LIGHT) @ LUMA
        # Where a bright grey gets a colour, it is clipped.
        dark = greys[i] < 160
        assert abs(float(np.median(grey[dark] - greys[i][dark]))) < 4


def test_infrared_has_one_tint_throughout() -> None:
    for i in range(20):
        image = cv2.GaussianBlur(painted(i, KNOWN[INFRARED]), (0, 0), 4).astype(float)
        bright = image[image.min(axis=2) > 40]
        if len(bright):
            assert (np.log(bright[:, 0] / bright[:, 1]).std()) < 0.03


@pytest.mark.parametrize(("name", "redder"), [("sodium", True), ("dusk", False)])
def test_light_tints_everything(name: str, redder: bool) -> None:
    tints = [painted(i, KNOWN[name]).reshape(-1, 3).mean(axis=0) for i in range(20)]
    white = [painted(i, WHITE_LIGHT).reshape(-1, 3).mean(axis=0) for i in range(20)]
    for lit, unlit in zip(tints, white, strict=True):
        assert (lit[0] / lit[2] > unlit[0] / unlit[2]) == redder


def test_a_scene_depends_on_its_numbers_alone() -> None:
    assert len(LIGHTS) == len(LIGHT_WEIGHTS)
    first = painted(5, KNOWN["daylight"])
    assert (first == painted(5, KNOWN["daylight"])).all()
    assert (first != painted(5, KNOWN["daylight"], seed=4)).any()
