"""Samples to check: prepared sets, annotation files and other sets of real images, all as one table.

Annotation files are those of src/datasets/annotations.py. A row that breaks their rules is not an error
here but a result to report: it stays in the table, together with a description of the problem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ..core.errors import UserError
from ..core.geometry import (
    BOX_COLUMNS,
    CORNER_COLUMNS,
    corners_to_box,
    plate_angle,
    plate_height,
    xyxy_to_box,
)
from ..core.images import DecodedImage, ImageError, load_image
from ..datasets.annotations import AnnotatedPlate
from ..datasets.detection_sets import Split, find_sets, is_set, open_set
from ..datasets.shards import DatasetError, ShardedSet
from ..datasets.tables import PIXEL_COLUMNS, read_rows

ImageArray = NDArray[np.uint8]
FloatArray = NDArray[np.floating]

_TEXTS = ("format", "colour", "style")
_PLACE = [*BOX_COLUMNS, *CORNER_COLUMNS]


class SamplesError(UserError):
    """Raised when a place contains nothing to check, or nothing that is recognised."""


class Images(Sequence[ImageArray]):
    """Images that are made when they are asked for: thousands of photographs do not fit in memory.

    Args:
        make: Function that returns the image of a position, shape ``(H, W)``, uint8.
        count: Number of images.
    """

    def __init__(self, make: Callable[[int], ImageArray], count: int) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> ImageArray: ...
    @overload
    def __getitem__(self, at: slice) -> list[ImageArray]: ...
    def __getitem__(self, at: int | slice) -> ImageArray | list[ImageArray]:
        positions = range(self._count)[at]
        if isinstance(positions, range):
            return [self._make(position) for position in positions]
        return self._make(positions)


@dataclass(frozen=True)
class Samples:
    """Table of plates and of images without a plate.

    Attributes:
        name: Name of the set.
        labels: Table with one row per plate or per image without a plate, numbered from 0. Columns:
            ``sample`` (number in the set, or line of the annotation file), ``image`` (number of the
            image), ``plate`` (text; empty if there is nothing to read), ``present`` (True if there is a
            plate), ``lines`` (0 if unknown), ``format``, ``colour`` and ``style`` (empty if unknown),
            the box ``cx cy w h`` and the corners ``x0 y0 … x3 y3`` in normalised coordinates (NaN if
            unknown), ``width`` and ``height`` of the image in pixels, ``plate_height`` and ``angle`` as
            in prepared sets, and ``problem`` (reason why the row cannot be used; empty if it can).
        load: Function that returns the image of a given number, shape ``(H, W)``, uint8.
        place: Path of the set; together with a sample's number it identifies the sample to the user.
        has_text: True if the texts are known.
        crops: True if the images are crops around a plate.
        total: Number of rows of the whole set that these rows were taken from.
    """

    name: str
    labels: pd.DataFrame
    load: Callable[[int], ImageArray]
    place: Path
    has_text: bool
    crops: bool
    total: int

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> ImageArray:
        """Return the image of a row, shape ``(H, W)``, uint8."""
        return self.load(int(self.images[row]))

    @cached_property
    def images(self) -> NDArray[np.int64]:
        """Numbers of the images, shape ``(n,)``."""
        return self.labels["image"].to_numpy(np.int64)

    def take(self, rows: ArrayLike) -> Samples:
        """Return the rows with the given numbers."""
        return replace(self, labels=self.labels.iloc[np.asarray(rows)].reset_index(drop=True))

    def sampled(self, count: int, seed: int) -> Samples:
        """Draw at most ``count`` usable rows with the random seed ``seed``, and keep their order."""
        usable = np.flatnonzero(self.labels["problem"].to_numpy() == "")
        if len(usable) > count:
            drawn = np.random.default_rng(seed).choice(usable, count, replace=False)
            usable = np.sort(drawn)
        return self.take(usable)

    def where(self, row: int) -> str:
        """Return the name of a sample for messages: its set's path and its number."""
        return f"{self.place}, {self.number(row)}"

    def number(self, row: int) -> str:
        """Return the number of a sample in its set, or its line in the annotation file, as text."""
        number = int(self.labels["sample"].iloc[row])
        return f"{'line' if self.place.is_file() else 'sample'} {number}"

    @property
    def boxes(self) -> FloatArray:
        """Boxes cx, cy, w, h in normalised coordinates, shape ``(n, 4)``; NaN where unknown."""
        return self.labels[BOX_COLUMNS].to_numpy(np.float64)

    @property
    def corners(self) -> FloatArray:
        """Corners in normalised coordinates, shape ``(n, 4, 2)``; NaN where unknown."""
        return self.labels[CORNER_COLUMNS].to_numpy(np.float64).reshape(-1, 4, 2)

    @property
    def sizes(self) -> FloatArray:
        """Width and height of the images in pixels, shape ``(n, 2)``."""
        return self.labels[["width", "height"]].to_numpy(np.float64)


def open_samples(path: Path) -> list[Samples]:
    """Open all sets at a path.

    The path is a prepared set, an annotation file, a set of real images, or a folder of these.

    Raises:
        SamplesError: The path is none of these, or has no samples.
        DatasetError: A set is damaged, or an annotation file cannot be read at all.
    """
    if path.is_file():
        return [read_table(path)]
    if (path / "meta.json").is_file():
        return [prepared(path)]
    sets = sorted(item.parent for item in path.glob("*/meta.json"))
    if sets:
        return [prepared(folder) for folder in sets]
    found = sorted(path.glob("*.csv"))
    if len(found) == 1:
        return [read_table(found[0], path.name)]
    if found:
        # A split of a small export may consist of the header line alone.
        tables = [read_table(table) for table in found if read_rows(table).rows]
        if not tables:
            raise SamplesError(f"{path}: none of its annotation files (*.csv) has a row")
        return tables
    return _real(path)


def _real(path: Path) -> list[Samples]:
    """Open the sets of real images at a path, in any supported format."""
    if not path.exists():
        raise SamplesError(f"{path}: there is no such folder")
    folders = find_sets(path)
    if is_set(path) or not folders:
        return [_of_split(split, path) for split in open_set(path)]
    return [
        replace(samples, name=f"{folder.name}-{samples.name}")
        for folder in folders
        for samples in open_samples(folder)
    ]


def prepared(folder: Path) -> Samples:
    """Open a prepared set; an image with several plates is represented by its first plate.

    Raises:
        DatasetError: The set is missing or damaged.
    """
    data = ShardedSet(folder)
    labels = data.labels
    count = len(labels)
    crops = "offset" in labels
    side = data.image(0).shape
    plain = {
        "present": True, "lines": 0, "height": side[0], "width": side[1],
        "plate_height": np.nan, "angle": np.nan, **dict.fromkeys(_TEXTS, ""),
    }  # fmt: skip
    columns = {column: labels.get(column, value) for column, value in plain.items()}
    numbers = np.arange(count)
    table = pd.DataFrame(
        {"sample": numbers, "image": numbers, "plate": labels["plate"], **columns}, index=numbers
    )
    table[_PLACE] = labels[_PLACE]
    table["problem"] = ""
    return Samples(folder.name, table, data.image, folder, True, crops, count)


def read_table(path: Path, name: str | None = None) -> Samples:
    """Read an annotation file, including rows that are invalid.

    Raises:
        DatasetError: The file is not a CSV file, has no rows, or lacks a column.
    """
    content = read_rows(path)
    table = pd.DataFrame(content.rows, columns=content.columns, dtype=str)
    known = set(content.columns)
    ways = [
        columns for columns in (BOX_COLUMNS, PIXEL_COLUMNS, CORNER_COLUMNS) if set(columns) <= known
    ]
    if "file" not in known or not ways or table.empty:
        raise DatasetError(
            f"{path}: must have at least one row, a column `file`, and columns `cx,cy,w,h` (normalised "
            "coordinates), `x1,y1,x2,y2` (pixels) or corners `x0,y0,…,x3,y3`"
        )
    files = table["file"].drop_duplicates().tolist()

    @lru_cache(maxsize=4)
    def opened(number: int) -> DecodedImage:
        return load_image(path.parent / files[number])

    sizes = pd.DataFrame([_size(opened, number) for number in range(len(files))], index=files)
    labels = _labels(table, sizes.loc[table["file"]].reset_index(drop=True))
    numbers = table["file"].map({file: i for i, file in enumerate(files)})
    labels = labels.assign(sample=content.lines, image=numbers)
    return Samples(
        name or path.stem,
        labels,
        lambda number: opened(number).grey,
        path,
        "plate" in known,
        False,
        len(labels),
    )


def _of_split(split: Split, place: Path) -> Samples:
    """Return the plates of a split; images are not kept in memory, but opened again when needed."""
    rows: list[dict[str, object]] = []
    files = []
    for number, annotated in enumerate(split.images()):
        files.append(Path(annotated.name))
        height, width = annotated.image.shape
        size = np.array([width, height])
        plates: Sequence[AnnotatedPlate | None] = annotated.plates or [None]
        for plate in plates:
            row = {"image": number, "present": plate is not None, "plate": "", "lines": 0}
            row |= {"width": width, "height": height, **dict.fromkeys(_PLACE, np.nan)}
            if plate is not None:
                row |= {"plate": plate.text or "", "lines": plate.lines or 0}
                row |= zip(BOX_COLUMNS, xyxy_to_box(plate.box / [*size, *size]), strict=True)
                if plate.corners is not None:
                    row |= zip(CORNER_COLUMNS, (plate.corners / size).ravel(), strict=True)
            rows.append(row)
    labels = pd.DataFrame(rows).assign(
        sample=range(len(rows)), problem="", **dict.fromkeys(_TEXTS, "")
    )
    quads = labels[CORNER_COLUMNS].to_numpy(float).reshape(-1, 4, 2)
    quads = quads * labels[["width", "height"]].to_numpy(float)[:, None]
    labels = labels.assign(**_pose(quads, labels["h"] * labels["height"]))

    @lru_cache(maxsize=4)
    def opened(number: int) -> ImageArray:
        return load_image(files[number]).grey

    return Samples(
        split.name, labels, opened, place / split.name, split.has_text, False, len(labels)
    )


def _pose(quads: FloatArray, heights: ArrayLike) -> dict[str, FloatArray]:
    """Return the height of plates in pixels and their angle in degrees, each of shape ``(n,)``.

    Args:
        quads: Corners in pixels, shape ``(n, 4, 2)``; NaN where unknown.
        heights: Heights of the boxes in pixels, shape ``(n,)``, which are used where the corners are
            unknown; the angle is NaN there.
    """
    known = plate_height(quads)
    return {
        "plate_height": np.where(np.isnan(known), heights, known),
        "angle": plate_angle(quads),
    }


def _size(opened: Callable[[int], DecodedImage], number: int) -> dict[str, float | str]:
    """Return the size and scale of an image, or the reason why it cannot be read.

    The scale is the number of displayed pixels per pixel of the loaded image.
    """
    try:
        image = opened(number)
    except ImageError as error:
        return {"width": np.nan, "height": np.nan, "scale": np.nan, "problem": str(error)}
    height, width = image.grey.shape
    return {"width": width, "height": height, "scale": image.scale, "problem": ""}


def _labels(table: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Return the labels of the rows of an annotation file.

    Coordinates that are not finite numbers become NaN.
    """
    known = set(table.columns)
    text = table.reindex(columns=_PLACE, fill_value="")
    numbers = text.apply(pd.to_numeric, errors="coerce").astype(float)
    numbers = numbers.where(np.isfinite(numbers))
    size = sizes[["width", "height"]].to_numpy(np.float64)
    box = numbers[BOX_COLUMNS].to_numpy()
    corners = numbers[CORNER_COLUMNS].to_numpy().reshape(-1, 4, 2)
    if not set(BOX_COLUMNS) <= known:
        corners = corners / (size * sizes[["scale"]].to_numpy(np.float64))[:, None]
        if set(CORNER_COLUMNS) <= known:
            box = corners_to_box(corners)
        else:
            # Without all corner columns, x1, y1, x2, y2 are a box, not corners.
            box = xyxy_to_box(corners[:, 1:3].reshape(-1, 4))
            corners = np.full_like(corners, np.nan)
    present = (text != "").any(axis=1)
    odd = ((text != "") & numbers.isna()).to_numpy()
    is_odd, is_incomplete = odd.any(axis=1), np.isnan(box).any(axis=1)
    problems = sizes["problem"].tolist()
    usable = (present & (sizes["problem"] == "")).to_numpy()
    for row in np.flatnonzero(usable & (is_odd | is_incomplete)).tolist():
        column = _PLACE[int(odd[row].argmax())]
        problems[row] = (
            f"`{column}` is not a number: {text[column].iloc[row]!r}"
            if is_odd[row]
            else "the box is incomplete"
        )
    quads = corners * size[:, None]
    labels = table.reindex(columns=["plate", *_TEXTS], fill_value="")
    labels[["width", "height"]] = size
    labels[BOX_COLUMNS], labels[CORNER_COLUMNS] = box, corners.reshape(-1, 8)
    return labels.assign(
        present=present,
        lines=table.get("lines", pd.Series("", table.index))
        .map({"1": 1, "2": 2})
        .fillna(0)
        .astype(int),
        problem=problems,
        **_pose(quads, box[:, 3] * size[:, 1]),
    )
