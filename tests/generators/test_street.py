"""Street scenes: exact labels, ranges, what is readable, and the same bytes however they are made."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.config import Config, load_config
from src.config.scenes import StreetParams
from src.core.charset import CHARSET
from src.core.geometry import rectify
from src.core.layout import LEGIBLE
from src.core.random import Draws
from src.generators.atlas import Atlas
from src.generators.lettering import RowsSpec
from src.generators.plate import ARMY_COLOUR, FORMATS, OTHER_COLOUR, PlateSpec
from src.generators.street import (
    KINDS,
    PAD_GREY,
    Degradations,
    StreetBlock,
    StreetRenderer,
    draw_streets,
)
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]
CLEAN = {
    "SURROUND_PROBABILITY": 0.0,
    "FITTINGS_PROBABILITY": 0.0,
    "PLAIN_PROBABILITY": 1.0,
    "CUT_PROBABILITY": 0.0,
    "SHADOW_PROBABILITY": 0.0,
    "GLARE_PROBABILITY": 0.0,
    "DIRT_PROBABILITY": 0.0,
    "OCCLUSION_PROBABILITY": 0.0,
    "SHADE": [0.0, 0.0],
    "CONTRAST": [1.0, 1.0],
    "GAMMA": [1.0, 1.0],
    "BLUR": [0.0, 0.0],
    "MOTION_PROBABILITY": 0.0,
    "CLEAN_PROBABILITY": 1.0,
}


@cache
def config() -> Config:
    return load_config(PARAMETERS)


@cache
def atlas() -> Atlas:
    return Atlas(config().StreetPlateParams.model_copy(update={"GLYPH_VARIANTS": 3}), 7)


@cache
def backgrounds() -> np.ndarray:
    numbers = Draws(1, "test", np.arange(400)).integers(0, 255, (1024,))
    return numbers.astype(np.uint8).reshape(-1, 32, 32)


def street(**changes: object) -> StreetParams:
    return config().StreetParams.model_copy(update=changes)


def block(
    indices: range, inside: bool = True, width: tuple[float, float] = (0.2, 0.9), **changes: object
) -> StreetBlock:
    plates = config().StreetPlateParams.model_copy(update={"GLYPH_VARIANTS": 3})
    draws = Draws(11, "street", np.asarray(indices))
    return draw_streets(draws, plates, street(**changes), width, inside, atlas())


def renderer(side: int, degradations: Degradations = "train", **changes: object) -> StreetRenderer:
    return StreetRenderer(street(**changes), atlas(), backgrounds(), range(10), side, degradations)


@pytest.mark.parametrize("degradations", ["train", "shifted"])
@pytest.mark.parametrize("side", [84, 256])
def test_a_sample_depends_on_its_number_alone(side: int, degradations: Degradations) -> None:
    paint = renderer(side, degradations)
    together = block(range(40, 60))
    for i in (0, 7, 19):
        alone = block(range(40 + i, 41 + i))
        assert (paint.render(together, i) == paint.render(alone, 0)).all()
        row = together.labels().iloc[[i]].reset_index(drop=True)
        pd.testing.assert_frame_equal(row, alone.labels())


def test_a_window_is_cut_out_of_the_whole() -> None:
    paint, made = renderer(128), block(range(5))
    for i in range(5):
        whole = paint.render(made, i)
        assert (paint.render(made, i, (10, 20, 90, 70)) == whole[20:70, 10:90]).all()


def test_kinds_come_in_their_shares_and_only_swiss_plates_have_a_text() -> None:
    made = block(range(4000))
    labels = made.labels()
    kinds = np.array(KINDS)[made.kinds]
    weights = config().StreetParams.KIND_WEIGHTS
    for kind, weight in zip(KINDS, weights, strict=True):
        assert (kinds == kind).mean() == pytest.approx(weight / sum(weights), abs=0.03)
    assert (labels["present"] == np.isin(kinds, ["swiss", "foreign"])).all()
    texts = labels["plate"]
    assert (texts[kinds != "swiss"] == "").all()
    assert texts[texts != ""].map(CHARSET.is_valid).all()
    army = (kinds == "swiss") & (labels["colour"] == ARMY_COLOUR)
    diplomatic = (kinds == "swiss") & (labels["colour"] == OTHER_COLOUR)
    assert army.sum() > 20
    assert diplomatic.sum() > 10
    assert (texts[army | diplomatic] == "").all()
    # Inside of the scene all others have one.
    assert (texts[(kinds == "swiss") & ~army & ~diplomatic] != "").all()
    assert set(labels["format"]) == {plate.name for plate in FORMATS} | set(KINDS[1:])


def test_what_is_absent_has_no_corners_but_its_window_has() -> None:
    made = block(range(300))
    labels = made.labels()
    absent = ~labels["present"]
    assert absent.sum() > 30
    assert (
        labels.loc[absent, ["cx", "w", "x0", "y3", "plate_height", "angle"]].isna().all(axis=None)
    )
    assert labels.loc[~absent, ["cx", "w", "x0", "y3", "plate_height"]].notna().all(axis=None)
    windows = np.tile([0.0, 0.0, 1.0, 1.0], (len(made), 1))
    assert made.labels(windows)[["x0", "y3"]].notna().all(axis=None)


def test_plates_are_as_wide_as_asked_and_inside_where_asked() -> None:
    inside, free = block(range(3000)), block(range(3000), inside=False)
    low, high = inside.corners.min(axis=(1, 2)), inside.corners.max(axis=(1, 2))
    assert low.min() >= -1e-6
    assert high.max() <= 1 + 1e-6
    widths = np.ptp(inside.corners, axis=1).max(axis=1)
    # Frames are drawn around plates and count, and plates of two lines are drawn smaller.
    assert 0.2 * 0.5 < widths.min() < 0.2
    assert 0.8 < widths.max() <= 0.98
    centres = (free.corners.min(axis=1) + free.corners.max(axis=1)) / 2
    assert (centres > -0.05).all()
    assert (centres < 1.05).all()
    outside = (free.corners < -0.02).any(axis=(1, 2)) | (free.corners > 1.02).any(axis=(1, 2))
    assert outside.mean() > 0.2
    # What is cut off cannot be read, but the rim may be.
    labels = free.labels()
    assert (labels["covered"][~outside] == 0).mean() > 0.98
    cut = labels["covered"] > LEGIBLE
    assert 0.1 < cut.mean() < outside.mean()
    assert (labels["plate"][cut] == "").all()
    rim_alone = outside & ~cut & (labels["text"] != "")
    assert rim_alone.sum() > 20
    assert (labels["plate"][rim_alone] == labels["text"][rim_alone]).all()


def test_colours_occur_in_their_formats() -> None:
    made = block(range(4000))
    labels = made.labels()
    swiss = labels[np.array(KINDS)[made.kinds] == "swiss"]
    formats = swiss.groupby("colour")["format"].agg(set)
    assert formats["green"] == {"front"}
    assert formats["yellow"] == {"moped"}
    assert formats["red"] <= {"rear_long", "rear_high"}
    mopeds = swiss[swiss["format"] == "moped"]
    assert (mopeds["colour"] == "yellow").mean() > 0.5


def test_what_is_beside_the_number_is_no_text() -> None:
    made = block(range(4000))
    plates = [spec for spec in made.specs if isinstance(spec, PlateSpec)]
    for name in ("provisional", "month", "diplomatic", "vignette", "suffix"):
        assert any(getattr(spec, name) for spec in plates), name
    for spec in plates:
        assert bool(spec.vignette) == (spec.format.name == "moped")
        assert not (spec.diplomatic and (spec.provisional or spec.is_army))
        assert CHARSET.is_valid(spec.readable) or spec.is_army or spec.diplomatic


def test_the_camera_stays_in_its_angles() -> None:
    straight = block(range(200), YAW=0.0, PITCH=[0.0, 0.0], ROLL=0.0)
    assert straight.labels()["angle"].abs().max() < 1e-3
    tilted = block(range(2000), YAW=0.0, PITCH=[0.0, 0.0], ROLL=12.0)
    angles = tilted.labels()["angle"].dropna()
    assert 9 < angles.abs().max() <= 12


@pytest.mark.parametrize("side", [128, 256])
def test_corners_are_where_the_plate_is_painted(side: int) -> None:
    made = block(range(60), KIND_WEIGHTS=[1.0, 0, 0, 0], width=(0.5, 0.9), **CLEAN)
    paint = renderer(side, **CLEAN)
    checked = 0
    for i, spec in enumerate(made.specs):
        if spec.frame or spec.edge or spec.colour_index != 0:
            continue
        image = paint.render(made, i)
        mask = np.zeros((side, side), np.uint8)
        points = np.round((made.corners[i] * side - 0.5) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, points, 1, cv2.LINE_8, 4)
        inner = cv2.erode(mask, np.ones((3, 3), np.uint8))
        outer = cv2.dilate(mask, np.ones((7, 7), np.uint8)) - cv2.dilate(
            mask, np.ones((5, 5), np.uint8)
        )
        rim = mask - inner
        # A white plate on one grey: its edge is bright, and beside it is the ground.
        ground = np.median(image[mask == 0])
        assert np.median(image[inner == 1]) > 130, i
        assert np.abs(np.median(image[outer == 1]) - ground) < 12, i
        assert np.median(image[rim == 1]) > min(ground + 20, 130), i
        checked += 1
    assert checked > 15


def test_corners_start_at_the_plates_own_top_left() -> None:
    # Straightened, a plate and the same plate seen from the front show the same print.
    made = block(range(60), KIND_WEIGHTS=[1.0, 0, 0, 0], width=(0.8, 0.9), **CLEAN)
    front = {"YAW": 0.0, "PITCH": [0.0, 0.0], "ROLL": 0.0}
    upright = block(range(60), KIND_WEIGHTS=[1.0, 0, 0, 0], width=(0.8, 0.9), **CLEAN, **front)
    paint = renderer(384, **CLEAN)
    for i in range(0, 60, 3):
        crops = [
            rectify(paint.render(b, i), b.corners[i] * 384, (48, 128)).astype(float).ravel()
            for b in (made, upright)
        ]
        assert np.corrcoef(crops)[0, 1] > 0.8, i


def test_a_cut_image_ends_around_the_plate() -> None:
    changes = {"CUT_PROBABILITY": 1.0, "KIND_WEIGHTS": [1.0, 0, 0, 0]}
    made, paint = block(range(20), width=(0.3, 0.5), **changes), renderer(128, **changes)
    for i in range(20):
        image = paint.render(made, i)
        rows = (image == PAD_GREY).all(axis=1)
        columns = (image == PAD_GREY).all(axis=0)
        assert rows.sum() + columns.sum() > 20, i
        centre = (made.corners[i].mean(axis=0) * 128).astype(int)
        assert not rows[centre[1]], i
        assert not columns[centre[0]], i


def test_training_degradations_are_not_those_of_the_shifted_set() -> None:
    made = block(range(30))
    train, shifted = (renderer(128, which) for which in ("train", "shifted"))
    different = [(train.render(made, i) != shifted.render(made, i)).mean() for i in range(30)]
    assert np.mean(different) > 0.5


@pytest.mark.parametrize("name", ["GLARE_PROBABILITY", "SHADOW_PROBABILITY", "DIRT_PROBABILITY",
                                  "OCCLUSION_PROBABILITY", "MOTION_PROBABILITY"])  # fmt: skip
def test_each_degradation_changes_the_image(name: str) -> None:
    weights = {"KIND_WEIGHTS": [1.0, 0, 0, 0]}
    made = block(range(20), **weights)
    without = renderer(128, **CLEAN | weights | {"MOTION": [0.3, 0.5]})
    with_it = renderer(128, **CLEAN | weights | {"MOTION": [0.3, 0.5], name: 1.0})
    assert any((without.render(made, i) != with_it.render(made, i)).any() for i in range(20))


def test_foreign_plates_and_signs_are_never_swiss_texts() -> None:
    made = block(range(3000), KIND_WEIGHTS=[0, 0.5, 0.5, 0])
    rows = ["".join(spec.rows) for spec in made.specs if isinstance(spec, RowsSpec)]
    assert len(rows) == 3000
    bare = [
        "".join(spec.rows)
        for spec, kind in zip(made.specs, made.kinds, strict=True)
        if isinstance(spec, RowsSpec) and KINDS[kind] == "sign"
    ]
    assert not any(CHARSET.is_valid(text) for text in bare)
    # Some countries' plates read like Swiss ones (a canton's letters, then digits): they are few.
    assert np.mean([CHARSET.is_valid(text.replace(" ", "")) for text in rows]) < 0.01


def test_half_of_the_plates_are_smaller_as_far_as_there_is_room() -> None:
    plates = config().StreetPlateParams.model_copy(update={"GLYPH_VARIANTS": 3})
    draws = [Draws(11, "street", np.arange(400)) for _ in range(2)]
    wide, narrow = (
        draw_streets(each, plates, street(), (0.2, 0.9), True, atlas(), least_size=least)
        for each, least in zip(draws, ((1.0, 1.0), (0.65, 0.88)), strict=True)
    )
    swiss = [
        (before, after)
        for before, after in zip(wide.specs, narrow.specs, strict=True)
        if isinstance(after, PlateSpec)
    ]
    changed = [after for before, after in swiss if after != before]
    assert 0.35 < len(changed) / len(swiss) < 0.55
    # Long numbers leave no room beside them.
    assert 0.15 < np.mean([after.narrow < 1 for _, after in swiss]) < 0.5
    for before, after in swiss:
        assert replace(after, narrow=1.0, low=1.0) == before
        assert 0.65 <= after.narrow <= 1
        assert 0.88 <= after.low <= 1
        if after != before:
            assert not any((after.is_army, after.provisional, after.diplomatic))
        if after.narrow < 1:
            assert after.width >= after.least_width - 0.04 * before.width
    labels = narrow.labels()
    assert labels.loc[labels["plate"] != "", "plate"].map(CHARSET.is_valid).all()
