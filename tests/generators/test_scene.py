"""Scenes: exact labels, ranges, and the same bytes however they are made."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.config import Config, load_config
from src.core.charset import CHARSET
from src.core.geometry import rectify
from src.core.random import Draws
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.engine.tasks import LocalEngine
from src.generators.atlas import CAP_SIZES, Atlas
from src.generators.plate import FORMATS
from src.generators.scene import SceneBlock, SceneRenderer, draw_scenes
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]


@cache
def config() -> Config:
    return load_config(PARAMETERS)


@cache
def atlas() -> Atlas:
    return Atlas(config().PlateParams.model_copy(update={"GLYPH_VARIANTS": 3}), 7)


@cache
def backgrounds() -> np.ndarray:
    return (
        Draws(1, "test", np.arange(20))
        .integers(0, 255, (1024,))
        .astype(np.uint8)
        .reshape(-1, 32, 32)
    )


def block(indices: range, **changes: dict[str, object]) -> SceneBlock:
    sections = {
        name: getattr(config(), name).model_copy(update=changes.get(name, {}))
        for name in ("PlateParams", "SceneParams", "DegradeParams")
    }
    sections["PlateParams"] = sections["PlateParams"].model_copy(update={"GLYPH_VARIANTS": 3})
    return draw_scenes(
        Draws(11, "scene", np.asarray(indices)),
        *sections.values(),
        0.3,
        len(backgrounds()),
        atlas(),
    )


CLEAN = {
    "SceneParams": {"CLUTTER_PROBABILITY": 0.0, "ALIASED_PROBABILITY": 0.0},
    "DegradeParams": {
        "NOISE_WEIGHT": [0.0, 0.0],
        "SHARPNESS": [1.0, 1.0],
        "BRIGHTNESS": [1.0, 1.0],
        "BLUR_SIGMA": [0.1, 0.1],
        "AUTOCONTRAST_PROBABILITY": 0.0,
    },
}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from([84, 256]))
def test_a_sample_depends_on_its_number_alone(first: int, length: int, side: int) -> None:
    renderer = SceneRenderer(atlas(), backgrounds(), side)
    together, last = block(range(first, first + length)), first + length - 1
    alone = block(range(last, last + 1))
    assert (renderer.render(together, length - 1) == renderer.render(alone, 0)).all()
    assert together.labels().iloc[[-1]].reset_index(drop=True).equals(alone.labels())


class Scenes:
    """Makes shards; at module level, so that it can be sent to a worker."""

    def __call__(self, indices: range) -> Shard:
        made, renderer = block(indices), SceneRenderer(atlas(), backgrounds(), 84)
        return Shard([renderer.render(made, i) for i in range(len(made))], made.labels())


def test_same_bytes_with_one_worker_with_two_and_for_shard_7_alone(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        new = NewSet(tmp_path / name, range(100, 190), Scenes(), {})
        write_sets([new], LocalEngine(workers), size=10)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 2 * 9 + 1
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    shard = Scenes()(range(170, 180))
    stored = ShardedSet(tmp_path / "one")
    assert (np.stack(shard.images) == stored.images(range(70, 80))).all()


@pytest.mark.parametrize("side", [84, 256])
def test_corners_are_where_the_plate_is_painted(side: int) -> None:
    made = block(range(40), **CLEAN)
    renderer = SceneRenderer(atlas(), np.zeros_like(backgrounds()), side)
    plain = [i for i in range(40) if not made.numbers["structure"][i]]
    assert len(plain) > 20
    for i in plain:
        painted = renderer.render(made, i) > 100
        wanted = np.zeros((side, side), np.uint8)
        points = np.round((made.corners[i] * side - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(wanted, points, 1, cv2.LINE_8, 4)
        # The print inside is dark: what is painted covers the plate's hull.
        hull = np.zeros_like(wanted)
        outline = cv2.convexHull(np.argwhere(painted)[:, ::-1].astype(np.int32))
        cv2.fillConvexPoly(hull, outline, 1)
        both, either = (hull & wanted).sum(), (hull | wanted).sum()
        # At 84 pixels a flat plate is a few pixels high, and half a pixel of rim is a fifth of it.
        assert both / either > (0.9 if side == 256 else 0.7), i


def test_corners_start_at_the_plates_own_top_left() -> None:
    # Straightened by its corners, each plate shows its text upright: the same image as a plate that
    # never was turned.
    made = block(range(30), **CLEAN)
    upright = block(
        range(30),
        SceneParams=CLEAN["SceneParams"]
        | {
            "PLATE_ROTATION": 0.0,
            "PLATE_SHEAR": 0.0,
            "PLATE_PERSPECTIVE": 0.0,
            "PLATE_SCALE": [0.6, 0.6],
            "PLATE_STRETCH": [1.0, 1.0],
        },
        DegradeParams=CLEAN["DegradeParams"],
    )
    renderer = SceneRenderer(atlas(), backgrounds(), 512)
    for i in range(30):
        assert made.plates[i].text == upright.plates[i].text
        crops = [
            rectify(renderer.render(b, i), b.corners[i] * 512, (32, 128)).astype(float).ravel()
            for b in (made, upright)
        ]
        assert np.corrcoef(crops)[0, 1] > 0.8, i


def test_a_window_shows_the_same_pixels_as_the_whole() -> None:
    # Auto-contrast looks at all that is painted, so it is left out here.
    made = block(range(12), DegradeParams={"AUTOCONTRAST_PROBABILITY": 0.0, "NOISE_WEIGHT": [0, 0]})
    renderer = SceneRenderer(atlas(), backgrounds(), 256)
    for i in range(12):
        low, high = made.corners[i].min(axis=0), made.corners[i].max(axis=0)
        x1, y1 = np.floor(low * 256 - 12).astype(int).tolist()
        x2, y2 = np.ceil(high * 256 + 12).astype(int).tolist()
        x1, y1, x2, y2 = max(x1, 0), max(y1, 0), min(x2, 256), min(y2, 256)
        whole = renderer.render(made, i)[y1:y2, x1:x2].astype(int)
        part = renderer.render(made, i, (x1, y1, x2, y2)).astype(int)
        # The filters see another edge: a rim of a few pixels may differ.
        assert np.abs(whole - part)[4:-4, 4:-4].max() <= 2


def test_texts_follow_grammar_and_weights() -> None:
    labels = block(range(8000)).labels()
    assert labels["plate"].map(CHARSET.is_valid).all()
    shares = labels["digits"].value_counts(normalize=True)
    for digits, weight in enumerate(config().PlateParams.DIGIT_WEIGHTS, start=1):
        assert shares.get(digits, 0.0) == pytest.approx(weight, abs=0.02)
    cantons = labels["plate"].str[:2].value_counts(normalize=True)
    assert len(cantons) == 26
    assert cantons.between(0.028, 0.050).all()


def test_plates_stay_in_the_scene_and_in_the_ranges_of_the_seed() -> None:
    labels = block(range(4000)).labels()
    for centre, size in (("cx", "w"), ("cy", "h")):
        assert (labels[centre] - labels[size] / 2 >= -1e-6).all()
        assert (labels[centre] + labels[size] / 2 <= 1 + 1e-6).all()
    # Boxes of the original's scenes: 64 to 192 x 12 to 159 pixels of 256, means 114 and 53.
    assert labels["w"].mean() * 256 == pytest.approx(114, abs=6)
    assert labels["h"].mean() * 256 == pytest.approx(53, abs=6)


def test_box_is_that_of_the_corners() -> None:
    labels = block(range(50)).labels()
    x = labels[[f"x{k}" for k in range(4)]]
    assert np.allclose(x.min(axis=1), labels["cx"] - labels["w"] / 2, atol=1e-6)
    assert np.allclose(x.max(axis=1), labels["cx"] + labels["w"] / 2, atol=1e-6)


def test_all_formats_colours_frames_and_screws_can_be_drawn() -> None:
    made = block(
        range(200),
        PlateParams={
            "FORMAT_WEIGHTS": [1.0] * 6,
            "COLOUR_WEIGHTS": [1.0] * 7,
            "FAMILY_WEIGHTS": [1.0] * 3,
            "DIGIT_WEIGHTS": [1.0] * 7,
            "FRAME_PROBABILITY": 0.5,
            "SCREW_PROBABILITY": 0.5,
        },
    )
    labels = made.labels()
    assert set(labels["format"]) == {plate.name for plate in FORMATS}
    assert set(labels["lines"]) == {1, 2}
    assert (labels.loc[labels["colour"] == "black", "plate"] == "").all()
    renderer = SceneRenderer(atlas(), backgrounds(), 128)
    assert all(renderer.render(made, i).shape == (128, 128) for i in range(200))


def test_atlas_gives_the_size_above_and_depends_on_its_seed() -> None:
    assert atlas().tiles(0, CAP_SIZES[2]).cap_pixels == CAP_SIZES[2]
    assert atlas().tiles(0, CAP_SIZES[2] + 0.1).cap_pixels == CAP_SIZES[3]
    assert atlas().tiles(0, 1000).cap_pixels == CAP_SIZES[-1]
    params = config().PlateParams.model_copy(update={"GLYPH_VARIANTS": 3})
    assert Atlas(params, 7).styles == atlas().styles
    assert Atlas(params, 8).styles != atlas().styles
