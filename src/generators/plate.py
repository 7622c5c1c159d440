"""Swiss plates in millimetres: formats, colours, layout, and drawing at any resolution.

Sizes follow VZV Art. 83 and VTS Art. 45. Distances between characters and arms were measured on an image
of plates and are given in cap heights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.charset import MAX_DIGITS
from .glyphs import GlyphStyle, draw_glyph
from .shields import SHIELD_ASPECT, draw_shield

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class PlateFormat:
    """Plate format with its lengths in millimetres."""

    name: str
    width: float
    height: float
    lines: int
    arms: bool
    cap_height: float

    @property
    def margin(self) -> float:
        """Minimum distance of characters and arms from the plate's edge in millimetres."""
        return max(0.1 * min(self.height, self.width, 110.0), 10.0)


# front_long is the front plate that the original project draws: the long plate without arms.
FORMATS: tuple[PlateFormat, ...] = (
    PlateFormat("front", 300, 80, lines=1, arms=False, cap_height=52),
    PlateFormat("front_long", 500, 110, lines=1, arms=False, cap_height=77),
    PlateFormat("rear_long", 500, 110, lines=1, arms=True, cap_height=77),
    PlateFormat("rear_high", 300, 160, lines=2, arms=True, cap_height=60),
    PlateFormat("motorcycle", 180, 140, lines=2, arms=True, cap_height=50),
    PlateFormat("moped", 100, 140, lines=2, arms=False, cap_height=36),
)


@dataclass(frozen=True)
class PlateColour:
    """RGB colours of a class of plates (VZV Art. 82)."""

    name: str
    ground: tuple[int, int, int]
    ink: tuple[int, int, int] = (12, 12, 12)


COLOURS: tuple[PlateColour, ...] = (
    PlateColour("white", (241, 241, 241)),
    PlateColour("blue", (150, 190, 230)),
    PlateColour("brown", (224, 160, 100)),
    PlateColour("green", (160, 205, 140)),
    PlateColour("yellow", (245, 205, 50)),
    PlateColour("black", (25, 25, 25), ink=(240, 240, 240)),
    PlateColour("red", (200, 45, 45)),
)
ALLOWED_COLOURS: dict[str, tuple[float, ...]] = {
    "front": (1, 1, 1, 1, 0, 1, 0),
    "front_long": (1, 1, 1, 0, 0, 0, 0),
    "rear_long": (1, 1, 1, 0, 0, 1, 1),
    "rear_high": (1, 1, 1, 0, 0, 1, 1),
    "motorcycle": (1, 1, 1, 0, 0, 1, 0),
    "moped": (0.2, 0.5, 0.5, 0, 20, 0, 0),
}
"""Factors on the weights of the colours, in the order of ``COLOURS``, by format: 0 where there is no such
plate (VZV Art. 82). Almost all mopeds have yellow plates; nothing else has."""
OTHER_COLOUR = "other"
"""Name of the colour of diplomatic plates: a white plate with a coloured field."""
DIPLOMATIC = ("CD", "CC", "AT")
"""Letters in the field of diplomatic plates."""
ARMY = "M"
"""Letter of army plates, which are white on black and carry only the Swiss arms.

M is not a canton, so these plates have no text to recognize.
"""
ARMY_COLOUR = "black"

RIM_OFFSET = 0.063
"""Distance of the rim's centre line from the edge, in heights of the long plate (110 mm)."""
RIM_WIDTH = 0.043
CORNER_RADIUS = 10.0
"""Radius of the plate's corners in millimetres (VZV Art. 83)."""
DOT_DIAMETER = 0.165
LETTER_PITCH = 0.741
DIGIT_PITCH = {False: 0.68, True: 0.593}
"""Distance between the centres of digits in cap heights, without and with arms in the row."""
DOT_GAPS = {False: (0.75, 0.70), True: (0.66, 0.60)}
"""Distances from the last letter to the dot and from the dot to the first digit.

Both are measured from centre to centre in cap heights, without and with arms in the row.
"""
TIGHT_DOT_GAPS = {5: 0.92, 6: 0.79, 7: 0.75}
"""Scale factor of the gaps beside the dot, by number of digits."""
LEAST_PITCH = 0.53
"""Minimum pitch in cap heights; below it characters would touch, so they are made smaller instead."""
GROUP_GAP = 0.12
"""Additional gap before the last three digits, in cap heights."""
SHIELD_HEIGHT = 0.72
GLYPH_SPAN = 0.51
PROVISIONAL_BAR = {False: (33.0, 67.0), True: (36.0, 75.0)}
"""Width and height in millimetres of the bar on provisional plates, on rear plates of cars or not."""
DIPLOMATIC_FIELD = 0.16
"""Width of the field of diplomatic plates, as a fraction of the plate's width."""
DIPLOMATIC_BOX = (0.04, 0.08, DIPLOMATIC_FIELD, 0.92)
"""Box x1, y1, x2, y2 of that field, relative to the plate."""
VIGNETTE = (0.5, 0.06, 0.94, 0.34)
"""Box x1, y1, x2, y2 of the vignette on moped plates, relative to the plate."""
FRAME_SIDE, FRAME_BOTTOM = 8.0, 22.0
"""How far a dealer's frame extends beyond the sides and top, and beyond the bottom, in millimetres."""


DOT = "·"
"""Dot between canton and number, drawn like a character."""

Point = tuple[float, float]


def colour_shares(weights: Sequence[float]) -> NDArray[np.float64]:
    """Return the share of each colour within each format, ``(F, C)``, for the weights of the colours.

    A format keeps all colours where it has none of those that are asked for.
    """
    shares = np.array([ALLOWED_COLOURS[plate.name] for plate in FORMATS]) * weights
    shares[shares.sum(axis=1) == 0] = weights
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Layout:
    """Positions of the elements of a plate, in millimetres from its top left.

    Attributes:
        cap_height: Cap height of all characters.
        marks: Centres (x, y) of the letters, of the dot if there is one, and of the digits.
        row: Length of the line that holds the digits, from its first character's centre to its last's.
        shields: Centres (x, y) of the Swiss and the canton's arms; empty without arms.
    """

    cap_height: float
    marks: tuple[Point, ...]
    row: float
    shields: tuple[Point, ...] = ()


@cache
def layout(format_index: int, digits: int, narrow: float = 1.0, low: float = 1.0) -> Layout:
    """Return the layout of a plate format with 1 to 7 digits.

    Args:
        format_index: Index into ``FORMATS``.
        digits: Number of digits.
        narrow: Factor on the width of the format.
        low: Factor on its height.

    Raises:
        ValueError: ``digits`` is not in 1..7.
    """
    if not 1 <= digits <= MAX_DIGITS:
        raise ValueError(f"a plate has 1 to {MAX_DIGITS} digits, not {digits}")
    plate = _resized(FORMATS[format_index], narrow, low)
    if plate.lines == 1:
        return _one_line(plate, digits)
    return _two_lines(plate, digits) if plate.arms else _moped(plate, digits)


def _resized(plate: PlateFormat, narrow: float, low: float) -> PlateFormat:
    if narrow == low == 1:
        return plate
    return replace(plate, width=plate.width * narrow, height=plate.height * low)


def _one_line(plate: PlateFormat, digits: int) -> Layout:
    cap = plate.cap_height
    tighten = TIGHT_DOT_GAPS.get(digits, 1.0)
    before, after = (gap * tighten for gap in DOT_GAPS[plate.arms])
    pitch = DIGIT_PITCH[plate.arms] * (0.956 if digits >= 6 else 1.0)
    offsets = np.cumsum([0.0, LETTER_PITCH, before, after, *[pitch] * (digits - 1)])
    shield = SHIELD_HEIGHT * SHIELD_ASPECT * cap
    free = plate.width - 2 * plate.margin - GLYPH_SPAN * cap
    if plate.arms:
        free -= 2 * (shield + 0.07 * cap)
    offsets *= min(cap, free / offsets[-1])
    x = (offsets + (plate.width - offsets[-1]) / 2).tolist()
    middle = plate.height / 2
    marks = [(value, middle) for value in x]
    marks[2] = (x[2], middle + 0.055 * cap)
    shields: tuple[Point, ...] = ()
    if plate.arms:
        # The arms stand halfway between the text and the edge, but not far from the text.
        text_edge = x[0] - GLYPH_SPAN * cap / 2
        away = min(
            max(text_edge / 2, plate.margin + shield / 2), text_edge - 0.07 * cap - shield / 2
        )
        away = max(away, plate.margin + shield / 2)
        shields = ((away, 0.487 * plate.height), (plate.width - away, 0.487 * plate.height))
    return Layout(cap, tuple(marks), x[-1] - x[0], shields)


def _two_lines(plate: PlateFormat, digits: int) -> Layout:
    free = plate.width - 2 * plate.margin
    # The longer of the two rows sets the size: either the digits, or the letters between the arms.
    arms = 2 * SHIELD_HEIGHT * SHIELD_ASPECT + 0.2
    rows = ((digits - 1) * LEAST_PITCH + GLYPH_SPAN, LEAST_PITCH + GLYPH_SPAN + arms)
    cap = min(plate.cap_height, free / max(rows))
    shield = SHIELD_HEIGHT * SHIELD_ASPECT * cap
    pitch = DIGIT_PITCH[False] * cap
    if digits > 1:
        pitch = min(pitch, (free - GLYPH_SPAN * cap) / (digits - 1))
    letter_pitch = min(LETTER_PITCH * cap, free - arms * cap - GLYPH_SPAN * cap)
    gap = (plate.height - 2 * cap) / 3
    top, bottom = gap + cap / 2, 2 * gap + 1.5 * cap
    middle = plate.width / 2
    letters = [(middle - letter_pitch / 2, top), (middle + letter_pitch / 2, top)]
    number = [(middle + (i - (digits - 1) / 2) * pitch, bottom) for i in range(digits)]
    text_edge = middle - letter_pitch / 2 - GLYPH_SPAN * cap / 2
    away = max(plate.margin + shield / 2, text_edge / 2)
    shields = ((away, top), (plate.width - away, top))
    return Layout(cap, (*letters, *number), (digits - 1) * pitch, shields)


def _moped(plate: PlateFormat, digits: int) -> Layout:
    """Return the layout of a moped's plate: the letters upper left, the number below (VZV Art. 94)."""
    free = plate.width - 2 * plate.margin
    cap = min(plate.cap_height, free / ((digits - 1) * LEAST_PITCH + GLYPH_SPAN))
    pitch = DIGIT_PITCH[False] * cap
    if digits > 1:
        pitch = min(pitch, (free - GLYPH_SPAN * cap) / (digits - 1))
    left = plate.margin + GLYPH_SPAN * cap / 2
    top, bottom = 0.24 * plate.height, 0.68 * plate.height
    letters = [(left, top), (left + LEAST_PITCH * cap * 1.1, top)]
    middle = plate.width / 2
    number = [(middle + (i - (digits - 1) / 2) * pitch, bottom) for i in range(digits)]
    return Layout(cap, (*letters, *number), (digits - 1) * pitch)


class Tiles(Protocol):
    """Source of glyph and arms tiles, either drawn on request or taken from an atlas."""

    def glyph(self, char: str) -> Gray:
        """Return the ``(h, w)`` ink of a character or of the dot."""
        ...

    def shield(self, code: str, height: int) -> tuple[Gray, Gray]:
        """Return the ``(h, w[, 3])`` colours and the ``(h, w)`` alpha of arms."""
        ...


@dataclass(frozen=True)
class PlateSpec:
    """Specification of a plate to draw.

    Attributes:
        text: Canton and number, or ``M`` and number for army plates.
        format_index: Index into ``FORMATS``.
        colour_index: Index into ``COLOURS``.
        spacing: Scale factor of the distances between characters; one larger than 1 is lowered where the
            characters would reach the edge or the arms.
        shield_scale: Scale factor of the height of the arms.
        group_gap: Whether the last three digits are set apart.
        frame: Whether a dealer's frame surrounds the plate.
        screws: Whether two screws are visible.
        suffix: Letter after the number that is not part of the text (``U``: dealer), if the digits leave
            room for it.
        provisional: Last two digits of the year on a bar at the right end (VZV Art. 87); "" without one.
        month: Number on the month sticker on that bar; "" without one.
        diplomatic: Letters in the field at the left end, one of ``DIPLOMATIC``; "" without one. Such a plate
            has no arms, and its number has a point after the second digit.
        vignette: Year and number on a moped's vignette; "" without one.
        rim: Whether the rim line is visible.
        edge: Width of a black line around the plate in millimetres.
        narrow: Factor on the width of the format: less room beside the text than the format has.
        low: Factor on its height: less room above and below the text.
    """

    text: str
    format_index: int = 2
    colour_index: int = 0
    spacing: float = 1.0
    shield_scale: float = 1.0
    group_gap: bool = False
    frame: bool = False
    screws: bool = False
    suffix: str = ""
    provisional: str = ""
    month: str = ""
    diplomatic: str = ""
    vignette: str = ""
    rim: bool = True
    edge: float = 0.0
    narrow: float = 1.0
    low: float = 1.0

    @property
    def format(self) -> PlateFormat:
        return _resized(FORMATS[self.format_index], self.narrow, self.low)

    @property
    def width(self) -> float:
        """Width in millimetres."""
        return self.format.width

    @property
    def height(self) -> float:
        """Height in millimetres."""
        return self.format.height

    @property
    def lines(self) -> int:
        return self.format.lines

    @property
    def layout(self) -> Layout:
        """Layout of the plate's characters and arms."""
        return layout(self.format_index, max(len(self.written), 1), self.narrow, self.low)

    @property
    def least_width(self) -> float:
        """Smallest width in millimetres that leaves room for the text and the arms as they are."""
        place, plate = self.layout, self.format
        half = GLYPH_SPAN * place.cap_height / 2
        reach = max(abs(x - plate.width / 2) for x, _ in place.marks) + half
        if place.shields:
            arms = (SHIELD_HEIGHT * SHIELD_ASPECT + 0.14) * place.cap_height
            beside = [abs(x - plate.width / 2) for x, y in place.marks if y < plate.height * 0.6]
            reach = max(reach, max(beside) + half + arms)
        return 2 * (reach + plate.margin)

    @property
    def cap_height(self) -> float:
        """Cap height of all characters in millimetres."""
        return self.layout.cap_height

    def compose(self, cap_pixels: float, tiles: Tiles) -> PlateInk:
        """Lay out the plate at a cap height of ``cap_pixels`` pixels."""
        return compose(self, cap_pixels, tiles)

    @property
    def letters(self) -> str:
        return (
            self.text[:1] if self.text[:1] == ARMY and self.text[1:2].isdigit() else self.text[:2]
        )

    @property
    def digits(self) -> str:
        return self.text[len(self.letters) :]

    @property
    def is_army(self) -> bool:
        """Whether it is an army plate."""
        return self.letters == ARMY

    @property
    def written(self) -> str:
        """What is written behind the letters, or below them."""
        if self.diplomatic and len(self.digits) > 2:
            return self.digits[:2] + DOT + self.digits[2:]
        if self.is_army and self.lines == 2:
            # The first two digits stand beside the M.
            return self.digits[2:]
        return self.digits + self.suffix

    @property
    def arms(self) -> tuple[str, ...]:
        """Codes of the arms, "CH" first, on formats that have arms."""
        if self.diplomatic or (self.is_army and self.lines == 2):
            return ()
        return ("CH",) if self.is_army else ("CH", self.letters)

    @property
    def readable(self) -> str:
        """Text that a reader should return: "" for army and diplomatic plates."""
        return "" if self.is_army or self.diplomatic else self.text

    @property
    def colour(self) -> str:
        """Name of the colour, one of those of ``COLOURS`` or ``OTHER_COLOUR``."""
        return OTHER_COLOUR if self.diplomatic else COLOURS[self.colour_index].name

    @property
    def outline(self) -> tuple[float, float, float, float]:
        """Box x1, y1, x2, y2 of the plate in millimetres, including its frame or black line."""
        if not self.frame:
            edge = self.edge
            return (-edge, -edge, self.format.width + edge, self.format.height + edge)
        return (
            -FRAME_SIDE,
            -FRAME_SIDE,
            self.format.width + FRAME_SIDE,
            self.format.height + FRAME_BOTTOM,
        )


@dataclass(frozen=True)
class PlateInk:
    """Composed plate before it is coloured.

    Attributes:
        ink: Ink of the plate without a frame, shape ``(h, w)``, uint8; 255 is full ink.
        shields: Colours, alpha, left and top of each coat of arms.
        marks: Ink, left and top of each character of the text; neither the dot nor a letter behind the
            number is among them.
    """

    ink: Gray
    shields: list[tuple[Gray, Gray, int, int]] = field(default_factory=list)
    marks: list[tuple[Gray, int, int]] = field(default_factory=list)


@lru_cache(maxsize=4096)
def _blank_ink(plate: PlateFormat, width: int, height: int) -> Gray:
    """Draw the ink of an empty plate, its rim; the result is cached, so copy it before drawing on it."""
    # Draw four times larger, because OpenCV does not antialias filled rings.
    over = 4 if width < 2000 else 1
    scale = height / plate.height * over
    long_height = min(plate.height, 110.0)
    big = np.zeros((height * over, width * over), np.uint8)
    middle, half = RIM_OFFSET * long_height, RIM_WIDTH * long_height / 2
    for inset, value in ((middle - half, 255), (middle + half, 0)):
        _fill_rounded(big, inset * scale, max(CORNER_RADIUS * 1.6 - inset, 2.0) * scale, value)
    blank = big if over == 1 else cv2.resize(big, (width, height), interpolation=cv2.INTER_AREA)
    blank.setflags(write=False)
    return blank


def _fill_rounded(canvas: Gray, inset: float, radius: float, value: int) -> None:
    height, width = canvas.shape
    points = rounded_outline(inset, inset, width - inset, height - inset, radius)
    cv2.fillPoly(canvas, [np.round((points - 0.5) * 16).astype(np.int32)], value, shift=4)


def rounded_outline(
    x1: float, y1: float, x2: float, y2: float, radius: float, steps: int = 4
) -> NDArray[np.float64]:
    """Return the ``(4 * (steps + 1), 2)`` points of a rectangle with rounded corners, clockwise."""
    angles = np.linspace(0, np.pi / 2, steps + 1)
    quarter = np.stack([-np.cos(angles), -np.sin(angles)], axis=1) * radius
    points = []
    for turn, (x, y) in enumerate(
        ((x1 + radius, y1 + radius), (x2 - radius, y1 + radius),
         (x2 - radius, y2 - radius), (x1 + radius, y2 - radius))
    ):  # fmt: skip
        cos, sin = (1, 0, -1, 0)[turn], (0, 1, 0, -1)[turn]
        points.append(quarter @ np.array([[cos, sin], [-sin, cos]]) + (x, y))
    return np.concatenate(points)


def draw_dot(cap_pixels: float) -> Gray:
    """Draw the ``(h, w)`` ink of the dot at a cap height of ``cap_pixels`` pixels."""
    diameter = DOT_DIAMETER * cap_pixels
    side = int(np.ceil(diameter)) + 1
    big = np.zeros((side * 8, side * 8), np.uint8)
    cv2.circle(big, (side * 4, side * 4), round(diameter * 4), 255, -1)
    return cv2.resize(big, (side, side), interpolation=cv2.INTER_AREA)


def _stamp(ink: Gray, tile: Gray, left: int, top: int) -> None:
    """Add ``tile`` to ``ink`` at the given top left position, cutting off parts that lie outside."""
    height, width = tile.shape
    if left < 0 or top < 0 or left + width > ink.shape[1] or top + height > ink.shape[0]:
        tile = tile[max(-top, 0) : ink.shape[0] - top, max(-left, 0) : ink.shape[1] - left]
        left, top = max(left, 0), max(top, 0)
        height, width = tile.shape
    place = ink[top : top + height, left : left + width]
    cv2.max(place, tile, place)


def compose(spec: PlateSpec, cap_pixels: float, tiles: Tiles) -> PlateInk:
    """Lay out a plate from tiles at a cap height of ``cap_pixels`` pixels.

    Args:
        spec: Plate to lay out.
        cap_pixels: Cap height of the tiles in pixels, which sets the resolution of the whole plate.
        tiles: Source of glyphs and arms.
    """
    plate = spec.format
    scale = cap_pixels / spec.layout.cap_height
    width, height = round(plate.width * scale), round(plate.height * scale)
    shape = (height, width)
    ink = _blank_ink(plate, width, height).copy() if spec.rim else np.zeros(shape, np.uint8)
    # Fields at the ends take space from the number: all marks move closer together, and away from them.
    left, right = _fields(spec)
    if spec.provisional:
        _draw_bar(ink, spec, scale, tiles)
    if spec.diplomatic:
        _draw_field(ink, spec.diplomatic, round(left * scale), tiles)
    if spec.vignette:
        _draw_vignette(ink, spec.vignette, tiles)
    share, shift = 1 - (left + right) / plate.width, (left - right) / 2
    marks = _write(ink, spec, tiles, scale, share, shift)
    return PlateInk(ink, _arms(spec, tiles, scale, share, (width, left)), marks)


def _write(
    ink: Gray, spec: PlateSpec, tiles: Tiles, scale: float, share: float, shift: float
) -> list[tuple[Gray, int, int]]:
    """Write the letters, the dot and the digits of a plate, in place.

    Args:
        ink: Ink of the plate, shape ``(h, w)``.
        spec: Plate to lay out.
        tiles: Source of glyphs.
        scale: Pixels per millimetre.
        share: Share of the plate's width that fields at its ends leave.
        shift: How far these fields move the middle to the right, in millimetres.

    Returns:
        Ink, left and top of the characters of the text.
    """
    plate, letters, digits, place = spec.format, spec.letters, spec.written, spec.layout
    if spec.is_army and plate.lines == 2:
        letters += spec.digits[:2]
    marks = _marks(place, len(letters), len(digits))
    text = letters + (DOT if plate.lines == 1 else "") + digits
    gap, split = 0.0, len(text)
    stretch = min(spec.spacing, max(_most_spacing(spec), 1.0)) * scale
    if spec.group_gap and len(digits) > 3:
        gap, split = GROUP_GAP * place.cap_height * scale / 2, len(text) - 3
        # The additional gap is taken from the other distances, so that the row keeps its length.
        stretch -= 2 * gap / place.row
    stretch *= share
    middle = plate.width / 2
    number = len(text) - len(digits) if plate.lines == 2 else 0
    drawn: list[tuple[Gray, int, int]] = []
    for i, (char, (x, y)) in enumerate(zip(text, marks, strict=True)):
        if char == DOT and spec.diplomatic and i == len(letters):
            continue
        tile = tiles.glyph(char)
        centre = (middle + shift) * scale + (x - middle) * stretch
        if gap and i >= number:
            centre += gap if i >= split else -gap
        left, top = round(centre - tile.shape[1] / 2), round(y * scale - tile.shape[0] / 2)
        _stamp(ink, tile, left, top)
        if char != DOT and i < len(text) - len(spec.suffix):
            drawn.append((tile, left, top))
    return drawn


def _most_spacing(spec: PlateSpec) -> float:
    """Return the largest factor on the distances at which the text stays off the edges and the arms."""
    plate, place = spec.format, spec.layout
    middle, half = plate.width / 2, GLYPH_SPAN * place.cap_height / 2
    shield = SHIELD_HEIGHT * SHIELD_ASPECT * place.cap_height / 2
    limits = []
    for x, y in place.marks:
        free = middle - plate.margin - half
        for arms_x, arms_y in place.shields:
            if abs(arms_y - y) < place.cap_height / 2:
                free = min(free, abs(middle - arms_x) - shield - half)
        limits.append(free / max(abs(x - middle), 1e-6))
    return min(limits)


def _arms(
    spec: PlateSpec, tiles: Tiles, scale: float, share: float, extent: tuple[int, float]
) -> list[tuple[Gray, Gray, int, int]]:
    """Return the colours, alpha, left and top of the coats of arms of a plate.

    Args:
        spec: Plate to lay out.
        tiles: Source of arms.
        scale: Pixels per millimetre.
        share: Share of the plate's width that fields at its ends leave.
        extent: Width of the plate in pixels, and that of the field at its left end in millimetres.
    """
    place = spec.layout
    width, field = extent
    high = max(round(SHIELD_HEIGHT * place.cap_height * scale * spec.shield_scale * share), 4)
    arms = []
    for code, (x, y) in zip(spec.arms, place.shields, strict=False):
        colours, alpha = tiles.shield(code, high)
        middle = (field + x * share) * scale
        left = min(max(round(middle - alpha.shape[1] / 2), 0), width - alpha.shape[1])
        arms.append((colours, alpha, left, max(round(y * scale - alpha.shape[0] / 2), 0)))
    return arms


def _marks(place: Layout, letters: int, digits: int) -> list[Point]:
    """Return the centres of the letters (up to three on an army plate), of the dot and of the digits."""
    first, second, *others = place.marks
    others = others[: len(others) if digits else 0]
    if letters == 2:
        return [first, second, *others]
    if letters == 1:
        # The single letter of an army plate stands in the place of a canton's second letter.
        return [second, *others]
    middle, pitch = (first[0] + second[0]) / 2, second[0] - first[0]
    return [(middle + (i - 1) * pitch, first[1]) for i in range(letters)] + others


def _fields(spec: PlateSpec) -> tuple[float, float]:
    """Return the width in millimetres that fields at the left and at the right end take."""
    left = DIPLOMATIC_FIELD * spec.width if spec.diplomatic else 0.0
    if not spec.provisional:
        return left, 0.0
    wide, _ = PROVISIONAL_BAR[spec.width >= 300 and spec.format.arms]
    return left, 1.25 * wide


def provisional_bar(spec: PlateSpec) -> tuple[float, float, float, float]:
    """Return the box x1, y1, x2, y2 in millimetres of the bar of a provisional plate (VZV Art. 87)."""
    wide, tall = PROVISIONAL_BAR[spec.width >= 300 and spec.format.arms]
    right, middle = spec.width - 0.12 * wide, spec.height / 2
    return right - wide, middle - tall / 2, right, middle + tall / 2


def _draw_bar(ink: Gray, spec: PlateSpec, scale: float, tiles: Tiles) -> None:
    """Draw the bar of a provisional plate with its year, and the month on a sticker, in place."""
    left, top, right, bottom = (value * scale for value in provisional_bar(spec))
    ink[round(top) : round(bottom), round(left) : round(right)] = 150
    middle = (top + bottom) / 2
    if spec.month:
        ink[round(top) : round(middle), round(left) : round(right)] = 0
        _write_small(ink, spec.month, tiles, (left, top, right, middle), 255)
    start = middle if spec.month else top
    _write_small(ink, spec.provisional, tiles, (left, start, right, bottom), 0)


def _draw_field(ink: Gray, letters: str, width: int, tiles: Tiles) -> None:
    """Draw the field of a diplomatic plate at its left end, ``width`` pixels wide, in place."""
    tall, wide = ink.shape
    x1, y1, _, y2 = DIPLOMATIC_BOX
    ink[round(y1 * tall) : round(y2 * tall), round(x1 * wide) : width] = 200
    _write_small(ink, letters, tiles, (0.05 * wide, 0.3 * tall, width, 0.7 * tall), 0)


def _draw_vignette(ink: Gray, text: str, tiles: Tiles) -> None:
    """Draw the vignette of a moped: a sticker with a year, and a small number below it, in place."""
    height, width = ink.shape
    x1, x2 = (share * width for share in VIGNETTE[::2])
    y1, y2 = (share * height for share in VIGNETTE[1::2])
    ink[round(y1) : round(y2), round(x1) : round(x2)] = 90
    middle = y1 + 0.62 * (y2 - y1)
    _write_small(ink, text[:2], tiles, (x1, y1, x2, middle), 255)
    _write_small(ink, text[2:], tiles, (x1, middle, x2, y2), 255)


def _write_small(
    ink: Gray, text: str, tiles: Tiles, box: tuple[float, float, float, float], value: int
) -> None:
    """Write a row of characters into a box x1, y1, x2, y2 in pixels, in place.

    Args:
        ink: Ink of the plate, shape ``(h, w)``.
        text: Characters to write.
        tiles: Source of glyphs.
        box: Box that the row fills, with a margin.
        value: Ink of the characters, 0 to 255.
    """
    x1, y1, x2, y2 = box
    glyphs = [tiles.glyph(char) for char in text]
    row = np.concatenate([cv2.copyMakeBorder(glyph, 0, 0, 3, 3, 0) for glyph in glyphs], axis=1)
    fit = 0.8 * min((x2 - x1) / row.shape[1], (y2 - y1) / row.shape[0])
    size = (round(row.shape[1] * fit), round(row.shape[0] * fit))
    if min(size) < 1:
        return
    small = cv2.resize(row, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    left, top = round((x1 + x2 - size[0]) / 2), round((y1 + y2 - size[1]) / 2)
    place = ink[max(top, 0) : top + size[1], max(left, 0) : left + size[0]]
    small = small[: place.shape[0], : place.shape[1]]
    place[:] = np.round(place + small * (value - place.astype(np.float32))).astype(np.uint8)


@dataclass(frozen=True)
class DrawnTiles:
    """Tiles drawn on request, at any size and with arms in colour.

    Attributes:
        cap_pixels: Cap height in pixels.
        style: Style of the glyphs.
    """

    cap_pixels: float
    style: GlyphStyle = field(default_factory=GlyphStyle)

    def glyph(self, char: str) -> Gray:
        if char == DOT:
            return draw_dot(self.cap_pixels)
        return draw_glyph(char, self.style, self.cap_pixels)

    def shield(self, code: str, height: int) -> tuple[Gray, Gray]:
        return draw_shield(code, height)


def draw_screws(image: NDArray[np.generic], scale: float, colour: tuple[int, ...]) -> None:
    """Draw the heads of two screws at the upper edge of a plate, in place.

    Args:
        image: Image of the plate, shape ``(h, w)`` or ``(h, w, 3)``.
        scale: Pixels per millimetre.
        colour: Colour of the heads, with as many values as the image has channels.
    """
    for share in (0.14, 0.86):
        centre = (round(share * image.shape[1]), round(8 * scale))
        cv2.circle(image, centre, max(round(4 * scale), 1), colour, -1, cv2.LINE_AA)


def draw_plate(
    spec: PlateSpec, height: int, style: GlyphStyle | None = None
) -> tuple[NDArray[np.uint8], Gray]:
    """Draw a plate in colour.

    Args:
        spec: Plate to draw; the scene draws its frame.
        height: Height of the image in pixels; the width follows from the format.
        style: Style of the glyphs.

    Returns:
        RGB image of shape ``(h, w, 3)`` and alpha of shape ``(h, w)`` with the rounded corners, both
        uint8.
    """
    cap_pixels = spec.cap_height * height / spec.format.height
    composed = compose(spec, cap_pixels, DrawnTiles(cap_pixels, style or GlyphStyle()))
    colour = COLOURS[spec.colour_index]
    ground, ink = np.array(colour.ground, np.float32), np.array(colour.ink, np.float32)
    weight = composed.ink[..., None].astype(np.float32) / 255
    image = ground + (ink - ground) * weight
    for colours, alpha, left, top in composed.shields:
        place = image[top : top + alpha.shape[0], left : left + alpha.shape[1]]
        part = alpha[: place.shape[0], : place.shape[1], None].astype(np.float32) / 255
        place += (colours[: place.shape[0], : place.shape[1]] - place) * part
    mask = np.zeros(composed.ink.shape, np.uint8)
    _fill_rounded(mask, 0.0, CORNER_RADIUS * composed.ink.shape[0] / spec.format.height, 255)
    if spec.screws:
        draw_screws(image, composed.ink.shape[0] / spec.format.height, (150, 150, 150))
    return np.clip(image + 0.5, 0, 255).astype(np.uint8), mask
