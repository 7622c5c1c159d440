"""Obstacles hide what the labels say, and no more."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from src.core.layout import ILLEGIBLE, LEGIBLE
from src.core.random import Draws
from src.datasets.cuts import cut_windows, seen_text
from src.generators import obstacles
from src.generators.obstacles import RASTER_CAP, WHOLE, Covers, Obstacle, Visibility
from src.generators.plate import FORMATS, PlateSpec
from src.generators.scene import SceneBlock, SceneRenderer, draw_scenes
from src.generators.street import StreetBlock, StreetRenderer, draw_streets
from tests.generators.test_street import atlas, backgrounds, config

SIDE = 192
ALL = (0.0, 0.0, 1.0, 1.0)


@cache
def streets(share: float, count: int = 300) -> StreetBlock:
    plates = config().StreetPlateParams.model_copy(update={"GLYPH_VARIANTS": 3})
    street = config().StreetParams.model_copy(update={"KIND_WEIGHTS": [1.0, 0.0, 0.0, 0.0]})
    draws = Draws(11, "street", np.arange(count))
    return draw_streets(draws, plates, street, (0.4, 0.9), True, atlas(), share)


@cache
def scenes(share: float, count: int = 300) -> SceneBlock:
    plates = config().PlateParams.model_copy(update={"GLYPH_VARIANTS": 3})
    draws = Draws(11, "scene", np.arange(count))
    scene, degraded = config().SceneParams, config().DegradeParams
    return draw_scenes(draws, plates, scene, degraded, 0.3, 400, atlas(), obstacles=share)


def block_of(kind: str, share: float) -> SceneBlock | StreetBlock:
    return streets(share) if kind == "street" else scenes(share)


def render(block: SceneBlock | StreetBlock, i: int) -> np.ndarray:
    if isinstance(block, SceneBlock):
        return SceneRenderer(atlas(), backgrounds(), SIDE).render(block, i)
    params = config().StreetParams
    return StreetRenderer(params, atlas(), backgrounds(), range(4), SIDE).render(block, i)


def plate(text: str = "ZH123456", name: str = "rear_long") -> PlateSpec:
    return PlateSpec(text, [item.name for item in FORMATS].index(name))


def upright(spec: PlateSpec, obstacle: Obstacle | None = None) -> Covers:
    """The plate as large as the image."""
    matrix = np.diag([1 / spec.width, 1 / spec.height, 1.0])[None]
    corners = np.array([[[0.0, 0], [1, 0], [1, 1], [0, 1]]])
    return Covers(atlas(), [spec], [0], matrix, corners, [obstacle])


def box(x1: float, y1: float, x2: float, y2: float) -> Obstacle:
    return Obstacle(np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), 0, 0)


@pytest.mark.parametrize("name", [item.name for item in FORMATS])
def test_ink_is_measured_a_character_at_a_time(name: str) -> None:
    spec = plate("ZH1234", name)
    tiles = atlas().tiles(0, RASTER_CAP)
    composed = spec.compose(tiles.cap_pixels, tiles)
    assert len(composed.marks) == 6
    half = obstacles.cover(composed, spec, box(spec.width / 2, -9, 2 * spec.width, 2 * spec.height))
    shares = obstacles.hidden_ink(composed, half)
    for (tile, left, _), share in zip(composed.marks, shares, strict=True):
        middle = left + tile.shape[1] / 2
        reach = tile.shape[1] / 2
        if middle - reach > composed.ink.shape[1] / 2 + 1:
            assert share == pytest.approx(1)
        elif middle + reach < composed.ink.shape[1] / 2 - 1:
            assert share == 0
        else:
            assert 0 <= share <= 1


def test_neither_the_dot_nor_a_dealers_letter_is_text() -> None:
    spec = PlateSpec("ZH1234", 2, suffix="U")
    tiles = atlas().tiles(0, RASTER_CAP)
    assert len(spec.compose(tiles.cap_pixels, tiles).marks) == 6


def test_whatever_lies_beyond_the_image_is_hidden() -> None:
    spec = plate()
    assert upright(spec).visibility(0) == obstacles.WHOLE
    cut = upright(spec).visibility(0, (0.0, 0.0, 0.7, 1.0))
    assert cut.covered == 1
    assert cut.seen == pytest.approx((0.0, 0.0, 0.7, 1.0), abs=0.02)
    # The arms alone are cut off, with the rim.
    assert upright(spec).visibility(0, (0.05, 0.0, 0.95, 1.0)).covered == 0


@pytest.mark.parametrize(
    ("characters", "seen"),
    [
        ((0.0, 0.15, 0.1, 0.0, 0.0, 0.0), "ZH1204"),
        ((0.0, 0.0, 0.0, 0.0, 0.6, 1.0), "ZH12?"),
        ((0.0, 0.3, 0.0, 1.0, 1.0, 0.0), "?1?4"),
        ((1.0, 1.0, 1.0, 0.0, 0.0, 1.0), "?20?"),
        ((1.0,) * 6, "?"),
    ],
)
def test_a_run_of_hidden_characters_is_one(characters: tuple[float, ...], seen: str) -> None:
    assert seen_text("ZH1204", Visibility(characters, ALL)) == seen
    assert seen_text("", WHOLE) == ""


def test_windows_tell_what_can_be_read_in_them() -> None:
    spec = plate("ZH123456")
    over = box(0.62 * spec.width, -5, 1.1 * spec.width, spec.height + 5)
    seen = seen_text(spec.text, upright(spec, over).visibility(0))
    assert seen.endswith("?")
    assert spec.text.startswith(seen[:-1])
    assert 4 <= len(seen) <= 7


def test_an_obstacle_and_the_edge_of_the_image_hide_together() -> None:
    spec = plate("ZH1", "front")
    over = box(spec.width * 0.8, -9, 2 * spec.width, 2 * spec.height)
    both = upright(spec, over).visibility(0, (0.1, 0.0, 1.0, 1.0))
    assert both.covered == 0
    assert both.seen == pytest.approx((0.1, 0.0, 0.8, 1.0), abs=0.02)


@pytest.mark.parametrize("kind", ["street", "scene"])
def test_half_of_the_obstacles_hide_a_character(kind: str) -> None:
    block = block_of(kind, 1.0)
    labels = block.labels()
    has = np.array([obstacle is not None for obstacle in block.covers.obstacles])
    assert has.mean() > 0.8
    covered = labels["covered"][has]
    assert 0.35 < (covered >= ILLEGIBLE).mean() < 0.65
    assert ((covered >= ILLEGIBLE) | (covered <= LEGIBLE)).all()
    assert (labels["covered"][~has] == 0).all()
    legible = labels["covered"] <= LEGIBLE
    known = ~labels["colour"].isin(["black", "other"])
    assert (labels["plate"][legible & known] == labels["text"][legible & known]).all()
    assert (labels["plate"][~legible] == "").all()
    assert (labels["text"][known] != "").all()


@pytest.mark.parametrize("kind", ["street", "scene"])
def test_obstacles_change_nothing_else(kind: str) -> None:
    bare, half = block_of(kind, 0.0), block_of(kind, 0.5)
    assert all(obstacle is None for obstacle in bare.covers.obstacles)
    np.testing.assert_array_equal(bare.corners, half.corners)
    for i in range(40):
        same = np.array_equal(render(bare, i), render(half, i))
        assert same == (half.covers.obstacles[i] is None)


def test_a_hidden_character_cannot_be_seen() -> None:
    """The pixels of a covered character do not depend on what character it is."""
    spec = plate("ZH123456")
    over = box(0.62 * spec.width, -5, 1.1 * spec.width, spec.height + 5)
    covers = upright(spec, over)
    assert covers.visibility(0).covered == 1
    image = np.full((110, 500), 200, np.uint8)
    obstacles.paint_obstacle(image, over, np.eye(3))
    assert (image[:, 311:] == 0).all()
    assert (image[:, :309] == 200).all()
    shifted = np.full((110, 400), 200, np.uint8)
    obstacles.paint_obstacle(shifted, over, np.eye(3), (100, 0))
    np.testing.assert_array_equal(shifted, image[:, 100:])


@pytest.mark.parametrize("kind", ["street", "scene"])
def test_windows_end_within_plates(kind: str) -> None:
    block = block_of(kind, 0.0)
    whole = np.tile([0, 0, SIDE, SIDE], (len(block), 1))
    draws = Draws(5, "cut", np.arange(len(block)))
    windows = cut_windows(block, whole, SIDE, 0.5, draws)
    changed = (windows != whole).any(axis=1)
    assert 0.35 < changed.mean() < 0.55
    assert ((windows != whole).sum(axis=1) <= 1).all()
    covered = block.labels(windows / SIDE)["covered"]
    assert 0.3 < (covered[changed] >= ILLEGIBLE).mean() < 0.7
    assert ((covered >= ILLEGIBLE) | (covered <= LEGIBLE)).all()
    assert (covered[~changed] == 0).all()
    # The numbers of a sample are its own.
    alone = cut_windows(streets(0.0), whole, SIDE, 0.0, Draws(5, "cut", np.arange(len(block))))
    np.testing.assert_array_equal(alone, whole)
