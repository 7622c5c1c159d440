"""Plates of other countries and signs: rows of characters on a rectangle, drawn like a Swiss plate.

A localizer finds any plate, a reader must know which are Swiss; neither may take a sign for one. The
patterns are those that plates of the world commonly have; no sign's text is a plate's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.random import SampleDraws
from .plate import COLOURS, DOT, FRAME_BOTTOM, FRAME_SIDE, PlateInk, Tiles, rounded_outline

Gray = NDArray[np.uint8]

# A is a letter, 0 a digit, ~ what separates parts (a gap, a bar, a seal, a dot), | the same without the
# dot, which makes a Swiss plate of two letters and a number; / starts a second row. Most of Europe, some
# of the rest.
_PATTERNS = (
    "A~AA 000", "AA~AA 0000", "AAA~A 00", "AA-000-AA", "AA~000~AA", "AA00 AAA", "00~AA~00",
    "00~AAA~0", "0000 AAA", "AA 00 000", "AAA~0000", "0AAA000", "A 000 AA", "A 00000 A",
    "0-AAA-000", "00 AA 000", "000 AAA", "A000AA", "AAA 00A", "AA 00 AA 0000", "0000", "AA/00000",
    "AA 00/AA 0000", "AAA/0000", "00-00/AAA",
)  # fmt: skip
# Letters and then digits, as a Swiss plate has: those that a reader confuses.
_SIMILAR = (
    "AAA~000", "AAA000", "AA|0000", "AA|00000", "AA 00 000", "AA|000", "A~0000", "A~00000",
    "A~000000", "AAAA 00", "0~00000", "00~0000", "000~000", "AA|0000 A", "AA|000 AA", "AAA/000",
)  # fmt: skip
_SIMILAR_SHARE = 0.45
_SEPARATORS = " -o."
# Of one row signs have letters alone, a price or a time: never letters and then digits.
_SIGNS = (
    "AAAA", "AAAAAA", "AAAAAAAA", "AAAAAAAAAAA", "AAAA AAAAAA", "0-00", "00.00", "00-00-00",
    "AAAA/AAAAAA", "AAAAAA/AA AAAA/00-00", "AAAAAAA/AAAA/AAAAAA AA", "000000000", "00 00 00 00",
    "A", "AAAA/AAAAAA AAA/AAAAAAAA/AAAA", "00", "AAA AAA AAA/AAAAAAAAA",
)  # fmt: skip
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PITCH, _SPACE = 0.1, 0.32
"""Free space between characters and of a blank, in cap heights."""


@dataclass(frozen=True)
class RowsSpec:
    """A rectangle with rows of characters.

    Attributes:
        rows: texts; ``-`` is a bar, ``.`` a dot, ``o`` a round seal, a blank a gap.
        width, height: of the rectangle in millimetres.
        colour_index: into COLOURS.
        spacing: factor on the free space between characters.
        band: width of a dark band on the left, as a share of the width (a Euro band); 0 without.
        rim: whether there is a rim line.
        frame: whether a dealer's frame surrounds it.
        screws: whether two screws show.
    """

    rows: tuple[str, ...]
    width: float
    height: float
    colour_index: int
    spacing: float
    band: float
    rim: bool
    frame: bool
    screws: bool

    @property
    def cap_height(self) -> float:
        """Of all characters, in millimetres."""
        rows = len(self.rows)
        return self.height * (0.66 if rows == 1 else 0.74 / rows)

    @property
    def edge(self) -> float:
        """Width of a black line around it, which it does not have."""
        return 0.0

    @property
    def lines(self) -> int:
        """1 or 2, as a reader cuts it; signs of more rows are cut like two."""
        return min(len(self.rows), 2)

    @property
    def outline(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 of what is drawn, in millimetres: its frame, if it has one."""
        if not self.frame:
            return (0.0, 0.0, self.width, self.height)
        return (-FRAME_SIDE, -FRAME_SIDE, self.width + FRAME_SIDE, self.height + FRAME_BOTTOM)

    def compose(self, cap_pixels: float, tiles: Tiles) -> PlateInk:
        """Lay the rows out at ``cap_pixels`` pixels a cap height."""
        scale = cap_pixels / self.cap_height
        width, height = max(round(self.width * scale), 8), max(round(self.height * scale), 8)
        ink = np.zeros((height, width), np.uint8)
        if self.rim:
            points = rounded_outline(
                *(0.04 * height, 0.04 * height, width - 0.04 * height, 0.96 * height), 0.08 * height
            )
            thickness = max(round(0.03 * height), 1)
            cv2.polylines(ink, [points.astype(np.int32)], True, 255, thickness, cv2.LINE_AA)
        left = round(self.band * width)
        ink[:, :left] = 190
        for number, row in enumerate(self.rows):
            middle = height * (number + 0.5) / len(self.rows)
            self._write(ink, row, left, middle, cap_pixels, tiles)
        return PlateInk(ink)

    def _write(
        self, ink: Gray, row: str, left: int, middle: float, cap: float, tiles: Tiles
    ) -> None:
        parts = [_part(char, round(cap), tiles) for char in row]
        free = ink.shape[1] - left
        gap = _PITCH * self.spacing * cap
        length = sum(part.shape[1] for part in parts) + gap * (len(parts) - 1)
        # A row that is too long gets narrower: squeezed, as real ones are.
        squeeze = min(1.0, 0.92 * free / length)
        x = left + (free - length * squeeze) / 2
        for whole in parts:
            wide = max(round(whole.shape[1] * squeeze), 1)
            part = cv2.resize(whole, (wide, whole.shape[0]), interpolation=cv2.INTER_AREA)
            top = max(round(middle - part.shape[0] / 2), 0)
            place = ink[top : top + part.shape[0], max(round(x), 0) :][:, : part.shape[1]]
            cv2.max(place, np.ascontiguousarray(part[: place.shape[0], : place.shape[1]]), place)
            x += part.shape[1] + gap * squeeze


def _part(char: str, cap: int, tiles: Tiles) -> Gray:
    if char == " ":
        return np.zeros((cap, max(round(_SPACE * cap), 1)), np.uint8)
    if char == "-":
        return _bar(cap)
    if char == "o":
        return _seal(cap)
    return tiles.glyph(DOT if char == "." else char)


@lru_cache(maxsize=64)
def _bar(cap: int) -> Gray:
    bar = np.zeros((cap, max(round(0.3 * cap), 1)), np.uint8)
    bar[round(0.45 * cap) : max(round(0.58 * cap), round(0.45 * cap) + 1)] = 255
    return bar


@lru_cache(maxsize=64)
def _seal(cap: int) -> Gray:
    """A coloured disc with a darker emblem, as high as half a character."""
    side = max(round(0.5 * cap), 2)
    seal = np.zeros((cap, side), np.uint8)
    centre, radius = (side / 2, cap / 2), side / 2
    for share, grey in ((0.95, 120), (0.55, 210), (0.25, 90)):
        middle = tuple(round(16 * value) for value in centre)
        cv2.circle(seal, middle, round(16 * share * radius), grey, -1, cv2.LINE_AA, 4)
    return seal


def _fill(pattern: str, numbers: SampleDraws) -> tuple[str, ...]:
    choices = {"A": _LETTERS, "0": "0123456789", "~": _SEPARATORS, "|": _SEPARATORS[:-1]}
    filled = [
        choices[mark][int(numbers.uniform() * len(choices[mark]))] if mark in choices else mark
        for mark in pattern
    ]
    return tuple("".join(filled).split("/"))


NUMBERS = 60
"""Random numbers that a plate or a sign takes at most."""


def draw_foreign(numbers: SampleDraws) -> RowsSpec:
    """A plate of another country, made of random numbers."""
    patterns = _SIMILAR if numbers.uniform() < _SIMILAR_SHARE else _PATTERNS
    rows = _fill(patterns[int(numbers.uniform() * len(patterns))], numbers)
    if len(rows) == 2:
        width, height = numbers.uniform(180, 320), numbers.uniform(140, 210)
    elif numbers.uniform() < 0.75:
        width, height = numbers.uniform(430, 530), numbers.uniform(100, 118)
    else:
        width, height = 305.0, numbers.uniform(90, 155)
    # White, white, white, yellow, black, blue or red ground.
    colour = (0, 0, 0, 0, 0, 4, 4, 5, 1, 6)[int(numbers.uniform() * 10)]
    return RowsSpec(
        rows,
        width,
        height,
        colour,
        numbers.uniform(0.6, 1.8),
        numbers.uniform(0.06, 0.11) if numbers.uniform() < 0.55 else 0.0,
        numbers.uniform() < 0.6,
        numbers.uniform() < 0.5,
        numbers.uniform() < 0.3,
    )


def draw_sign(numbers: SampleDraws) -> RowsSpec:
    """A sign or a sticker, made of random numbers."""
    rows = _fill(_SIGNS[int(numbers.uniform() * len(_SIGNS))], numbers)
    characters = max(map(len, rows))
    height = 110.0 * len(rows) * numbers.uniform(0.7, 1.3)
    width = 45.0 * characters * numbers.uniform(0.8, 1.5) + 20
    return RowsSpec(
        rows,
        width,
        height,
        int(numbers.uniform() * len(COLOURS)),
        numbers.uniform(0.6, 2.0),
        0.0,
        numbers.uniform() < 0.3,
        False,
        False,
    )
