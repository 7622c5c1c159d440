"""Sets of real photos with a file of labels for each image: Pascal VOC, YOLO and UFPR-ALPR.

- Pascal VOC: one ``*.xml`` per image below ``Annotations`` or ``annotations``, with the images in
  ``JPEGImages`` or ``images`` beside it or in the same folder (Everingham et al. 2010). CVAT adds
  attributes.
- YOLO: below ``labels`` one ``*.txt`` per image below ``images``. A line is ``class cx cy w h``, with or
  without a confidence, or ``class x1 y1 … xn yn``: the polygon of a segmentation, or the four corners of an
  oriented box. ``data.yaml`` or ``classes.txt`` names the classes.
- UFPR-ALPR: ``training``, ``validation`` and ``testing`` with a ``*.txt`` beside each image (Laroca et
  al. 2018). Its plates are Brazilian.

Each reader returns an empty list if the folder has another layout.
"""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import yaml
from numpy.typing import NDArray

from ..core.geometry import box_to_xyxy
from ..core.images import SUFFIXES
from .labelled import (
    LabelledImage,
    Region,
    files_below,
    is_plate,
    outline,
    plate_classes,
    size_of,
    split_named,
    text_of,
)
from .shards import DatasetError

_SIDES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path) -> list[LabelledImage]:
    """Read a set in the format of Pascal VOC.

    Raises:
        DatasetError: A file is damaged, its image is missing, or none of the classes is a plate.
    """
    found = [
        path
        for path in files_below(folder, {".xml"})
        if path.parent.name.lower() in ("annotations", "labels") or path.parent == folder
    ]
    listed = _listed(folder)
    classes: set[str] = set()
    images = [_read_xml(path, listed.get(path.stem), classes) for path in found]
    if classes:
        plate_classes(dict(enumerate(sorted(classes))), folder)
    return images


def _listed(folder: Path) -> dict[str, str]:
    """Return the splits of images by name, from VOC's ImageSets/Main."""
    lists = {"train": "train", "val": "val", "test": "locked"}
    return {
        line.split()[0]: split
        for name, split in lists.items()
        for path in folder.rglob(f"ImageSets/Main/{name}.txt")
        for line in _lines(path)
        if line.strip()
    }


def _read_xml(path: Path, split: str | None, classes: set[str]) -> LabelledImage:
    """Read the labels of an image, and add the names of their classes to ``classes``."""
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # expat bounds entity expansion
        regions = []
        for number, item in enumerate(root.iter("object"), 1):
            where = f"{path}, object {number}"
            classes.add(_text(item, "name"))
            if is_plate(_text(item, "name")):
                box = [float(_text(item, f"bndbox/{side}")) for side in _SIDES]
                attributes = [
                    (each.findtext("name") or "", each.findtext("value"))
                    for each in item.iter("attribute")
                ]
                regions.append(Region(np.array(box).reshape(2, 2), where, text=text_of(attributes)))
        name = Path(_text(root, "filename").replace("\\", "/")).name
        size = size_of(root.findtext("size/width"), root.findtext("size/height"))
    except (OSError, ET.ParseError, ValueError) as error:
        raise DatasetError(f"{path}: not a Pascal VOC annotation: {error}") from error
    places = [path.parent, *(path.parent.parent / each for each in ("JPEGImages", "images"))]
    image = next((place / name for place in places if (place / name).is_file()), None)
    if image is None:
        raise DatasetError(
            f"{path}: its image {name} is not in the same folder, JPEGImages or images"
        )
    return LabelledImage(image, regions, str(path), split, size)


def _text(element: ET.Element, path: str) -> str:
    value = element.findtext(path)
    if value is None:
        raise ValueError(f"`{path}` is missing")
    return value


def read_yolo(folder: Path) -> list[LabelledImage]:
    """Read a set in the format of YOLO.

    Raises:
        DatasetError: A line is invalid, or none of the classes is a plate.
    """
    images = _in_folder("images", folder, SUFFIXES)
    if not images or not _in_folder("labels", folder, {".txt"}):
        return []
    classes = _classes(folder)
    return [_read_labels(path, folder, classes) for path in images]


def _in_folder(name: str, folder: Path, suffixes: Container[str]) -> list[Path]:
    """Return the files of a set, by their suffixes, that are in a folder of some name."""
    return [
        path for path in files_below(folder, suffixes) if name in path.relative_to(folder).parts
    ]


def _classes(folder: Path) -> set[int] | None:
    """Return the numbers of the plate classes; None if the set names no classes, so that all count."""
    lists = [path for path in files_below(folder, {".yaml", ".yml"}) if path.parent == folder]
    path = next((path for path in lists if path.stem == "data"), next(iter(lists), None))
    if path is None:
        # Label Studio's list beside the folders, or LabelImg's among the labels.
        texts = files_below(folder, {".txt"})
        path = next((path for path in texts if path.name == "classes.txt"), None)
        names = [line.strip() for line in _lines(path)] if path else []
        return plate_classes(dict(enumerate(names)), path) if path and names else None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["names"]
        pairs = names.items() if isinstance(names, dict) else enumerate(names)
        numbers = {int(number): str(name) for number, name in pairs}
        has_keypoints = "kpt_shape" in content
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: does not list the classes as `names`") from error
    if has_keypoints:
        # Their lines, of a box and points, could be taken for polygons.
        raise DatasetError(
            f"{path}: is a set of keypoints (`kpt_shape`); export oriented boxes or polygons"
        )
    return plate_classes(numbers, path)


def _read_labels(image: Path, folder: Path, classes: set[int] | None) -> LabelledImage:
    parts = list(image.relative_to(folder).parts)
    parts[parts.index("images")] = "labels"
    path = folder.joinpath(*parts).with_suffix(".txt")
    regions = []
    # An image without a label file has no objects.
    for number, line in enumerate(_lines(path) if path.is_file() else [], 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            kind, points = _yolo_line(line)
        except ValueError:
            raise DatasetError(
                f"{where}: expected `class cx cy w h`, or `class x1 y1 … xn yn` with the four corners of an "
                f"oriented box or the points of a polygon, not {line.strip()[:80]!r}"
            ) from None
        if classes is None or kind in classes:
            regions.append(Region(points, where, is_normalised=True))
    return LabelledImage(image, regions, str(path), split_named(parts))


def _yolo_line(line: str) -> tuple[int, NDArray[np.float64]]:
    """Return the class and the points of a line.

    Raises:
        ValueError: It is neither a box nor an outline.
    """
    kind, *numbers = line.split()
    values = [float(number) for number in numbers]
    # A fifth number is the confidence of a box that a network has found.
    if len(values) not in (4, 5):
        return int(kind), outline(values)
    if not np.isfinite(values).all():
        raise ValueError("no finite number")
    box: NDArray[np.float64] = np.array(values[:4], dtype=np.float64)
    return int(kind), np.asarray(box_to_xyxy(box), np.float64).reshape(2, 2)


def read_ufpr(folder: Path) -> list[LabelledImage]:
    """Read a set in the format of UFPR-ALPR.

    Raises:
        DatasetError: A file is damaged.
    """
    images = []
    for path in files_below(folder, {".txt"}):
        image = next(
            (path.with_suffix(end) for end in SUFFIXES if path.with_suffix(end).is_file()), None
        )
        if image is None:
            continue
        # One field per line, such as `corners: 1,2 3,4 5,6 7,8`, some of them indented.
        fields, where = {}, {}
        for number, line in enumerate(_lines(path), 1):
            key, _, value = line.partition(":")
            fields[key.strip().lower()], where[key.strip().lower()] = value.strip(), number
        name = next((name for name in ("corners", "position_plate") if name in fields), None)
        if name is None:
            continue
        place = f"{path}, line {where[name]}"
        try:
            points = _ufpr_points(fields, name)
        except ValueError:
            raise DatasetError(
                f"{place}: expected `corners: x,y x,y x,y x,y` or `position_plate: x y w h`"
            ) from None
        region = Region(points, place, text=fields.get("plate"))
        # The nearest folder counts, and none that the set itself is in.
        split = split_named(path.relative_to(folder).parts[::-1])
        images.append(LabelledImage(image, [region], str(path), split))
    return images


def _ufpr_points(fields: dict[str, str], name: str) -> NDArray[np.float64]:
    if name == "corners":
        points = outline([float(each) for each in fields[name].replace(",", " ").split()])
        if len(points) != 4:
            raise ValueError("a plate has four corners")
        return points
    x, y, width, height = (float(each) for each in fields[name].split())
    return np.array([[x, y], [x + width, y + height]])


def _lines(path: Path) -> list[str]:
    """Return the lines of a text file.

    Raises:
        DatasetError: The file cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as text in UTF-8: {error}") from error
