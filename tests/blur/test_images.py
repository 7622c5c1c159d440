"""Image files with their plates covered."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from src.blur.images import blurred_image
from src.core.geometry import FloatArray
from src.core.images import DecodedImage, ImageError

PLATE = np.array([[60.0, 40], [140, 40], [140, 60], [60, 60]])


def find(_: DecodedImage) -> Sequence[FloatArray]:
    return [PLATE]


def pixels(mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(1).integers(0, 256, (100, 200, 3), np.uint8)
    return Image.fromarray(values).convert(mode)


def saved(path: Path, image: Image.Image, **options: object) -> str:
    image.save(path, **options)  # type: ignore[arg-type]
    return str(path)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("a.png", "RGB"), ("a.png", "L"), ("a.png", "RGBA"), ("a.png", "P"), ("a.bmp", "RGB"),
        ("a.tif", "RGB"), ("a.webp", "RGB"), ("a.jpg", "RGB"), ("a.jpeg", "L"), ("a.jpg", "CMYK"),
    ],
)  # fmt: skip
def test_the_format_is_kept(tmp_path: Path, name: str, mode: str) -> None:
    path = saved(tmp_path / name, pixels(mode))
    content, suffixes, count = blurred_image(path, find, "fill")
    assert Path(name).suffix in suffixes
    assert count == 1
    with Image.open(io.BytesIO(content)) as image, Image.open(path) as before:
        assert image.format == before.format
        assert image.size == before.size
        new, old = (np.asarray(each.convert("RGB")).astype(int) for each in (image, before))
    assert new[44:56, 66:134].std(axis=(0, 1)).max() < 3
    assert old[44:56, 66:134].std(axis=(0, 1)).min() > 30
    # Elsewhere, only the compression changes anything.
    assert np.abs(new - old)[70:, :].mean() < 16


def test_formats_that_are_not_written_become_jpeg(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.gif", pixels("P"))
    content, suffixes, _ = blurred_image(path, find, "fill")
    assert suffixes[0] == ".jpg"
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "JPEG"


def test_an_animation_is_refused(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.gif", pixels("P"), save_all=True, append_images=[pixels("L").convert("P")]
    )
    with pytest.raises(ImageError, match=r"a\.gif: has 2 frames"):
        blurred_image(path, find, "fill")


@pytest.mark.parametrize("content", [None, b"", b"no image"])
def test_what_is_no_image_is_an_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError):
        blurred_image(str(path), find, "fill")


def exif_of_a_phone() -> Image.Exif:
    """A turned photo with a place, a maker's note and a preview that shows the plate."""
    preview = io.BytesIO()
    pixels().resize((64, 32)).save(preview, "JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Camera"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2026:01:02 03:04:05"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"note" + preview.getvalue()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    return exif


@pytest.mark.parametrize("keep", [False, True])
def test_metadata_is_dropped_or_kept_without_previews(tmp_path: Path, keep: bool) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(
        tmp_path / "a.jpg", pixels(), exif=exif_of_a_phone(), icc_profile=profile, comment=b"secret"
    )
    with Image.open(path) as before:
        assert before.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote]
    content, _, _ = blurred_image(path, find, "fill", keep)
    assert content.count(b"\xff\xd8\xff") == 1
    assert b"note" not in content
    assert b"secret" not in content
    with Image.open(io.BytesIO(content)) as image:
        # The turn is applied.
        assert image.size == (100, 200)
        assert image.info["icc_profile"] == profile
        exif = image.getexif()
    assert ExifTags.Base.Orientation not in exif
    date = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.DateTimeOriginal)
    place = exif.get_ifd(ExifTags.IFD.GPSInfo).get(ExifTags.GPS.GPSLatitudeRef)
    found = (exif.get(ExifTags.Base.Make), date, place)
    assert found == (("Camera", "2026:01:02 03:04:05", "N") if keep else (None, None, None))


def test_a_jpeg_keeps_its_compression(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", pixels(), quality=60, subsampling=1)
    content, _, _ = blurred_image(path, find, "fill")
    with Image.open(io.BytesIO(content)) as new, Image.open(path) as old:
        assert new.quantization == old.quantization  # type: ignore[attr-defined]
    assert len(content) < 1.1 * Path(path).stat().st_size
