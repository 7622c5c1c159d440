"""Fingerprints of images, and the similarity of two images.

Candidates for near duplicates have similar amplitudes at low frequencies, which do not change when an
image is shifted. A candidate is confirmed by the correlation of the sharp details of both images at the
shift that fits best.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .samples import FloatArray, ImageArray, Samples

SIDE = 32
"""Side in pixels to which images are resized for the candidate search."""
LOW = 9
"""Number of lowest frequencies kept in each direction for the candidate search."""
SMALL = 64
"""Side in pixels to which candidates are resized for their first comparison."""
_SMALL_REACH = 7
"""Largest shift in each direction in the first comparison, in pixels at ``SMALL``."""
_WORTH_A_LOOK = 0.45
"""Correlation in the first comparison above which a pair is compared at its own size."""
LARGEST = 128
"""Longer side in pixels to which larger images are shrunk for the second comparison."""
REACH = 4
"""Largest shift in each direction in the second comparison, in pixels."""
_FINE, _COARSE = 1.2, 4.0
"""Standard deviations, in pixels, of the Gaussian filters whose difference isolates the details."""
_SHAPES = 0.2
"""Pairs whose logarithms of width over height differ by this much or more are not duplicates."""
_FAINT = 1.5
"""Details weaker than this many grey levels stay weak when details are normalised."""
_ACTIVE, _LEAST_ACTIVE = 0.3, 0.03
"""Detail strength that counts as active, and the smallest fraction of active pixels.

An image with a smaller fraction shows next to nothing.
"""
_ROWS_AT_ONCE = 1024


def digests(samples: Samples) -> NDArray[np.bytes_]:
    """Return digests of the samples' images, shape ``(n,)``: equal if size and pixels are equal.

    A sample without a usable image gets a digest that equals no other.
    """
    usable = (samples.labels["problem"] == "").tolist()
    numbers = samples.images.tolist()
    images = dict.fromkeys(number for number, use in zip(numbers, usable, strict=True) if use)
    own = {number: _image_digest(samples.load(number)) for number in images}
    return np.array(
        [
            own[number] if usable[row] else _digest(samples.where(row).encode())
            for row, number in enumerate(numbers)
        ]
    )


def _image_digest(image: ImageArray) -> bytes:
    return _digest(str(image.shape).encode(), np.ascontiguousarray(image).data)


def _digest(*content: bytes | memoryview) -> bytes:
    # numpy strips trailing zero bytes, so end the 15 bytes with a non-zero one.
    digest = hashlib.blake2b(digest_size=15)
    for part in content:
        digest.update(part)
    return digest.digest() + b"."


def signatures(samples: Samples) -> FloatArray:
    """Return the log amplitudes of the low frequencies of each image, shape ``(n, D)``, float32."""
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE)).astype(np.float32)
    parts = []
    for start in range(0, len(samples), _ROWS_AT_ONCE):
        rows = range(start, min(start + _ROWS_AT_ONCE, len(samples)))
        small = [
            cv2.resize(samples.image(row), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
            for row in rows
        ]
        images = np.stack(small).astype(np.float32)
        images -= images.mean(axis=(1, 2), keepdims=True)
        amplitudes = np.abs(np.fft.rfft2(images * window))
        low = np.concatenate([amplitudes[:, :LOW], amplitudes[:, -LOW + 1 :]], axis=1)[..., :LOW]
        parts.append(np.log1p(low).reshape(len(rows), -1).astype(np.float32))
    return np.concatenate(parts)


def details(image: ImageArray, shape: tuple[int, ...]) -> FloatArray:
    """Return the details of an image resized to ``shape``, float32.

    Details are what is neither smooth nor as fine as noise. They are normalised to the same local
    strength everywhere, because otherwise a single hard edge would outweigh all the rest.
    """
    if image.shape != shape:
        smaller = image.shape[0] > shape[0]
        interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, shape[::-1], interpolation=interpolation), np.uint8)
    grey = image.astype(np.float32)
    sharp = cv2.GaussianBlur(grey, (0, 0), _FINE) - cv2.GaussianBlur(grey, (0, 0), _COARSE)
    around = np.sqrt(cv2.GaussianBlur(np.square(sharp), (0, 0), _COARSE))
    return np.asarray(sharp / (around + _FAINT))


def correlation(first: FloatArray, second: FloatArray, reach: int) -> float:
    """Return the correlation of two ``details`` at the shift that fits best.

    The shift is at most ``reach`` pixels in each direction. The correlation is 1 for equal images and
    about 0 for images of different things, and 0 if one of the images shows next to nothing.
    """
    if min(float((np.abs(item) > _ACTIVE).mean()) for item in (first, second)) < _LEAST_ACTIVE:
        return 0.0
    inner = np.ascontiguousarray(first[reach:-reach, reach:-reach])
    return float(cv2.matchTemplate(second, inner, cv2.TM_CCOEFF_NORMED).max())


def alike(first: ImageArray, second: ImageArray) -> float:
    """Return the ``correlation`` of two images at their own size, or shrunk to ``LARGEST``."""
    scale = min(LARGEST / max(first.shape), 1.0)
    shape = tuple(max(round(side * scale), 8) for side in first.shape)
    reach = min(REACH, min(shape) // 6)
    return correlation(details(first, shape), details(second, shape), reach)


def nearest(wanted: FloatArray, among: FloatArray, count: int) -> NDArray[np.intp]:
    """Return the rows of ``among`` nearest to each row of ``wanted``, shape ``(n, K)``.

    K is ``count``, or the number of rows of ``among`` if that is smaller.
    """
    return _nearest(wanted, among, count, only_earlier=False)


def nearest_earlier(points: FloatArray, count: int) -> NDArray[np.intp]:
    """Return the rows nearest to each row among those before it, shape ``(n, K)``.

    K is ``count``, or the number of rows if that is smaller. Where there are fewer than K rows before a
    row, the rest is -1.
    """
    return _nearest(points, points, count, only_earlier=True)


def _nearest(
    wanted: FloatArray, among: FloatArray, count: int, only_earlier: bool
) -> NDArray[np.intp]:
    mean, scale = among.mean(axis=0), among.std(axis=0) + 1e-6
    a, b = (wanted - mean) / scale, (among - mean) / scale
    squares = np.square(b).sum(axis=1)
    count = min(count, len(b))
    rows = np.empty((len(a), count), np.intp)
    for start in range(0, len(a), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        distances = squares - 2 * (a[part] @ b.T)
        if only_earlier:
            own = np.arange(start, start + len(distances))
            distances[own[:, None] <= np.arange(len(b))] = np.inf
        found = np.argpartition(distances, count - 1, axis=1)[:, :count]
        is_excluded = np.isinf(np.take_along_axis(distances, found, axis=1))
        rows[part] = np.where(is_excluded, -1, found)
    return rows


def matches(
    first: Callable[[int], ImageArray],
    second: Callable[[int], ImageArray],
    pairs: Sequence[tuple[int, int]],
) -> FloatArray:
    """Return the similarity of the two images of each pair, shape ``(P,)``.

    Pairs are first compared at a small size, which is fast and rules most of them out.

    Args:
        first: Function that returns the image for the first number of a pair.
        second: Function that returns the image for the second number of a pair.
        pairs: Pairs of image numbers to compare.
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


def _small(load: Callable[[int], ImageArray]) -> Callable[[int], tuple[FloatArray, float]]:
    """Return a cached function from an image's number to its details and its shape.

    The details have side ``SMALL``; the shape is the natural logarithm of width over height.
    """

    @lru_cache(maxsize=8192)
    def small(number: int) -> tuple[FloatArray, float]:
        pixels = load(number)
        height, width = pixels.shape
        return details(pixels, (SMALL, SMALL)), math.log(width / height)

    return small
