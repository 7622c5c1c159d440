"""Plates as a set of real photos describes them, before its images are opened."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..core.geometry import box_to_xyxy, corners_to_box
from ..core.images import SUFFIXES
from ..core.spelling import without_separators
from .annotations import AnnotatedPlate
from .shards import DatasetError

_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "locked", "testing": "locked",
}  # fmt: skip
"""Split that each known name of a folder or subset stands for."""
_PLATE = re.compile(r"plate|licen[cs]e|kennzeichen|\blp\b|^lp$", re.IGNORECASE)
"""Pattern of class names that denote plates; the Kaggle set calls its class "licence"."""
_TEXTS = {
    "text", "plate", "plate_text", "plate_number", "number", "license_plate", "licence_plate",
    "kennzeichen", "transcription",
}  # fmt: skip
"""Names of attributes that hold a plate's text."""


@dataclass(frozen=True)
class Region:
    """A plate, by its box or its outline.

    Attributes:
        points: Points x, y, shape ``(n, 2)``: top left and bottom right of an upright box, or an outline,
            whose points are the corners if they are four.
        where: File and line or object, for messages.
        is_normalised: True if the points are normalised to [0, 1], False if they are pixels.
        text: What the set says of the text; None if it has none for this plate.
    """

    points: NDArray[np.float64]
    where: str
    is_normalised: bool = False
    text: str | None = None

    def plate(self, width: int, height: int, scale: float) -> AnnotatedPlate:
        """Return the plate in pixels of an image that is loaded at a scale.

        Args:
            width: Width of the displayed image in pixels.
            height: Height of the displayed image in pixels.
            scale: Pixels of the loaded image per pixel of the displayed one.

        Raises:
            DatasetError: The plate cannot be in this image.
        """
        points = self.points * [width, height] if self.is_normalised else self.points
        box = points.ravel() if len(points) == 2 else box_to_xyxy(corners_to_box(points))
        x1, y1, x2, y2 = box
        # Not a number compares as false.
        if not (x1 < x2 and y1 < y2 and x1 < width and y1 < height and x2 > 0 and y2 > 0):
            raise DatasetError(
                f"{self.where}: the box {box.round(1).tolist()} is not valid in an image of "
                f"{width}x{height} pixels"
            )
        corners = None
        if len(points) == 4:
            corners = upright(points)
            if corners is None:
                raise DatasetError(
                    f"{self.where}: the four corners {points.round(1).tolist()} are not those of a plate: "
                    "one lies within the others"
                )
            corners = corners * scale
        written = self.text or ""
        text = without_separators(written)
        # Tools end a text with a line break, too.
        lines = 2 if sum(bool(line.strip()) for line in written.splitlines()) == 2 else None
        # A foreign plate has no text to read here.
        return AnnotatedPlate(text if CHARSET.is_valid(text) else None, box * scale, corners, lines)


@dataclass(frozen=True)
class LabelledImage:
    """An image with its plates.

    Attributes:
        path: Path of the image.
        regions: Its plates.
        source: File that describes it, for messages.
        split: Split that the set assigns it to, if any.
        size: Width and height in pixels that the set gives, if any.
    """

    path: Path
    regions: Sequence[Region]
    source: str
    split: str | None = None
    size: tuple[int, int] | None = None


def upright(points: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the corners of a plate clockwise from its own top left.

    Tools keep the points in the order in which somebody clicked them, or in any. The top edge is taken to be
    the one that runs most nearly to the right: the plate is not turned by more than 45 degrees.

    Args:
        points: Corners in pixels in any order, shape ``(4, 2)``.

    Returns:
        Corners, shape ``(4, 2)``; None if they form no convex quadrilateral.
    """
    hull = cv2.convexHull(points.astype(np.float32), clockwise=True, returnPoints=False)
    if hull is None or len(hull) != 4:
        return None
    corners = points[hull.ravel()]
    along = np.roll(corners, -1, axis=0) - corners
    # OpenCV calls it clockwise in coordinates whose y axis points up.
    if along[0, 0] * along[1, 1] - along[0, 1] * along[1, 0] < 0:
        corners = corners[::-1]
        along = np.roll(corners, -1, axis=0) - corners
    start = int((along[:, 0] / np.linalg.norm(along, axis=1)).argmax())
    return np.roll(corners, -start, axis=0)


def outline(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the points of an outline ``x1, y1, …, xn, yn``, shape ``(n, 2)``.

    A last point that repeats the first is left out.

    Raises:
        ValueError: There are fewer than four points, or a value is no finite number.
    """
    if len(values) % 2:
        raise ValueError("an outline needs an x and a y of each point")
    points = np.array(values, dtype=np.float64).reshape(-1, 2)
    if len(points) > 1 and (points[0] == points[-1]).all():
        points = points[:-1]
    if len(points) < 4 or not np.isfinite(points).all():
        raise ValueError("an outline needs at least four points of finite numbers")
    return points


def rotated(
    corner: tuple[float, float], size: tuple[float, float], degrees: float, around_centre: bool
) -> NDArray[np.float64]:
    """Return the corners of a rectangle that is turned clockwise, shape ``(4, 2)``.

    Args:
        corner: Its top left corner in pixels before it is turned.
        size: Its width and height in pixels.
        degrees: Angle.
        around_centre: True if it turns around its centre, False if around that corner.
    """
    centre = np.array(corner) + np.array(size) / 2 if around_centre else np.array(corner)
    box = np.array(corner) + np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * np.array(size)
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.asarray((box - centre) @ turn + centre)


def split_named(names: Iterable[str]) -> str | None:
    """Return the split that the first known one of some names stands for, such as those of folders."""
    return next((_FOLDERS[name.lower()] for name in names if name.lower() in _FOLDERS), None)


def is_plate(name: str) -> bool:
    """Return whether a class of this name is a plate."""
    return _PLATE.search(name) is not None


def size_of(width: object, height: object) -> tuple[int, int] | None:
    """Return the size of an image if the set gives it, as numbers or as text."""
    try:
        size = int(float(str(width))), int(float(str(height)))
    except (ValueError, OverflowError):
        return None
    return size if min(size) > 0 else None


def text_of(attributes: Iterable[tuple[str, object]]) -> str | None:
    """Return the text among a plate's attributes; None if there is no attribute for it."""
    for name, value in attributes:
        if re.sub(r"[ -]", "_", name.strip().lower()) in _TEXTS:
            return str(value or "")
    return None


def plate_classes(classes: dict[int, str], source: Path) -> set[int]:
    """Return the numbers of the classes that are plates.

    Raises:
        DatasetError: None is.
    """
    found = {number for number, name in classes.items() if is_plate(name)}
    if not found:
        raise DatasetError(
            f"{source}: none of its classes is a plate: {', '.join(classes.values())}; name it `plate`"
        )
    return found


def files_below(folder: Path, suffixes: Container[str]) -> list[Path]:
    """Return the files of a set that have one of some suffixes, sorted.

    Names with a leading dot are left out: they mark what systems and programs keep beside the files, such as
    ``._a.jpg`` in archives that macOS has written.
    """
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


class ImageFinder:
    """Finds the images of a set by the names that a tool has written.

    Args:
        folder: Root folder of the set.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, list[Path]] = {}
        for path in files_below(folder, SUFFIXES):
            self._paths.setdefault(path.name, []).append(path)

    def find(self, name: str, source: Path) -> Path:
        """Return the path of an image.

        Args:
            name: Name or path that the tool has written, with slashes of any kind.
            source: File that names it.

        Raises:
            DatasetError: There is no such image, or several have that name.
        """
        name = name.replace("\\", "/")
        for place in (
            source.parent,
            source.parent / "images",
            self._folder,
            self._folder / "images",
        ):
            if (path := place / name.lstrip("/")).is_file():
                return path
        found = self._paths.get(name.rpartition("/")[2], [])
        if len(found) > 1:
            # The tool's folders tell apart what has one name, as in train/a.jpg and val/a.jpg.
            found = [path for path in found if path.as_posix().endswith(f"/{name}")] or found
        if len(found) == 1:
            return found[0]
        what = f"{len(found)} images have that name" if found else "there is no such image"
        raise DatasetError(f"{source}: {name}: {what} in {self._folder}")
