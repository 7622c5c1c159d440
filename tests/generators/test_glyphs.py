"""Tests of the parametric glyphs: shape, differences, antialiasing and checked input."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from src.generators.glyphs import (
    CHARACTERS,
    CORNER_RANGE,
    FAMILIES,
    STROKE_RANGE,
    WIDTH_RANGE,
    GlyphStyle,
    draw_glyph,
    glyph_polygons,
    glyph_width,
    parse_path,
    polygon_coverage,
)

HOLES = {"A": 1, "B": 2, "D": 1, "O": 1, "P": 1, "Q": 1, "R": 1, "0": 1, "6": 1, "8": 2, "9": 1}


def expected_holes(family: str, char: str) -> int:
    # Only this family closes its 4, as a printed one is; the others leave it open on top.
    return 1 if (family, char) == ("grotesk", "4") else HOLES.get(char, 0)


def squeezed(family: str, char: str) -> NDArray[np.bool_]:
    """Ink of a glyph stretched to 48 x 32, so that only the shape counts."""
    mask = draw_glyph(char, GlyphStyle(family), 96)[1:-1, 1:-1]
    return cv2.resize(mask, (32, 48), interpolation=cv2.INTER_AREA) > 127


def signed_area(ring: NDArray[np.float64]) -> float:
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - following[:, 0] * ring[:, 1]).sum() / 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_ink_fills_cap_height_and_width(family: str) -> None:
    for char in CHARACTERS:
        mask = draw_glyph(char, GlyphStyle(family), 60)
        assert mask.dtype == np.uint8
        assert mask.shape[0] == 62
        assert not mask[[0, -1]].any(), char
        assert not mask[:, [0, -1]].any(), char
        for edge in (mask[1], mask[-2], mask[:, 1], mask[:, -2]):
            assert edge.any(), char


@pytest.mark.parametrize("family", FAMILIES)
def test_one_piece_with_the_right_holes(family: str) -> None:
    for char in CHARACTERS:
        ink = (draw_glyph(char, GlyphStyle(family), 120) > 127).astype(np.uint8)
        pieces = cv2.connectedComponents(ink, connectivity=4)[0] - 1
        holes = cv2.connectedComponents(1 - ink, connectivity=4)[0] - 2
        assert (char, pieces, holes) == (char, 1, expected_holes(family, char))


@pytest.mark.parametrize("family", FAMILIES)
def test_polygons_agree_with_the_mask(family: str) -> None:
    for char in CHARACTERS:
        style = GlyphStyle(family)
        rings = glyph_polygons(char, style)
        points = np.concatenate(rings)
        np.testing.assert_allclose(points.min(axis=0), 0.0, atol=1e-9)
        np.testing.assert_allclose(points.max(axis=0), (glyph_width(char, style), 1.0), atol=1e-9)
        assert len(rings) == 1 + expected_holes(family, char)
        area = abs(sum(signed_area(ring) for ring in rings))
        inked = draw_glyph(char, style, 100).sum() / 255 / 100**2
        assert inked == pytest.approx(area, abs=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_allowed_style_keeps_pieces_and_holes(family: str) -> None:
    for width, stroke, corner in itertools.product(WIDTH_RANGE, STROKE_RANGE, CORNER_RANGE):
        style = GlyphStyle(family, width, stroke, corner)
        for char in CHARACTERS:
            outer = max(glyph_polygons(char, style), key=lambda ring: abs(signed_area(ring)))
            turns = [signed_area(ring) * signed_area(outer) for ring in glyph_polygons(char, style)]
            assert sum(turn > 0 for turn in turns) == 1, (char, style)
            assert sum(turn < 0 for turn in turns) == expected_holes(family, char), (char, style)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_two_characters_look_the_same(family: str) -> None:
    shapes = {char: squeezed(family, char) for char in CHARACTERS}
    for one, two in itertools.combinations(CHARACTERS, 2):
        overlap = (shapes[one] & shapes[two]).sum() / (shapes[one] | shapes[two]).sum()
        assert overlap < 0.93, (one, two)


def test_families_are_different_hands() -> None:
    for one, two in itertools.combinations(FAMILIES, 2):
        overlaps = []
        for char in CHARACTERS.replace("I", ""):
            first, second = squeezed(one, char), squeezed(two, char)
            overlaps.append((first & second).sum() / (first | second).sum())
        assert np.mean(overlaps) < 0.91


def test_small_mask_is_the_downscaled_large_one() -> None:
    for char in "AGRW0478":
        small = draw_glyph(char, GlyphStyle(), 20).astype(float)
        large = draw_glyph(char, GlyphStyle(), 160)[1:-1, 1:-1]
        padded = np.pad(large, ((0, 0), (0, -large.shape[1] % 8)))
        reduced = padded.reshape(20, 8, -1, 8).mean(axis=(1, 3))
        assert np.abs(small[1:-1, 1 : 1 + reduced.shape[1]] - reduced).max() < 2


def test_heights_from_tiny_to_large_and_broken() -> None:
    for height in (4, 7.3, 33.5, 400):
        mask = draw_glyph("B", GlyphStyle(), height)
        assert mask.shape[0] == int(np.ceil(height)) + 2
        share = mask.sum() / 255 / height**2
        assert share == pytest.approx(draw_glyph("B", GlyphStyle(), 100).sum() / 255e4, rel=0.01)


@pytest.mark.parametrize("family", FAMILIES)
def test_stroke_adds_ink_but_no_height(family: str) -> None:
    for char in CHARACTERS:
        masks = [draw_glyph(char, GlyphStyle(family, stroke=s), 60) for s in (0.1, 0.13, 0.16)]
        amounts = [int(mask.sum()) for mask in masks]
        assert amounts == sorted(set(amounts))
        assert {mask.shape[0] for mask in masks} == {62}


def test_width_stretches_the_skeleton_and_not_the_stroke() -> None:
    wide = GlyphStyle(width=1.2)
    assert glyph_width("I", wide) == pytest.approx(glyph_width("I", GlyphStyle()))
    core = glyph_width("H", GlyphStyle()) - GlyphStyle().stroke
    assert glyph_width("H", wide) == pytest.approx(1.2 * core + wide.stroke)


def test_corner_takes_ink_and_foot_stands_under_the_one() -> None:
    sharp, soft = GlyphStyle(corner=0.0), GlyphStyle(corner=0.03)
    assert draw_glyph("E", soft, 80).sum() < draw_glyph("E", sharp, 80).sum()
    for family in ("din", "narrow"):
        with_foot = draw_glyph("1", GlyphStyle(family), 80)[-4]
        without = draw_glyph("1", GlyphStyle(family, foot=False), 80)[-4]
        assert (with_foot > 0).sum() > 1.5 * (without > 0).sum()


def test_coverage_is_exact_and_cut_at_the_canvas() -> None:
    square = np.array([[0.25, 0.5], [2.5, 0.5], [2.5, 1.75], [0.25, 1.75]])
    cover = polygon_coverage((3, 3), [square])
    expected = np.outer([0.5, 0.75, 0.0], [0.75, 1.0, 0.5])
    np.testing.assert_allclose(cover, expected, atol=1e-12)
    outside = polygon_coverage((2, 2), [square * 10 - 12])
    np.testing.assert_allclose(outside, 1.0)
    triangle = np.array([[0.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    np.testing.assert_allclose(polygon_coverage((2, 2), [triangle]), [[0.5, 0.0], [1.0, 0.5]])


@pytest.mark.parametrize("char", ["a", "Ä", "", "AB", "·", " "])
def test_unknown_character_is_refused(char: str) -> None:
    with pytest.raises(ValueError, match="char must be one of"):
        glyph_polygons(char, GlyphStyle())


def test_bad_style_is_refused() -> None:
    with pytest.raises(ValueError, match="family must be one of din, narrow, grotesk"):
        GlyphStyle(family="serif")
    with pytest.raises(ValueError, match="stroke must be within"):
        GlyphStyle(stroke=0.3)
    with pytest.raises(ValueError, match="width must be within"):
        GlyphStyle(width=float("nan"))
    with pytest.raises(ValueError, match="corner must be within"):
        GlyphStyle(corner=-0.01)


@pytest.mark.parametrize("height", [0, -5, 0.5, float("nan"), float("inf")])
def test_bad_height_is_refused(height: float) -> None:
    with pytest.raises(ValueError, match="height must be"):
        draw_glyph("A", GlyphStyle(), height)


@pytest.mark.parametrize("path", ["~0,0 1,1", "0,0 ~1,1", "0,0 ~1,0 ~1,1 0,1"])
def test_corner_without_neighbours_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="corner must stand between"):
        parse_path(path)
