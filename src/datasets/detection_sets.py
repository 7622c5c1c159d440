"""Loaders for sets of real photos for fine-tuning, in common annotation formats.

A set is a folder whose contents determine its format:

- Annotation files: train.csv, val.csv and locked.csv (src/datasets/annotations.py), as written by
  ``python -m src.flywheel.export``.
- Pascal VOC: one ``*.xml`` per image below ``Annotations`` or ``annotations``, with the images in
  ``JPEGImages`` or ``images`` beside it or in the same folder (Everingham et al. 2010).
- YOLO: below ``labels`` one ``*.txt`` per image below ``images``, with a line ``class cx cy w h`` per
  object; ``data.yaml`` names the classes.
- UFPR-ALPR: ``training``, ``validation`` and ``testing`` with a ``*.txt`` beside each image (Laroca et
  al. 2018).

The set's own splits are used if it has any, with its test split as ``locked``; otherwise an image's
content decides. Objects whose class is not a plate are ignored. VOC and YOLO carry neither texts nor
corners.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import yaml
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..core.geometry import box_to_xyxy, corners_to_box
from ..core.images import ImageError, load_image
from .annotations import AnnotatedImage, AnnotatedPlate, AnnotationFile
from .shards import DatasetError
from .splits import SPLITS, split_of

_IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "locked", "testing": "locked",
}  # fmt: skip
"""Split that each known folder name stands for."""
_PARTS = {*_FOLDERS, "images", "labels", "annotations", "jpegimages", "imagesets"}
"""Folder names, in lower case, that mark a folder as a set."""
_PLATE = re.compile(r"plate|licen[cs]e|kennzeichen|\blp\b|^lp$", re.IGNORECASE)
"""Pattern of class names that denote plates; the Kaggle set calls its class "licence"."""


@dataclass(frozen=True)
class Split:
    """The images of a split.

    Attributes:
        name: Name of the split: ``train``, ``val`` or ``locked``.
        images: Function that opens the images one at a time; it may be called repeatedly.
        count: Number of images.
        has_text: True if plate texts are known; a plate without one then has none to read.
    """

    name: str
    images: Callable[[], Iterator[AnnotatedImage]]
    count: int
    has_text: bool


def find_sets(folder: Path) -> list[Path]:
    """Return the sets in a folder, sorted by name; empty if the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def is_set(folder: Path) -> bool:
    """Return True if a folder is itself a set, judged by the names in it; otherwise it may hold sets."""
    names = {path.name.lower() for path in folder.iterdir()}
    tables = {f"{name}.csv" for name in SPLITS}
    return bool(names & (_PARTS | tables)) or any(folder.glob("*.xml"))


def open_set(folder: Path) -> list[Split]:
    """Open a set and return its splits.

    Raises:
        DatasetError: If the format is unknown or a file is damaged, or, during iteration, an image
            cannot be read.
    """
    if any((folder / f"{name}.csv").is_file() for name in SPLITS):
        return _annotation_files(folder)
    for read in (_read_voc, _read_yolo, _read_ufpr):
        if items := read(folder):
            return _splits(items, has_text=read is _read_ufpr)
    raise DatasetError(
        f"{folder}: not a known dataset layout; expected annotation files "
        f"({', '.join(f'{name}.csv' for name in SPLITS)}),"
        " Pascal VOC (Annotations/*.xml), YOLO (images, labels) or UFPR-ALPR (training/*/*.txt)"
    )


# Annotation files


def _annotation_files(folder: Path) -> list[Split]:
    splits = []
    for name in SPLITS:
        path = folder / f"{name}.csv"
        # A small export may have no image for one of the splits: its table then has only a header.
        if path.is_file() and len(path.read_text(encoding="utf-8").splitlines()) > 1:
            annotated = AnnotationFile(path)
            splits.append(Split(name, annotated.__iter__, len(annotated), annotated.has_text))
    return splits


# Foreign formats


@dataclass(frozen=True)
class _Box:
    """A plate with its box as x1, y1, x2, y2, in pixels or normalised, and its corners where known."""

    values: tuple[float, ...]
    is_normalised: bool = False
    corners: tuple[tuple[float, float], ...] | None = None
    text: str | None = None


@dataclass(frozen=True)
class _Item:
    """An image with its plates, and its split if the set defines one."""

    image: Path
    split: str | None
    boxes: Sequence[_Box]
    source: Path


def _splits(items: Sequence[_Item], has_text: bool) -> list[Split]:
    groups: dict[str, list[_Item]] = {}
    for item in items:
        try:
            split = item.split or split_of(hashlib.sha256(item.image.read_bytes()).hexdigest())
        except OSError as error:
            raise DatasetError(
                f"{item.source}: its image {item.image} cannot be read: {error.strerror or error}"
            ) from error
        groups.setdefault(split, []).append(item)

    def opener(group: Sequence[_Item]) -> Callable[[], Iterator[AnnotatedImage]]:
        return lambda: map(_open, group)

    return [
        Split(name, opener(groups[name]), len(groups[name]), has_text)
        for name in SPLITS
        if name in groups
    ]


def _open(item: _Item) -> AnnotatedImage:
    try:
        image = load_image(item.image)
    except ImageError as error:
        raise DatasetError(f"{item.source}: {error}") from error
    scale = image.grey.shape[1] / image.width
    plates = [_plate(box, image.width, image.height, scale, item) for box in item.boxes]
    return AnnotatedImage(str(item.image), image.grey, plates)


def _plate(box: _Box, width: int, height: int, scale: float, item: _Item) -> AnnotatedPlate:
    values = np.array(box.values, float)
    if box.is_normalised:
        values *= [width, height, width, height]
    x1, y1, x2, y2 = values
    if not (x1 < x2 and y1 < y2 and x1 < width and y1 < height and x2 > 0 and y2 > 0):
        raise DatasetError(
            f"{item.source}: the box {values.round(1).tolist()} is not valid in an image of "
            f"{width}x{height} pixels"
        )
    corners = None if box.corners is None else np.array(box.corners, float) * scale
    return AnnotatedPlate(box.text, values * scale, corners)


def _read_voc(folder: Path) -> list[_Item]:
    found = sorted(
        path
        for path in folder.rglob("*.xml")
        if path.parent.name.lower() in ("annotations", "labels") or path.parent == folder
    )
    listed = _listed(folder)
    return [_read_xml(path, listed.get(path.stem)) for path in found]


def _listed(folder: Path) -> dict[str, str]:
    """Return the splits of images by name, from VOC's ImageSets/Main."""
    lists = {"train": "train", "val": "val", "test": "locked"}
    return {
        line.split()[0]: split
        for name, split in lists.items()
        for path in folder.rglob(f"ImageSets/Main/{name}.txt")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    }


def _read_xml(path: Path, split: str | None) -> _Item:
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # expat bounds entity expansion
        boxes = [
            _Box(tuple(float(_text(item, f"bndbox/{side}")) for side in _SIDES))
            for item in root.iter("object")
            if _PLATE.search(_text(item, "name"))
        ]
        name = Path(_text(root, "filename")).name
    except (OSError, ET.ParseError, ValueError) as error:
        raise DatasetError(f"{path}: not a Pascal VOC annotation: {error}") from error
    places = [path.parent, *(path.parent.parent / each for each in ("JPEGImages", "images"))]
    image = next((place / name for place in places if (place / name).is_file()), None)
    if image is None:
        raise DatasetError(
            f"{path}: its image {name} is not in the same folder, JPEGImages or images"
        )
    return _Item(image, split, boxes, path)


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _text(element: ET.Element, path: str) -> str:
    value = element.findtext(path)
    if value is None:
        raise ValueError(f"`{path}` is missing")
    return value


def _read_yolo(folder: Path) -> list[_Item]:
    images = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _IMAGES and "images" in path.relative_to(folder).parts
    ]
    if not images or not any("labels" in path.parts for path in folder.rglob("*.txt")):
        return []
    classes = _classes(folder)
    return [_read_labels(path, folder, classes) for path in images]


def _classes(folder: Path) -> set[int] | None:
    """Return the numbers of the plate classes; None if the set names no classes, so that all count."""
    path = next(chain(folder.glob("data.yaml"), folder.glob("*.yaml")), None)
    if path is None:
        return None
    try:
        names = yaml.safe_load(path.read_text(encoding="utf-8"))["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        numbers = {int(number): str(name) for number, name in pairs}
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: does not list the classes as `names`") from error
    found = {number for number, name in numbers.items() if _PLATE.search(name)}
    if not found:
        raise DatasetError(f"{path}: none of its classes is a plate: {', '.join(numbers.values())}")
    return found


def _read_labels(image: Path, folder: Path, classes: set[int] | None) -> _Item:
    parts = list(image.relative_to(folder).parts)
    parts[parts.index("images")] = "labels"
    path = folder.joinpath(*parts).with_suffix(".txt")
    split = next((_FOLDERS[part] for part in parts if part in _FOLDERS), None)
    # An image without a label file has no objects.
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    boxes = []
    for number, line in enumerate(lines, 1):
        values = line.split()
        if not values:
            continue
        try:
            kind, box = int(values[0]), np.array([float(each) for each in values[1:5]])
            if len(values) < 5 or not np.isfinite(box).all():
                raise ValueError
        except ValueError:
            raise DatasetError(f"{path}, line {number}: expected `class cx cy w h`") from None
        if classes is None or kind in classes:
            boxes.append(_Box(tuple(box_to_xyxy(box).tolist()), is_normalised=True))
    return _Item(image, split, boxes, path)


def _read_ufpr(folder: Path) -> list[_Item]:
    items = []
    for path in sorted(folder.rglob("*.txt")):
        image = next(
            (path.with_suffix(end) for end in _IMAGES if path.with_suffix(end).is_file()), None
        )
        if image is None:
            continue
        # One field per line, such as `corners: 1,2 3,4 5,6 7,8`, some of them indented.
        lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
        fields = {key.strip().lower(): value.strip() for key, _, value in lines}
        if "corners" not in fields and "position_plate" not in fields:
            continue
        split = next((_FOLDERS[part] for part in path.parts[::-1] if part in _FOLDERS), None)
        try:
            items.append(_Item(image, split, [_ufpr_box(fields)], path))
        except ValueError:
            raise DatasetError(
                f"{path}: expected `corners: x,y x,y x,y x,y` or `position_plate: x y w h`"
            ) from None
    return items


def _ufpr_box(fields: dict[str, str]) -> _Box:
    text = fields.get("plate", "").replace("-", "")
    # The set's plates are Brazilian, and a foreign plate has no text to read here.
    swiss = text if _is_swiss(text) else None
    if "corners" in fields:
        points = [[float(each) for each in point.split(",")] for point in fields["corners"].split()]
        corners: NDArray[np.float64] = np.array(points)
        if corners.shape != (4, 2):
            raise ValueError
        box = box_to_xyxy(corners_to_box(corners))
        return _Box(tuple(box.tolist()), False, tuple(map(tuple, corners.tolist())), swiss)
    x, y, width, height = (float(each) for each in fields["position_plate"].split())
    return _Box((x, y, x + width, y + height), False, None, swiss)


def _is_swiss(text: str) -> bool:
    try:
        CHARSET.encode(text)
    except ValueError:
        return False
    return True
