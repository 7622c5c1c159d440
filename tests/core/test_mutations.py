"""Damaged files of every format: an image or a clear error, and nothing else.

MUTATIONS=10000 pytest tests/core/test_mutations.py -m slow
"""

from __future__ import annotations

import io
import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from src.core.images import DecodedImage, ImageError, load_colour, load_image

COUNT = int(os.environ.get("MUTATIONS", "600"))
MOST_PIXELS = 1_000_000
MOST_MEMORY = 3 * 2**29
"""Bytes that the process may take in addition at most, far more than its images need."""


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def _files() -> dict[str, bytes]:
    """A file of each format, some in more than one way."""
    noise = np.random.default_rng(4).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    rgb = Image.fromarray(noise).resize((56, 40), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "x" * 100
    rgba = rgb.convert("RGBA")
    rgba.putalpha(100)
    frames = {"save_all": True, "append_images": [rgb.rotate(180)]}
    return {
        "jpeg": _saved(rgb, "JPEG", exif=exif),
        "jpeg progressive": _saved(rgb, "JPEG", progressive=True),
        "jpeg restarts": _saved(rgb, "JPEG", restart_marker_rows=1),
        "jpeg cmyk": _saved(rgb.convert("CMYK"), "JPEG"),
        "mpo": _saved(rgb, "MPO", **frames),
        "png": _saved(rgba, "PNG", exif=exif),
        "png palette": _saved(rgb.quantize(16), "PNG"),
        "png 16 bits": _saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 99), "PNG"),
        "webp": _saved(rgb, "WEBP", exif=exif),
        "webp lossless": _saved(rgba, "WEBP", lossless=True),
        "webp animated": _saved(rgb, "WEBP", **frames),
        "heic": _saved(rgb, "HEIF", exif=exif.tobytes()),
        "heic alpha": _saved(rgba, "HEIF"),
        "heic grey": _saved(rgb.convert("L"), "HEIF"),
        "avif": _saved(rgb, "AVIF", exif=exif),
        "avif alpha": _saved(rgba, "AVIF"),
        "jp2": _saved(rgb, "JPEG2000"),
        "jp2 lossy": _saved(rgb, "JPEG2000", irreversible=True, quality_layers=[20]),
        "j2k": _saved(rgb.convert("L"), "JPEG2000", no_jp2=True),
        "tiff": _saved(rgb, "TIFF", exif=exif),
        "tiff lzw": _saved(rgb, "TIFF", compression="tiff_lzw"),
        "tiff jpeg": _saved(rgb, "TIFF", compression="jpeg"),
        "tiff float": _saved(Image.fromarray(noise[..., 0] / np.float32(255)), "TIFF"),
        "bmp": _saved(rgb, "BMP"),
        "bmp palette": _saved(rgb.quantize(16), "BMP"),
        "gif": _saved(rgb, "GIF", **frames),
    }


FILES = _files()


def mutated(number: int) -> tuple[str, bytes]:
    """A damaged file, the same for the same number, and what was done to it."""
    dice = random.Random(number)  # noqa: S311  # the same each time
    names = list(FILES)
    name = names[number % len(names)]
    content = bytearray(FILES[name])
    ways = ["cut", "flip", "number", "remove", "insert", "repeat", "splice", "swap"]
    done = []
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        way = dice.choice(ways)
        done.append(way)
        # Most of it in front, where what counts is said.
        last = max(len(content) - 1, 0)
        start = (
            min(int(dice.expovariate(1 / 150)), last)
            if dice.random() < 0.6
            else dice.randint(0, last)
        )
        size = dice.choice([1, 2, 4, 30, 300])
        if way == "cut":
            del content[dice.choice([start, dice.randint(0, last)]) :]
        elif way == "flip":
            for _ in range(dice.choice([1, 2, 8, 64])):
                if content:
                    content[min(start + dice.randrange(size + 8), last)] ^= 1 << dice.randrange(8)
        elif way == "number":
            value = dice.choice(
                [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\0\0\xff\xff", b"\0\1\0\0"]
            )
            content[start : start + 4] = value
        elif way == "remove":
            del content[start : start + size]
        elif way == "insert":
            content[start:start] = dice.randbytes(size)
        elif way == "repeat":
            content[start:start] = content[start : start + size] * dice.choice([1, 3])
        elif way == "splice":
            other = FILES[dice.choice(names)]
            content[start:] = other[dice.randrange(len(other)) :]
        else:
            part = content[start : start + size]
            del content[start : start + size]
            place = dice.randint(0, len(content))
            content[place:place] = part
    return f"{number}: {name}, {', '.join(done)}", bytes(content)


def outcomes(numbers: range) -> Iterator[str]:
    """Yield what became of each file."""
    for number in numbers:
        what, content = mutated(number)
        try:
            image = load_image(content, MOST_PIXELS)
        except ImageError as error:
            yield "refused" if str(error).startswith("the image: ") else f"nameless: {error}"
            continue
        except Exception as error:
            raise AssertionError(f"{what} ends with {error!r}") from error
        check(image, content, what)
        yield "read with a warning" if image.warnings else "read"


def check(image: DecodedImage, content: bytes, what: str) -> None:
    assert image.grey.dtype == np.uint8, what
    assert image.grey.shape == (image.height, image.width), what
    assert image.width * image.height <= MOST_PIXELS, what
    # What could be read as grey may still be too damaged for its colours.
    for colour in (
        lambda: image.decode_colour and image.decode_colour(2),
        lambda: load_colour(content),
    ):
        try:
            pixels = colour()
        except ImageError:
            continue
        except Exception as error:
            raise AssertionError(f"{what}: its colours end with {error!r}") from error
        assert pixels is None or (pixels.ndim == 3 and pixels.dtype == np.uint8), what


def memory(what: str) -> int:
    """Bytes that this process has, or its peak since it was last reset, by Linux's name for it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split(f"{what}:")[1].split()[0])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_damaged_files_are_read_or_refused() -> None:
    # What the tests before have taken does not count.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = Counter(outcomes(range(COUNT)))
    assert counts.total() == COUNT
    print(f"\n{COUNT} damaged files: {dict(counts)}")
    assert set(counts) <= {"read", "read with a warning", "refused"}
    # Neither is all of it refused, nor is all harmless.
    assert min(counts["read"], counts["refused"]) > COUNT / 20
    assert memory("VmHWM") - before < MOST_MEMORY
