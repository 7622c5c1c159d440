"""A picture at several sizes, as a localizer looks at it and as a reader's crops are cut from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import PAD_GREY, FloatArray
from ..core.images import Picture, Pixels

LONGEST = 1016
"""Long side of the largest level, which is 1024 with its padding. A plate of 20 pixels there can be
found."""
SHORTEST = 56
"""Long side that no level is below, but that of a picture which is itself below."""
_NEARLY = 1.08
"""A half of the picture that is shorter than ``LONGEST`` by this factor at most is taken as it is."""
_SMALL = (64, 96, 128)
"""Images whose long side is one of these at most are put into a square of this side and the padding,
and so can be looked at together. Runtimes are slow where the size of an input is new."""
_BITS = 5
"""Sides of the inputs of larger ones, in strides, have as many significant bits: there are sixteen
between a side and its double."""
_OPENCV_SIDE = 30_000
"""OpenCV warps no picture with a side of 2^15 pixels or more."""


@dataclass(frozen=True)
class Level:
    """A size of a picture, and where it lies in what the localizer gets.

    Attributes:
        image: ``(h, w)`` uint8.
        shape: height and width of the localizer's input.
        offset: pixels of padding to the left of it and above it: x, y.
        scale: displayed pixels for each of its own: x, y.
    """

    image: Pixels
    shape: tuple[int, int]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]

    def to_picture(self, corners: FloatArray) -> FloatArray:
        """``(..., 2)`` points of the localizer's input as points of the displayed picture."""
        return (corners - self.offset) * self.scale


class Pyramid:
    """A picture and its halves.

    Args:
        picture: it stays as it is.
    """

    def __init__(self, picture: Picture) -> None:
        self.width, self.height = picture.width, picture.height
        self._unit = float(picture.scale)
        grey = picture.grey
        while max(grey.shape) > _OPENCV_SIDE and min(grey.shape) > 1:
            grey, self._unit = _halved(grey), 2 * self._unit
        self._halves = [grey]

    def half(self, number: int) -> Pixels:
        """The picture as it was decoded, halved so many times."""
        while len(self._halves) <= number:
            self._halves.append(_halved(self._halves[-1]))
        return self._halves[number]

    def scale(self, number: int) -> float:
        """Displayed pixels for each pixel of ``half(number)``."""
        return self._unit * 2**number

    def nearest_above(self, reduction: float) -> tuple[Pixels, float]:
        """The smallest half that is reduced by a factor of ``reduction`` at most, and its scale."""
        number, short = 0, min(self.half(0).shape)
        while self.scale(number + 1) <= reduction and short >> number > 1:
            number += 1
        return self.half(number), self.scale(number)

    def levels(self, stride: int) -> Iterator[Level]:
        """What a localizer that takes any size gets, the largest level first.

        Args:
            stride: of the localizer; each input is a multiple of it, and the level has padding of half
                of it at least on each side.
        """
        number, least = 0, LONGEST / _NEARLY
        short, long = sorted(self.half(0).shape)
        if long >= 2 * SHORTEST and short > 1:
            number = 1
            while short >> number > 1 and long >> (number + 1) >= least:
                number += 1
        image, scale = self.half(number), np.full(2, self.scale(number))
        longest = max(image.shape)
        if longest > LONGEST:
            image, factor = _resized(image, LONGEST / longest)
            scale = scale * factor
        yield _padded(image, scale, stride)
        while max(image.shape) >= 2 * SHORTEST and min(image.shape) >= 2 * stride:
            image, scale = _halved(image), 2 * scale
            yield _padded(image, scale, stride)

    def whole(self, shape: tuple[int, int]) -> Level:
        """What a localizer that takes one size alone gets: all of the picture, squeezed."""
        height, width = shape
        image, scale = self.nearest_above(min(self.width / width, self.height / height))
        rows, columns = image.shape
        if image.shape != shape:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        scales = scale * np.array([columns / width, rows / height])
        return Level(image, shape, np.zeros(2), scales)

    def window(self, centre: FloatArray, side: float, size: int) -> Level:
        """An upright square of the picture; grey where it reaches beyond.

        Args:
            centre: x, y in displayed pixels.
            side: in displayed pixels.
            size: of the result, in pixels.
        """
        zoom = side / size
        image, scale = self.nearest_above(zoom)
        corner = (np.asarray(centre, np.float64) - side / 2) / scale
        step = zoom / scale
        # OpenCV puts pixel centres at integers.
        shift = corner + step / 2 - 0.5
        matrix = np.array([[step, 0.0, shift[0]], [0.0, step, shift[1]]])
        cut = cv2.warpAffine(
            image,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=PAD_GREY,
        )
        origin = -corner * scale / zoom
        return Level(np.asarray(cut, np.uint8), (size, size), origin, np.full(2, zoom))


def small_sides(stride: int) -> list[int]:
    """Sides of the squares that small levels are put into."""
    return [_padded_side(side, stride) for side in _SMALL]


def stacked(levels: Sequence[Level]) -> NDArray[np.uint8]:
    """Levels of one size as a batch ``(N, H, W)``, each with its padding."""
    if len(levels) == 1 and levels[0].image.shape == levels[0].shape:
        return levels[0].image[None]
    batch = np.full((len(levels), *levels[0].shape), PAD_GREY, np.uint8)
    for row, level in zip(batch, levels, strict=True):
        height, width = level.image.shape
        left, top = (
            (int(value) for value in level.offset) if level.image.shape != level.shape else (0, 0)
        )
        row[top : top + height, left : left + width] = level.image
    return batch


def _padded(image: Pixels, scale: NDArray[np.float64], stride: int) -> Level:
    height, width = image.shape
    small = [side for side in _SMALL if side >= max(height, width)]
    shape = (small[0], small[0]) if small else (height, width)
    rows, columns = (_padded_side(side, stride) for side in shape)
    return Level(image, (rows, columns), np.full(2, float(stride // 2)), scale)


def _padded_side(side: int, stride: int) -> int:
    """The least side of an input that takes a side and its padding."""
    strides = -(-(side + 2 * (stride // 2)) // stride)
    unit = 1 << max(0, strides.bit_length() - _BITS)
    return -(-strides // unit) * unit * stride


def _halved(image: Pixels) -> Pixels:
    """Means of 2x2 pixels; an odd last row or column is left out, so that the scale is 2 for sure."""
    height, width = image.shape
    even = image[: height // 2 * 2, : width // 2 * 2]
    return np.asarray(cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA))


def _resized(image: Pixels, factor: float) -> tuple[Pixels, NDArray[np.float64]]:
    """An image resized by a factor from 0.5 to 1, and old pixels for each new one: x, y."""
    height, width = image.shape
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8), np.array([width / new_width, height / new_height])
