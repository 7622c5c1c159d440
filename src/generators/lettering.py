"""Foreign plates and signs: rows of characters on a rectangle, drawn like a Swiss plate.

The localizer finds any plate, the recognizer must know which ones are Swiss, and neither may mistake a
sign for a plate. The patterns are common ones from plates around the world; no sign has a plate's text.
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

# A is a letter, 0 a digit, ~ a separator (a gap, a bar, a seal or a dot), | a separator other than the
# dot, since a dot would turn two letters and a number into a Swiss plate; / starts a second row. The
# patterns cover most of Europe and some of the rest.
_PATTERNS = (
    "A~AA 000", "AA~AA 0000", "AAA~A 00", "AA-000-AA", "AA~000~AA", "AA00 AAA", "00~AA~00",
    "00~AAA~0", "0000 AAA", "AA 00 000", "AAA~0000", "0AAA000", "A 000 AA", "A 00000 A",
    "0-AAA-000", "00 AA 000", "000 AAA", "A000AA", "AAA 00A", "AA 00 AA 0000", "0000", "AA/00000",
    "AA 00/AA 0000", "AAA/0000", "00-00/AAA",
)  # fmt: skip
# Patterns that a recognizer confuses with Swiss plates, mostly letters followed by digits.
_SIMILAR = (
    "AAA~000", "AAA000", "AA|0000", "AA|00000", "AA 00 000", "AA|000", "A~0000", "A~00000",
    "A~000000", "AAAA 00", "0~00000", "00~0000", "000~000", "AA|0000 A", "AA|000 AA", "AAA/000",
)  # fmt: skip
_SIMILAR_SHARE = 0.4
# Large characters between the name of a state and a motto, as in North America.
_CAPTIONED = (
    "AAA-0000", "0AAA000", "AAA 000", "000-AAA", "AAAAAAA", "AAAAA", "AA0 00A", "00A-000", "AA-00000",
    "AAAAAA", "A00 0AA", "0000", "AA 0000",
)  # fmt: skip
_CAPTIONED_SHARE = 0.2
_SEPARATORS = " -o."
# Signs of one row have only letters, a price or a time, never letters followed by digits.
_SIGNS = (
    "AAAA", "AAAAAA", "AAAAAAAA", "AAAAAAAAAAA", "AAAA AAAAAA", "0-00", "00.00", "00-00-00",
    "AAAA/AAAAAA", "AAAAAA/AA AAAA/00-00", "AAAAAAA/AAAA/AAAAAA AA", "000000000", "00 00 00 00",
    "A", "AAAA/AAAAAA AAA/AAAAAAAA/AAAA", "00", "AAA AAA AAA/AAAAAAAAA",
)  # fmt: skip
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PITCH, _SPACE = 0.1, 0.32
"""Gap between characters and width of a space, in cap heights."""


@dataclass(frozen=True)
class RowsSpec:
    """Specification of a rectangle with rows of characters.

    Attributes:
        rows: Text of each row; ``-`` is a bar, ``.`` a dot, ``o`` a round seal and a space a gap.
        width: Width of the rectangle in millimetres.
        height: Height of the rectangle in millimetres.
        colour_index: Index into ``COLOURS``.
        spacing: Scale factor of the gap between characters.
        band: Width of a dark band on the left (a Euro band) as a fraction of the rectangle's width; 0 if
            there is none.
        rim: Whether a rim line is drawn.
        frame: Whether a dealer's frame surrounds the rectangle.
        screws: Whether two screws are visible.
        captions: Small text above and below a single row; "" for none.
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
    captions: tuple[str, str] = ("", "")

    @property
    def cap_height(self) -> float:
        """Cap height of the rows' characters in millimetres."""
        rows = len(self.rows)
        if any(self.captions):
            return self.height * 0.46
        return self.height * (0.66 if rows == 1 else 0.74 / rows)

    @property
    def colour(self) -> str:
        """Name of the colour, one of those of ``COLOURS``."""
        return COLOURS[self.colour_index].name

    @property
    def edge(self) -> float:
        """Width of a black line around the rectangle; always 0, because it has none."""
        return 0.0

    @property
    def lines(self) -> int:
        """Number of text lines for cropping, 1 or 2; signs with more rows are cropped as two lines."""
        return min(len(self.rows), 2)

    @property
    def outline(self) -> tuple[float, float, float, float]:
        """Box x1, y1, x2, y2 of the drawn area in millimetres, including the frame if there is one."""
        if not self.frame:
            return (0.0, 0.0, self.width, self.height)
        return (-FRAME_SIDE, -FRAME_SIDE, self.width + FRAME_SIDE, self.height + FRAME_BOTTOM)

    def compose(self, cap_pixels: float, tiles: Tiles) -> PlateInk:
        """Lay out the rows at a cap height of ``cap_pixels`` pixels."""
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
        for caption, middle in zip(self.captions, (0.13, 0.88), strict=True):
            if caption:
                self._write_small(ink, caption, middle, tiles)
        return PlateInk(ink)

    def _write_small(self, ink: Gray, caption: str, middle: float, tiles: Tiles) -> None:
        """Write a caption in place, around ``middle``, a fraction of the height."""
        tall, wide = round(0.13 * ink.shape[0]), round(0.55 * ink.shape[1])
        if tall < 3:
            return
        row = np.concatenate([tiles.glyph(char) for char in caption], axis=1)
        width = min(round(row.shape[1] * tall / row.shape[0]), wide)
        small = cv2.resize(row, (max(width, 1), tall), interpolation=cv2.INTER_AREA)
        top, left = round(middle * ink.shape[0] - tall / 2), (ink.shape[1] - small.shape[1]) // 2
        place = ink[top : top + tall, left : left + small.shape[1]]
        cv2.max(place, np.ascontiguousarray(small[: place.shape[0]]), place)

    def _write(
        self, ink: Gray, row: str, left: int, middle: float, cap: float, tiles: Tiles
    ) -> None:
        parts = [_part(char, round(cap), tiles) for char in row]
        free = ink.shape[1] - left
        gap = _PITCH * self.spacing * cap
        length = sum(part.shape[1] for part in parts) + gap * (len(parts) - 1)
        # A row that is too long is squeezed, as on real plates and signs.
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
    """Draw a coloured disc with a darker emblem, half as high as a character."""
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


NUMBERS = 90
"""Maximum number of random numbers consumed per plate or sign."""


def draw_foreign(numbers: SampleDraws) -> RowsSpec:
    """Generate a foreign plate from random numbers."""
    if numbers.chance(_CAPTIONED_SHARE):
        return _draw_captioned(numbers)
    patterns = _SIMILAR if numbers.uniform() < _SIMILAR_SHARE else _PATTERNS
    rows = _fill(patterns[int(numbers.uniform() * len(patterns))], numbers)
    if len(rows) == 2:
        width, height = numbers.uniform(180, 320), numbers.uniform(140, 210)
    elif numbers.uniform() < 0.75:
        width, height = numbers.uniform(430, 530), numbers.uniform(100, 118)
    else:
        width, height = 305.0, numbers.uniform(90, 155)
    # The ground is white for half of the plates, otherwise yellow, black, blue or red.
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


def _draw_captioned(numbers: SampleDraws) -> RowsSpec:
    rows = _fill(_CAPTIONED[int(numbers.uniform() * len(_CAPTIONED))], numbers)
    captions = [_fill("A" * numbers.integer(4, 14), numbers)[0] for _ in range(2)]
    if numbers.chance(0.3):
        captions[1] = ""
    colour = (0, 0, 0, 0, 1, 4, 5, 6)[numbers.integer(0, 7)]
    return RowsSpec(
        rows,
        305.0,
        numbers.uniform(140, 165),
        colour,
        numbers.uniform(0.6, 1.6),
        0.0,
        numbers.chance(0.4),
        numbers.chance(0.4),
        numbers.chance(0.5),
        (captions[0], captions[1]),
    )


def draw_sign(numbers: SampleDraws) -> RowsSpec:
    """Generate a sign or a sticker from random numbers."""
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
