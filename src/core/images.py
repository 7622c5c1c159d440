"""Pictures of any kind as grey arrays, or an error that says what is wrong with one (no torch).

Pillow decodes: it knows a picture by its content, says when one is cut off (OpenCV fills the rest
with grey and prints on standard error), and is as fast where it counts, as libjpeg then decodes the
brightness alone (``draft``). Its decoders are called by themselves and not through ``Image.open``, so
that only the formats below are tried, and a large picture is an error and not a warning.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from .errors import UserError

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]
"""What a picture may come as: a path, the bytes of a file, a PIL picture or an array of pixels."""

MAX_PIXELS = 100_000_000
"""Larger pictures are refused: a file of some kilobytes can hold gigabytes of one colour."""
MAX_SIDE = 65_535
"""So are longer ones; no JPEG has more."""
REDUCED_FROM = 8000
"""JPEGs whose long side has as many pixels are decoded at a half, with twice as many at a quarter: a
plate that is large enough to be found there is still larger than what a reader looks at."""
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Names of files that a folder is searched for. What a file is, its content says."""

_SIGNATURE = 16
_ORIENTATION = 0x0112


class ImageError(UserError):
    """A picture is missing, damaged, too large or of an unknown kind."""


class UnsupportedImageError(ImageError):
    """A file is no picture, or one of a kind that is not read."""


class TooLargeImageError(ImageError):
    """A picture has more pixels than are read.

    Args:
        message: says how many.
        limit: what it is beyond: "max_pixels" or "max_side".
    """

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True, eq=False)
class Picture:
    """A grey picture, the right way up.

    Attributes:
        grey: ``(h, w)`` uint8.
        width: of the picture as it is displayed, in its own pixels; boxes refer to these.
        height: likewise.
        scale: displayed pixels for each pixel of ``grey``: 1, or 2, 4 or 8 for a large JPEG.
    """

    grey: Pixels
    width: int
    height: int
    scale: int = 1


def load_image(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
    formats: Sequence[str] | None = None,
) -> Picture:
    """A picture as grey, turned as its EXIF data say; of an animated one the first frame.

    Args:
        source: a path; the bytes of a file; a PIL picture; or pixels as ``(H, W)``, ``(H, W, 1)``,
            ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA of bool, uint8, uint16 or float (from 0 to 1, or
            to 255 where one is above 1). What is transparent is taken as white.
        max_pixels: pictures with more are refused.
        max_side: likewise wider and higher ones.
        formats: of FORMATS that files may have; by default all of them.

    Raises:
        UnsupportedImageError: a file is no picture, or one of another format.
        TooLargeImageError: the picture has more pixels, or is wider or higher.
        ImageError: there is no such file, or it is damaged or cut off.
    """
    if isinstance(source, np.ndarray):
        grey = _grey_of_array(source, "the array")
        return Picture(grey, grey.shape[1], grey.shape[0])
    if isinstance(source, Image.Image):
        with _explained("the picture"):
            _check_size(source, "the picture", max_pixels, max_side)
            return _load(source, "the picture", lambda _: 1)
    with _opened(source) as (file, name), _explained(name):
        picture = _decoder(file, name, FORMATS if formats is None else formats)
        _check_size(picture, name, max_pixels, max_side)
        return _load(picture, name, _draft)


def load_colour(source: str | os.PathLike[str] | bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """``(H, W, 3)`` RGB of a file's picture as it is displayed; raises as ``load_image`` does."""
    with _opened(source) as (file, name), _explained(name):
        picture = _decoder(file, name, FORMATS)
        _check_size(picture, name, max_pixels, MAX_SIDE)
        picture.load()
        orientation = _orientation(picture)
        if picture.mode.startswith(("I", "F")):
            pixels = cv2.cvtColor(_grey_of_image(picture, name), cv2.COLOR_GRAY2RGB)
        elif picture.has_transparency_data:
            white = Image.new("RGBA", picture.size, "white")
            shown = Image.alpha_composite(white, picture.convert("RGBA"))
            pixels = np.asarray(shown.convert("RGB"))
        else:
            pixels = np.asarray(picture.convert("RGB"))
        return _upright(pixels, orientation)


# Files


@contextmanager
def _opened(source: Any) -> Iterator[tuple[IO[bytes], str]]:
    """A file, or bytes as one, and its name for messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source), "the picture"
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a picture is a path, bytes, a PIL picture or an array, not {source!r}")
    name = os.fspath(source)
    try:
        mode = Path(name).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{name}: is a folder, not a picture")
        if not stat.S_ISREG(mode):
            # A pipe might be waited for, for ever.
            raise ImageError(f"{name}: is no regular file")
        file = Path(name).open("rb")  # noqa: SIM115  # closed below, where errors are the decoder's
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageError(f"{name!r}: cannot be the name of a file: {error}") from error
    with file:
        yield file, name


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Make an ``ImageError`` of whatever a decoder raises.

    That may be anything (``OSError``, ``SyntaxError``, ``struct.error``, ``KeyError`` …), and it
    always means that the picture is at fault.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: there is not enough memory to decode it") from error
    except Exception as error:
        what = str(error).strip().rstrip(".") or type(error).__name__
        cut_off = isinstance(error, EOFError) or "truncated" in what.lower()
        reason = "is cut off" if cut_off else "is damaged"
        raise ImageError(f"{name}: {reason} ({what})") from error


_DECODERS: dict[str, tuple[Callable[[bytes], bool], Callable[[IO[bytes]], ImageFile.ImageFile]]] = {
    "JPEG": (lambda start: start.startswith(b"\xff\xd8\xff"), JpegImageFile),
    "PNG": (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImageFile),
    "WebP": (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", WebPImageFile),
    "TIFF": (
        lambda start: start.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
        TiffImageFile,
    ),
    "BMP": (lambda start: start.startswith(b"BM"), BmpImageFile),
    "GIF": (lambda start: start.startswith((b"GIF87a", b"GIF89a")), GifImageFile),
}
FORMATS = tuple(_DECODERS)
"""Formats of files that can be read."""


def _decoder(file: IO[bytes], name: str, formats: Sequence[str]) -> ImageFile.ImageFile:
    """The picture of a file, its pixels not decoded yet."""
    start = file.read(_SIGNATURE)
    file.seek(0)
    for each in formats:
        is_its_own, decoder = _DECODERS[each]
        if is_its_own(start):
            return decoder(file)
    if not start:
        raise ImageError(f"{name}: is empty")
    if start[4:8] == b"ftyp":
        raise UnsupportedImageError(
            f"{name}: HEIC, AVIF and films cannot be read; save it as JPEG or PNG"
        )
    known = f"{', '.join(formats[:-1])} and {formats[-1]}"
    raise UnsupportedImageError(f"{name}: is no picture that can be read; {known} can")


def _check_size(picture: Image.Image, name: str, max_pixels: int, max_side: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise TooLargeImageError(
            f"{name}: has {width} x {height} pixels; {max_pixels / 1e6:g} million are read at most",
            "max_pixels",
        )
    if max(width, height) > max_side:
        raise TooLargeImageError(
            f"{name}: has {width} x {height} pixels; a side of {max_side} is read at most",
            "max_side",
        )


# Pixels


def _load(picture: Image.Image, name: str, draft: Callable[[Image.Image], int]) -> Picture:
    size = picture.size
    scale = draft(picture)
    picture.load()
    grey = _grey_of_image(picture, name)
    if scale == 1:
        # TIFF turns itself while it is loaded.
        size = picture.size
    orientation = _orientation(picture)
    width, height = size if orientation < _SIDEWAYS else size[::-1]
    return Picture(_upright(grey, orientation), width, height, scale)


def _draft(picture: Image.Image) -> int:
    """Have a JPEG decoded as grey, a large one at a part of its size; returns the divisor."""
    if not isinstance(picture, JpegImageFile):
        return 1
    width, height = picture.size
    divisor = 1
    while divisor < 8 and max(width, height) >= REDUCED_FROM * divisor:
        divisor *= 2
    # It keeps the colours of CMYK, and the size where that is too narrow for the divisor.
    picture.draft("L", (width // divisor or 1, height // divisor or 1))
    return round(width / picture.size[0])


def _grey_of_image(picture: Image.Image, name: str) -> Pixels:
    """``(H, W)`` uint8 of a picture that is loaded."""
    mode = picture.mode
    if mode in ("YCbCr", "LAB"):
        return np.asarray(picture.getchannel(0))
    if mode.startswith("I;16"):
        return _grey_of_array(np.asarray(picture).astype(np.uint16), name)
    if mode == "I":
        values = np.asarray(picture).clip(0, 0xFFFF)
        return _grey_of_array(values.astype(np.uint8 if values.max() < 256 else np.uint16), name)
    if mode == "F" or not picture.has_transparency_data:
        return _grey_of_array(np.asarray(picture if mode == "F" else picture.convert("L")), name)
    return _grey_of_array(np.asarray(picture.convert("RGBA")), name)


def _grey_of_array(pixels: NDArray[Any], name: str) -> Pixels:
    """``(H, W)`` uint8 of pixels as ``load_image`` takes them."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageError(
            f"{name}: has the shape {pixels.shape}; (H, W), (H, W, 3) or (H, W, 4) is wanted"
        )
    if not pixels.size:
        raise ImageError(f"{name}: has no pixels (its shape is {pixels.shape})")
    pixels = np.ascontiguousarray(_bytes(pixels, name))
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), np.uint8)
    darkness = 255 - cv2.cvtColor(pixels, cv2.COLOR_RGBA2GRAY)
    shown = cv2.multiply(darkness, np.ascontiguousarray(pixels[..., 3]), scale=1 / 255)
    return np.asarray(255 - shown, np.uint8)


def _bytes(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Pixels of any of the types that ``load_image`` takes, as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(
            f"{name}: its pixels are {pixels.dtype}; uint8, uint16, bool or float is wanted"
        )
    low, high = float(pixels.min()), float(pixels.max())
    # Written so that what is no number is refused as well.
    if not (low >= 0 and high <= 255):
        raise ImageError(
            f"{name}: its values go from {low:g} to {high:g}; floats from 0 to 1, or from 0 to 255, "
            "are wanted"
        )
    return np.rint(pixels * (255.0 if high <= 1 else 1.0)).astype(np.uint8)


# The right way up

_SIDEWAYS = 5
"""From this orientation on, a picture's width is stored as its height."""

_TURNS: dict[int, Callable[[Pixels], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), 0),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""What makes pixels stored in an orientation (EXIF 2.32, tag 274) those that are displayed."""


def _orientation(picture: Image.Image) -> int:
    """A number from 1 to 8; 1 where the EXIF data say nothing or are damaged, as in browsers."""
    with suppress(Exception):
        orientation = picture.getexif().get(_ORIENTATION)
        if orientation in _TURNS:
            return int(orientation)
    return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """``(h, w)`` or ``(h, w, 3)`` as they are displayed."""
    if orientation == 1:
        return pixels
    return np.asarray(_TURNS[orientation](pixels), np.uint8)
