"""Pictures of the evaluations: what was true and what came out, drawn on the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Blue and orange stay apart for colour-blind eyes too (Okabe and Ito, 2008), and from the rim.
TRUE: Colour = (0, 114, 178)
FOUND: Colour = (230, 120, 0)
RIGHT: Colour = (0, 150, 60)
WRONG: Colour = (213, 20, 20)
PLAIN: Colour = (70, 70, 70)

_SIDE = 480
_RIM = 8
_LINE = 30
_PAPER: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Outline:
    """Four corners ``(4, 2)`` in pixels of the picture they are drawn on."""

    corners: NDArray[np.floating]
    colour: Colour


@dataclass(frozen=True)
class Line:
    """A line of text below a picture."""

    text: str
    colour: Colour = PLAIN


def draw_result(
    picture: NDArray[np.uint8],
    outlines: Sequence[Outline],
    lines: Sequence[Line],
    right: bool,
    below: NDArray[np.uint8] | None = None,
) -> Image.Image:
    """A sample, enlarged, with outlines, text below it, and a green or red rim.

    Args:
        picture: ``(H, W)`` uint8.
        outlines: drawn one after the other.
        lines: of text.
        right: whether the rim is green.
        below: another picture ``(h, w)`` uint8 under it, as what the network saw.
    """
    scale = _SIDE / max(picture.shape)
    sheet = _enlarged(picture, scale)
    draw = ImageDraw.Draw(sheet)
    for number, outline in enumerate(outlines):
        points = [tuple(point) for point in (outline.corners * scale).tolist()]
        # The first outlines are wider, so that they show below those that lie upon them.
        width = 3 + 3 * (len(outlines) - 1 - number)
        draw.line([*points, points[0]], fill=outline.colour, width=width, joint="curve")
        # The plate's own top left shows whether it stands on its head.
        x, y = points[0]
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=outline.colour)
    parts = [sheet] if below is None else [sheet, _enlarged(below, _SIDE / below.shape[1])]
    return _framed(parts, lines, RIGHT if right else WRONG)


def cut_around(
    picture: NDArray[np.uint8], corners: NDArray[np.floating], widths: float = 4.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The part of a picture around a plate, where the plate would else be too small to see.

    Args:
        picture: ``(H, W)`` uint8.
        corners: ``(4, 2)`` of the plate, in pixels.
        widths: side of the part, in sides of the plate's upright box.

    Returns:
        ``(h, w)`` of it, and where it begins: ``(2,)`` x and y. The whole picture and 0, 0 where the
        part would be nearly as large.
    """
    size = np.array(picture.shape[::-1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = float((high - low).max()) * widths
    if side >= 0.8 * size.max():
        return picture, np.zeros(2)
    first = np.clip((low + high - side) / 2, 0, np.maximum(size - side, 0)).astype(int)
    last = np.minimum(first + round(side), size)
    return picture[first[1] : last[1], first[0] : last[0]], first.astype(float)


def _enlarged(picture: NDArray[np.uint8], scale: float) -> Image.Image:
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    interpolation = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA
    grey = cv2.resize(picture, size, interpolation=interpolation)
    return Image.fromarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))


def _framed(parts: Sequence[Image.Image], lines: Sequence[Line], rim: Colour) -> Image.Image:
    inner = (
        _SIDE,
        sum(part.height for part in parts) + _LINE * len(lines) + (6 if lines else 0),
    )
    card = Image.new("RGB", (inner[0] + 2 * _RIM, inner[1] + 2 * _RIM), rim)
    card.paste(_PAPER, (_RIM, _RIM, _RIM + inner[0], _RIM + inner[1]))
    top = _RIM
    for part in parts:
        card.paste(part, (_RIM + (_SIDE - part.width) // 2, top))
        top += part.height
    draw = ImageDraw.Draw(card)
    for number, line in enumerate(lines):
        place = (_RIM + 8, top + 2 + number * _LINE)
        draw.text(place, line.text, fill=line.colour, font=ImageFont.load_default(22))
    return card


def draw_sheet(cards: Sequence[Image.Image], columns: int = 4) -> Image.Image:
    """Cards side by side; one that says ``no failure`` where there are none."""
    if not cards:
        sheet = Image.new("RGB", (_SIDE, 120), _PAPER)
        draw = ImageDraw.Draw(sheet)
        font = ImageFont.load_default(36)
        draw.text((_SIDE // 2, 60), "no failure", fill=RIGHT, font=font, anchor="mm")
        return sheet
    columns = min(columns, len(cards))
    width, height = max(card.width for card in cards), max(card.height for card in cards)
    rows = -(-len(cards) // columns)
    gap = 8
    sheet = Image.new("RGB", (columns * (width + gap), rows * (height + gap)), _PAPER)
    for number, card in enumerate(cards):
        sheet.paste(card, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def write_pictures(folder: Path, prefix: str, cards: Sequence[Image.Image]) -> None:
    """Write cards as ``plots/images/PREFIX_0.png`` and so on into a folder of results."""
    for number, card in enumerate(cards):
        _save(card, folder / "plots" / "images" / f"{prefix}_{number}.png")


def write_sheet(folder: Path, cards: Sequence[Image.Image], name: str = "worst_failures") -> None:
    """Write cards as ``plots/images/NAME.png`` into a folder of results."""
    sheet = draw_sheet(cards)
    if cards:
        sheet = sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.Resampling.BOX)
    _save(sheet, folder / "plots" / "images" / f"{name}.png")


def _save(image: Image.Image, path: Path) -> None:
    # The pictures are in git: a palette makes them a third as large, and nobody sees it.
    image.quantize(palette=_palette(), dither=Image.Dither.NONE).save(path)


def _palette() -> Image.Image:
    """48 greys, and each colour with what lies between it and the paper, for smooth letters."""
    greys = np.linspace(0, 255, 48).round()[:, None].repeat(3, axis=1)
    colours, share = np.array([TRUE, FOUND, RIGHT, WRONG]), np.linspace(0, 0.75, 4)[:, None, None]
    mixed = (colours * (1 - share) + 255 * share).round().reshape(-1, 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, mixed]).astype(np.uint8).tobytes())
    return palette
