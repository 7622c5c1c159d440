"""Schematic coats of arms of Switzerland and its 26 cantons, as vector shapes.

The real arms are protected signs. These are simplified versions that keep the field colours and the
main charge, enough for a plate to look right from a few metres away.

A shield is a table row: the ground colour, followed by layers painted in order. Shapes are written in
the path language of ``src.generators.glyphs`` on a grid 80 wide and 100 high, with y pointing down.
``;`` separates the parts of one shape, and a part that begins with ``w:`` is a line of width ``w``
instead of an area. Charges are drawn around their own centre and positioned by their layer.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import affinity

from .glyphs import Rings, parse_path, polygon_coverage, polygon_rings

GRID = (80.0, 100.0)
# Width over height; images of plates show 0.795.
SHIELD_ASPECT = GRID[0] / GRID[1]
OUTLINE = "0,0 80,0 80,38 ~80,65 40,100 ~0,65 0,38 0,0"
RIM = 1.9

WHITE, BLACK = (252, 252, 250), (16, 16, 16)
RED, BLUE = (166, 23, 12), (58, 104, 188)
GREEN, YELLOW, GOLD = (45, 156, 56), (249, 208, 0), (200, 160, 40)
Colour = tuple[int, int, int]

LEFT, RIGHT = "0,0 40,0 40,100 0,100", "40,0 80,0 80,100 40,100"
UPPER, LOWER = "0,0 80,0 80,50 0,50", "0,50 80,50 80,100 0,100"
BELOW_BEND = "0,0 80,100 0,100"

_SWISS_CROSS = "-10,-32 10,-32 10,-10 32,-10 32,10 10,10 10,32 -10,32 -10,10 -32,10 -32,-10 -10,-10"
_STAR = "0,-50 12,-16 48,-15 19,6 29,40 0,20 -29,40 -19,6 -48,-15 -12,-16"
_BEAR = (
    "-4,-40 2,-46 8,-42 14,-34 16,-20 14,-4 16,8 14,18 22,28 20,38 12,42 8,38 12,32 4,20 0,16 -4,22"
    " -6,30 -12,40 -20,40 -20,35 -14,32 -14,22 -10,8 -6,0 -8,-4 -14,4 -22,6 -24,1 -18,-2 -12,-10"
    " -16,-16 -26,-18 -28,-24 -22,-26 -10,-22 -8,-28 -20,-32 -18,-38 -10,-40"
)
_BEAR_WALKING = (
    "-44,-6 -38,-16 -28,-18 -14,-16 10,-18 30,-16 40,-8 42,6 44,22 34,22 32,10 22,6 20,22 10,22"
    " 10,6 -10,6 -16,22 -26,22 -22,6 -28,4 -34,18 -42,16 -36,2 -38,-2 -46,0"
)
_LION = (
    "-40,-8 -34,-18 -22,-20 -14,-10 14,-8 26,-12 34,-26 30,-34 38,-36 44,-26 34,-8 38,4 34,22 24,22"
    " 26,8 10,4 -6,6 -6,22 -16,22 -16,8 -24,6 -36,16 -42,12 -30,0 -34,-2"
)
_RAM = (
    "-34,-34 -24,-44 -10,-42 -4,-32 -10,-26 2,-20 16,-4 24,0 34,-12 40,-8 32,8 36,22 44,32 36,38"
    " 24,24 14,16 6,24 -6,44 -16,42 -8,26 -10,8 -22,0 -38,10 -42,4 -30,-8 -42,-14 -40,-20 -22,-16"
    " -20,-24 -28,-28"
)
_BULL = (
    "-40,-44 -34,-44 -30,-28 -18,-24 18,-24 30,-28 34,-44 40,-44 40,-26 32,-14 38,-10 34,0 22,0"
    " 18,14 14,34 ~12,44 0,44 ~-12,44 -14,34 -18,14 -22,0 -34,0 -38,-10 -32,-14 -40,-26"
)
_BULL_FACE = "-10,26 10,26 8,38 -8,38;3:0,40 ~0,52 9,52 ~9,40 4,38"
_HALF_EAGLE = (
    "20,-34 8,-44 -2,-40 -8,-30 0,-28 4,-20 -6,-14 -24,-32 -24,-16 -32,-18 -26,-6 -32,-2 -24,6"
    " -28,14 -16,14 -8,8 4,12 -4,24 -14,26 -6,32 -8,40 4,34 20,48"
)
_KEY = (
    "7:0,-44 0,22;6:0,22 ~14,22 14,34 ~14,46 0,46 ~-14,46 -14,34 ~-14,22 0,22"
    ";0,-44 22,-44 22,-37 14,-37 14,-29 22,-29 22,-22 0,-22"
)
_CROZIER = (
    "7:0,0 0,-22 ~0,-42 16,-42 ~30,-42 30,-30 ~30,-19 20,-19 ~12,-19 12,-27;-7,-4 7,-4 8,16 18,40"
    " 8,34 0,48 -8,34 -18,40 -8,16;-12,-12 12,-12 12,-5 -12,-5"
)
_FIGURE = (
    "-4,-30 ~-4,-40 4,-40 ~12,-40 12,-30 10,-22 20,-14 22,6 18,42 -6,42 -2,6 -4,-4 -18,-6 -18,-12"
    " -4,-16 0,-22"
)
_STAFF = "5:-20,-44 -20,44"
_HALO = "4:4,-45 ~14,-45 14,-34 ~14,-24 4,-24 ~-6,-24 -6,-34 ~-6,-45 4,-45"
_FASCES = "-12,-30 12,-30 10,34 -10,34;12,-34 30,-40 ~36,-26 30,-12 12,-18;5:0,-46 0,46"
_BINDINGS = "3.5:-13,-14 13,-14;3.5:-12,2 12,2;3.5:-12,18 12,18"
_WAVES = (
    "5:2,30 ~8,20 14,30 ~20,40 26,30 ~33,20 40,30;5:2,45 ~8,35 14,45 ~20,55 26,45 ~33,35 40,45"
    ";5:2,60 ~8,50 14,60 ~20,70 26,60 ~33,50 40,60"
)
_IBEX = (
    "-34,-10 -30,-20 -18,-12 14,-10 26,-4 30,8 38,30 30,34 22,14 12,12 8,34 -2,34 0,10 -14,8"
    " -20,30 -30,30 -24,4;6:-26,-16 ~-20,-46 8,-34"
)
_LETTER_LINES = "5:17,12 63,12;5:33,23 47,23;5:21,34 59,34"


class Layer(NamedTuple):
    """Painted shape, rotated by ``turn`` degrees, then scaled, then moved to ``(x, y)``.

    A negative scale also mirrors the shape horizontally.
    """

    colour: Colour
    shape: str
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0
    turn: float = 0.0


def _stars(colour: Colour, places: str, scale: float) -> tuple[Layer, ...]:
    spots = (place.split(",") for place in places.split())
    return tuple(Layer(colour, _STAR, float(x), float(y), scale) for x, y in spots)


_SHIELDS: dict[str, tuple[Colour, tuple[Layer, ...]]] = {
    "CH": (RED, (Layer(WHITE, _SWISS_CROSS, 40, 44, 0.78),)),
    "AG": (
        BLACK,
        (Layer(BLUE, RIGHT), Layer(WHITE, _WAVES), *_stars(WHITE, "51,26 69,26 58,52", 0.15)),
    ),
    "AI": (WHITE, (Layer(BLACK, _BEAR, 42, 46, 0.82),)),
    "AR": (
        WHITE,
        (
            Layer(BLACK, _BEAR, 42, 46, 0.82),
            Layer(BLACK, "4:8,38 13,56 18,38"),
            Layer(BLACK, "4:63,57 63,40 ~73,40 73,45 ~73,49 64,49 73,57"),
        ),
    ),
    "BE": (
        RED,
        (
            Layer(YELLOW, "-10,8 12,-14 92,72 70,94"),
            Layer(BLACK, _BEAR_WALKING, 38, 38, 0.62, 47),
        ),
    ),
    "BL": (WHITE, (Layer(RED, _CROZIER, 34, 48, 0.85),)),
    "BS": (WHITE, (Layer(BLACK, _CROZIER, 36, 46, 0.95),)),
    "FR": (BLACK, (Layer(WHITE, LOWER),)),
    "GE": (
        YELLOW,
        (
            Layer(RED, RIGHT),
            Layer(BLACK, _HALF_EAGLE, 24, 44, 0.8),
            Layer(GOLD, _KEY, 55, 42, 0.64),
        ),
    ),
    "GL": (
        RED,
        (
            Layer(GOLD, _STAFF, 40, 46, 0.9),
            Layer(BLACK, _FIGURE, 40, 46, 0.92),
            Layer(WHITE, "0,-36 8,-36 8,-27 0,-27", 40, 46, 0.92),
            Layer(GOLD, _HALO, 40, 46, 0.92),
        ),
    ),
    "GR": (
        WHITE,
        (
            Layer(BLACK, "0,0 20,0 20,50 0,50"),
            Layer(YELLOW, "40,0 80,0 80,50 40,50"),
            Layer(BLUE, "40,0 60,0 60,25 40,25"),
            Layer(BLUE, "60,25 80,25 80,50 60,50"),
            Layer(BLACK, "1.5:0,50 80,50"),
            Layer(BLACK, _IBEX, 40, 70, 0.5),
        ),
    ),
    "JU": (
        WHITE,
        (
            Layer(RED, _CROZIER, 22, 44, -0.62),
            *(Layer(RED, "40,0 80,0 80,12 40,12", 0, 25.0 * step) for step in range(4)),
            Layer(RED, "1:40,0 40,100"),
        ),
    ),
    "LU": (WHITE, (Layer(BLUE, LEFT),)),
    "NE": (
        WHITE,
        (
            Layer(GREEN, "0,0 27,0 27,100 0,100"),
            Layer(RED, "53,0 80,0 80,100 53,100"),
            Layer(WHITE, _SWISS_CROSS, 66, 17, 0.24),
        ),
    ),
    "NW": (
        RED,
        (
            Layer(WHITE, RIGHT),
            Layer(WHITE, "30,9 38,9 38,30 30,30;24,9 30,9 30,15 24,15;24,22 30,22 30,30 24,30"),
            Layer(RED, "42,9 50,9 50,30 42,30;50,9 56,9 56,15 50,15;50,22 56,22 56,30 50,30"),
            Layer(WHITE, "37,9 40,9 40,66 37,66"),
            Layer(RED, "40,9 43,9 43,66 40,66"),
            Layer(WHITE, "5:40,66 ~26,66 26,76 ~26,86 40,86"),
            Layer(RED, "5:40,66 ~54,66 54,76 ~54,86 40,86"),
        ),
    ),
    "OW": (
        WHITE,
        (
            Layer(RED, UPPER),
            Layer(WHITE, "28,19 44,19 44,50 36,50 36,46 28,46 28,38 34,38 34,27 28,27"),
            Layer(RED, "8:40,50 40,60"),
            Layer(RED, "6:40,56 ~53,56 53,68 ~53,80 40,80 ~27,80 27,68 ~27,56 40,56"),
        ),
    ),
    "SG": (GREEN, (Layer(WHITE, _FASCES, 38, 47, 0.86), Layer(GREEN, _BINDINGS, 38, 47, 0.86))),
    "SH": (YELLOW, (Layer(BLACK, _RAM, 40, 44, 0.72),)),
    "SO": (RED, (Layer(WHITE, LOWER),)),
    "SZ": (RED, (Layer(WHITE, _SWISS_CROSS, 65, 16, 0.27),)),
    "TG": (
        WHITE,
        (
            Layer(GREEN, BELOW_BEND),
            Layer(GOLD, _LION, 54, 28, 0.55, 45),
            Layer(GOLD, _LION, 24, 58, 0.5, 45),
        ),
    ),
    "TI": (BLUE, (Layer(RED, LEFT),)),
    "UR": (
        YELLOW,
        (
            Layer(BLACK, _BULL, 40, 46, 0.82),
            Layer(RED, _BULL_FACE, 40, 46, 0.82),
        ),
    ),
    "VD": (WHITE, (Layer(GREEN, LOWER), Layer(GOLD, _LETTER_LINES))),
    "VS": (
        WHITE,
        (
            Layer(RED, RIGHT),
            *_stars(RED, "13,13 13,33 13,53 27,23 27,43 27,63", 0.13),
            *_stars(WHITE, "67,13 67,33 67,53 53,23 53,43 53,63", 0.13),
        ),
    ),
    "ZG": (WHITE, (Layer(BLUE, "0,33 80,33 80,66 0,66"),)),
    "ZH": (WHITE, (Layer(BLUE, BELOW_BEND),)),
}
SHIELD_CODES: tuple[str, ...] = tuple(_SHIELDS)


def draw_shield(code: str, height: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw the shield of ``code`` with its thin black outline.

    Args:
        code: One of ``SHIELD_CODES``: ``CH`` or a canton's two letters.
        height: Height in pixels, at least 4; need not be an integer. The shield begins at the upper left
            corner without padding.

    Returns:
        RGB image of shape ``(H, W, 3)`` and alpha of shape ``(H, W)``, both uint8, with
        ``H = ceil(height)`` and ``W = ceil(height * SHIELD_ASPECT)``. RGB is not premultiplied and is
        black outside the shield.

    Raises:
        ValueError: ``code`` is unknown, or ``height`` is below 4 or not finite.
    """
    if code not in _SHIELDS:
        raise ValueError(f"code must be one of {', '.join(SHIELD_CODES)}, not {code!r}")
    if not (math.isfinite(height) and height >= 4):
        raise ValueError(f"height must be a finite number of pixels, at least 4, not {height}")
    # The tolerance prevents rounding noise from adding an empty column.
    shape = (math.ceil(height), math.ceil(height * SHIELD_ASPECT - 1e-6))
    scale = height / GRID[1]
    colour = np.empty((*shape, 3))
    colour[:] = _SHIELDS[code][0]
    for paint, rings in _layer_rings(code):
        cover = polygon_coverage(shape, rings, scale)[..., None]
        colour += (np.asarray(paint) - colour) * cover
    whole, inner = _outline_rings()
    # Painting everything except the inside black draws the rim without leaving a bright fringe.
    colour *= polygon_coverage(shape, inner, scale)[..., None]
    alpha = polygon_coverage(shape, whole, scale)
    return np.rint(colour).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8)


@lru_cache(maxsize=1)
def _outline_rings() -> tuple[Rings, Rings]:
    whole = shapely.Polygon(parse_path(OUTLINE))
    return polygon_rings(whole), polygon_rings(whole.buffer(-RIM, join_style="mitre"))


@lru_cache(maxsize=len(_SHIELDS))
def _layer_rings(code: str) -> tuple[tuple[Colour, Rings], ...]:
    return tuple((layer.colour, polygon_rings(_place(layer))) for layer in _SHIELDS[code][1])


def _place(layer: Layer) -> shapely.Geometry:
    parts = []
    for part in layer.shape.split(";"):
        width, _, path = part.rpartition(":")
        points = parse_path(path)
        parts.append(
            shapely.LineString(points).buffer(float(width) / 2, cap_style="flat")
            if width
            else shapely.Polygon(points)
        )
    area = affinity.rotate(shapely.union_all(parts), layer.turn, origin=(0, 0))
    area = affinity.scale(area, layer.scale, abs(layer.scale), origin=(0, 0))
    return affinity.translate(area, layer.x, layer.y)
