"""Load images of any kind as grey arrays, with errors that explain what is wrong (without torch).

Pillow decodes: it detects the format from the content, reports truncated files (OpenCV fills the rest
with grey and prints to standard error), and is as fast where it matters, because libjpeg then decodes
the luminance only (``draft``). Its decoders are called directly instead of through ``Image.open``, so
that only the formats below are tried, and an overly large image is an error instead of a warning.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, features
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from . import jpeg
from .errors import UserError
from .program import COMMAND

Pixels = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]
"""Accepted sources of an image: a path, the bytes of a file, a PIL image or an array of pixels."""

MAX_PIXELS = 100_000_000
"""Default maximum number of pixels: a file of a few kilobytes can hold gigabytes of one colour."""
MAX_SIDE = 65_535
"""Default maximum width and height; no JPEG exceeds it."""
REDUCED_FROM = 8000
"""Length of a JPEG's long side in pixels from which it is decoded at half size.

With twice as many pixels, it is decoded at a quarter: a plate large enough to be found in it is still
larger than the recognizer's input."""
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "HEIC": (".heic", ".heics", ".heif", ".heifs", ".hif"),
    "AVIF": (".avif", ".avifs"),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
SUFFIXES = frozenset(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""File suffixes that a folder is searched for. The format of a file is detected from its content."""

_START = 1024
"""Number of bytes at the start of a file that its format is detected from."""
_ORIENTATION = 0x0112


_T = TypeVar("_T")


class ImageWarning(UserWarning):
    """An image is read, but its file is not as it should be."""


class ImageError(UserError):
    """An image is missing, damaged, too large or of an unknown kind."""


class UnsupportedImageError(ImageError):
    """A file is not an image, or its format is not supported."""


class TooLargeImageError(ImageError):
    """An image exceeds a size limit.

    Args:
        message: Message with the size of the image and the limit.
        limit: Name of the exceeded limit: "max_pixels" or "max_side".
    """

    def __init__(self, message: str, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """Grey image in its display orientation.

    Attributes:
        grey: Pixels of shape ``(h, w)``, uint8.
        width: Width of the displayed image in its own pixels, to which boxes refer.
        height: Height of the displayed image in its own pixels, to which boxes refer.
        scale: Displayed pixels per pixel of ``grey``: 1, or 2, 4 or 8 for a large JPEG.
        decode_colour: Function that decodes the image once more, as ``(h, w, 3)`` RGB, at a size that may
            be reduced by the divisor that it is called with (1, 2, 4 or 8); None for a grey image.
        warnings: What is wrong with the file, though the image is there, such as a missing end.
    """

    grey: Pixels
    width: int
    height: int
    scale: int = 1
    decode_colour: Callable[[int], Pixels] | None = None
    warnings: tuple[str, ...] = ()


def load_image(
    source: Source,
    max_pixels: int = MAX_PIXELS,
    max_side: int = MAX_SIDE,
    formats: Sequence[str] | None = None,
) -> DecodedImage:
    """Load an image as grey, oriented by its EXIF data; an animated image yields its first frame.

    A JPEG that lacks only its last bytes, or has others before its start, is loaded with a warning.

    Args:
        source: A path; the bytes of a file; a PIL image; or pixels as ``(H, W)``, ``(H, W, 1)``,
            ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA of bool, uint8, uint16 or float (from 0 to 1, or
            to 255 if any value exceeds 1). Transparent pixels are composited onto white.
        max_pixels: Maximum number of pixels.
        max_side: Maximum width and height in pixels.
        formats: Subset of ``FORMATS`` that is accepted for files; by default all of them.

    Raises:
        UnsupportedImageError: The file is not an image, its format is not accepted, or it needs an extra.
        TooLargeImageError: The image exceeds ``max_pixels`` or ``max_side``.
        ImageError: The file does not exist, or is damaged or truncated.
    """
    if isinstance(source, np.ndarray):
        grey = _grey_of_array(source, "the array")
        colour = (
            None if source.ndim == 2 or source.shape[2] == 1 else partial(_colour_of_array, source)
        )
        return DecodedImage(grey, grey.shape[1], grey.shape[0], decode_colour=colour)
    if isinstance(source, Image.Image):
        with _explained("the image"):
            _check_size(source, "the image", max_pixels, max_side)
            return _load(source, "the image", lambda _: 1, partial(_colour_of_image, source))
    with _opened(source) as (file, name), _explained(name):
        kind = _format(file, name, FORMATS if formats is None else formats)
        if kind != "JPEG":
            image = _DECODERS[kind](file)
            _check_size(image, name, max_pixels, max_side)
            return _load(image, name, lambda _: 1, partial(_colour_of_image, image))

        def load(content: bytes) -> DecodedImage:
            image = JpegImageFile(io.BytesIO(content))
            _check_size(image, name, max_pixels, max_side)
            # What is drafted as grey has lost its colours, so a JPEG is decoded again from its bytes.
            return _load(image, name, _draft, partial(_colour_of_jpeg, content))

        decoded, warnings = _load_jpeg(file.read(), name, load)
        return replace(decoded, warnings=warnings)


def load_colour(source: str | os.PathLike[str] | bytes, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Load an image file as displayed, ``(H, W, 3)`` RGB; raises the same errors as ``load_image``."""
    with _opened(source) as (file, name), _explained(name):
        kind = _format(file, name, FORMATS)

        def load(file: IO[bytes]) -> Pixels:
            image = _DECODERS[kind](file)
            _check_size(image, name, max_pixels, MAX_SIDE)
            return _colour_of_image(image)

        if kind != "JPEG":
            return load(file)
        return _load_jpeg(file.read(), name, lambda content: load(io.BytesIO(content)))[0]


# Files


@contextmanager
def _opened(source: Any) -> Iterator[tuple[IO[bytes], str]]:
    """Open a path, or wrap bytes as a file; yield the file and its name for messages."""
    if isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source), "the image"
        return
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"expected an image as a path, bytes, a PIL image or an array, got {source!r}"
        )
    name = os.fspath(source)
    try:
        mode = Path(name).stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{name}: is a folder, not an image")
        if not stat.S_ISREG(mode):
            # Reading a pipe might block forever.
            raise ImageError(f"{name}: is not a regular file")
        file = Path(name).open("rb")  # noqa: SIM115  # closed below, where errors are the decoder's
    except FileNotFoundError:
        raise ImageError(f"{name}: there is no such file") from None
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ImageError(f"{name!r}: is not a valid file name: {error}") from error
    with file:
        yield file, name


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Convert whatever a decoder raises to an ``ImageError``.

    Decoders raise anything (``OSError``, ``SyntaxError``, ``struct.error``, ``KeyError`` …), and it
    always means that the image is at fault.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it") from error
    except Exception as error:
        what = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        reason = "is truncated" if _is_truncation(error) else "is damaged"
        raise ImageError(f"{name}: {reason} ({what})") from error


def _is_truncation(error: Exception) -> bool:
    what = str(error).lower()
    return isinstance(error, EOFError) or "truncated" in what or "end of file" in what


def _heic(file: IO[bytes]) -> ImageFile.ImageFile:
    # Its libraries need 26 MB: only where there is such an image. By name, as MLEM imports whatever it finds
    # an import statement of when it saves a model, and the extra may be missing.
    image: ImageFile.ImageFile = import_module("pillow_heif").HeifImageFile(file)
    return image


_DECODERS: dict[str, Callable[[IO[bytes]], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "HEIC": _heic,
    "AVIF": AvifImageFile,
    "JPEG 2000": Jpeg2KImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
}
FORMATS = tuple(_DECODERS)
"""Supported file formats. HEIC needs an extra; a stereo image (MPO) is a JPEG, of which the first is read."""
UPLOAD_FORMATS = ("JPEG", "PNG", "WebP", "HEIC", "AVIF", "JPEG 2000")
"""Formats that the server accepts: those of cameras, phones and web pages."""

_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (jpeg.START,),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "BMP": (b"BM",),
    "GIF": (b"GIF87a", b"GIF89a"),
}
_BRANDS = {
    "AVIF": {b"avif", b"avis"},
    "HEIC": {
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"hevm",
        b"hevs",
        b"mif1",
        b"msf1",
    },
}
"""Brands of ISO media files (ISO 23008-12); mif1 and msf1 are HEIC where AVIF's are not among them."""
_FEATURES = {"AVIF": "avif", "JPEG 2000": "jpg_2000", "WebP": "webp"}
"""Names under which Pillow tells whether it was built with a decoder."""


UPLOAD_SUFFIXES = tuple(suffix for kind in UPLOAD_FORMATS for suffix in _SUFFIXES[kind])


def listed(formats: Sequence[str]) -> str:
    """Return names of formats as a sentence has them."""
    return f"{', '.join(formats[:-1])} or {formats[-1]}"


def _format(file: IO[bytes], name: str, formats: Sequence[str]) -> str:
    """Return the format of a file, one of ``formats``, by its content."""
    start = file.read(_START)
    file.seek(0)
    if not start:
        raise ImageError(f"{name}: is empty")
    kind = _format_at_start(start)
    if kind is None and start[4:8] == b"ftyp":
        raise UnsupportedImageError(
            f"{name}: is a video, or of a camera's own format; save it as JPEG or PNG"
        )
    if kind is None and jpeg.START in start:
        kind = "JPEG"
    if kind is None or kind not in formats:
        raise UnsupportedImageError(f"{name}: is not a supported image; use {listed(formats)}")
    if kind == "HEIC" and find_spec("pillow_heif") is None:
        raise UnsupportedImageError(
            f"{name}: is a HEIC image, which needs an extra: pip install '{COMMAND}[heic]'"
        )
    if kind in _FEATURES and not features.check(_FEATURES[kind]):
        raise UnsupportedImageError(
            f"{name}: is an image of the format {kind}, which this build of Pillow cannot decode; install "
            "Pillow's own wheel, or save the image as JPEG or PNG"
        )
    return kind


def _format_at_start(start: bytes) -> str | None:
    for kind, signatures in _SIGNATURES.items():
        if start.startswith(signatures):
            return kind
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp":
        # The first is the main brand; a version comes between it and the compatible ones.
        body = start[8 : int.from_bytes(start[:4], "big")]
        brands = {body[i : i + 4] for i in (0, *range(8, len(body), 4))}
        return next((kind for kind, known in _BRANDS.items() if brands & known), None)
    return None


def _load_jpeg(
    content: bytes, name: str, load: Callable[[bytes], _T]
) -> tuple[_T, tuple[str, ...]]:
    """Load a JPEG that may have bytes before its start, and lack its last ones.

    Args:
        content: Content of the file.
        name: Name of the file for messages.
        load: Function that decodes a JPEG.

    Returns:
        What ``load`` returns, and warnings.

    Raises:
        ImageError: The image is truncated, and the message says how much of it is there; or it has so many
            scans that decoding it would take minutes.
    """
    start = content.index(jpeg.START)
    content = content[start:]
    if jpeg.has_too_many_scans(content):
        raise ImageError(
            f"{name}: has more than {jpeg.MOST_SCANS} scans, which take long to decode; save it again with "
            "another program"
        )
    warnings = []
    if start:
        before = "1 byte" if start == 1 else f"{start} bytes"
        warnings.append(f"{name}: has {before} before the start of the image, which are left out")
    try:
        return load(content), tuple(warnings)
    except Exception as error:
        if not _is_truncation(error):
            raise
    whole, found, share = jpeg.completed(content)
    if share < jpeg.ENOUGH:
        raise ImageError(f"{name}: is truncated: {found}")
    warnings.append(f"{name}: lacks its last bytes: {found}")
    return load(whole), tuple(warnings)


def _check_size(image: Image.Image, name: str, max_pixels: int, max_side: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise TooLargeImageError(
            f"{name}: has {width} x {height} pixels; the maximum is {max_pixels / 1e6:g} million",
            "max_pixels",
        )
    if max(width, height) > max_side:
        raise TooLargeImageError(
            f"{name}: has {width} x {height} pixels; the maximum side length is {max_side}",
            "max_side",
        )


# Pixels


def _load(
    image: Image.Image,
    name: str,
    draft: Callable[[Image.Image], int],
    colour: Callable[[int], Pixels],
) -> DecodedImage:
    size = image.size
    is_grey = image.mode in _GREY_MODES or image.mode.startswith("I")
    scale = draft(image)
    image.load()
    grey = _grey_of_image(image, name)
    if scale == 1:
        # Pillow applies the orientation of a TIFF while loading it.
        size = image.size
    orientation = _orientation(image)
    width, height = size if orientation < _SIDEWAYS else size[::-1]
    upright = _upright(grey, orientation)
    return DecodedImage(upright, width, height, scale, None if is_grey else colour)


_STRIP = 256
"""Number of rows that are converted at a time."""
_GREY_MODES = frozenset({"1", "L", "LA", "La", "F"})
"""Pillow's modes without colour, but for those of integers, which begin with I."""


def _colour_of_jpeg(content: bytes, divisor: int) -> Pixels:
    """Decode a JPEG in colour, at a size reduced by at most ``divisor``."""
    image = JpegImageFile(io.BytesIO(content))
    image.draft("RGB", (image.width // divisor or 1, image.height // divisor or 1))
    return _colour_of_image(image)


def _colour_of_image(image: Image.Image, _: int = 1) -> Pixels:
    """Return an image as displayed, ``(H, W, 3)`` RGB; transparent pixels are composited onto white."""
    image.load()
    if image.mode.startswith(("I", "F")):
        pixels = cv2.cvtColor(_grey_of_image(image, "the image"), cv2.COLOR_GRAY2RGB)
        return _upright(pixels, _orientation(image))
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top, strip in _strips(image):
        shown = strip
        if strip.has_transparency_data:
            white = Image.new("RGBA", strip.size, "white")
            shown = Image.alpha_composite(white, strip.convert("RGBA"))
        pixels[top : top + strip.height] = np.asarray(shown.convert("RGB"))
    return _upright(pixels, _orientation(image))


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a loaded image in strips, each with its first row: copies of a whole one would need gigabytes."""
    for top in range(0, image.height, _STRIP):
        bottom = min(top + _STRIP, image.height)
        yield top, image.crop((0, top, image.width, bottom))


def _colour_of_array(pixels: NDArray[Any], _: int = 1) -> Pixels:
    """Convert ``(H, W, 3)`` or ``(H, W, 4)`` pixels to RGB of uint8, as ``_grey_of_array`` does."""
    colours = _bytes(pixels, "the array")
    if colours.shape[2] == 3:
        return np.ascontiguousarray(colours)
    alpha = colours[..., 3:].astype(np.uint16)
    shown = colours[..., :3] * alpha + 255 * (255 - alpha)
    return np.asarray((shown + 127) // 255, np.uint8)


def _draft(image: Image.Image) -> int:
    """Set a JPEG to be decoded as grey, at reduced size if large; return the divisor of its size."""
    width, height = image.size
    divisor = 1
    while divisor < 8 and max(width, height) >= REDUCED_FROM * divisor:
        divisor *= 2
    # ``draft`` keeps the colours of CMYK, and the size of images too narrow for the divisor.
    image.draft("L", (width // divisor or 1, height // divisor or 1))
    return round(width / image.size[0])


def _grey_of_image(image: Image.Image, name: str) -> Pixels:
    """Return a loaded image as ``(H, W)`` uint8."""
    mode = image.mode
    if mode in ("YCbCr", "LAB"):
        return np.asarray(image.getchannel(0))
    if mode.startswith("I;16"):
        return _grey_of_array(np.asarray(image).astype(np.uint16), name)
    if mode == "I":
        values = np.asarray(image).clip(0, 0xFFFF)
        return _grey_of_array(values.astype(np.uint8 if values.max() < 256 else np.uint16), name)
    if mode == "F" or not image.has_transparency_data:
        return _grey_of_array(np.asarray(image if mode == "F" else image.convert("L")), name)
    grey = np.empty((image.height, image.width), np.uint8)
    for top, strip in _strips(image):
        pixels = np.asarray(strip.convert("RGBA"))
        grey[top : top + strip.height] = _grey_of_array(pixels, name)
    return grey


def _grey_of_array(pixels: NDArray[Any], name: str) -> Pixels:
    """Convert pixels in any layout that ``load_image`` accepts to ``(H, W)`` uint8."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (3, 4)):
        raise ImageError(
            f"{name}: has the shape {pixels.shape}; expected (H, W), (H, W, 3) or (H, W, 4)"
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
    """Convert pixels of any type that ``load_image`` accepts to uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype == np.uint16:
        return (pixels >> 8).astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise ImageError(
            f"{name}: its pixels are {pixels.dtype}; expected uint8, uint16, bool or float"
        )
    low, high = float(pixels.min()), float(pixels.max())
    # Written so that NaN is refused as well.
    if not (low >= 0 and high <= 255):
        raise ImageError(
            f"{name}: its values range from {low:g} to {high:g}; expected floats from 0 to 1, or from 0 "
            "to 255"
        )
    return np.rint(pixels * (255.0 if high <= 1 else 1.0)).astype(np.uint8)


# Orientation

_SIDEWAYS = 5
"""First EXIF orientation whose stored width is the displayed height."""

_TURNS: dict[int, Callable[[Pixels], Any]] = {
    2: lambda pixels: cv2.flip(pixels, 1),
    3: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_180),
    4: lambda pixels: cv2.flip(pixels, 0),
    5: cv2.transpose,
    6: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE),
    7: lambda pixels: cv2.flip(cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE), 0),
    8: lambda pixels: cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE),
}
"""Function that turns stored pixels into displayed ones, by orientation (EXIF 2.32, tag 274)."""


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation from 1 to 8; 1 if it is missing or damaged, as browsers do."""
    with suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION)
        if orientation in _TURNS:
            return int(orientation)
    return 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Return ``(h, w)`` or ``(h, w, 3)`` pixels in display orientation."""
    if orientation == 1:
        return pixels
    return np.asarray(_TURNS[orientation](pixels), np.uint8)
