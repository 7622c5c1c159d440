"""What pictures are recognised by, and how alike two of them are.

Candidates for near duplicates are alike in the amplitudes of their low frequencies, which do not change
when a picture is moved; they are confirmed by the correlation of what is sharp in both, moved as it fits
best.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .samples import FloatArray, Picture, Samples

SIDE = 32
"""Pictures are shrunk to this side to look for candidates, ..."""
LOW = 9
"""... of whose frequencies so many are kept in each direction."""
SMALL = 64
"""Side at which all candidates are compared, moved by up to ..."""
_SMALL_REACH = 7
"""... so many of its pixels in each direction; ..."""
_WORTH_A_LOOK = 0.45
"""... from this correlation on they are compared ..."""
LARGEST = 128
"""... at their own size, or at one whose longer side is this, moved by up to ..."""
REACH = 4
"""... so many pixels."""
_FINE, _COARSE = 1.2, 4.0
"""Standard deviations of the Gaussian filters between which details lie, in pixels."""
_SHAPES = 0.2
"""Pictures whose logarithms of width over height differ by more are no duplicates."""
_FAINT = 1.5
"""Details weaker than so many grey values stay weak."""
_ACTIVE, _LEAST_ACTIVE = 0.3, 0.03
"""A picture with a smaller share of details that are stronger than this shows next to nothing."""
_ROWS_AT_ONCE = 1024


def digests(samples: Samples) -> NDArray[np.bytes_]:
    """``(n,)`` of the samples' pictures: equal where size and pixels are.

    What has no picture is like no other.
    """
    usable = (samples.labels["problem"] == "").tolist()
    numbers = samples.pictures.tolist()
    pictures = dict.fromkeys(number for number, use in zip(numbers, usable, strict=True) if use)
    own = {number: _picture_digest(samples.load(number)) for number in pictures}
    return np.array(
        [
            own[number] if usable[row] else _digest(samples.where(row).encode())
            for row, number in enumerate(numbers)
        ]
    )


def _picture_digest(picture: Picture) -> bytes:
    return _digest(str(picture.shape).encode(), np.ascontiguousarray(picture).data)


def _digest(*content: bytes | memoryview) -> bytes:
    # 15 bytes and an end that is no zero, which numpy would cut off.
    digest = hashlib.blake2b(digest_size=15)
    for part in content:
        digest.update(part)
    return digest.digest() + b"."


def signatures(samples: Samples) -> FloatArray:
    """``(n, D)`` float32 logarithms of the amplitudes of low frequencies."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)
    parts = []
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(samples)))
        small = [
            cv2.resize(samples.image(row), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            for row in rows
        ]
        pictures = np.stack(small).astype(np.float32)
        pictures -= pictures.mean(axis=(1, 2), keepdims=True)
        amplitudes = np.abs(np.fft.rfft2(pictures * window))
        low = np.concatenate([amplitudes[:, :LOW], amplitudes[:, -LOW + 1 :]], axis=1)[..., :LOW]
        parts.append(np.log1p(low).reshape(len(rows), -1).astype(np.float32))
    return np.concatenate(parts)


def details(picture: Picture, shape: tuple[int, ...]) -> FloatArray:
    """A picture in ``shape``, float32: what is neither smooth nor finer than noise, equally strong
    everywhere, as one hard edge would else outweigh all the rest.
    """
    if picture.shape != shape:
        smaller = picture.shape[0] > shape[0]
        interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        picture = np.asarray(
            cv2.resize(picture, shape[::-1], interpolation=interpolation), np.uint8
        )
    grey = picture.astype(np.float32)
    sharp = cv2.GaussianBlur(grey, (0, 0), _FINE) - cv2.GaussianBlur(grey, (0, 0), _COARSE)
    around = np.sqrt(cv2.GaussianBlur(np.square(sharp), (0, 0), _COARSE))
    return np.asarray(sharp / (around + _FAINT))


def correlation(first: FloatArray, second: FloatArray, reach: int) -> float:
    """Of two ``details``, moved as it fits best by up to ``reach`` pixels in each direction.

    It is 1 for the same and about 0 for pictures of other things. A picture that shows next to nothing
    is like no other.
    """
    if min(float((np.abs(item) > _ACTIVE).mean()) for item in (first, second)) < _LEAST_ACTIVE:
        return 0.0
    inner = np.ascontiguousarray(first[reach:-reach, reach:-reach])
    return float(cv2.matchTemplate(second, inner, cv2.TM_CCOEFF_NORMED).max())


def alike(first: Picture, second: Picture) -> float:
    """The ``correlation`` of two pictures at their own size, or at one of LARGEST."""
    scale = min(LARGEST / max(first.shape), 1.0)
    shape = tuple(max(round(side * scale), 8) for side in first.shape)
    reach = min(REACH, min(shape) // 6)
    return correlation(details(first, shape), details(second, shape), reach)


def nearest(wanted: FloatArray, among: FloatArray, count: int, skip_self: bool) -> NDArray[np.intp]:
    """``(n, K)`` rows of ``among`` nearest to each of ``wanted``: ``count``, or all there are."""
    mean, scale = among.mean(axis=0), among.std(axis=0) + 1e-6
    a, b = (wanted - mean) / scale, (among - mean) / scale
    squares = np.square(b).sum(axis=1)
    count = min(count, len(b) - skip_self)
    rows = np.full((len(a), max(count, 0)), -1)
    for start in range(0, len(a) if count > 0 else 0, _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        distances = squares - 2 * (a[part] @ b.T)
        if skip_self:
            own = np.arange(start, start + len(distances))
            distances[np.arange(len(own)), own] = np.inf
        rows[part] = np.argpartition(distances, count - 1, axis=1)[:, :count]
    return rows


def matches(
    first: Callable[[int], Picture],
    second: Callable[[int], Picture],
    pairs: Sequence[tuple[int, int]],
) -> FloatArray:
    """``(P,)`` how alike the pictures of pairs of numbers are.

    Pairs are compared small first: that is quick, and tells most of them apart.

    Args:
        first: the picture of a pair's first number.
        second: the picture of its second number.
        pairs: to compare.
    """
    mine, theirs = _small(first), _small(second)
    values = np.zeros(len(pairs))
    for number, (a, b) in enumerate(pairs):
        (small_a, shape_a), (small_b, shape_b) = mine(a), theirs(b)
        if abs(shape_a - shape_b) < _SHAPES:
            values[number] = correlation(small_a, small_b, _SMALL_REACH)
            if values[number] > _WORTH_A_LOOK:
                values[number] = alike(first(a), second(b))
    return values


def _small(image: Callable[[int], Picture]) -> Callable[[int], tuple[FloatArray, float]]:
    """The small details of a number's picture, and the logarithm of its width over its height."""

    @lru_cache(maxsize=8192)
    def small(number: int) -> tuple[FloatArray, float]:
        picture = image(number)
        height, width = picture.shape
        return details(picture, (SMALL, SMALL)), math.log(width / height)

    return small
