"""Sets of real photos as annotation tools export them: one file that describes many images.

- ``CVAT for images 1.1``: ``annotations.xml`` with boxes, rotated boxes and polygons.
- COCO: one or more ``*.json`` with ``images``, ``annotations`` and ``categories``, as CVAT, Label Studio and
  Roboflow write them. The name of the file or of a folder tells the split: ``instances_Train.json``,
  ``valid/_annotations.coco.json``.
- Label Studio's JSON: a list of tasks with their ``annotations``, not JSON-MIN. Of several annotations of a
  task, the one that is marked as ground truth counts, else the last one; tasks without any are left out.

Images are found by their names, anywhere in the set's folder. Each reader returns an empty list if the folder
has another layout.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

import numpy as np

from .labelled import (
    ImageFinder,
    LabelledImage,
    Region,
    files_below,
    is_plate,
    outline,
    plate_classes,
    rotated,
    size_of,
    split_named,
    text_of,
)
from .shards import DatasetError

_INVALID = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What is raised by values that are missing or of another kind than the format's."""


# CVAT for images


def read_cvat(folder: Path) -> list[LabelledImage]:
    """Read a set in the format ``CVAT for images``.

    Raises:
        DatasetError: The file is damaged or of a video, none of its labels is a plate, a shape is invalid,
            or an image is missing.
    """
    path = folder / "annotations.xml"
    if not path.is_file():
        return []
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # expat bounds entity expansion
    except (OSError, ET.ParseError) as error:
        raise DatasetError(f"{path}: not an annotation of CVAT: {error}") from error
    if root.tag != "annotations":
        return []
    if root.find("track") is not None:
        raise DatasetError(
            f"{path}: is an export of a video; export the task as `CVAT for images 1.1`"
        )
    labels = {name.text or "" for name in root.iterfind("meta//label/name")}
    labels |= {shape.get("label", "") for image in root.iter("image") for shape in _shapes(image)}
    if labels:
        plate_classes(dict(enumerate(sorted(labels))), path)
    finder = ImageFinder(folder)
    return [_cvat_image(element, path, finder) for element in root.iter("image")]


def _shapes(image: ET.Element) -> list[ET.Element]:
    return [each for each in image if each.tag != "tag"]


def _cvat_image(element: ET.Element, path: Path, finder: ImageFinder) -> LabelledImage:
    name = element.get("name", "")
    regions = []
    for number, shape in enumerate(_shapes(element), 1):
        where = f"{path}, image {name}, shape {number}"
        if not is_plate(shape.get("label", "")):
            continue
        try:
            points = _cvat_points(shape)
        except _INVALID as error:
            raise DatasetError(
                f"{where}: `{shape.tag}` is no valid plate ({error}); draw it as a rectangle, or as a "
                "polygon of its four corners"
            ) from error
        attributes = [(each.get("name", ""), each.text) for each in shape.iter("attribute")]
        regions.append(Region(points, where, text=text_of(attributes)))
    split = split_named([element.get("subset", ""), *Path(name).parts])
    size = size_of(element.get("width"), element.get("height"))
    return LabelledImage(finder.find(name, path), regions, str(path), split, size)


def _cvat_points(shape: ET.Element) -> Any:
    values = shape.attrib
    if shape.tag == "polygon":
        return outline([float(each) for each in re.split("[;,]", values["points"])])
    if shape.tag != "box":
        raise ValueError("only rectangles and polygons have an outline")
    x1, y1, x2, y2 = (float(values[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
    return _rectangle((x1, y1), (x2 - x1, y2 - y1), float(values.get("rotation", 0)), True)


def _rectangle(
    corner: tuple[float, float], size: tuple[float, float], degrees: float, around_centre: bool
) -> Any:
    """Return the points of a rectangle: its corners if it is turned, else those of an upright box."""
    if not np.isfinite([*corner, *size, degrees]).all():
        raise ValueError("a number is not finite")
    if degrees % 360:
        return rotated(corner, size, degrees, around_centre)
    return np.array([corner, np.add(corner, size)], dtype=np.float64)


# COCO


def read_coco(folder: Path) -> list[LabelledImage]:
    """Read a set in the format of COCO.

    Raises:
        DatasetError: A file is damaged, an annotation is invalid, or an image is missing.
    """
    found = list(_json_files(folder, _is_coco))
    finder = ImageFinder(folder) if found else None
    return [
        image for path, content in found if finder for image in _coco(path, content, folder, finder)
    ]


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _coco(path: Path, content: Any, folder: Path, finder: ImageFinder) -> Iterator[LabelledImage]:
    try:
        classes = plate_classes(
            {int(each["id"]): str(each["name"]) for each in content["categories"]}, path
        )
        regions: dict[Any, list[Region]] = {each["id"]: [] for each in content["images"]}
        names = [str(each["file_name"]) for each in content["images"]]
        annotations = list(content["annotations"])
    except _INVALID as error:
        raise DatasetError(f"{path}: not a COCO file: {error!r}") from error
    for number, annotation in enumerate(annotations, 1):
        where = f"{path}, annotation {number} of the list"
        try:
            if annotation["category_id"] in classes and not annotation.get("iscrowd"):
                attributes = annotation.get("attributes") or {}
                region = Region(_coco_points(annotation), where, text=text_of(attributes.items()))
                regions[annotation["image_id"]].append(region)
        except _INVALID as error:
            raise DatasetError(f"{where}: not valid: {error!r}") from error
    places = re.split(r"[\W\d_]+", path.stem) + list(path.relative_to(folder).parts)
    for image, name in zip(content["images"], names, strict=True):
        yield LabelledImage(
            finder.find(name, path),
            regions[image["id"]],
            str(path),
            split_named([*places, *Path(name.replace("\\", "/")).parts]),
            size_of(image.get("width"), image.get("height")),
        )


def _coco_points(annotation: Mapping[str, Any]) -> Any:
    shapes = annotation.get("segmentation")
    # Several polygons are parts of an object that is hidden in part, and a mask is a dictionary.
    if isinstance(shapes, list) and len(shapes) == 1:
        return outline(shapes[0])
    x, y, width, height = (float(each) for each in annotation["bbox"])
    # CVAT's rotated rectangles; the box is the one before it was turned.
    degrees = float((annotation.get("attributes") or {}).get("rotation") or 0)
    return _rectangle((x, y), (width, height), degrees, around_centre=True)


def _json_files(folder: Path, is_wanted: Callable[[Any], bool]) -> Iterator[tuple[Path, Any]]:
    for path in files_below(folder, {".json"}):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not valid JSON: {error}") from error
        if is_wanted(content):
            yield path, content


# Label Studio


def read_label_studio(folder: Path) -> list[LabelledImage]:
    """Read a set in Label Studio's JSON.

    Raises:
        DatasetError: A file is damaged, a region is invalid, or an image is missing.
    """
    found = list(_json_files(folder, _is_label_studio))
    finder = ImageFinder(folder) if found else None
    images = []
    for path, tasks in found:
        for number, task in enumerate(tasks, 1):
            where = f"{path}, task {task.get('id', number)}"
            try:
                done = [
                    each for each in task.get("annotations", []) if not each.get("was_cancelled")
                ]
                if done and finder:
                    chosen = next((each for each in done if each.get("ground_truth")), done[-1])
                    images.append(_task(task, chosen["result"], path, where, finder))
            except _INVALID as error:
                raise DatasetError(f"{where}: not valid: {error!r}") from error
    if found and not any(image.regions for image in images):
        raise DatasetError(
            f"{found[0][0]}: no region is labelled as a plate; name the label `plate`"
        )
    return images


def _is_label_studio(content: Any) -> bool:
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in content
        )
    )


def _task(
    task: Mapping[str, Any],
    result: list[dict[str, Any]],
    path: Path,
    where: str,
    finder: ImageFinder,
) -> LabelledImage:
    size = None
    # A region's shape, label and text are entries of their own with its id.
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in result:
        entries.setdefault(str(entry.get("id")), []).append(entry)
    regions = []
    for name, parts in entries.items():
        shape = next(
            (each for each in parts if {"x", "points"} & each.get("value", {}).keys()), None
        )
        labels = [
            str(label)
            for each in parts
            for key, found in each.get("value", {}).items()
            if key.endswith("labels")
            for label in found
        ]
        if shape is None or (labels and not any(map(is_plate, labels))):
            continue
        if shape.get("image_rotation"):
            raise DatasetError(
                f"{where}, region {name}: the image was turned in Label Studio by "
                f"{shape['image_rotation']} degrees; turn the file, and annotate it again"
            )
        size = size_of(shape.get("original_width"), shape.get("original_height"))
        if size is None:
            raise ValueError("`original_width` and `original_height` are missing")
        text = next(
            (each["value"]["text"] for each in parts if "text" in each.get("value", {})), None
        )
        # A field of text that takes several entries has one for each line of the plate.
        text = "\n".join(text) if isinstance(text, list) else text
        regions.append(
            Region(_task_points(shape["value"], size), f"{where}, region {name}", text=text)
        )
    return LabelledImage(_task_image(task["data"], path, finder), regions, str(path), size=size)


def _task_points(value: Mapping[str, Any], size: tuple[int, int]) -> Any:
    """Return the points of a shape, which Label Studio gives in per cent of the image's sides."""
    share = np.array(size) / 100
    if "points" in value:
        points = np.array(value["points"], dtype=np.float64)
        return outline((points * share).ravel().tolist())
    x, y = np.array([value["x"], value["y"]], dtype=np.float64) * share
    width, height = np.array([value["width"], value["height"]], dtype=np.float64) * share
    corner, sides = (float(x), float(y)), (float(width), float(height))
    return _rectangle(corner, sides, float(value.get("rotation") or 0), around_centre=False)


def _task_image(data: Mapping[str, Any], path: Path, finder: ImageFinder) -> Path:
    """Return the image of a task, whose name may be a URL, and have a prefix since it was uploaded."""
    text = next(
        (str(data[key]) for key in ("image", "img", "ocr", "captioning", "file") if key in data),
        None,
    )
    if text is None:
        if not data:
            raise ValueError("`data` names no image")
        text = str(next(iter(data.values())))
    url = urlsplit(text)
    name = parse_qs(url.query).get("d", [unquote(url.path)])[0]
    try:
        return finder.find(name, path)
    except DatasetError:
        original = re.sub(r"[0-9a-f]{8}-", "", name.rpartition("/")[2], count=1)
        return finder.find(original, path)
