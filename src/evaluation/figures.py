"""Figures for the evaluations: samples with annotations and predictions drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# Blue and orange are distinct for colour-blind people too (Okabe and Ito, 2008), and from the border.
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
    """A quadrilateral to draw; its corners ``(4, 2)`` are in pixels of the image they are drawn on."""

    corners: NDArray[np.floating]
    colour: Colour


@dataclass(frozen=True)
class Line:
    """A line of text below an image."""

    text: str
    colour: Colour = PLAIN


def draw_result(
    image: NDArray[np.uint8],
    outlines: Sequence[Outline],
    lines: Sequence[Line],
    right: bool,
    below: NDArray[np.uint8] | None = None,
) -> Image.Image:
    """Draw a sample, enlarged, with outlines, text below it, and a green or red border.

    Args:
        image: Image ``(H, W)``, uint8.
        outlines: Outlines to draw, in this order.
        lines: Lines of text below the image.
        right: Whether the result is right, which makes the border green instead of red.
        below: Second image ``(h, w)``, uint8, drawn below the first, such as the network's input.
    """
    scale = _SIDE / max(image.shape)
    sheet = _enlarged(image, scale)
    draw = ImageDraw.Draw(sheet)
    for number, outline in enumerate(outlines):
        points = [tuple(point) for point in (outline.corners * scale).tolist()]
        # Earlier outlines are wider, so that they remain visible under later ones.
        width = 3 + 3 * (len(outlines) - 1 - number)
        draw.line([*points, points[0]], fill=outline.colour, width=width, joint="curve")
        # Mark the plate's own top left, which shows whether the plate is upside down.
        x, y = points[0]
        draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=outline.colour)
    parts = [sheet] if below is None else [sheet, _enlarged(below, _SIDE / below.shape[1])]
    return _framed(parts, lines, RIGHT if right else WRONG)


def cut_around(
    image: NDArray[np.uint8], corners: NDArray[np.floating], widths: float = 4.0
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Crop an image around a plate that would otherwise be too small to see.

    Args:
        image: Image ``(H, W)``, uint8.
        corners: Corners of the plate in pixels, shape ``(4, 2)``.
        widths: Side of the crop, as a multiple of the longer side of the plate's upright box.

    Returns:
        The crop ``(h, w)``, and the x and y of its top left corner in the image, shape ``(2,)``. If the
        crop would be nearly as large as the image, these are the whole image and (0, 0).
    """
    size = np.array(image.shape[::-1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = float((high - low).max()) * widths
    if side >= 0.8 * size.max():
        return image, np.zeros(2)
    first = np.clip((low + high - side) / 2, 0, np.maximum(size - side, 0)).astype(int)
    last = np.minimum(first + round(side), size)
    return image[first[1] : last[1], first[0] : last[0]], first.astype(float)


def _enlarged(image: NDArray[np.uint8], scale: float) -> Image.Image:
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    interpolation = cv2.INTER_CUBIC if scale >= 1 else cv2.INTER_AREA
    grey = cv2.resize(image, size, interpolation=interpolation)
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
    """Arrange cards in a grid; without any, return an image that says ``no failure``."""
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


def write_images(folder: Path, prefix: str, cards: Sequence[Image.Image]) -> None:
    """Write cards as ``plots/images/PREFIX_0.png`` and so on into a results folder."""
    for number, card in enumerate(cards):
        _save(card, folder / "plots" / "images" / f"{prefix}_{number}.png")


def write_sheet(folder: Path, cards: Sequence[Image.Image], name: str = "worst_failures") -> None:
    """Write a sheet of cards as ``plots/images/NAME.png`` into a results folder."""
    sheet = draw_sheet(cards)
    if cards:
        sheet = sheet.resize((sheet.width * 2 // 3, sheet.height * 2 // 3), Image.Resampling.BOX)
    _save(sheet, folder / "plots" / "images" / f"{name}.png")


def _save(image: Image.Image, path: Path) -> None:
    # The images are tracked by Git; a palette makes them a third as large without a visible loss.
    image.quantize(palette=_palette(), dither=Image.Dither.NONE).save(path)


def _palette() -> Image.Image:
    """Return 48 greys, and each colour in blends with the background, for anti-aliased letters."""
    greys = np.linspace(0, 255, 48).round()[:, None].repeat(3, axis=1)
    colours, share = np.array([TRUE, FOUND, RIGHT, WRONG]), np.linspace(0, 0.75, 4)[:, None, None]
    mixed = (colours * (1 - share) + 255 * share).round().reshape(-1, 3)
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.concatenate([greys, mixed]).astype(np.uint8).tobytes())
    return palette
