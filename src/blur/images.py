"""Image files with their plates covered: the same format, size and colours, without hidden copies."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from ..core.geometry import FloatArray
from ..core.images import DecodedImage, ImageError, load_colour, load_image
from .covering import Method, cover

Find = Callable[[DecodedImage], Sequence[FloatArray]]
"""Returns the corners of all plates in an image, each ``(4, 2)`` in pixels of the displayed image."""

_JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")
_KEPT = {
    "JPEG": _JPEG, "PNG": (".png",), "WEBP": (".webp",), "TIFF": (".tif", ".tiff"), "BMP": (".bmp",)
}  # fmt: skip
"""File suffixes of the formats that are written as they are; images of other formats are written as JPEG."""
_HIDDEN = (0x927C, 0x02BC, 0x83BB, 0x8649)
"""EXIF tags that may hold another copy of the image: the maker's note, XMP, IPTC, Photoshop's resources."""
_QUALITY = 95


def blurred_image(
    path: str, find: Find, method: Method, keep_metadata: bool = False
) -> tuple[bytes, tuple[str, ...], int]:
    """Return an image file with its plates covered.

    Args:
        path: Path of the image.
        find: Finds the plates.
        method: How plates are covered.
        keep_metadata: Whether date, place and camera (EXIF) are kept. A preview never is, since it shows the
            plates; the colour profile always is.

    Returns:
        Content of the new file, the file suffixes of its format, and the number of plates.

    Raises:
        ImageError: The image cannot be read, or has several frames.
    """
    content = _content(path)
    plates = list(find(load_image(path)))
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return (*_written(opened, content, path, plates, method, keep_metadata), len(plates))
    except UnidentifiedImageError:
        # Formats that Pillow alone does not read, such as HEIC.
        pixels = np.array(load_colour(content))
        cover(pixels, plates, method)
        return _encoded(Image.fromarray(pixels), "JPEG", {"quality": _QUALITY}), _JPEG, len(plates)


def _content(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _written(
    opened: Image.Image,
    content: bytes,
    path: str,
    plates: Sequence[FloatArray],
    method: Method,
    keep_metadata: bool,
) -> tuple[bytes, tuple[str, ...]]:
    kind = opened.format or ""
    frames = getattr(opened, "n_frames", 1)
    if frames > 1 and kind != "MPO":
        raise ImageError(f"{path}: has {frames} frames; only images with one can be written")
    # An MPO file is a JPEG with further images behind it.
    written = kind if kind in _KEPT else "JPEG"
    options: dict[str, Any] = {"icc_profile": opened.info.get("icc_profile")}
    if written == "JPEG":
        options |= _compression(opened)
    if written == "WEBP":
        options["quality"] = _QUALITY
    if written == "TIFF":
        options["compression"] = opened.info.get("compression")
    exif = opened.getexif() if keep_metadata else None
    if opened.mode in ("L", "RGB", "RGBA"):
        pixels = np.array(ImageOps.exif_transpose(opened))
    else:
        pixels = np.array(load_colour(content))
    cover(pixels, plates, method)
    image = Image.fromarray(pixels)
    if exif is not None:
        options["exif"] = _harmless(exif)
    return _encoded(image, written, options), _KEPT[written]


def _compression(opened: Image.Image) -> dict[str, Any]:
    """Return the compression of a JPEG file as options to write another one."""
    if not isinstance(opened, JpegImagePlugin.JpegImageFile):
        return {"quality": _QUALITY}
    sampling = JpegImagePlugin.get_sampling(opened)
    return {"qtables": opened.quantization, "subsampling": max(sampling, 0)}


def _harmless(exif: Image.Exif) -> bytes:
    """Return EXIF data without the orientation, which is applied, and without copies of the image."""
    kept = Image.Exif()
    for tag, value in exif.items():
        if tag not in (
            *_HIDDEN,
            ExifTags.Base.Orientation,
            ExifTags.IFD.Exif,
            ExifTags.IFD.GPSInfo,
        ):
            kept[tag] = value
    for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        values = {tag: value for tag, value in exif.get_ifd(part).items() if tag not in _HIDDEN}
        if values:
            kept.get_ifd(part).update(values)
            kept[part] = values
    return kept.tobytes()


def _encoded(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    if kind == "JPEG" and image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    image.save(file, kind, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()
