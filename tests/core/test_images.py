"""Images of every kind are read as they are displayed, or named with what is wrong."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

from src.core import jpeg
from src.core.images import (
    ImageError,
    TooLargeImageError,
    UnsupportedImageError,
    load_colour,
    load_image,
)

SIZE = (120, 160)
FORMATS = ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "JPEG2000", "BMP", "TIFF", "GIF"]
LOSSY = {"JPEG", "WEBP", "HEIF", "AVIF"}


@pytest.fixture(scope="module")
def rgb() -> NDArray[np.uint8]:
    """Smooth colours, so that JPEG and WebP lose little; no turn of it is like another."""
    noise = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, SIZE[::-1], interpolation=cv2.INTER_LINEAR)


@pytest.fixture(scope="module")
def grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def encoded(source: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    buffer = io.BytesIO()
    if kind == "HEIF":
        # Not registered with Pillow: nothing here may depend on that.
        pillow_heif.from_pillow(image).save(buffer, **({"quality": 90} | options))
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def best(kind: str) -> dict[str, Any]:
    """Options with which a format loses little."""
    return {"quality": 95} if kind in LOSSY else {}


def difference(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    assert first.shape == second.shape
    return float(np.abs(first.astype(int) - second).mean())


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_is_known_by_its_content(kind: str, grey: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / "no.picture"
    path.write_bytes(encoded(grey, kind, **best(kind)))
    image = load_image(path)
    assert (image.width, image.height, image.scale) == (160, 120, 1)
    assert image.grey.dtype == np.uint8
    assert image.warnings == ()
    assert difference(image.grey, grey) <= (1.5 if kind in LOSSY else 0)
    assert np.array_equal(load_image(str(path)).grey, image.grey)
    assert np.array_equal(load_image(path.read_bytes()).grey, image.grey)


@pytest.mark.parametrize("kind", [kind for kind in FORMATS if kind != "GIF"])
def test_colours_become_their_brightness(
    kind: str, rgb: NDArray[np.uint8], grey: NDArray[np.uint8]
) -> None:
    assert difference(load_image(encoded(rgb, kind, **best(kind))).grey, grey) < 2


ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, -1),
}
"""How a displayed image is stored in each orientation (EXIF 2.32, figure of tag 274)."""


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_an_image_is_turned_as_exif_says(
    kind: str, orientation: int, grey: NDArray[np.uint8]
) -> None:
    stored = Image.fromarray(np.ascontiguousarray(ORIENTED[orientation](grey)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif.tobytes() if kind == "HEIF" else exif}
    content = encoded(stored, kind, **options, **best(kind))
    image = load_image(content)
    assert (image.width, image.height) == (160, 120)
    assert difference(image.grey, grey) < 1.5
    assert difference(load_colour(content)[..., 1], grey) < 1.5
    if kind == "HEIF":
        return
    # An opened PIL image is turned too, and stays as it was.
    with Image.open(io.BytesIO(content)) as opened:
        assert difference(load_image(opened).grey, grey) < 1.5
        assert opened.mode in {"L", "RGB"}


@pytest.mark.parametrize("exif", [b"XX*\0 no such order", b"II*\0\xff\xff\xff\xff", b"II"])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_damaged_exif_does_not_matter(kind: str, exif: bytes, grey: NDArray[np.uint8]) -> None:
    content = encoded(grey, kind, exif=b"Exif\0\0" + exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert (load_image(content).width, load_image(content).height) == (160, 120)
        assert load_colour(content).shape == (120, 160, 3)


# Colour


@pytest.mark.parametrize("kind", FORMATS)
def test_an_image_is_decoded_in_colour_later(
    kind: str, rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(rgb, kind, **best(kind)))
    for source in (path, path.read_bytes()):
        image = load_image(source)
        assert image.decode_colour is not None
        for _ in range(2):
            assert np.array_equal(image.decode_colour(1), load_colour(path))
    # It is the file that was read which is decoded, whatever became of it.
    image = load_image(path)
    path.unlink()
    assert image.decode_colour is not None
    assert image.decode_colour(1).shape == (*SIZE, 3)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("as_array", [False, True])
def test_pixels_keep_their_colours(alpha: bool, as_array: bool, rgb: NDArray[np.uint8]) -> None:
    pixels = np.dstack([rgb, np.full(SIZE, 102, np.uint8)]) if alpha else rgb
    image = load_image(pixels if as_array else Image.fromarray(pixels))
    assert image.decode_colour is not None
    wanted = rgb * 0.4 + 255 * 0.6 if alpha else rgb
    assert np.abs(image.decode_colour(8) - wanted).max() <= 1


def test_grey_images_have_no_colour(grey: NDArray[np.uint8]) -> None:
    sources = [grey, grey[..., None], Image.fromarray(grey), grey.astype(float)]
    sources += [encoded(grey, kind) for kind in ("JPEG", "PNG", "TIFF", "BMP")]
    sources.append(encoded(Image.fromarray(grey).convert("LA"), "PNG"))
    sources.append(encoded(grey.astype(np.uint16) * 257, "PNG"))
    assert [load_image(source).decode_colour for source in sources] == [None] * len(sources)


def test_a_jpeg_is_decoded_in_colour_at_reduced_size(rgb: NDArray[np.uint8]) -> None:
    large = cv2.resize(rgb, (801, 603))
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(encoded(large, "JPEG", quality=95, exif=exif))
    assert image.decode_colour is not None
    whole = image.decode_colour(1)
    assert whole.shape == (801, 603, 3)
    for divisor in (2, 4, 8):
        reduced = image.decode_colour(divisor)
        assert reduced.shape == (-(-801 // divisor), -(-603 // divisor), 3)
        again = cv2.resize(whole, reduced.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert difference(reduced, again) < 3


# Kinds of pixels


def test_cmyk(rgb: NDArray[np.uint8], grey: NDArray[np.uint8]) -> None:
    content = encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95)
    assert difference(load_image(content).grey, grey) < 2
    assert difference(load_colour(content), rgb) < 4


def test_a_colour_jpeg_without_a_change_of_colours(
    rgb: NDArray[np.uint8], grey: NDArray[np.uint8]
) -> None:
    """JPEGs may hold red, green and blue as they are; the first is not the brightness then."""
    content = encoded(rgb, "JPEG", quality=95, keep_rgb=True)
    assert difference(load_image(content).grey, grey) < 2


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits(kind: str, grey: NDArray[np.uint8]) -> None:
    content = encoded(Image.fromarray(grey.astype(np.uint16) * 256 + 200), kind)
    assert np.array_equal(load_image(content).grey, grey)
    assert np.array_equal(load_colour(content)[..., 0], grey)


def test_16_bits_of_a_dark_image_stay_dark() -> None:
    assert load_image(np.full((9, 9), 300, np.uint16)).grey.max() == 1
    content = encoded(Image.fromarray(np.full((9, 9), 300, np.uint16)), "PNG")
    assert load_image(content).grey.max() == 1


def test_floats_in_a_tiff(grey: NDArray[np.uint8]) -> None:
    content = encoded(Image.fromarray(grey.astype(np.float32) / 255), "TIFF")
    assert np.array_equal(load_image(content).grey, grey)


def test_a_palette(rgb: NDArray[np.uint8], grey: NDArray[np.uint8]) -> None:
    indexed = Image.fromarray(rgb).quantize(256)
    expected = np.asarray(indexed.convert("L"))
    # The numbers of the colours say nothing.
    assert difference(np.asarray(indexed), grey) > 20
    for kind in ("PNG", "GIF", "BMP"):
        assert difference(load_image(encoded(indexed, kind)).grey, expected) <= 1


def test_one_bit(grey: NDArray[np.uint8]) -> None:
    bits = Image.fromarray(grey > 128)
    assert bits.mode == "1"
    for kind in ("PNG", "BMP", "TIFF"):
        assert np.array_equal(load_image(encoded(bits, kind)).grey, (grey > 128) * 255)


@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA")]
)
def test_what_is_transparent_is_white(kind: str, mode: str, grey: NDArray[np.uint8]) -> None:
    alpha = np.zeros(SIZE, np.uint8)
    alpha[:, 50:] = 128
    alpha[:, 100:] = 255
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).convert(mode)
    content = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    found = load_image(content).grey
    assert (found[:, :50] == 255).all()
    assert (
        difference(
            found[:, 50:100], np.round(255 - (255 - grey[:, 50:100]) * (128 / 255)).astype(np.uint8)
        )
        < 1
    )
    assert np.array_equal(found[:, 100:], grey[:, 100:])
    assert difference(load_colour(content)[..., 0], found) < 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    image = Image.new("L", (20, 10), 0)
    image.paste(90, (10, 0, 20, 10))
    image = image.convert(mode)
    content = encoded(image, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    found = load_image(content).grey
    assert (found[:, :10] == 255).all()
    assert (found[:, 10:] == 90).all()


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animated_image_the_first_is_read(kind: str, grey: NDArray[np.uint8]) -> None:
    frames = [Image.fromarray(grey), Image.new("L", SIZE[::-1], 255), Image.new("L", SIZE[::-1], 0)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.n_frames == 3
    assert np.array_equal(load_image(content).grey, grey)


@pytest.mark.parametrize("kind", FORMATS)
def test_one_pixel(kind: str) -> None:
    image = load_image(encoded(Image.new("L", (1, 1), 77), kind))
    assert (image.width, image.height, image.grey.shape) == (1, 1, (1, 1))
    assert abs(int(image.grey[0, 0]) - 77) <= 2


# Arrays


def test_arrays(rgb: NDArray[np.uint8], grey: NDArray[np.uint8]) -> None:
    assert np.array_equal(load_image(grey).grey, grey)
    assert np.array_equal(load_image(grey[..., None]).grey, grey)
    assert np.array_equal(load_image(rgb).grey, grey)
    opaque = np.dstack([rgb, np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(load_image(opaque).grey, grey)
    opaque[..., 3] = 0
    assert (load_image(opaque).grey == 255).all()
    assert np.array_equal(load_image(grey.astype(np.uint16) * 257).grey, grey)
    assert np.array_equal(load_image(grey / 255).grey, grey)
    assert np.array_equal(load_image(grey.astype(np.float32)).grey, grey)
    assert np.array_equal(load_image(grey > 100).grey, (grey > 100) * 255)
    # Views that are not laid out row by row.
    assert np.array_equal(load_image(grey[::2, ::-3]).grey, grey[::2, ::-3])
    assert np.array_equal(load_image(rgb.transpose(1, 0, 2)).grey, grey.T)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"\(2, 3, 4, 4\)"),
        (np.zeros((0, 5), np.uint8), "no pixels"),
        (np.zeros((5, 5), np.int64), "int64"),
        (np.zeros((5, 5), complex), "complex"),
        (np.full((5, 5), np.nan), "nan"),
        (np.full((5, 5), -1.0), "-1"),
        (np.full((5, 5), 300.0), "300"),
    ],
)
def test_arrays_that_are_no_images(array: NDArray[Any], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        load_image(array)


def test_what_is_no_image_at_all() -> None:
    with pytest.raises(TypeError, match="42"):
        load_image(42)  # type: ignore[arg-type]


# Size


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size() -> None:
    wide = np.zeros((40, 8004), np.uint8)
    wide[:, 4002:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    image = load_image(encoded(wide, "JPEG", exif=exif))
    # Turned upright: the width of the file is its height.
    assert (image.width, image.height, image.scale) == (40, 8004, 2)
    assert image.grey.shape == (4002, 20)
    assert abs(int(image.grey[2100:].mean()) - 200) <= 2
    assert load_colour(encoded(wide, "JPEG", exif=exif)).shape == (8004, 40, 3)
    very_wide = load_image(encoded(np.zeros((16, 16001), np.uint8), "JPEG"))
    assert (very_wide.width, very_wide.scale, very_wide.grey.shape) == (16001, 4, (4, 4001))
    assert load_image(encoded(np.zeros((40, 7999), np.uint8), "JPEG")).scale == 1
    with Image.open(io.BytesIO(encoded(wide, "JPEG"))) as opened:
        assert load_image(opened).scale == 1
        assert opened.size == (8004, 40), "what others have opened stays as it was"


def test_a_thin_jpeg_keeps_its_size() -> None:
    image = load_image(encoded(np.zeros((1, 9000), np.uint8), "JPEG"))
    assert (image.width, image.height) == (9000, 1)
    assert image.grey.shape[1] * image.scale >= 9000


def _png(width: int, height: int) -> bytes:
    """A PNG whose header says so; its pixels are missing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [11_000, 60_000, 2**31 - 1])
def test_a_huge_image_is_refused_before_it_is_decoded(side: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(side, side))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageError, match=rf"bomb\.png.*{side} x {side}.*100 million"):
            load_image(path)


def test_the_limit_can_be_changed(grey: NDArray[np.uint8]) -> None:
    content = encoded(grey, "PNG")
    assert load_image(content, max_pixels=160 * 120).width == 160
    with pytest.raises(ImageError, match="160 x 120"):
        load_image(content, max_pixels=160 * 120 - 1)
    with pytest.raises(ImageError, match="160 x 120"):
        load_image(Image.fromarray(grey), max_pixels=160 * 120 - 1)


# Damage


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_is_an_error(
    kind: str,
    share: float,
    rgb: NDArray[np.uint8],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = encoded(rgb, kind)
    path = tmp_path / "half"
    path.write_bytes(content[: int(share * len(content))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageError, match=r"half: is (truncated|damaged)"):
            load_image(path)
        with pytest.raises(ImageError, match=r"half: is (truncated|damaged)"):
            load_colour(path)
    assert capfd.readouterr() == ("", "")


def test_a_cut_off_jpeg_says_so(rgb: NDArray[np.uint8]) -> None:
    content = encoded(rgb, "JPEG")
    for end in (100, len(content) // 2):
        with pytest.raises(ImageError, match="is truncated"):
            load_image(content[:-end])
    progressive = encoded(rgb, "JPEG", progressive=True)
    with pytest.raises(ImageError, match=r"is truncated: it ends within scan \d, and more scans"):
        load_image(progressive[: len(progressive) // 2])
    header = content.index(b"\xff\xda") - 40
    with pytest.raises(ImageError, match="is truncated: it ends before the image itself begins"):
        load_image(content[:header])


VARIANTS: list[dict[str, Any]] = [
    {}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0}, {"quality": 95},
]  # fmt: skip


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("end", [1, 2])
def test_a_jpeg_without_its_end_marker_is_read(
    options: dict[str, Any], end: int, rgb: NDArray[np.uint8], tmp_path: Path
) -> None:
    whole = encoded(rgb, "JPEG", **options)
    path = tmp_path / "camera.jpg"
    path.write_bytes(whole[:-end])
    image, wanted = load_image(path), load_image(whole)
    assert np.array_equal(image.grey, wanted.grey)
    assert image.warnings == (f"{path}: lacks its last bytes: all of the image is there",)
    assert image.decode_colour is not None
    assert wanted.decode_colour is not None
    assert np.array_equal(image.decode_colour(1), wanted.decode_colour(1))
    assert np.array_equal(load_colour(path), load_colour(whole))


@pytest.mark.parametrize("kind", ["L", "RGB", "CMYK"])
def test_how_much_of_a_jpeg_is_there_is_said(kind: str) -> None:
    """All rows of noise need about as many bytes."""
    noise = np.random.default_rng(3).integers(0, 256, (640, 480, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise).convert(kind), "JPEG", quality=80)
    start = content.index(b"\xff\xda")
    for share in (0.05, 0.3, 0.5, 0.8, 0.95):
        cut = content[: start + int(share * (len(content) - start))]
        with pytest.raises(ImageError, match="is truncated: ") as caught:
            load_image(cut)
        percent = int(re.search(r"(\d+) % of the image is there", str(caught.value))[1])
        assert percent == pytest.approx(100 * share, abs=4)
    # A few bytes less cost one block of the last row.
    image = load_image(content[:-40])
    assert re.fullmatch(
        r"the image: lacks its last bytes: 99\.\d % of the image is there", image.warnings[0]
    )
    assert np.array_equal(image.grey[:-16], load_image(content).grey[:-16])


def test_a_large_jpeg_without_its_end_is_reduced_all_the_same() -> None:
    wide = encoded(np.full((40, 8004), 90, np.uint8), "JPEG")
    image = load_image(wide[:-2])
    assert (image.width, image.scale, image.grey.shape) == (8004, 2, (20, 4002))
    assert image.warnings


@pytest.mark.parametrize(
    "before",
    [b"\r\n", b"\0", b"--part\r\nContent-Type: image/jpeg\r\nContent-Length: 5920\r\n\r\n"],
)
def test_bytes_before_a_jpeg_are_left_out(before: bytes, rgb: NDArray[np.uint8]) -> None:
    whole = encoded(rgb, "JPEG")
    image = load_image(before + whole)
    assert np.array_equal(image.grey, load_image(whole).grey)
    size = "1 byte" if len(before) == 1 else f"{len(before)} bytes"
    assert image.warnings == (
        f"the image: has {size} before the start of the image, which are left out",
    )
    assert np.array_equal(load_colour(before + whole), load_colour(whole))
    assert len(load_image(before + whole[:-2]).warnings) == 2
    with pytest.raises(ImageError, match="160 x 120"):
        load_image(before + whole, max_pixels=1000)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGB"])
def test_a_tall_image_is_composited_as_a_whole(mode: str) -> None:
    """It is converted in strips."""
    noise = np.random.default_rng(5).integers(0, 256, (700, 40, 4), dtype=np.uint8)
    image = Image.fromarray(noise).convert(mode)
    shown = Image.alpha_composite(
        Image.new("RGBA", image.size, "white"), image.convert("RGBA")
    ).convert("RGB")
    assert difference(load_image(image).grey, np.asarray(shown.convert("L"))) < 1
    colour = load_image(image).decode_colour
    assert (colour is None) == (mode == "LA")
    if mode != "PA":  # PNG has no such mode.
        assert np.array_equal(load_colour(encoded(image, "PNG")), np.asarray(shown))
    if colour is not None:
        assert np.array_equal(colour(1), np.asarray(shown))


MEMORY = """
import re, sys
from pathlib import Path
from src.core.images import load_image
content = Path(sys.argv[1]).read_bytes()
def peak():
    # Of this process alone; getrusage also counts what the one had that has started it.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
image = load_image(content)
if sys.argv[2] == "colour":
    image.decode_colour(1)
print((peak() - before) / 2**10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("what", "most"), [("grey", 200), ("colour", 300)])
def test_a_transparent_image_needs_no_copies_of_itself(
    what: str, most: float, tmp_path: Path
) -> None:
    """It has 95 MiB, and gives 24 MiB of grey or 72 of colours."""
    path = tmp_path / "large.png"
    Image.new("RGBA", (5000, 5000), (9, 99, 199, 99)).save(path, compress_level=1)
    command = [sys.executable, "-c", MEMORY, str(path), what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < most


def test_filling_bytes_take_no_long_time(rgb: NDArray[np.uint8]) -> None:
    whole = encoded(rgb, "JPEG")
    start = whole.index(b"\xff\xda") + 30
    started = time.process_time()
    filling = b"\xff" * 100_000 + b"\0"
    with pytest.raises(ImageError, match="is truncated"):
        load_image(whole[:start] + filling)
    assert not jpeg.has_too_many_scans(whole[:start] + filling + SCANS)
    assert time.process_time() - started < 5
    # There may be any number of them before a marker.
    end = whole.rindex(b"\xff\xd9")
    filled = whole[:end] + b"\xff" * 1000 + whole[end:]
    assert np.array_equal(load_image(filled).grey, load_image(whole).grey)
    assert load_image(filled[:-1]).warnings


SCANS = b"\xff\xda" * 100


def test_a_jpeg_of_many_scans_is_refused(rgb: NDArray[np.uint8]) -> None:
    """Each scan takes libjpeg as long as the image is large, also if there is nothing in it."""
    whole = encoded(rgb, "JPEG", progressive=True)
    last = whole[whole.rindex(b"\xff\xda") : -2]
    usual = whole.count(b"\xff\xda")
    assert usual > 5

    def with_scans(count: int, before: bytes = b"") -> bytes:
        return whole[:-2] + before + last * (count - usual) + whole[-2:]

    assert load_image(with_scans(jpeg.MOST_SCANS)).grey.shape == SIZE
    for before in (
        b"",
        # What has no length hides nothing, whatever comes after it.
        b"\xff\x01",
        b"\xff\x02\xff",
        b"\xff\xff\xff",
    ):
        content = with_scans(jpeg.MOST_SCANS + 1, before)
        with pytest.raises(ImageError, match="the image: has more than 50 scans"):
            load_image(content)
        with pytest.raises(ImageError, match="the image: has more than 50 scans"):
            load_colour(content)


def test_what_only_looks_like_scans_is_none(rgb: NDArray[np.uint8]) -> None:
    """A video after the image, as phones write it, or a profile within it."""
    whole = encoded(rgb, "JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", len(SCANS) + 2) + SCANS
    for content in (whole + SCANS, whole[:2] + comment + whole[2:]):
        assert np.array_equal(load_image(content).grey, load_image(whole).grey)


def test_a_jpeg_within_another_file_is_no_image(rgb: NDArray[np.uint8]) -> None:
    """A preview in a video, in a GIF that is not accepted, or far from the start."""
    whole = encoded(rgb, "JPEG")
    video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
    for content in (video + whole, b"GIF89a" + whole, bytes(2000) + whole):
        with pytest.raises(UnsupportedImageError):
            load_image(content, formats=["JPEG", "PNG"])


def test_the_first_image_of_a_stereo_image_is_read(
    rgb: NDArray[np.uint8], grey: NDArray[np.uint8]
) -> None:
    content = encoded(rgb, "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))])
    image = load_image(content, formats=["JPEG"])
    assert (image.width, image.height, image.warnings) == (160, 120, ())
    assert difference(image.grey, grey) < 3


def test_a_heic_file_may_call_itself_heif(grey: NDArray[np.uint8]) -> None:
    content = encoded(grey, "HEIF")
    assert content[8:12] in {b"heic", b"heix"}
    assert difference(load_image(content[:8] + b"mif1" + content[12:]).grey, grey) < 1.5
    # As some encoders of AVIF do: the compatible brands tell.
    avif = encoded(grey, "AVIF", quality=95)
    assert avif[8:12] == b"avif"
    assert difference(load_image(avif[:8] + b"mif1" + avif[12:]).grey, grey) < 1.5


def test_heic_without_its_extra_names_it(
    grey: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.core.images.find_spec", lambda _: None)
    with pytest.raises(UnsupportedImageError, match=r"pip install 'swiss-plates\[heic\]'"):
        load_image(encoded(grey, "HEIF"))
    # Where it is not accepted anyway, the extra would not help.
    with pytest.raises(UnsupportedImageError, match="use JPEG or PNG"):
        load_image(encoded(grey, "HEIF"), formats=["JPEG", "PNG"])


@pytest.mark.parametrize(("kind", "feature"), [("AVIF", "avif"), ("JPEG2000", "jpg_2000")])
def test_a_pillow_without_a_decoder_is_said(
    kind: str, feature: str, grey: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("src.core.images.features.check", lambda name: name != feature)
    with pytest.raises(UnsupportedImageError, match="this build of Pillow cannot decode"):
        load_image(encoded(grey, kind))


@pytest.mark.parametrize(
    ("kind", "place"), [("HEIF", (b"ispe", 8, ">II")), ("JPEG2000", (b"ihdr", 4, ">II"))]
)
def test_a_false_size_does_not_get_past_the_limits(
    kind: str, place: tuple[bytes, int, str], rgb: NDArray[np.uint8]
) -> None:
    """Whether the header says more or less than the image has."""
    content = bytearray(encoded(rgb, kind))
    name, offset, layout = place
    start = content.index(name) + offset
    struct.pack_into(layout, content, start, 60_000, 50_000)
    with pytest.raises(TooLargeImageError, match=r"(60000 x 50000|50000 x 60000)"):
        load_image(bytes(content))
    struct.pack_into(layout, content, start, 16, 16)
    with pytest.raises(ImageError):
        load_image(bytes(content), max_pixels=1000)


@pytest.mark.parametrize("kind", FORMATS)
def test_random_damage_raises_nothing_else(kind: str, rgb: NDArray[np.uint8]) -> None:
    content = encoded(rgb[:40, :40], kind)
    chance = np.random.default_rng(5)
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(300):
            damaged = bytearray(content)
            # Most of it in front, where what counts is said.
            for _ in range(chance.integers(1, 7)):
                place = min(int(chance.exponential(50)), len(damaged) - 1)
                damaged[place] = chance.integers(256)
            try:
                load_image(bytes(damaged), max_pixels=10**6)
                outcomes.add("read")
            except ImageError:
                outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"hello, this is a text", "is not a supported image; use JPEG, PNG"),
        (b"%PDF-1.7 ...", "is not a supported image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a supported image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is (truncated|damaged)"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "is a video, or of a camera's own format"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "is (truncated|damaged)"),
        (b"\xff\xd8\xff", "is (truncated|damaged)"),
        (b"\x89PNG\r\n\x1a\n", "is (truncated|damaged)"),
        (b"GIF89a", "is (truncated|damaged)"),
        (b"BM", "is (truncated|damaged)"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "is (truncated|damaged)"),
    ],
)
def test_files_that_are_no_images(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"file\.jpg: .*{says}|file\.jpg: {says}"):
        load_image(path)
    with pytest.raises(ImageError, match=rf"the image: .*{says}|the image: {says}"):
        load_image(content)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"missing\.jpg: there is no such file"):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="is not a valid file name"):
        load_image("with\0zero")
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        load_image("x" * 5000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="is not a regular file"):
        load_image(tmp_path / "pipe")


def test_a_file_that_may_not_be_read(
    grey: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(grey, "PNG"))
    path.chmod(0)
    if os.geteuid() == 0:
        # Root may read everything.
        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ImageError, match=r"secret\.png: cannot be read: Permission denied"):
        load_image(path)


def test_nothing_of_pillow_is_changed_for_others(grey: NDArray[np.uint8]) -> None:
    from PIL import ImageFile

    content = encoded(grey, "PNG")
    load_image(content)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert Image.MAX_IMAGE_PIXELS == 89478485
    with Image.open(io.BytesIO(content)) as opened:
        load_image(opened)
        assert opened.size == SIZE[::-1]


def test_threads_do_not_disturb_each_other(rgb: NDArray[np.uint8]) -> None:
    contents = [encoded(np.roll(rgb, 7 * i, axis=1), kind) for i in range(4) for kind in FORMATS]
    expected = [load_image(content).grey for content in contents]
    wrong: list[int] = []

    def read_all() -> None:
        for i, content in enumerate(contents):
            if not np.array_equal(load_image(content).grey, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=read_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
