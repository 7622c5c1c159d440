"""A seeded atlas of grey glyph and arms tiles at the sizes that scenes need, each drawn at its first use.

Drawing vector glyphs for every sample would cost more than all else. So each glyph of a set of variants
(family, width, stroke) is drawn once at the largest size, and a mip pyramid of it is kept (Williams,
1983): a plate is composed at the size just above the one it has in the scene.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config.plates import PlateParams
from ..core.charset import CANTONS
from ..core.random import Draws
from .glyphs import (
    BULGE_RANGE,
    CHARACTERS,
    CORNER_RANGE,
    FAMILIES,
    LARGEST_WARP,
    GlyphStyle,
    alternate_counts,
    draw_glyph,
)
from .plate import DOT, draw_dot
from .shields import draw_shield

_FONT_WEIGHT = (380.0, 640.0)
"""Of the variable typeface that OpenCV embeds: about the strokes of plates, once it is condensed."""
_FONT_SQUEEZE = (0.5, 0.74)
"""How much narrower it is set: plates' characters are narrow."""

CAP_SIZES = (5, 7, 10, 14, 20, 28, 40, 56)
"""Cap heights of the pyramid in pixels."""

_BEND = 0.03
"""Standard deviation, at the largest warp, of how far a point is moved, as a share of the height."""
_BEND_GRID = 4
"""Points along each side that are moved independently; what lies between them follows smoothly."""
_BENT_SHARE = 0.7
"""Share of variants, at the largest warp, whose glyphs are bent and whose arms have other looks."""
_SHIELD_LOOKS = 12
"""How many looks the arms of a canton have where glyphs are warped, the schematic one among them."""
_OTHER_CHARGE = 0.4
"""Share of these that show another canton's charge: arms are no text, and tell the reader nothing."""

Gray = NDArray[np.uint8]


@lru_cache(maxsize=8192)
def _grey_shield(code: str, height: int, look: int) -> tuple[Gray, Gray]:
    """Arms in grey; every process draws each size at most once."""
    grey, alpha = _shield_look(code, look)
    size = (max(round(grey.shape[1] * height / grey.shape[0]), 1), height)
    shrunk = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (grey, alpha))
    first, second = (np.asarray(image, np.uint8) for image in shrunk)
    return first, second


@lru_cache
def _shield_look(code: str, look: int) -> tuple[Gray, Gray]:
    """Arms as the photographs of one light and one painter show them, at the largest size."""
    dice = Draws(look, f"arms-{code}", [0])
    other = CANTONS[int(dice.integers(0, len(CANTONS) - 1)[0])]
    swap = look > 0 and code != "CH" and bool(dice.chance(_OTHER_CHARGE)[0])
    colours, alpha = draw_shield(other if swap else code, _LARGEST)
    grey = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.uint8)
    if look:
        moves = dice.normal(shape=(2, _BEND_GRID, _BEND_GRID))[0]
        contrast, level = float(dice.uniform(0.3, 1.2)[0]), float(dice.uniform(40.0, 190.0)[0])
        grey = bend(grey, _BEND * moves)
        grey = np.clip((grey.astype(np.float32) - 128) * contrast + level, 0, 255).astype(np.uint8)
    return grey, alpha


def bend(tile: Gray, moves: NDArray[np.float64]) -> Gray:
    """Move the points of a tile smoothly, but none across its edges: it keeps its height and width.

    Elastic distortion (Simard, Steinkraus, Platt: Best practices for convolutional neural networks
    applied to visual document analysis, ICDAR 2003).

    Args:
        tile: ``(h, w)`` uint8.
        moves: ``(2, n, n)``, across and down, of a grid of points, in tile heights; narrow tiles are
            moved less across, that no stroke comes apart.
    """
    height, width = tile.shape
    across, down = (
        cv2.resize(move.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC) * most
        for move, most in zip(moves, (min(1.5 * width, height), height), strict=True)
    )
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    free_x = np.sin(np.pi * (columns + 0.5) / width)[None, :]
    free_y = np.sin(np.pi * (rows + 0.5) / height)[:, None]
    bent = cv2.remap(
        tile,
        (columns[None, :] + across * free_x).astype(np.float32),
        (rows[:, None] + down * free_y).astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(bent, np.uint8)


@dataclass(frozen=True)
class AtlasTiles:
    """The tiles of one variant at one size.

    Attributes:
        atlas: The atlas that draws them.
        variant: Number of the variant.
        level: Position of the size in ``CAP_SIZES``.
    """

    atlas: Atlas
    variant: int
    level: int

    @property
    def cap_pixels(self) -> int:
        """Cap height."""
        return CAP_SIZES[self.level]

    @property
    def look(self) -> int:
        """Look of the arms; 0 is the schematic one."""
        return self.atlas.looks[self.variant]

    def glyph(self, char: str) -> Gray:
        return self.atlas.pyramid(self.variant, char)[self.level]

    def shield(self, code: str, height: int) -> tuple[Gray, Gray]:
        return _grey_shield(code, height, self.look)


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
        warp = params.GLYPH_WARP
        waists = draws.uniform(-warp, warp) * LARGEST_WARP
        tapers = draws.uniform(-warp, warp) * LARGEST_WARP
        bulges = warp * draws.within(BULGE_RANGE)
        others = draws.uniform(shape=(len(CHARACTERS),)) < params.ALTERNATE_PROBABILITY
        forms = 1 + np.floor(draws.uniform(shape=(len(CHARACTERS),)) * alternate_counts())
        alternates = np.where(others & (np.array(alternate_counts()) > 0), forms, 0).astype(int)
        self.fonts = draws.chance(params.FONT_PROBABILITY).tolist()
        self._font_weights = draws.within(_FONT_WEIGHT)
        self._squeezes = draws.within(_FONT_SQUEEZE)
        self._moves = (
            draws.normal(shape=(len(CHARACTERS), 2, _BEND_GRID, _BEND_GRID)) * _BEND * warp
        )
        self._bent = draws.uniform() < warp * _BENT_SHARE
        looks = np.where(self._bent, draws.integers(0, _SHIELD_LOOKS - 1), 0)
        self.looks: list[int] = looks.tolist()
        self.styles = [
            GlyphStyle(
                FAMILIES[families[i]],
                float(widths[i]),
                float(strokes[i]),
                float(corners[i]),
                bool(feet[i]),
                tuple(alternates[i].tolist()),
                float(waists[i]),
                float(tapers[i]),
                float(bulges[i]),
            )
            for i in range(params.GLYPH_VARIANTS)
        ]
        self._pyramids: dict[tuple[int, str], tuple[Gray, ...]] = {}

    def __getstate__(self) -> dict[str, object]:
        # Tiles are megabytes: a worker draws those that it needs.
        return {**vars(self), "_pyramids": {}}

    def __len__(self) -> int:
        return len(self.styles)

    def tiles(self, variant: int, cap_pixels: float) -> AtlasTiles:
        """Tiles of the smallest size that is not below ``cap_pixels``, else of the largest."""
        level = min(bisect_left(CAP_SIZES, cap_pixels), len(CAP_SIZES) - 1)
        return AtlasTiles(self, variant, level)

    def pyramid(self, variant: int, char: str) -> tuple[Gray, ...]:
        """The ink of a character of a variant, or the dot, at each of ``CAP_SIZES``."""
        if char == DOT:
            return _DOTS
        if (variant, char) not in self._pyramids:
            tile = self._draw(variant, char)
            levels = (_shrink(tile, cap / _LARGEST) for cap in CAP_SIZES)
            self._pyramids[variant, char] = tuple(levels)
        return self._pyramids[variant, char]

    def _draw(self, variant: int, char: str) -> Gray:
        if self.fonts[variant]:
            weight, squeeze = self._font_weights[variant], self._squeezes[variant]
            tile = draw_font_glyph(char, float(weight), float(squeeze), _LARGEST)
        else:
            tile = draw_glyph(char, self.styles[variant], _LARGEST)
        if self._bent[variant]:
            tile = bend(tile, self._moves[variant][CHARACTERS.index(char)])
        return tile


_LARGEST = 2 * CAP_SIZES[-1]
_DOTS = tuple(draw_dot(cap) for cap in CAP_SIZES)


def draw_font_glyph(char: str, weight: float, squeeze: float, height: int) -> Gray:
    """Ink of a character in the typeface that OpenCV embeds (Rubik).

    Args:
        char: of CHARACTERS. Its zero is slashed, which no plate's is: it is drawn as a narrow O.
        weight: of the stroke, as fonts count it.
        squeeze: factor on the width.
        height: cap height in pixels.
    """
    side = 3 * height
    canvas = np.zeros((side, side), np.uint8)
    letter = "O" if char == "0" else char
    face = cv2.FontFace("sans")
    cv2.putText(canvas, letter, (height // 2, 2 * height), 255, face, 2 * height, round(weight))
    x, y, width, tall = cv2.boundingRect(canvas)
    wide = width * squeeze * (0.85 if char == "0" else 1.0) * height / tall
    return np.asarray(
        cv2.resize(
            canvas[y : y + tall, x : x + width],
            (max(round(wide), 1), height),
            interpolation=cv2.INTER_AREA,
        ),
        np.uint8,
    )


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
