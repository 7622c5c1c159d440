"""What is checked: prepared sets, annotation files and other sets of real pictures, all as one table.

Annotation files are those of src/datasets/annotations.py. Here a row that breaks their rules is no error but
something to report: it stays in the table, with what is wrong in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

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
from ..core.images import ImageError, load_image
from ..core.images import Picture as LoadedPicture
from ..datasets.annotations import PIXEL_COLUMNS, AnnotatedPlate
from ..datasets.detection_sets import Split, find_sets, is_set, open_set
from ..datasets.shards import DatasetError, ShardedSet

Picture = NDArray[np.uint8]
FloatArray = NDArray[np.floating]

_TEXTS = ("format", "colour", "style")
_PLACE = [*BOX_COLUMNS, *CORNER_COLUMNS]


class SamplesError(UserError):
    """There is nothing to check in a place, or it cannot be told what."""


@dataclass(frozen=True)
class Samples:
    """Plates, and pictures without one.

    Attributes:
        name: of the set.
        labels: a row a plate, or a picture without one, numbered from 0: ``sample`` (its number in the
            set, or the line of the annotation file), ``picture``, ``plate`` (empty: nothing to read),
            ``present``, ``lines`` (0: not known), ``format``, ``colour``, ``style`` (empty: not
            known), the box ``cx cy w h`` and the corners ``x0 y0 … x3 y3`` as normalised coordinates
            (not a number where not known), ``width`` and ``height`` of the picture in pixels,
            ``plate_height`` and ``angle`` as in prepared sets, ``problem`` (why it cannot be used).
        load: the picture of a number, ``(H, W)`` uint8.
        place: where the set lies; with a sample's number it says how to see it.
        has_text: whether texts are known.
        crops: whether pictures are cut around a plate.
        total: rows of the whole set that these are of.
    """

    name: str
    labels: pd.DataFrame
    load: Callable[[int], Picture]
    place: Path
    has_text: bool
    crops: bool
    total: int

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, row: int) -> Picture:
        """Picture of a row, ``(H, W)`` uint8."""
        return self.load(int(self.pictures[row]))

    @cached_property
    def pictures(self) -> NDArray[np.int64]:
        """``(n,)`` numbers of the pictures."""
        return self.labels["picture"].to_numpy(np.int64)

    def take(self, rows: ArrayLike) -> Samples:
        """Some of the rows, by their numbers."""
        return replace(self, labels=self.labels.iloc[np.asarray(rows)].reset_index(drop=True))

    def sampled(self, count: int, seed: int) -> Samples:
        """At most ``count`` rows that can be used, drawn by a seed, in their order."""
        usable = np.flatnonzero(self.labels["problem"].to_numpy() == "")
        if len(usable) > count:
            drawn = np.random.default_rng(seed).choice(usable, count, replace=False)
            usable = np.sort(drawn)
        return self.take(usable)

    def where(self, row: int) -> str:
        """How a sample is called in messages."""
        return f"{self.place}, {self.number(row)}"

    def number(self, row: int) -> str:
        """What the sample is in its place."""
        number = int(self.labels["sample"].iloc[row])
        return f"{'line' if self.place.suffix else 'sample'} {number}"

    @property
    def boxes(self) -> FloatArray:
        """``(n, 4)`` as cx, cy, w, h, normalised coordinates; not a number where not known."""
        return self.labels[BOX_COLUMNS].to_numpy(np.float64)

    @property
    def corners(self) -> FloatArray:
        """``(n, 4, 2)``, normalised coordinates; not a number where not known."""
        return self.labels[CORNER_COLUMNS].to_numpy(np.float64).reshape(-1, 4, 2)

    @property
    def sizes(self) -> FloatArray:
        """``(n, 2)`` width and height of the pictures in pixels."""
        return self.labels[["width", "height"]].to_numpy(np.float64)


def open_samples(path: Path) -> list[Samples]:
    """All sets of a place: a prepared set, an annotation file, a set of pictures, or a folder of these.

    Raises:
        SamplesError: it is none of these.
        DatasetError: a set is damaged, or an annotation file cannot be read at all.
    """
    if path.is_file():
        return [read_table(path)]
    if (path / "meta.json").is_file():
        return [prepared(path)]
    sets = sorted(item.parent for item in path.glob("*/meta.json"))
    if sets:
        return [prepared(folder) for folder in sets]
    tables = sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return [read_table(tables[0], path.name)]
    if tables:
        # A split of a small export may hold a heading alone.
        return [read_table(table) for table in tables if len(table.read_bytes().splitlines()) > 1]
    return _real(path)


def _real(path: Path) -> list[Samples]:
    """Sets of real pictures, in whatever format."""
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
    """A prepared set; a picture with several plates counts by its first one.

    Raises:
        DatasetError: it is missing or damaged.
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
        {"sample": numbers, "picture": numbers, "plate": labels["plate"], **columns}, index=numbers
    )
    table[_PLACE] = labels[_PLACE]
    table["problem"] = ""
    return Samples(folder.name, table, data.image, folder, True, crops, count)


def read_table(path: Path, name: str | None = None) -> Samples:
    """An annotation file, whatever is wrong in its rows.

    Raises:
        DatasetError: it is no CSV, or lacks a column.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as CSV: {error}") from error
    known = set(table.columns)
    ways = [
        columns for columns in (BOX_COLUMNS, PIXEL_COLUMNS, CORNER_COLUMNS) if set(columns) <= known
    ]
    if "file" not in known or not ways or table.empty:
        raise DatasetError(
            f"{path}: it needs rows, `file`, and `cx,cy,w,h` (normalised coordinates), `x1,y1,x2,y2` "
            "(pixels) or corners `x0,y0,…,x3,y3`"
        )
    files = table["file"].drop_duplicates().tolist()

    @lru_cache(maxsize=4)
    def opened(number: int) -> LoadedPicture:
        return load_image(path.parent / files[number])

    sizes = pd.DataFrame([_size(opened, number) for number in range(len(files))], index=files)
    labels = _labels(table, sizes.loc[table["file"]].reset_index(drop=True))
    numbers = table["file"].map({file: i for i, file in enumerate(files)})
    # The heading is line 1.
    labels = labels.assign(sample=np.arange(len(table)) + 2, picture=numbers)
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
    """The plates of a split; pictures are opened again where they are looked at."""
    rows: list[dict[str, object]] = []
    files = []
    for number, true in enumerate(split.pictures()):
        files.append(Path(true.name))
        height, width = true.picture.shape
        size = np.array([width, height])
        plates: Sequence[AnnotatedPlate | None] = true.plates or [None]
        for plate in plates:
            row = {"picture": number, "present": plate is not None, "plate": "", "lines": 0}
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
    def opened(number: int) -> Picture:
        return load_image(files[number]).grey

    return Samples(
        split.name, labels, opened, place / split.name, split.has_text, False, len(labels)
    )


def _pose(quads: FloatArray, heights: ArrayLike) -> dict[str, FloatArray]:
    """Height of plates in pixels and angle in degrees, of ``(n, 4, 2)`` corners or else of their boxes."""
    known = plate_height(quads)
    return {
        "plate_height": np.where(np.isnan(known), heights, known),
        "angle": plate_angle(quads),
    }


def _size(opened: Callable[[int], LoadedPicture], number: int) -> dict[str, float | str]:
    """Size of a picture, displayed pixels for each of its own, and why it cannot be read."""
    try:
        picture = opened(number)
    except ImageError as error:
        return {"width": np.nan, "height": np.nan, "scale": np.nan, "problem": str(error)}
    height, width = picture.grey.shape
    return {"width": width, "height": height, "scale": picture.scale, "problem": ""}


def _labels(table: pd.DataFrame, sizes: pd.DataFrame) -> pd.DataFrame:
    """Labels of an annotation file's rows: what is no number there is none here."""
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
            # x1, y1, x2, y2 are a box then.
            box = xyxy_to_box(corners[:, 1:3].reshape(-1, 4))
            corners = np.full_like(corners, np.nan)
    present = (text != "").any(axis=1)
    odd = (text != "") & numbers.isna()
    problems = []
    for row, problem in enumerate(sizes["problem"]):
        column = str(odd.loc[row].idxmax())
        if problem or not present[row]:
            problems.append(problem)
        elif odd.loc[row].any():
            problems.append(f"`{column}` is no number: {text.loc[row, column]!r}")
        else:
            problems.append("its box is not complete" if np.isnan(box[row]).any() else "")
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
