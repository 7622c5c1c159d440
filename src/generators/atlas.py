"""A seeded atlas of grey glyph and arms tiles, made once, at the sizes that scenes need.

Drawing vector glyphs for every sample would cost more than all else. So a set of variants (family,
width, stroke) is drawn once at the largest size, and a mip pyramid of each is kept (Williams, 1983):
a plate is composed at the size just above the one it has in the scene.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from src.config import PlateParams
from src.generators.draws import Draws
from src.generators.glyphs import CHARACTERS, CORNER_RANGE, FAMILIES, GlyphStyle, draw_glyph
from src.generators.plate import DOT, draw_dot
from src.generators.shields import draw_shield

CAP_SIZES = (5, 7, 10, 14, 20, 28, 40, 56)
"""Cap heights of the pyramid in pixels."""

Gray = NDArray[np.uint8]


@lru_cache(maxsize=2048)
def _grey_shield(code: str, height: int) -> tuple[Gray, Gray]:
    """Arms in grey; every process draws each size at most once."""
    colours, alpha = draw_shield(code, height)
    return cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), alpha


@dataclass(frozen=True)
class AtlasTiles:
    """The tiles of one variant at one size."""

    cap_pixels: int
    glyphs: dict[str, Gray]

    def glyph(self, char: str) -> Gray:
        return self.glyphs[char]

    def shield(self, code: str, height: int) -> tuple[Gray, Gray]:
        return _grey_shield(code, height)


class Atlas:
    """Glyph variants at the sizes of ``CAP_SIZES``.

    Args:
        params: families, widths and strokes that occur.
        seed: of the variants.
    """

    def __init__(self, params: PlateParams, seed: int) -> None:
        draws = Draws(seed, "atlas", np.arange(params.GLYPH_VARIANTS))
        families = draws.choice(params.FAMILY_WEIGHTS)
        widths = draws.within(params.GLYPH_WIDTH)
        strokes = draws.within(params.GLYPH_STROKE)
        corners = draws.within(CORNER_RANGE)
        # The law's typeface gives the 1 no foot, most plates have one: both are on the road.
        feet = draws.chance(params.FOOT_PROBABILITY)
        self.styles = [
            GlyphStyle(FAMILIES[family], float(width), float(stroke), float(corner), bool(foot))
            for family, width, stroke, corner, foot in zip(
                families, widths, strokes, corners, feet, strict=True
            )
        ]
        self._tiles = [_pyramid(style) for style in self.styles]

    def __len__(self) -> int:
        return len(self.styles)

    def tiles(self, variant: int, cap_pixels: float) -> AtlasTiles:
        """Tiles of the smallest size that is not below ``cap_pixels``, else of the largest."""
        level = min(bisect_left(CAP_SIZES, cap_pixels), len(CAP_SIZES) - 1)
        return self._tiles[variant][level]


def _pyramid(style: GlyphStyle) -> list[AtlasTiles]:
    largest = 2 * CAP_SIZES[-1]
    sources = {char: draw_glyph(char, style, largest) for char in CHARACTERS}
    levels = []
    for cap in CAP_SIZES:
        scale = cap / largest
        glyphs = {char: _shrink(tile, scale) for char, tile in sources.items()}
        levels.append(AtlasTiles(cap, glyphs | {DOT: draw_dot(cap)}))
    return levels


def _shrink(tile: Gray, scale: float) -> Gray:
    # Padded to a whole number of pixels at the smaller size, so that no stroke is cut or stretched.
    height, width = (int(np.ceil(side * scale)) for side in tile.shape)
    wanted_height, wanted_width = round(height / scale), round(width / scale)
    above, left = (wanted_height - tile.shape[0]) // 2, (wanted_width - tile.shape[1]) // 2
    padded = cv2.copyMakeBorder(
        tile,
        max(above, 0),
        max(wanted_height - tile.shape[0] - above, 0),
        max(left, 0),
        max(wanted_width - tile.shape[1] - left, 0),
        cv2.BORDER_CONSTANT,
        value=0,
    )
    return cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
