"""Plates of the held-out test set: another typeface, other coats of arms and another layout.

Apart from the format sizes, which are set by law, nothing here comes from the code that draws the
training plates. The characters come from the outline font bundled with Pillow, a grotesque, squeezed to
the narrow proportions of Swiss plates and emboldened; the arms are plain fields with plain charges.
Lengths are in millimetres, colours in RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ...core.charset import CANTONS
from ...core.random import SampleDraws
from ..plate import FORMATS, PlateFormat
from .clouds import clouds

Gray = NDArray[np.uint8]
Colour = tuple[int, int, int]

FORMAT_WEIGHTS = {
    "front": 0.24,
    "front_long": 0.04,
    "rear_long": 0.26,
    "rear_high": 0.17,
    "motorcycle": 0.17,
    "moped": 0.12,
}
COLOURS: dict[str, tuple[float, Colour, Colour]] = {
    "white": (0.85, (238, 238, 234), (22, 22, 24)),
    "blue": (0.03, (142, 184, 222), (20, 22, 26)),
    "brown": (0.02, (214, 154, 98), (24, 20, 18)),
    "green": (0.03, (152, 198, 136), (18, 24, 20)),
    "yellow": (0.03, (240, 200, 58), (22, 22, 20)),
    "black": (0.02, (34, 34, 34), (226, 226, 222)),
    "red": (0.02, (186, 40, 42), (20, 16, 16)),
}
"""Share, ground and ink of each colour. Black plates are the army's and carry no canton code."""
DIGIT_WEIGHTS = (0.02, 0.03, 0.06, 0.15, 0.25, 0.46, 0.03)
DOT = "·"
_ARMY = "M"

_CAP = 128
"""Cap height, in pixels, at which glyphs are cached."""
_ROOM = 12
"""Padding around a glyph in pixels, for overshoot and for bolder strokes."""
_LETTER_SQUEEZE, _DIGIT_SQUEEZE = 0.72, 0.84
_BOLDNESS = ((7, 3), (9, 5), (11, 6))
"""Width and height of the dilation kernels, in pixels at a cap height of ``_CAP``.

The kernels are wider than high, so that squeezed stems are again as thick as the horizontal strokes.
"""
_LEAST_SQUEEZE = 0.7
"""Lower limit for narrowing characters; beyond it they are made smaller instead."""

_W, _K, _R, _B = (248, 248, 246), (20, 20, 20), (190, 24, 28), (40, 84, 176)
_G, _Y = (30, 130, 62), (246, 206, 40)
_ARMS: dict[str, tuple[str, tuple[Colour, ...], str, Colour]] = {
    "AG": ("pale", (_K, _B), "disc", _W), "AI": ("plain", (_W,), "beast", _K),
    "AR": ("plain", (_W,), "beast", _K), "BE": ("bend", (_R, _Y, _R), "beast", _K),
    "BL": ("plain", (_W,), "staff", _R), "BS": ("plain", (_W,), "staff", _K),
    "FR": ("fess", (_K, _W), "", _K), "GE": ("pale", (_Y, _R), "", _K),
    "GL": ("plain", (_R,), "staff", _K), "GR": ("fess", (_W, _B), "beast", _K),
    "JU": ("pale", (_W, _R), "staff", _R), "LU": ("pale", (_B, _W), "", _K),
    "NE": ("pale", (_G, _W, _R), "", _K), "NW": ("plain", (_R,), "staff", _W),
    "OW": ("fess", (_R, _W), "staff", _W), "SG": ("plain", (_G,), "staff", _W),
    "SH": ("plain", (_Y,), "beast", _K), "SO": ("fess", (_R, _W), "", _K),
    "SZ": ("plain", (_R,), "", _W), "TG": ("bend", (_W, _G), "beast", _Y),
    "TI": ("pale", (_R, _B), "", _K), "UR": ("plain", (_Y,), "disc", _K),
    "VD": ("fess", (_W, _G), "", _K), "VS": ("pale", (_W, _R), "disc", _R),
    "ZG": ("fess", (_W, _B, _W), "", _K), "ZH": ("bend", (_W, _B), "", _K),
}  # fmt: skip
_BEAST = ((-8, -30), (14, -34), (20, -18), (6, -12), (22, 2), (10, 6), (16, 34), (4, 34), (-2, 12),
          (-12, 34), (-22, 32), (-14, 4), (-26, -4), (-24, -12), (-10, -10))  # fmt: skip
_STAFF = ((-4, 38), (-4, -12), (-14, -20), (-12, -34), (4, -38), (16, -28), (12, -18), (4, -26),
          (-4, -24), (4, -12), (4, 38))  # fmt: skip
_CROSS = ((-8, -26), (8, -26), (8, -8), (26, -8), (26, 8), (8, 8), (8, 26), (-8, 26), (-8, 8),
          (-26, 8), (-26, -8), (-8, -8))  # fmt: skip
_SHIELD = (72, 88)
"""Width and height of the grid on which shields are defined."""
_DEALERS = ("GARAGE MEIER AG", "AUTO CENTER SUD", "www.garage-luzi.ch", "MOTOR HAUS 24",
            "Carrosserie Dubois SA", "NORDRING GARAGE", "Tel. 044 300 20 10")  # fmt: skip
_FRAME_SIDE, _FRAME_TEXT = 7.0, 20.0


@dataclass(frozen=True)
class Plate:
    """Text and appearance of a plate to draw.

    Attributes:
        format: Format, which gives the plate's size.
        colour: Name of the colour, a key of ``COLOURS``.
        letters: Canton code, or the army's letter.
        digits: Number, as a string of digits.
        frame: Position of the text on the dealer's frame, "above" or "below"; "" without a frame.
    """

    format: PlateFormat
    colour: str
    letters: str
    digits: str
    frame: str

    @property
    def text(self) -> str:
        """Canton code and number; "" where there is no canton."""
        return self.letters + self.digits if self.letters in CANTONS else ""

    @property
    def outline(self) -> tuple[float, float, float, float]:
        """Box x1, y1, x2, y2 of the plate with its frame; the plate's top left is at (0, 0)."""
        width, height = self.format.width, self.format.height
        if not self.frame:
            return 0.0, 0.0, width, height
        above, below = (
            (_FRAME_TEXT, _FRAME_SIDE) if self.frame == "above" else (_FRAME_SIDE, _FRAME_TEXT)
        )
        return -_FRAME_SIDE, -above, width + _FRAME_SIDE, height + below


def _occurs(colour: str, plate: PlateFormat) -> float:
    """Return how many times as often as elsewhere a colour occurs in a format (VZV Art. 82)."""
    if plate.name == "moped":
        return {"yellow": 150.0, "white": 0.5, "blue": 1.0, "brown": 1.0}.get(colour, 0.0)
    only = {"green": ("front",), "yellow": (), "red": ("rear_long", "rear_high")}
    return float(plate.name in only[colour]) if colour in only else 1.0


def draw_plate_of(draws: SampleDraws) -> Plate:
    """Sample a plate by the weights of formats, colours and numbers of digits."""
    weights = [FORMAT_WEIGHTS[plate.name] for plate in FORMATS]
    plate = FORMATS[draws.index(weights)]
    shares = [weight * _occurs(name, plate) for name, (weight, *_) in COLOURS.items()]
    colour = list(COLOURS)[draws.index(shares)]
    letters = _ARMY if colour == "black" else CANTONS[draws.integer(0, len(CANTONS) - 1)]
    # The narrowest plates carry only small numbers.
    count = min(draws.index(DIGIT_WEIGHTS) + 1, 7 if plate.width > 100 else 6)
    digits = str(draws.integer(10 ** (count - 1), 10**count - 1))
    framed = draws.chance(0.5 if plate.lines == 1 or plate.width == 300 else 0.1)
    return Plate(plate, colour, letters, digits, draws.pick(("below", "above")) if framed else "")


@lru_cache(maxsize=1)
def _font() -> tuple[ImageFont.FreeTypeFont, float]:
    """Return the font at a large size, and the font size per pixel of cap height."""
    probe = ImageFont.load_default(1000)
    if not isinstance(probe, ImageFont.FreeTypeFont):
        raise TypeError("Pillow was built without FreeType: there is no outline font to draw with")
    _, top, _, bottom = probe.getbbox("H", anchor="ls")
    return probe, 1000 / (bottom - top)


@lru_cache(maxsize=256)
def _glyph(char: str, boldness: int) -> Gray:
    """Return the ink of a character, squeezed, emboldened and trimmed at its sides.

    Returns:
        Coverage from 0 to 255, shape ``(_CAP + 2 * _ROOM, w)``.
    """
    font, size = _font()
    font = font.font_variant(size=_CAP * size)
    left, _, right, _ = font.getbbox(char, anchor="ls")
    width = int(right - left) + 2 * _ROOM
    image = Image.new("L", (width, _CAP + 2 * _ROOM))
    ImageDraw.Draw(image).text((_ROOM - left, _ROOM + _CAP), char, fill=255, font=font, anchor="ls")
    squeeze = _DIGIT_SQUEEZE if char.isdigit() else _LETTER_SQUEEZE
    narrow = cv2.resize(
        np.asarray(image), (round(width * squeeze), _CAP + 2 * _ROOM), interpolation=cv2.INTER_AREA
    )
    bold = cv2.dilate(narrow, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, _BOLDNESS[boldness]))
    columns = np.flatnonzero(bold.max(axis=0) > 64)
    return np.asarray(bold[:, columns[0] : columns[-1] + 1], np.uint8)


@lru_cache(maxsize=64)
def small_text(text: str) -> Gray:
    """Return the ink of a line of text, shape ``(h, w)``, with a cap height of about 40 pixels."""
    font, size = _font()
    font = font.font_variant(size=40 * size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=font)
    return np.asarray(image, np.uint8)


Mark = tuple[Gray, tuple[float, float, float, float]]
"""Ink of a character, shape ``(h, w)``, and its box x1, y1, x2, y2 in millimetres."""


class _Face:
    """The face of a plate while it is painted.

    Args:
        plate: Plate to paint.
        scale: Resolution in pixels per millimetre.
    """

    def __init__(self, plate: Plate, scale: float) -> None:
        self.plate, self.scale = plate, scale
        self.left, self.top, right, bottom = plate.outline
        size = (bottom - self.top, right - self.left)
        self.shape = tuple(max(2, round(value * scale)) for value in size)
        # Exact scales along x and y, because the image has whole pixels.
        self.fit = np.array([self.shape[1] / size[1], self.shape[0] / size[0]])
        self.image = np.zeros((*self.shape, 3), np.uint8)
        self.relief = np.zeros(self.shape, np.uint8)
        self.marks: list[Mark] = []

    def points(
        self, values: Sequence[tuple[float, float]] | NDArray[np.floating]
    ) -> NDArray[np.int32]:
        """Convert points in millimetres to OpenCV's fixed-point pixel coordinates."""
        pixels = (np.asarray(values, float) - [self.left, self.top]) * self.fit - 0.5
        return np.round(pixels * 16).astype(np.int32)

    def area(
        self, values: Sequence[tuple[float, float]] | NDArray[np.floating], colour: Colour
    ) -> None:
        cv2.fillPoly(self.image, [self.points(values)], colour, cv2.LINE_AA, 4)

    def line(self, values: NDArray[np.floating], colour: Colour, width: float) -> None:
        thickness = max(1, round(width * self.scale))
        for image, value in ((self.image, colour), (self.relief, 255)):
            cv2.polylines(image, [self.points(values)], True, value, thickness, cv2.LINE_AA, 4)

    def stamp(self, ink: Gray, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Paint ink ``(h, w)`` into a box x1, y1, x2, y2 in millimetres, and add it to the relief."""
        low = (np.array(box[:2]) - [self.left, self.top]) * self.fit
        high = (np.array(box[2:]) - [self.left, self.top]) * self.fit
        first = np.floor(low).astype(int).clip(0)
        last = np.minimum(np.ceil(high).astype(int), self.shape[::-1])
        width, height = last - first
        if width < 1 or height < 1:
            return
        grown = (high - low) / [ink.shape[1], ink.shape[0]]
        # Average where the ink shrinks, so that a pixel is the mean of the area it covers.
        small = max(1, round(1 / max(grown.max(), 1e-6)))
        if small > 1:
            shrunk = (max(1, ink.shape[1] // small), max(1, ink.shape[0] // small))
            ink = np.asarray(cv2.resize(ink, shrunk, interpolation=cv2.INTER_AREA), np.uint8)
            grown = (high - low) / [ink.shape[1], ink.shape[0]]
        offset = low - first + (grown - 1) / 2
        matrix = np.array([[grown[0], 0, offset[0]], [0, grown[1], offset[1]]])
        covered = cv2.warpAffine(ink, matrix, (int(width), int(height)), flags=cv2.INTER_LINEAR)
        rows, columns = slice(first[1], last[1]), slice(first[0], last[0])
        share = covered[..., None].astype(np.float32) / 255
        part = self.image[rows, columns]
        part[:] = np.round(part + share * (np.array(colour, np.float32) - part)).astype(np.uint8)
        np.maximum(self.relief[rows, columns], covered, out=self.relief[rows, columns])


def _rounded(x1: float, y1: float, x2: float, y2: float, radius: float) -> NDArray[np.float64]:
    """Return the outline of a box with round corners, shape ``(32, 2)``."""
    turn = np.radians(np.linspace(0, 90, 8))
    arc = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius
    middles = ((x2 - radius, y2 - radius), (x1 + radius, y2 - radius),
               (x1 + radius, y1 + radius), (x2 - radius, y1 + radius))  # fmt: skip
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])
    parts = []
    for number, middle in enumerate(middles):
        parts.append(arc @ np.linalg.matrix_power(quarter, number) + middle)
    return np.concatenate(parts)


def _draw_arms(code: str, height: int) -> tuple[NDArray[np.uint8], Gray]:
    """Draw the arms of a canton, or of the country for "CH" and any code without arms of its own.

    Returns:
        Colours, shape ``(height, w, 3)``, and coverage, shape ``(height, w)``.
    """
    width, tall = _SHIELD
    zoom = height / tall
    size = (max(2, round(width * zoom)), max(2, height))
    division, colours, charge, ink = _ARMS.get(code, ("plain", (_R,), "cross", _W))
    image = np.empty((size[1], size[0], 3), np.uint8)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    along = {
        "plain": np.zeros(size[::-1]),
        "pale": columns / size[0],
        "fess": rows / size[1],
        "bend": (columns / size[0] + rows / size[1]) / 2 if len(colours) == 3
        else (1 + columns / size[0] - rows / size[1]) / 2,
    }[division]  # fmt: skip
    part = np.minimum((along * len(colours)).astype(int), len(colours) - 1)
    image[:] = np.array(colours, np.uint8)[part]

    def pixels(points: Sequence[tuple[float, float]]) -> NDArray[np.int32]:
        middle = (width / 2, tall * 0.44)
        return np.round((np.array(points) + middle) * zoom * 16).astype(np.int32)

    shapes = {"beast": _BEAST, "staff": _STAFF, "cross": _CROSS}
    if charge in shapes:
        cv2.fillPoly(image, [pixels(shapes[charge])], ink, cv2.LINE_AA, 4)
    elif charge == "disc":
        centre = (round(size[0] / 2), round(size[1] * 0.45))
        cv2.circle(image, centre, max(1, round(15 * zoom)), ink, -1, cv2.LINE_AA)
    elif code == "SZ":
        small = np.array(_CROSS) * 0.4 + [20, -22]
        cv2.fillPoly(image, [pixels(small.tolist())], ink, cv2.LINE_AA, 4)
    bow = np.linspace(0, np.pi / 2, 9)
    right = np.stack([width / 2 * (1 + np.cos(bow)), tall * (0.45 + 0.55 * np.sin(bow))], axis=1)
    outline = np.concatenate([[(0, 0), (width, 0)], right, (right * [-1, 1] + [width, 0])[::-1]])
    edge = np.round(outline * zoom * 16).astype(np.int32) - 8
    alpha = np.zeros(size[::-1], np.uint8)
    cv2.fillPoly(alpha, [edge], 255, cv2.LINE_AA, 4)
    cv2.polylines(image, [edge], True, _K, max(1, round(2.5 * zoom)), cv2.LINE_AA, 4)
    return image, alpha


def _place_arms(face: _Face, code: str, centre: tuple[float, float], height: float) -> None:
    pixels = max(3, round(height * face.scale))
    colours, alpha = _draw_arms(code, pixels)
    at = (np.array(centre) - [face.left, face.top]) * face.fit
    x, y = np.round(at - [alpha.shape[1] / 2, alpha.shape[0] / 2]).astype(int).clip(0)
    part = face.image[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    colours, alpha = (
        colours[: part.shape[0], : part.shape[1]],
        alpha[: part.shape[0], : part.shape[1]],
    )
    share = alpha[..., None].astype(np.float32) / 255
    part[:] = np.round(part + share * (colours.astype(np.float32) - part)).astype(np.uint8)
    relief = face.relief[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    np.maximum(relief, alpha // 2, out=relief)


@dataclass(frozen=True)
class _Row:
    """Characters of a line: the ink of each, and the gap before it in cap heights."""

    chars: str
    inks: list[Gray]
    gaps: list[float]

    def width(self, squeeze: float, gap: float) -> float:
        """Return the width of the line in cap heights."""
        ink = sum(image.shape[1] for image in self.inks) / _CAP
        return ink * squeeze + gap * sum(self.gaps)


def _row(chars: str, boldness: int, gap: float, grouped: bool) -> _Row:
    gaps = [0.0]
    for number, char in enumerate(chars[1:], start=1):
        beside_dot = DOT in (char, chars[number - 1])
        group = grouped and len(chars) - number == 3 and chars[number - 1].isdigit()
        gaps.append(gap * (0.95 if beside_dot else 1.0) + (0.13 if group else 0.0))
    return _Row(chars, [_glyph(char, boldness) for char in chars], gaps)


def _write(face: _Face, row: _Row, cap: float, middle: tuple[float, float], free: float) -> float:
    """Write a line centred at ``middle`` within ``free`` millimetres, and return its length.

    A line that is too long is fitted by narrowing the gaps first, then the characters, and finally by
    shrinking the whole line.
    """
    gap, squeeze = 1.0, 1.0
    if row.width(squeeze, gap) * cap > free:
        inks = row.width(1.0, 0.0)
        gap = float(np.clip((free / cap - inks) / max(sum(row.gaps), 1e-6), 0.55, 1.0))
        squeeze = float(np.clip((free / cap - gap * sum(row.gaps)) / inks, _LEAST_SQUEEZE, 1.0))
        cap = min(cap, free / row.width(squeeze, gap))
    length = row.width(squeeze, gap) * cap
    x, room = middle[0] - length / 2, _ROOM / _CAP * cap
    ink = COLOURS[face.plate.colour][2]
    for char, image, before in zip(row.chars, row.inks, row.gaps, strict=True):
        x += before * gap * cap
        wide = image.shape[1] / _CAP * squeeze * cap
        top = middle[1] - cap / 2 - room
        box = (x, top, x + wide, top + cap + 2 * room)
        face.stamp(image, box, ink)
        if char != DOT:
            face.marks.append((image, box))
        x += wide
    return length


def _write_lines(face: _Face, draws: SampleDraws) -> None:
    plate, size = face.plate, face.plate.format
    boldness, gap = draws.integer(0, len(_BOLDNESS) - 1), draws.uniform(0.15, 0.22)
    grouped = draws.chance(0.5)
    cap, margin = (
        size.cap_height * draws.uniform(0.96, 1.03),
        0.05 * min(size.height, size.width) + 5,
    )
    # On narrow plates the arms are smaller, to leave room for the letters.
    wide = min(cap * draws.uniform(0.5, 0.62), 0.17 * size.width)
    shield = wide * _SHIELD[1] / _SHIELD[0]
    army = plate.letters == _ARMY
    left, right = "CH", ("" if army else plate.letters)
    free, middle = size.width - 2 * margin, size.width / 2
    if size.lines == 1:
        arms = wide + 0.1 * cap if size.arms else 0.0
        # Few digits are spaced further apart.
        gap *= 1.0 + 0.25 * max(0, 5 - len(plate.digits)) / 4
        row = _row(f"{plate.letters}{DOT}{plate.digits}", boldness, gap, grouped)
        length = _write(face, row, cap, (middle, size.height / 2), free - 2 * arms)
        height = size.height / 2
    elif not size.arms:
        _write_moped(face, draws, cap, free, margin)
        return
    else:
        space = (size.height - 2 * cap) / 3
        height = space + cap / 2
        top = _row(plate.letters, boldness, gap, grouped)
        length = _write(face, top, cap, (middle, height), free - 2 * (wide + 0.1 * cap))
        bottom = _row(plate.digits, boldness, gap, grouped)
        _write(face, bottom, cap, (middle, size.height - space - cap / 2), free)
    if size.arms:
        edge = (size.width - length) / 2
        away = max(edge / 2, margin + wide / 2)
        away = max(min(away, edge - 0.05 * cap - wide / 2), margin + wide / 2 - 3)
        for code, x in ((left, away), (right, size.width - away)):
            if code:
                _place_arms(face, code, (x, height), shield)


def _write_moped(face: _Face, draws: SampleDraws, cap: float, free: float, margin: float) -> None:
    """Write the lines of a moped's plate, and paint its vignette (VZV Art. 94)."""
    plate, size = face.plate, face.plate.format
    boldness, gap = draws.integer(0, len(_BOLDNESS) - 1), draws.uniform(0.12, 0.18)
    y = draws.uniform(0.2, 0.26) * size.height
    letters = _row(plate.letters, boldness, gap, grouped=False)
    half = free * draws.uniform(0.44, 0.5)
    _write(face, letters, cap, (margin + half / 2, y), half)
    digits = _row(plate.digits, boldness, gap, grouped=False)
    _write(face, digits, cap, (size.width / 2, draws.uniform(0.62, 0.72) * size.height), free)
    x1, x2 = size.width * draws.uniform(0.53, 0.58), size.width * draws.uniform(0.88, 0.95)
    y1, y2 = size.height * draws.uniform(0.05, 0.1), size.height * draws.uniform(0.28, 0.34)
    face.area(
        _rounded(x1, y1, x2, y2, 2.0),
        draws.pick(((200, 60, 60), (60, 120, 190), (90, 170, 90), (225, 225, 225))),
    )
    year, number = str(draws.integer(20, 35)), str(draws.integer(10_000, 999_999))
    middle = y1 + 0.6 * (y2 - y1)
    for text, top, bottom in ((year, y1, middle), (number, middle, y2)):
        ink = small_text(text)
        high = 0.75 * (bottom - top)
        wide = min(high * ink.shape[1] / ink.shape[0], 0.85 * (x2 - x1))
        left, upper = (x1 + x2 - wide) / 2, (top + bottom - high) / 2
        face.stamp(ink, (left, upper, left + wide, upper + high), (15, 15, 18))


def paint_plate(
    plate: Plate, scale: float, draws: SampleDraws
) -> tuple[NDArray[np.uint8], Gray, list[Mark]]:
    """Paint the face of a plate with its frame, seen from the front.

    Args:
        plate: Plate to paint.
        scale: Approximate resolution in pixels per millimetre.
        draws: Random generator for the plate's appearance.

    Returns:
        RGB image, shape ``(h, w, 3)``, and coverage, shape ``(h, w)``, both spanning ``plate.outline``; and
        the characters of the text.
    """
    face, size = _Face(plate, scale), plate.format
    _, ground, ink = COLOURS[plate.colour]
    alpha = np.zeros(face.shape, np.uint8)
    if plate.frame:
        _paint_frame(face, draws)
        whole = _rounded(*plate.outline, 4.0)
        cv2.fillPoly(alpha, [face.points(whole)], 255, cv2.LINE_AA, 4)
    edge = _rounded(0.0, 0.0, size.width, size.height, 10.0)
    cv2.fillPoly(alpha, [face.points(edge)], 255, cv2.LINE_AA, 4)
    tone = draws.uniform(0.9, 1.02)
    face.area(edge, tuple(min(255, round(value * tone)) for value in ground))  # type: ignore[arg-type]  # three
    inset, width = draws.uniform(3.5, 6.5), draws.uniform(2.2, 4.5)
    rim = _rounded(inset, inset, size.width - inset, size.height - inset, 7.0)
    face.line(rim, ink, width)
    _write_lines(face, draws)
    _press(face, draws)
    if draws.chance(0.3):
        _screw(face, draws)
    if draws.chance(0.35):
        _soil(face, draws)
    return face.image, alpha, face.marks


def _paint_frame(face: _Face, draws: SampleDraws) -> None:
    plate = face.plate
    x1, y1, x2, y2 = plate.outline
    dark = draws.integer(14, 60)
    face.area(_rounded(x1, y1, x2, y2, 4.0), (dark, dark, dark))
    if not draws.chance(0.8):
        return
    ink = small_text(draws.pick(_DEALERS))
    height = _FRAME_TEXT * draws.uniform(0.4, 0.65)
    width = min(height * ink.shape[1] / ink.shape[0], 0.8 * plate.format.width)
    y = (y1 - height) / 2 if plate.frame == "above" else (plate.format.height + y2 - height) / 2
    x = (plate.format.width - width) / 2
    colour = draws.pick(((225, 225, 225), (200, 30, 30), (230, 200, 60), (120, 150, 210)))
    face.stamp(ink, (x, y, x + width, y + height), colour)
    face.relief[:] = 0


def _press(face: _Face, draws: SampleDraws) -> None:
    """Add light and shadow to the edges of the embossed parts."""
    depth = max(0.6, 1.3 * face.scale)
    soft = cv2.GaussianBlur(face.relief, (0, 0), depth * 0.6).astype(np.float32)
    turn = np.radians(draws.uniform(35, 145))
    slope = -np.cos(turn) * cv2.Sobel(soft, cv2.CV_32F, 1, 0) - np.sin(turn) * cv2.Sobel(
        soft, cv2.CV_32F, 0, 1
    )
    strength = draws.uniform(0.0, 0.16) * min(1.0, depth)
    lit = face.image + (slope * -strength)[..., None]
    face.image[:] = np.clip(lit, 0, 255).astype(np.uint8)


def _screw(face: _Face, draws: SampleDraws) -> None:
    size, radius = face.plate.format, draws.uniform(2.5, 4.5)
    grey = draws.integer(70, 220)
    x, y = draws.uniform(0.1, 0.3) * size.width, draws.uniform(7, 12)
    for place in ((x, y), (size.width - x, y)):
        turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
        face.area(circle * radius + place, (grey // 2,) * 3)
        face.area(circle * radius * 0.75 + place, (grey,) * 3)


def _soil(face: _Face, draws: SampleDraws) -> None:
    """Add dust and splashes, more of them towards the bottom."""
    height, width = face.shape
    share = clouds(draws, (height, width), 4)
    share = np.clip((share - draws.uniform(0.45, 0.6)) * 2.2, 0, 1)
    share *= np.linspace(draws.uniform(0.1, 1.0), 1.0, height, dtype=np.float32)[:, None]
    share *= draws.uniform(0.2, 0.7)
    mud = np.array([118, 104, 86], np.float32)
    mixed = face.image + share[..., None] * (mud - face.image)
    face.image[:] = mixed.astype(np.uint8)
