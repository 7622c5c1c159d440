"""Loaders for sets of real photos for fine-tuning, in common annotation formats.

A set is a folder whose contents determine its format:

- Annotation files: train.csv, val.csv and locked.csv (src/datasets/annotations.py), as written by
  ``python -m src.flywheel.export``.
- CVAT for images, COCO and Label Studio: an XML or JSON file for many images (src/datasets/tool_exports.py).
- Pascal VOC, YOLO and UFPR-ALPR: a file for each image (src/datasets/image_labels.py).

The set's own splits are used if it has any, with its test split as ``locked``; otherwise an image's
content decides. Objects whose class is not a plate are ignored. Four points, of a polygon or of an oriented
box, are a plate's corners; of other outlines only the box is used. An attribute such as ``text`` is the
plate's text, which may be written in two lines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.images import ImageError, load_image
from .annotations import AnnotatedImage, AnnotationFile
from .image_labels import read_ufpr, read_voc, read_yolo
from .labelled import LabelledImage, split_named
from .shards import DatasetError
from .splits import SPLITS, split_of
from .tables import read_rows
from .tool_exports import read_coco, read_cvat, read_label_studio

_PARTS = {"images", "labels", "annotations", "jpegimages", "imagesets"}
"""Folder names, in lower case, that mark a folder as a set."""
_FORMATS = (read_cvat, read_coco, read_label_studio, read_voc, read_yolo, read_ufpr)


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
    known = _PARTS | {f"{name}.csv" for name in SPLITS}
    return any(
        name in known or split_named([name]) or name.endswith((".xml", ".json")) for name in names
    )


def open_set(folder: Path) -> list[Split]:
    """Open a set and return its splits.

    Raises:
        DatasetError: If the format is unknown or a file is damaged, or, during iteration, an image
            cannot be read.
    """
    if any((folder / f"{name}.csv").is_file() for name in SPLITS):
        return _annotation_files(folder)
    for read in _FORMATS:
        if images := read(folder):
            return _splits(images)
    raise DatasetError(
        f"{folder}: not a known dataset layout; expected annotation files "
        f"({', '.join(f'{name}.csv' for name in SPLITS)}), `CVAT for images` (annotations.xml), COCO or "
        "Label Studio (*.json), Pascal VOC (Annotations/*.xml), YOLO (images, labels) or UFPR-ALPR "
        "(training/*/*.txt)"
    )


# Annotation files


def _annotation_files(folder: Path) -> list[Split]:
    splits = []
    for name in SPLITS:
        path = folder / f"{name}.csv"
        # A small export may have no image for one of the splits: its table then has only a header.
        if path.is_file() and read_rows(path).rows:
            annotated = AnnotationFile(path)
            splits.append(Split(name, annotated.__iter__, len(annotated), annotated.has_text))
    return splits


# Other formats


def _splits(images: Sequence[LabelledImage]) -> list[Split]:
    # A set knows the texts if it has any; a plate without one then has none to read.
    has_text = any(region.text is not None for image in images for region in image.regions)
    groups: dict[str, list[LabelledImage]] = {}
    for image in images:
        try:
            split = image.split or split_of(hashlib.sha256(image.path.read_bytes()).hexdigest())
        except OSError as error:
            raise DatasetError(
                f"{image.source}: its image {image.path} cannot be read: {error.strerror or error}"
            ) from error
        groups.setdefault(split, []).append(image)

    def opener(group: Sequence[LabelledImage]) -> Callable[[], Iterator[AnnotatedImage]]:
        return lambda: map(_open, group)

    return [
        Split(name, opener(groups[name]), len(groups[name]), has_text)
        for name in SPLITS
        if name in groups
    ]


def _open(labelled: LabelledImage) -> AnnotatedImage:
    try:
        image = load_image(labelled.path)
    except ImageError as error:
        raise DatasetError(f"{labelled.source}: {error}") from error
    width, height = image.width, image.height
    if labelled.size and labelled.size != (width, height):
        raise DatasetError(
            f"{labelled.source}: {labelled.path.name} was annotated at "
            f"{'x'.join(map(str, labelled.size))} pixels, but has {width}x{height}; use the images that were "
            "annotated"
        )
    # A very large JPEG is decoded at a fraction of its size.
    scale = image.grey.shape[1] / width
    plates = [region.plate(width, height, scale) for region in labelled.regions]
    return AnnotatedImage(str(labelled.path), image.grey, plates)
