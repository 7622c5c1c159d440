"""A content-addressed folder of JPEG images, and the encoding of images and crops for it.

Stored images are re-encoded from pixels, so they contain no EXIF data, no location and no camera name.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np
from numpy.typing import NDArray

from .errors import StoreError

LONGEST_SIDE = 1600
"""Maximum length in pixels of the longer side of a stored image or crop; larger ones are downscaled."""
MARGIN = 0.25
"""Margin on each side of a crop's plate, as a fraction of the plate's box; the same as in training."""
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]

_MARK = "flywheel-id"
"""File that names the owner of the folder: two databases in one would delete each other's images."""
_UNFINISHED = ".part"
_ABANDONED_S = 3600.0
"""Age in seconds from which an unfinished file is considered left behind by a killed server."""
_NAME = re.compile(r"[0-9a-f]{64}")

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def encode(pixels: Pixels) -> bytes:
    """Encode an ``(H, W, 3)`` RGB image as a JPEG, downscaled to ``LONGEST_SIDE``."""
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", pixels[..., ::-1], _QUALITY)[1].tobytes())


def crop_box(corners: Sequence[Sequence[float]], width: int, height: int) -> Box:
    """Return the upright box around a plate with ``MARGIN``, clipped to the image and never empty.

    Args:
        corners: Plate corners in pixels, shape ``(4, 2)``.
        width: Width of the image in pixels.
        height: Height of the image in pixels.

    Returns:
        The box as x1, y1, x2, y2 in pixels.
    """
    quad = np.asarray(corners, np.float64)
    low, high = quad.min(axis=0), quad.max(axis=0)
    margin = MARGIN * (high - low)
    most = np.array([width, height])
    start = np.clip(np.floor(low - margin), 0, most - 1).astype(int)
    end = np.clip(np.ceil(high + margin), start + 1, most).astype(int)
    return int(start[0]), int(start[1]), int(end[0]), int(end[1])


@dataclass(frozen=True)
class Staged:
    """A file that is on disk, but not yet under its final name.

    Attributes:
        name: SHA-256 hash of the content, 64 hexadecimal digits.
        size: Size of the file in bytes.
        temporary: Path of the file before it gets its final name.
    """

    name: str
    size: int
    temporary: Path


class ImageFolder:
    """A folder of JPEG files that are named by the hash of their content.

    Args:
        path: Path of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path

    def open(self, owner: str) -> None:
        """Create the folder if it does not exist, and check that it can be used.

        Args:
            owner: Id of the database that refers to the files.

        Raises:
            StoreError: The folder cannot be written, or belongs to another database.
        """
        mark = self._folder / _MARK
        try:
            # The folder is private to its owner.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = mark.read_text("ascii", errors="replace").strip() if mark.exists() else ""
            if not found:
                mark.write_text(owner, encoding="ascii")
            # Detect a full disk here rather than at the first image.
            self.discard(self.stage(bytes(2**16)))
        except OSError as error:
            raise StoreError(
                f"{self._folder}: images cannot be written: {error.strerror or error}. Make the folder "
                "writable, free some disk space, or choose another folder with --feedback-pictures."
            ) from error
        if found not in ("", owner):
            raise StoreError(
                f"{self._folder}: contains the images of another database. Choose another folder with "
                "--feedback-pictures."
            )

    def path(self, name: str) -> Path:
        """Return the path of the file with a name."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid image name")
        return self._folder / name[:2] / f"{name}.jpg"

    def stage(self, content: bytes) -> Staged:
        """Write content to a temporary file and flush it to disk, so that it survives a power loss.

        Raises:
            OSError: The file cannot be written.
        """
        temporary = self._folder / f"{uuid4().hex}{_UNFINISHED}"
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        return Staged(hashlib.sha256(content).hexdigest(), len(content), temporary)

    def keep(self, staged: Staged) -> None:
        """Move a staged file to its final name.

        Raises:
            OSError: The folder cannot be written.
        """
        path = self.path(staged.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        staged.temporary.replace(path)

    def discard(self, staged: Staged) -> None:
        """Delete a staged file; do nothing if it was kept."""
        staged.temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete a file; do nothing if it does not exist.

        Raises:
            OSError: The file cannot be deleted.
        """
        self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Iterate over the names of all files that are kept."""
        for path in self._folder.glob("??/*.jpg"):
            if _NAME.fullmatch(path.stem) and path.parent.name == path.stem[:2]:
                yield path.stem

    def remove_abandoned(self) -> None:
        """Delete unfinished files that no server is writing any more."""
        before = time.time() - _ABANDONED_S
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
