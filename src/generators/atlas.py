"""Seeded atlas of greyscale glyph and coat-of-arms tiles at the sizes that scenes need, drawn lazily.

Drawing vector glyphs for every sample would dominate the cost of a scene. Instead, each glyph of a set
of variants (family, width, stroke) is drawn once at the largest size and kept as a mip pyramid
(Williams, 1983). A plate is composed at the pyramid size just above its size in the scene.
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
"""Range of weights for OpenCV's embedded variable font; once condensed, its strokes resemble plates'."""
_FONT_SQUEEZE = (0.5, 0.74)
"""Range of horizontal scale factors for that font, because the characters of plates are narrow."""

CAP_SIZES = (5, 7, 10, 14, 20, 28, 40, 56)
"""Cap heights of the pyramid levels in pixels."""

_BEND = 0.03
"""Standard deviation of point displacements at the largest warp, as a fraction of the tile height."""
_BEND_GRID = 4
"""Number of independently moved points along each side; the displacement in between is interpolated."""
_BENT_SHARE = 0.7
"""Fraction of variants, at the largest warp, that have bent glyphs and non-schematic arms."""
_SHIELD_VERSIONS = 12
"""Number of versions of a canton's arms when glyphs are warped, including the schematic one."""
_OTHER_CHARGE = 0.4
"""Fraction of the other versions that show another canton's charge.

The arms are not part of the text, so the recognizer must not rely on them.
"""

Gray = NDArray[np.uint8]


@lru_cache(maxsize=8192)
def _grey_shield(code: str, height: int, version: int) -> tuple[Gray, Gray]:
    """Return arms in greyscale; each process draws each size at most once while it is cached."""
    grey, alpha = _shield_version(code, version)
    size = (max(round(grey.shape[1] * height / grey.shape[0]), 1), height)
    shrunk = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (grey, alpha))
    first, second = (np.asarray(image, np.uint8) for image in shrunk)
    return first, second


@lru_cache
def _shield_version(code: str, version: int) -> tuple[Gray, Gray]:
    """Return greyscale arms and alpha at the largest size, in the light and painting style of a version."""
    draws_of_arms = Draws(version, f"arms-{code}", [0])
    other = CANTONS[int(draws_of_arms.integers(0, len(CANTONS) - 1)[0])]
    swap = version > 0 and code != "CH" and bool(draws_of_arms.chance(_OTHER_CHARGE)[0])
    colours, alpha = draw_shield(other if swap else code, _LARGEST)
    grey = np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), np.uint8)
    if version:
        moves = draws_of_arms.normal(shape=(2, _BEND_GRID, _BEND_GRID))[0]
        contrast, level = (
            float(draws_of_arms.uniform(0.3, 1.2)[0]),
            float(draws_of_arms.uniform(40.0, 190.0)[0]),
        )
        grey = bend(grey, _BEND * moves)
        grey = np.clip((grey.astype(np.float32) - 128) * contrast + level, 0, 255).astype(np.uint8)
    return grey, alpha


def bend(tile: Gray, moves: NDArray[np.float64]) -> Gray:
    """Distort a tile smoothly without moving points across its edges, which keeps its height and width.

    Elastic distortion (Simard, Steinkraus, Platt: Best practices for convolutional neural networks
    applied to visual document analysis, ICDAR 2003).

    Args:
        tile: Tile to distort, shape ``(h, w)``, uint8.
        moves: Horizontal and vertical displacements of a grid of points, shape ``(2, n, n)``, in tile
            heights. Narrow tiles are displaced less horizontally, so that no stroke breaks.

    Returns:
        Distorted tile, shape ``(h, w)``, uint8.
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
    """Tiles of one variant at one size.

    Attributes:
        atlas: Atlas that draws the tiles.
        variant: Index of the variant.
        level: Index of the size in ``CAP_SIZES``.
    """

    atlas: Atlas
    variant: int
    level: int

    @property
    def cap_pixels(self) -> int:
        """Cap height in pixels."""
        return CAP_SIZES[self.level]

    @property
    def version(self) -> int:
        """Index of the version of the arms; 0 is the schematic one."""
        return self.atlas.versions[self.variant]

    def glyph(self, char: str) -> Gray:
        return self.atlas.pyramid(self.variant, char)[self.level]

    def shield(self, code: str, height: int) -> tuple[Gray, Gray]:
        return _grey_shield(code, height, self.version)


class Atlas:
    """Glyph variants at the sizes of ``CAP_SIZES``.

    Args:
        params: Plate parameters, which give the families, widths and strokes that occur.
        seed: Random seed of the variants.
    """

    def __init__(self, params: PlateParams, seed: int) -> None:
        draws = Draws(seed, "atlas", np.arange(params.GLYPH_VARIANTS))
        families = draws.choice(params.FAMILY_WEIGHTS)
        widths = draws.within(params.GLYPH_WIDTH)
        strokes = draws.within(params.GLYPH_STROKE)
        corners = draws.within(CORNER_RANGE)
        # The typeface in the law gives the 1 no foot, but most plates have one: both occur on the road.
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
        versions = np.where(self._bent, draws.integers(0, _SHIELD_VERSIONS - 1), 0)
        self.versions: list[int] = versions.tolist()
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
        # Tiles take megabytes: each worker draws those that it needs instead of receiving all.
        return {**vars(self), "_pyramids": {}}

    def __len__(self) -> int:
        return len(self.styles)

    def tiles(self, variant: int, cap_pixels: float) -> AtlasTiles:
        """Return the tiles of the smallest size not below ``cap_pixels``, else of the largest."""
        level = min(bisect_left(CAP_SIZES, cap_pixels), len(CAP_SIZES) - 1)
        return AtlasTiles(self, variant, level)

    def pyramid(self, variant: int, char: str) -> tuple[Gray, ...]:
        """Return the ink of a variant's character, or of the dot, at each of ``CAP_SIZES``."""
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
    """Draw the ink of a character in the font that OpenCV embeds (Rubik).

    Args:
        char: One of ``CHARACTERS``. The font's zero is slashed, unlike any plate's, so the zero is drawn
            as a narrow O.
        weight: Stroke weight on the usual font scale.
        squeeze: Scale factor of the width.
        height: Cap height in pixels.

    Returns:
        Ink of the character, shape ``(height, w)``, uint8.
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
    # Pad to a whole number of pixels at the smaller size, so that no stroke is cut or stretched.
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
