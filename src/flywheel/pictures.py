"""Pictures in a folder, each under the hash of its own content, and how they are made.

What is stored is encoded anew from pixels: no EXIF data, no place, no name of a camera gets in.
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
"""Pixels of a stored picture or crop, at most; what is larger is shrunk."""
MARGIN = 0.25
"""Around a crop's plate, on each side, as a share of its box: what training cuts out as well."""
_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]

_MARK = "flywheel-id"
"""File that says whose folder it is: two databases in one would delete each other's pictures."""
_UNFINISHED = ".part"
_ABANDONED_S = 3600.0
"""An unfinished file of this age was left by a server that was killed."""
_NAME = re.compile(r"[0-9a-f]{64}")

Pixels = NDArray[np.uint8]
Box = tuple[int, int, int, int]


def encode(pixels: Pixels) -> bytes:
    """``(H, W, 3)`` RGB as a JPEG, shrunk to LONGEST_SIDE."""
    height, width = pixels.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", pixels[..., ::-1], _QUALITY)[1].tobytes())


def crop_box(corners: Sequence[Sequence[float]], width: int, height: int) -> Box:
    """x1, y1, x2, y2 of a plate's upright box with MARGIN, within the picture, never empty.

    Args:
        corners: ``(4, 2)`` in pixels.
        width: of the picture.
        height: likewise.
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
    """A file that is on the disk, but not yet under its name.

    Attributes:
        name: 64 hexadecimal digits, the SHA-256 of its content.
        size: in bytes.
        temporary: where it is.
    """

    name: str
    size: int
    temporary: Path


class PictureFolder:
    """JPEG files by the hash of their content.

    Args:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path

    def open(self, owner: str) -> None:
        """Make the folder if it is not there, and see whether it can be used.

        Args:
            owner: id of the database that names the files.

        Raises:
            StoreError: it cannot be written, or belongs to another database.
        """
        mark = self._folder / _MARK
        try:
            # What is in it is nobody else's business.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = mark.read_text("ascii", errors="replace").strip() if mark.exists() else ""
            if not found:
                mark.write_text(owner, encoding="ascii")
            # A full disk is met here, and not by the first picture.
            self.discard(self.stage(bytes(2**16)))
        except OSError as error:
            raise StoreError(
                f"{self._folder}: pictures cannot be written there: {error.strerror or error}. Make the "
                "folder writable, free some space, or name another one: --feedback-pictures."
            ) from error
        if found not in ("", owner):
            raise StoreError(
                f"{self._folder}: holds the pictures of another database. Name another folder: "
                "--feedback-pictures."
            )

    def path(self, name: str) -> Path:
        """Where a file is."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a picture")
        return self._folder / name[:2] / f"{name}.jpg"

    def stage(self, content: bytes) -> Staged:
        """Write a file under another name, safe from a loss of power.

        Raises:
            OSError: it cannot be written.
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
        """Give a file its name.

        Raises:
            OSError: the folder cannot be written.
        """
        path = self.path(staged.name)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        staged.temporary.replace(path)

    def discard(self, staged: Staged) -> None:
        """Delete a file that was not kept; nothing if it was."""
        staged.temporary.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Delete a file; nothing if there is none.

        Raises:
            OSError: it cannot be deleted.
        """
        self.path(name).unlink(missing_ok=True)

    def names(self) -> Iterator[str]:
        """Of all files that are kept."""
        for path in self._folder.glob("??/*.jpg"):
            if _NAME.fullmatch(path.stem) and path.parent.name == path.stem[:2]:
                yield path.stem

    def remove_abandoned(self) -> None:
        """Delete unfinished files that nobody works at any more."""
        before = time.time() - _ABANDONED_S
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
