"""Variants of glyphs and arms: bent where they are warped, the same for a seed, and still whole."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.config import load_config
from src.generators.atlas import _BEND_GRID, _SHIELD_VERSIONS, CAP_SIZES, Atlas, bend
from src.generators.glyphs import CHARACTERS
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]
VARIANTS = 12


@cache
def atlas(warp: float, seed: int = 7) -> Atlas:
    params = load_config(PARAMETERS).StreetPlateParams
    changes = {"GLYPH_VARIANTS": VARIANTS, "GLYPH_WARP": warp, "FONT_PROBABILITY": 0.0}
    return Atlas(params.model_copy(update=changes), seed)


def test_nothing_moves_without_moves() -> None:
    tile = np.random.default_rng(1).integers(0, 256, (40, 24)).astype(np.uint8)
    assert np.array_equal(bend(tile, np.zeros((2, _BEND_GRID, _BEND_GRID))), tile)


@pytest.mark.parametrize(("axis", "wanted"), [(0, (-1, 0)), (1, (0, -1))])
def test_points_move_as_they_are_told(axis: int, wanted: tuple[int, int]) -> None:
    """A spot in the middle is moved by the whole of it, in tile heights."""
    tile = np.zeros((81, 81), np.uint8)
    cv2.circle(tile, (40, 40), 4, 255, -1)
    moves = np.zeros((2, _BEND_GRID, _BEND_GRID))
    moves[axis] = 0.1
    rows, columns = np.nonzero(bend(tile, moves) > 127)
    moved = np.array([columns.mean() - 40, rows.mean() - 40])
    assert moved == pytest.approx(8.1 * np.array(wanted), abs=0.6)


def test_edges_stay_where_they_are() -> None:
    """What a glyph touches, its height and width, is that of the plate's law."""
    tile = np.zeros((60, 36), np.uint8)
    tile[:3], tile[-3:], tile[:, :3], tile[:, -3:] = 255, 255, 255, 255
    moves = np.random.default_rng(2).normal(size=(2, _BEND_GRID, _BEND_GRID)) * 0.05
    bent = bend(tile, moves)
    assert not np.array_equal(bent, tile)
    for edge in (bent[0], bent[-1], bent[:, 0], bent[:, -1]):
        assert edge.min() > 200


def test_variants_are_bent_at_full_warp_alone() -> None:
    def shapes(warp: float) -> int:
        # Of one width and stroke each differs; the same character counts once where it is the same.
        return len({atlas(warp).tiles(i, 56).glyph("S").tobytes() for i in range(VARIANTS)})

    assert shapes(1.0) == VARIANTS
    assert {atlas(0.0).tiles(i, 56).version for i in range(VARIANTS)} == {0}
    looks = {atlas(1.0).tiles(i, 56).version for i in range(VARIANTS)}
    assert len(looks) > 3
    assert looks <= set(range(_SHIELD_VERSIONS))


def test_bent_characters_are_still_those_characters() -> None:
    """Each variant of a character is nearer to some other variant of it than to other characters'."""
    side = (20, 28)
    images = {
        char: [
            cv2.resize(atlas(1.0).tiles(i, 56).glyph(char), side).astype(float)
            for i in range(VARIANTS)
        ]
        for char in "0123456789"
    }
    nearest = []
    for char, variants in images.items():
        for i, image in enumerate(variants):
            distances = {
                other: min(
                    np.abs(image - each).mean()
                    for j, each in enumerate(candidates)
                    if (other, j) != (char, i)
                )
                for other, candidates in images.items()
            }
            nearest.append(min(distances, key=distances.__getitem__) == char)
    assert np.mean(nearest) > 0.9


def test_a_seed_is_an_atlas() -> None:
    again = Atlas(
        load_config(PARAMETERS).StreetPlateParams.model_copy(
            update={"GLYPH_VARIANTS": VARIANTS, "GLYPH_WARP": 1.0, "FONT_PROBABILITY": 0.0}
        ),
        7,
    )
    for size in CAP_SIZES:
        for char in CHARACTERS:
            first, second = (each.tiles(3, size).glyph(char) for each in (again, atlas(1.0)))
            assert np.array_equal(first, second)
    other = atlas(1.0, seed=8)
    assert not np.array_equal(other.tiles(3, 56).glyph("S"), again.tiles(3, 56).glyph("S"))


def test_arms_of_another_look_have_the_same_outline() -> None:
    tiles = [atlas(1.0).tiles(i, 56) for i in range(VARIANTS)]
    plain = next(each for each in tiles if each.version == 0)
    others = [each for each in tiles if each.version]
    grey, alpha = plain.shield("ZH", 40)
    for each in others:
        other_grey, other_alpha = each.shield("ZH", 40)
        assert other_alpha.shape[0] == 40
        assert not np.array_equal(other_grey, grey)
    same = [each.shield("CH", 40)[1] for each in others]
    assert all(np.array_equal(shape, plain.shield("CH", 40)[1]) for shape in same)
    assert alpha.max() == 255
