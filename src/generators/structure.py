"""Sharp structure for blurry backgrounds: edges, panels, grilles, bricks and lines of text.

An upscaled CIFAR-10 image is blurry and a plate is sharp, so a network would learn that anything sharp
is a plate. A bank of drawn textures is made once; scenes blend a crop of one into their background.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.random import Draws, SampleDraws
from .glyphs import CHARACTERS, GlyphStyle, draw_glyph

Gray = NDArray[np.uint8]

TEXTURES = 96
SPLIT_TEXTURES = {"train": range(72), "val": range(72, TEXTURES)}
"""Textures of each split: training and validation share none, and both have all kinds."""
SIDE = 384
"""Side of a texture in pixels, at the resolution of a 250-pixel scene."""


@lru_cache(maxsize=8)
def structure_bank(scale: float) -> NDArray[np.uint8]:
    """Return the bank of textures at ``scale`` times the resolution of a 250-pixel scene.

    The textures are part of the generator and do not depend on a set's random seed.

    Returns:
        Textures, uint8, shape ``(TEXTURES, side, side)``.
    """
    side = round(SIDE * scale)
    bank = np.empty((TEXTURES, side, side), np.uint8)
    kinds = (_panels, _grille, _text, _bricks, _ellipses, _stripes)
    draws = Draws(0, "structure", np.arange(TEXTURES))
    numbers = draws.split(600)
    for i in range(TEXTURES):
        texture = kinds[i % len(kinds)](numbers[i])
        bank[i] = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)
    bank.setflags(write=False)
    return bank


def _grey(numbers: SampleDraws) -> int:
    return int(numbers.uniform(0, 256))


def _panels(numbers: SampleDraws) -> Gray:
    """Draw overlapping rotated rectangles, some with an outline."""
    canvas = np.full((SIDE, SIDE), _grey(numbers), np.uint8)
    for _ in range(18):
        centre = (numbers.uniform(0, SIDE), numbers.uniform(0, SIDE))
        size = (numbers.uniform(10, 180), numbers.uniform(8, 90))
        corners = cv2.boxPoints((centre, size, numbers.uniform(-30, 30)))
        points = np.round(corners).astype(np.int32)
        cv2.fillConvexPoly(canvas, points, _grey(numbers), cv2.LINE_AA)
        if numbers.uniform() < 0.6:
            cv2.polylines(
                canvas, [points], True, _grey(numbers), int(numbers.uniform(1, 5)), cv2.LINE_AA
            )
    return canvas


def _grille(numbers: SampleDraws) -> Gray:
    """Draw crossing bars, like those of a radiator."""
    canvas = np.full((SIDE, SIDE), _grey(numbers), np.uint8)
    turn = numbers.uniform(-0.5, 0.5)
    for angle in (turn, turn + np.pi / 2):
        step, width = numbers.uniform(6, 40), int(numbers.uniform(1, 8))
        grey = _grey(numbers)
        along = np.array([np.cos(angle), np.sin(angle)])
        across = np.array([-along[1], along[0]])
        for k in np.arange(-SIDE, SIDE, step):
            middle = np.array([SIDE / 2, SIDE / 2]) + across * k
            start, end = middle - along * SIDE, middle + along * SIDE
            cv2.line(
                canvas,
                np.round(start).astype(int).tolist(),
                np.round(end).astype(int).tolist(),
                grey,
                width,
                cv2.LINE_AA,
            )
    return canvas


@lru_cache(maxsize=len(CHARACTERS))
def _character(char: str) -> Gray:
    return draw_glyph(char, GlyphStyle(), 44)


def _text(numbers: SampleDraws) -> Gray:
    """Draw lines of random characters, like signs and stickers that are not plates."""
    ground, ink = _grey(numbers), _grey(numbers)
    canvas = np.full((SIDE, SIDE), ground, np.uint8)
    widen = numbers.uniform(0.7, 1.6)
    top = 4
    while top < SIDE - 16:
        height = int(numbers.uniform(10, 44))
        left = int(numbers.uniform(-20, 40))
        spent = 0
        while left < SIDE and spent < 12:
            char = CHARACTERS[int(numbers.uniform(0, len(CHARACTERS)))]
            tile = _character(char)
            width = max(round(tile.shape[1] * widen * height / tile.shape[0]), 1)
            tile = cv2.resize(tile, (width, height), interpolation=cv2.INTER_AREA)
            x, y = max(left, 0), min(top, SIDE - tile.shape[0])
            place = canvas[y : y + tile.shape[0], x : x + tile.shape[1]]
            weight = tile[:, : place.shape[1]].astype(np.float32) / 255
            place[:] = (place + (ink - place.astype(np.float32)) * weight).astype(np.uint8)
            left += tile.shape[1] + height // 6
            spent += 1
        top += height + int(numbers.uniform(6, 40))
    return canvas


def _bricks(numbers: SampleDraws) -> Gray:
    """Draw rows of shifted blocks with joints."""
    width, height = int(numbers.uniform(16, 70)), int(numbers.uniform(8, 34))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    row = rows // height
    column = (columns + (row % 2) * (width // 2)) // width
    shade = ((row * 131 + column * 71) % 23) / 23
    canvas = _grey(numbers) + (shade - 0.5) * numbers.uniform(20, 120)
    joint = (rows % height < 2) | ((columns + (row % 2) * (width // 2)) % width < 2)
    canvas = np.where(joint, _grey(numbers), canvas)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _ellipses(numbers: SampleDraws) -> Gray:
    """Draw rings and discs, like wheels, lamps and badges."""
    canvas = np.full((SIDE, SIDE), _grey(numbers), np.uint8)
    for _ in range(16):
        centre = (int(numbers.uniform(0, SIDE)), int(numbers.uniform(0, SIDE)))
        axes = (int(numbers.uniform(6, 80)), int(numbers.uniform(6, 80)))
        thickness = -1 if numbers.uniform() < 0.5 else int(numbers.uniform(1, 9))
        angle = numbers.uniform(0, 180)
        cv2.ellipse(canvas, centre, axes, angle, 0, 360, _grey(numbers), thickness, cv2.LINE_AA)
    return canvas


def _stripes(numbers: SampleDraws) -> Gray:
    """Draw long edges, like kerbs, lane markings and bodywork."""
    canvas = np.full((SIDE, SIDE), _grey(numbers), np.uint8)
    for _ in range(14):
        start = (int(numbers.uniform(0, SIDE)), int(numbers.uniform(0, SIDE)))
        end = (int(numbers.uniform(0, SIDE)), int(numbers.uniform(0, SIDE)))
        cv2.line(canvas, start, end, _grey(numbers), int(numbers.uniform(1, 30)), cv2.LINE_AA)
    return canvas
