"""Tests of the schematic shields: complete, distinct, rightly coloured, antialiased."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from src.generators.shields import SHIELD_ASPECT, SHIELD_CODES, draw_shield

CANTONS = "AG AI AR BE BL BS FR GE GL GR JU LU NE NW OW SG SH SO SZ TG TI UR VD VS ZG ZH"


def named(pixel: np.ndarray) -> str:
    """The nearest of the plain colours, by name."""
    plain = {
        "white": (255, 255, 255),
        "black": (0, 0, 0),
        "red": (170, 20, 10),
        "blue": (60, 100, 190),
        "green": (45, 155, 55),
        "yellow": (250, 210, 0),
    }
    return min(plain, key=lambda name: float(np.abs(pixel - np.array(plain[name])).sum()))


def test_codes_are_the_federation_and_all_cantons() -> None:
    assert sorted(SHIELD_CODES) == sorted(["CH", *CANTONS.split(" ")])


@pytest.mark.parametrize("height", [4, 17.5, 40, 130])
def test_shape_of_image_and_outline(height: float) -> None:
    colour, alpha = draw_shield("ZH", height)
    rows, columns = int(np.ceil(height)), int(np.ceil(round(height * SHIELD_ASPECT, 6)))
    assert colour.shape == (rows, columns, 3)
    assert alpha.shape == (rows, columns)
    assert colour.dtype == alpha.dtype == np.uint8
    # A pointed foot under a full upper edge.
    assert (alpha[0, : int(height * SHIELD_ASPECT)] == 255).all()
    assert alpha[-1, 0] < 20
    assert alpha[-1].astype(int).sum() < alpha[0].astype(int).sum() / 2


def test_outline_is_symmetric() -> None:
    for height in (5, 40, 130):
        alpha = draw_shield("TI", height)[1].astype(int)
        assert np.abs(alpha - alpha[:, ::-1]).max() <= 1


def test_thin_black_rim() -> None:
    for code in SHIELD_CODES:
        colour, alpha = draw_shield(code, 200)
        assert (alpha[:60] == 255).all()
        assert (colour[:3] == 0).all()
        assert (colour[:60, [0, 1, 2, -3, -2, -1]] == 0).all()
        assert (colour[6:60, 6:-6].sum(axis=2) > 0).all()


def test_all_shields_differ_even_when_small() -> None:
    small = {code: draw_shield(code, 20)[0].astype(int) for code in SHIELD_CODES}
    for one, two in itertools.combinations(SHIELD_CODES, 2):
        assert np.abs(small[one] - small[two]).mean() > 3, (one, two)


@pytest.mark.parametrize(
    ("code", "spots"),
    [
        # (x, y) in shares of the height, the colour that must stand there
        ("CH", {(0.40, 0.44): "white", (0.12, 0.15): "red"}),
        ("FR", {(0.40, 0.20): "black", (0.40, 0.75): "white"}),
        ("SO", {(0.40, 0.20): "red", (0.40, 0.75): "white"}),
        ("TI", {(0.20, 0.40): "red", (0.60, 0.40): "blue"}),
        ("LU", {(0.20, 0.40): "blue", (0.60, 0.40): "white"}),
        ("ZG", {(0.40, 0.15): "white", (0.40, 0.50): "blue", (0.40, 0.85): "white"}),
        ("ZH", {(0.60, 0.20): "white", (0.20, 0.60): "blue"}),
        ("NE", {(0.12, 0.40): "green", (0.40, 0.40): "white", (0.66, 0.45): "red"}),
        ("VD", {(0.40, 0.06): "white", (0.40, 0.75): "green"}),
        ("UR", {(0.10, 0.50): "yellow", (0.40, 0.40): "black"}),
        ("SH", {(0.10, 0.10): "yellow"}),
        ("SZ", {(0.40, 0.60): "red", (0.65, 0.16): "white"}),
        ("VS", {(0.06, 0.08): "white", (0.60, 0.08): "red"}),
        ("TG", {(0.40, 0.10): "white", (0.08, 0.40): "green"}),
        ("AG", {(0.20, 0.10): "black", (0.60, 0.10): "blue"}),
        ("SG", {(0.10, 0.40): "green", (0.38, 0.40): "white"}),
        ("BE", {(0.12, 0.50): "red", (0.70, 0.15): "red"}),
        ("BL", {(0.33, 0.55): "red", (0.10, 0.20): "white"}),
        ("BS", {(0.35, 0.55): "black", (0.10, 0.20): "white"}),
    ],
)
def test_fields_and_charges(code: str, spots: dict[tuple[float, float], str]) -> None:
    colour = draw_shield(code, 100)[0]
    for (x, y), name in spots.items():
        assert named(colour[int(y * 100), int(x * 100)].astype(float)) == name, (x, y)


def test_small_shield_is_the_downscaled_large_one() -> None:
    for code in ("BE", "GL", "VS"):
        small, _ = draw_shield(code, 30)
        large, _ = draw_shield(code, 240)
        reduced = large.reshape(30, 8, 24, 8, 3).mean(axis=(1, 3))
        # Layers are blended one over another, so edges that coincide differ a little.
        assert np.abs(small - reduced).mean() < 3


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="code must be one of CH, AG"):
        draw_shield("XX", 40)
    for height in (3, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="height must be"):
            draw_shield("ZH", height)
