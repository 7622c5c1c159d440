"""Textures, and warps to the nearest pixel in steps."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.config import load_config
from src.generators.atlas import Atlas
from src.generators.painting import apply, paste, plate_texture, warp_in_steps
from src.generators.plate import FRAME_BOTTOM, FRAME_SIDE, PlateSpec
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]


@cache
def atlas() -> Atlas:
    params = load_config(PARAMETERS).PlateParams.model_copy(update={"GLYPH_VARIANTS": 2})
    return Atlas(params, 7)


def test_a_frame_and_an_edge_move_the_origin() -> None:
    tiles = atlas().tiles(0, 40)
    plain, at = plate_texture(PlateSpec("ZH123"), tiles)
    assert at == (0.0, 0.0)
    framed, at = plate_texture(PlateSpec("ZH123", frame=True), tiles)
    scale = 40 / PlateSpec("ZH123").cap_height
    assert at == pytest.approx((-FRAME_SIDE, -FRAME_SIDE), abs=1 / scale)
    assert framed.shape[1] - plain.shape[1] == 2 * round(FRAME_SIDE * scale)
    assert framed.shape[0] - plain.shape[0] == round(FRAME_SIDE * scale) + round(
        FRAME_BOTTOM * scale
    )
    assert framed[2, 2] < 60
    edged, at = plate_texture(PlateSpec("ZH123", edge=2.1), tiles)
    assert at[0] < 0
    assert edged[0].max() < 30
    assert edged.shape[0] == plain.shape[0] + 2 * round(2.1 * scale)


def test_embossing_lights_one_side_of_the_strokes() -> None:
    tiles = atlas().tiles(0, 56)
    flat, _ = plate_texture(PlateSpec("ZH123"), tiles, 0.8)
    embossed, _ = plate_texture(PlateSpec("ZH123"), tiles, 0.8, emboss=1.0)
    difference = embossed.astype(int) - flat
    assert difference.max() > 20
    assert difference.min() < -20
    assert (difference == 0).mean() > 0.5


def test_the_dealers_name_is_written_in_the_frame_alone() -> None:
    tiles, names = atlas().tiles(0, 56), atlas().tiles(0, 10)
    spec = PlateSpec("ZH123", frame=True)
    one, _ = plate_texture(spec, tiles, name="GARAGE", names=names)
    other, _ = plate_texture(spec, tiles, name="AUTO", names=names)
    rows = np.flatnonzero((one != other).any(axis=1))
    bottom = round(FRAME_BOTTOM * 56 / spec.cap_height)
    assert len(rows)
    assert rows.min() >= one.shape[0] - bottom


def test_a_paste_beyond_the_image_changes_nothing() -> None:
    image = np.full((20, 20), 7, np.uint8)
    texture = np.full((5, 5), 200, np.uint8)
    away = np.array([[40, 40], [45, 40], [45, 45], [40, 45]], np.float32)
    paste(image, texture, (1, 0, 40, 0, 1, 40, 0, 0, 1), away)
    assert (image == 7).all()
    paste(image, texture, (1, 0, 4, 0, 1, 4, 0, 0, 1), away - 36, aliased=True)
    assert (image[5:8, 5:8] == 200).all()


def test_warps_in_steps_lead_to_the_same_place_and_tear() -> None:
    texture = np.zeros((40, 160), np.uint8)
    texture[8:32, 20:140:8] = 255
    turn = cv2.getRotationMatrix2D((80, 20), 12, 1.0)
    size, shear = np.diag([0.6, 0.5, 1.0]), np.eye(3)
    shear[0, 1] = 0.4
    steps = [np.vstack([turn, [0, 0, 1]]), size, shear]
    whole = steps[2] @ steps[1] @ steps[0]
    torn, last = warp_in_steps(texture, steps)
    once, matrix = warp_in_steps(texture, [whole])
    assert once is texture
    assert np.allclose(matrix, whole)
    shift = np.array([[1, 0, 30], [0, 1, 30], [0, 0, 1.0]])
    first, second = (
        cv2.warpPerspective(t, shift @ m, (160, 90), flags=cv2.INTER_NEAREST)
        for t, m in ((torn, last), (once, matrix))
    )
    # The same image but for single pixels along edges.
    centres = [np.argwhere(p > 0).mean(axis=0) for p in (first, second)]
    assert np.abs(centres[0] - centres[1]).max() < 0.8
    assert 0 < (first != second).mean() < 0.1


def test_apply_divides_by_the_last_coordinate() -> None:
    matrix = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 2.0]]])
    assert apply(matrix, np.array([[[4.0, 6.0]]])).tolist() == [[[2.0, 3.0]]]
