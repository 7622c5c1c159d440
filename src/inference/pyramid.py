"""An image at several sizes, for the localizer's inputs and the recognizer's crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.geometry import PAD_GREY, FloatArray
from ..core.images import DecodedImage, Pixels

LONGEST = 1016
"""Long side of the largest level, which is 1024 with its padding. A plate of 20 pixels can be found
there."""
SHORTEST = 56
"""Minimum long side of a level, unless the image itself is smaller."""
TILE, OVERLAP = 1016, 128
"""Side of a tile, and by how much neighbouring ones overlap at least: more than the width of a plate that
is found better at full resolution than at half of it."""
_BORDERED_SHARE = 0.7
"""Fraction of the input's side that an image takes with a border."""
_ASPECTS = (0.5, 7.0)
"""Aspect ratios of images that may be nothing but a plate; plates have 0.7 to 4.5."""
_NEARLY = 1.08
"""A half of the image that is shorter than ``LONGEST`` by at most this factor is used as it is."""
_SMALL = (64, 96, 128)
"""Images whose long side is at most one of these are placed in a square of this side plus the
padding, so that they can be processed together. Runtimes are slow where the size of an input is new."""
_BITS = 5
"""Number of significant bits of the sides of larger inputs, in strides: there are sixteen sizes
between a side and its double."""
_OPENCV_SIDE = 30_000
"""Maximum side of images given to OpenCV, which cannot warp one with a side of 2^15 pixels or more."""


@dataclass(frozen=True)
class Level:
    """An image at one size, and its position in the localizer's input.

    Attributes:
        image: Grey image ``(h, w)``, uint8.
        shape: Height and width of the localizer's input.
        offset: Padding to the left of the image and above it in pixels, x, y.
        scale: Displayed pixels per pixel of the level, x, y.
        origin: Position x, y of ``image`` within the whole image at that size.
    """

    image: Pixels
    shape: tuple[int, int]
    offset: NDArray[np.float64]
    scale: NDArray[np.float64]
    origin: tuple[int, int] = (0, 0)

    def to_image(self, corners: FloatArray) -> FloatArray:
        """Convert points ``(..., 2)`` of the localizer's input to points of the displayed image."""
        return (corners - self.offset + self.origin) * self.scale


class Pyramid:
    """An image and its successive halvings.

    Args:
        image: Image, which is not modified.
    """

    def __init__(self, image: DecodedImage) -> None:
        self.width, self.height = image.width, image.height
        self._unit = float(image.scale)
        grey = image.grey
        while max(grey.shape) > _OPENCV_SIDE and min(grey.shape) > 1:
            grey, self._unit = _halved(grey), 2 * self._unit
        self._halves = [grey]

    def half(self, number: int) -> Pixels:
        """Return the image as it was decoded, halved ``number`` times."""
        while len(self._halves) <= number:
            self._halves.append(_halved(self._halves[-1]))
        return self._halves[number]

    def scale(self, number: int) -> float:
        """Return the displayed pixels per pixel of ``half(number)``."""
        return self._unit * 2**number

    def nearest_above(self, reduction: float) -> tuple[Pixels, float]:
        """Return the smallest half that is reduced at most by ``reduction``, and its scale."""
        number, short = 0, min(self.half(0).shape)
        while self.scale(number + 1) <= reduction and short >> number > 1:
            number += 1
        return self.half(number), self.scale(number)

    def levels(self, stride: int) -> Iterator[Level]:
        """Yield the inputs of a localizer that takes any size, the largest level first.

        Args:
            stride: Stride of the localizer. Each input is a multiple of it, and each level has padding
                of at least half of it on each side.
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

    def bordered(self, size: int) -> Level | None:
        """Return the whole image with a grey border, as a plate that fills it looks in training.

        A plate that fills the image is cut by its edges in every level, where no training image has one
        so large.

        Args:
            size: Side of the localizer's input in pixels.

        Returns:
            The level; None for an image that is too high or too wide for a plate.
        """
        aspect = self.width / self.height
        if not _ASPECTS[0] <= aspect <= _ASPECTS[1]:
            return None
        centre = np.array([self.width, self.height]) / 2
        return self.window(centre, max(self.width, self.height) / _BORDERED_SHARE, size)

    def tiles(self, stride: int) -> Iterator[Level]:
        """Yield overlapping parts of the image at full resolution, and at its halves.

        ``levels`` begins where these end: they are the sizes that are larger than its largest level.

        Args:
            stride: Stride of the localizer.
        """
        number = 0
        while max(self.half(number).shape) > LONGEST:
            image, scale = self.half(number), np.full(2, self.scale(number))
            for top in _starts(image.shape[0]):
                for left in _starts(image.shape[1]):
                    part = image[top : top + TILE, left : left + TILE]
                    yield replace(_padded(part, scale, stride), origin=(left, top))
            number += 1

    def whole(self, shape: tuple[int, int]) -> Level:
        """Return the input of a localizer that takes one size only: the whole image, squeezed."""
        height, width = shape
        image, scale = self.nearest_above(min(self.width / width, self.height / height))
        rows, columns = image.shape
        if image.shape != shape:
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
        scales = scale * np.array([columns / width, rows / height])
        return Level(image, shape, np.zeros(2), scales)

    def window(self, centre: FloatArray, side: float, size: int) -> Level:
        """Return an upright square of the image, grey where it extends beyond the image.

        Args:
            centre: Centre of the square, x, y in displayed pixels.
            side: Side of the square in displayed pixels.
            size: Side of the result in pixels.
        """
        zoom = side / size
        image, scale = self.nearest_above(zoom)
        corner = (np.asarray(centre, np.float64) - side / 2) / scale
        step = zoom / scale
        # OpenCV has pixel centres at integers.
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


def _starts(side: int) -> list[int]:
    """Return where tiles begin along a side, as evenly spaced as possible."""
    if side <= TILE:
        return [0]
    count = -(-(side - OVERLAP) // (TILE - OVERLAP))
    return [round(i * (side - TILE) / (count - 1)) for i in range(count)]


def small_sides(stride: int) -> list[int]:
    """Return the sides of the squares that small levels are placed in."""
    return [_padded_side(side, stride) for side in _SMALL]


def stacked(levels: Sequence[Level]) -> NDArray[np.uint8]:
    """Stack levels of one size to a batch ``(N, H, W)``, each with its padding."""
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
    """Return the smallest side of an input that fits a side and its padding."""
    strides = -(-(side + 2 * (stride // 2)) // stride)
    unit = 1 << max(0, strides.bit_length() - _BITS)
    return -(-strides // unit) * unit * stride


def _halved(image: Pixels) -> Pixels:
    """Return means of 2x2 pixels, without an odd last row or column so that the scale is exactly 2."""
    height, width = image.shape
    even = image[: height // 2 * 2, : width // 2 * 2]
    return np.asarray(cv2.resize(even, (width // 2, height // 2), interpolation=cv2.INTER_AREA))


def _resized(image: Pixels, factor: float) -> tuple[Pixels, NDArray[np.float64]]:
    """Resize an image by a factor from 0.5 to 1, and return it with the old pixels per new one, x, y."""
    height, width = image.shape
    new_height, new_width = max(1, round(height * factor)), max(1, round(width * factor))
    resized = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8), np.array([width / new_width, height / new_height])
