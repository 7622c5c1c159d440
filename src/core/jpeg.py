"""Complete a JPEG that lacks its last bytes, tell how much of a truncated one is there, and count scans.

Cameras leave out the end marker, and transfers are cut off. libjpeg fills what is missing with grey once it
meets an end marker, so how much is missing is found by decoding twice: with an end marker, and with random
bytes before it. Where all of the image's data are there, those bytes change nothing; else, the image is
the same up to the place where its data end.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

START = b"\xff\xd8\xff"
"""Start of a JPEG: the marker SOI, and the first byte of the next one (ITU-T T.81, B.1.1.3)."""
ENOUGH = 0.99
"""Share of an image that is enough to read it: a few bytes less cost a corner, not a part of the scene."""
MOST_SCANS = 50
"""Maximum number of scans of an image. Encoders make one, or a progressive JPEG of about ten.

A scan that is empty costs a few bytes, but libjpeg still passes over all of the image, so that a file of some
kilobytes could take minutes (libjpeg-turbo: Two Issues with the JPEG Standard, LJT-01-003)."""

_END = b"\xff\xd9"
_MCU = 16
"""Usual height in pixels of the blocks that are encoded together."""
_COEFFICIENTS = 64
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
"""A marker, apart from those within a scan: stuffed bytes and restarts.

Of several 0xFF before it only the last one is searched for: a search for any number of them would look at
each of n bytes n times, and hold Python's lock, so that nothing else of the process would run."""
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
_FIRST_WITH_LENGTH = 0xC0
"""First marker with a length after it; libjpeg skips those before it, or refuses them."""
_NOISE = bytes(np.random.default_rng(0).integers(0, 0xFF, 256, np.uint8))
"""Random bytes without a marker."""


def has_too_many_scans(content: bytes) -> bool:
    """Return whether an image has more than ``MOST_SCANS`` scans.

    Args:
        content: Content from the start marker on.
    """
    # There are no more scans than such bytes, which is quick to tell; a video after the image may have more.
    if content.count(b"\xff" + bytes([_SCAN])) <= MOST_SCANS:
        return False
    return sum(marker == _SCAN for marker, _ in _segments(content)) > MOST_SCANS


def completed(content: bytes) -> tuple[bytes, str, float]:
    """Give a truncated JPEG an end.

    Args:
        content: Content from the start marker on.

    Returns:
        The content with an end; in words, how much of the image is there; and the share of the image from 0
        to 1, in the order of its data.

    Raises:
        Exception: Whatever Pillow raises for a damaged image.
    """
    # A single 0xFF is the first half of the end marker, or of a byte whose other half is missing.
    content = content.rstrip(b"\xff")
    whole = content + _END
    scans, is_last = _scans(content)
    if not scans:
        return whole, "it ends before the image itself begins", 0.0
    if not is_last:
        return whole, f"it ends within scan {scans}, and more scans should follow", 0.0
    share = _share(whole, content + _NOISE + _END)
    if share == 1:
        return whole, "all of the image is there", share
    # Rounded down: 99.96 % are not all.
    digits = 10 if share >= ENOUGH else 1
    return whole, f"{math.floor(100 * digits * share) / digits:g} % of the image is there", share


def _scans(content: bytes) -> tuple[int, bool]:
    """Return the number of scans that have begun, and whether the last one that an image needs has.

    A scan holds some of the components of the image and, in a progressive JPEG, some of the coefficients to
    some precision (ITU-T T.81, G.1.1).
    """
    scans, is_progressive = 0, False
    missing: dict[int, NDArray[np.int_]] = {}
    for marker, segment in _segments(content):
        if marker in _FRAMES and len(segment) > 5:
            is_progressive = marker in _PROGRESSIVE
            missing = {i: np.full(_COEFFICIENTS, 255) for i in segment[6 : 6 + 3 * segment[5] : 3]}
        elif marker == _SCAN and len(segment) >= 4:
            scans += 1
            first, last, precision = segment[-3:]
            if not is_progressive:
                first, last, precision = 0, _COEFFICIENTS - 1, 0
            for component in segment[1:-3:2]:
                if component in missing:
                    missing[component][first : last + 1] = precision & 15
    return scans, not any(each.any() for each in missing.values())


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of each segment, up to the end of the image or of what is there."""
    position = len(START) - 1
    while found := _MARKER.search(content, position):
        marker, position = found[1][0], found.end()
        if marker == _END[1]:
            return
        if marker < _FIRST_WITH_LENGTH:
            continue
        start = position + 2
        position += int.from_bytes(content[position:start], "big")
        if position > len(content):
            return
        yield marker, content[start:position]


def _share(whole: bytes, other: bytes) -> float:
    """Return the share of an image before the first difference between two versions of it."""
    first, second = _decoded(whole), _decoded(other)
    different = first != second
    if different.ndim == 3:
        different = different.any(axis=2)
    rows = different.any(axis=1)
    if not rows.any():
        return 1.0
    top = int(rows.argmax()) // _MCU * _MCU
    band = different[top : top + _MCU]
    left = int(band.any(axis=0).argmax())
    return (top * different.shape[1] + left * len(band)) / different.size


def _decoded(content: bytes) -> NDArray[np.uint8]:
    image = JpegImageFile(io.BytesIO(content))
    image.draft("L", image.size)
    image.load()
    return np.asarray(image)
