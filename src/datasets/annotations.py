"""Annotated images for evaluation, read from annotation files or from prepared sets.

An annotation file is a CSV (src/datasets/tables.py) with one row per plate, for images of any size. Its
columns are:

- ``file``: Path of the image, relative to the CSV.
- ``cx, cy, w, h`` (normalised to [0, 1]) or ``x1, y1, x2, y2`` (pixels of the displayed image): Box.
- ``x0, y0 … x3, y3``: Corners, where known; normalised if the box is, else in pixels.
- ``plate``: Text of the plate. An empty value means that there is no Swiss text to read (an army
  plate, a foreign plate, an illegible plate), so any text returned there is a false positive. Without
  this column no text is known, and only the boxes are evaluated.
- ``lines``: Number of lines of text, 1 or 2; optional.
- ``whole``: 0 if the image may contain plates that no row describes; optional.

Several rows with the same file describe several plates of one image. A row with an empty box states that
the image contains no plate.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_to_xyxy, corners_to_box
from ..core.images import ImageError, load_image
from .shards import DatasetError, ShardedSet
from .tables import PIXEL_COLUMNS, read_rows

_COLUMNS = (
    "it needs `file`, and `cx,cy,w,h` (normalised) or `x1,y1,x2,y2` (pixels) or all of "
    "`x0,y0,x1,y1,x2,y2,x3,y3` (corners); `plate` is optional"
)


@dataclass(frozen=True)
class AnnotatedPlate:
    """An annotated plate, with lengths in pixels of its image.

    Attributes:
        text: Text of the plate; None if there is none to read or none is known.
        box: Upright box, shape ``(4,)``, as x1, y1, x2, y2.
        corners: Plate corners, shape ``(4, 2)``, clockwise from the plate's own top left; None if
            unknown.
        lines: Number of lines of text, 1 or 2; None if unknown.
        format: Name of the plate format; empty if unknown.
        colour: Name of the plate colour; empty if unknown.
    """

    text: str | None
    box: NDArray[np.floating]
    corners: NDArray[np.floating] | None
    lines: int | None = None
    format: str = ""
    colour: str = ""


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and the plates in it.

    Attributes:
        name: File name of the image, or its number in a prepared set.
        image: Grey image, shape ``(H, W)``, uint8.
        plates: Annotated plates of the image.
        whole: True if every plate in the image is annotated.
    """

    name: str
    image: NDArray[np.uint8]
    plates: list[AnnotatedPlate]
    whole: bool = True


class AnnotationFile:
    """The images of an annotation file, loaded one at a time during iteration.

    Args:
        path: Path of the CSV.

    Raises:
        DatasetError: If the file is missing or invalid, or, during iteration, an image cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        table = read_rows(path)
        self._corners = set(CORNER_COLUMNS) <= set(table.columns)
        if set(BOX_COLUMNS) <= set(table.columns):
            self._boxes = BOX_COLUMNS
        elif self._corners:
            self._boxes = []
        else:
            self._boxes = PIXEL_COLUMNS
        missing = {"file", *self._boxes} - set(table.columns)
        if missing:
            raise DatasetError(
                f"{path}: a column is missing ({', '.join(sorted(missing))}): {_COLUMNS}"
            )
        if not table.rows:
            raise DatasetError(f"{path}: the file has no rows")
        self.has_corners = self._corners
        self.has_text = "plate" in table.columns
        numbers = [*self._boxes, *(CORNER_COLUMNS if self._corners else [])]
        self._files: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for line, row in zip(table.lines, table.rows, strict=True):
            values = self._checked(line, row, numbers)
            rows = self._files.setdefault(row["file"], [])
            rows.append((line, values))
            if len(rows) > 1 and not (rows[0][1]["present"] and values["present"]):
                raise self._wrong(
                    line,
                    f"{row['file']} has several rows, but one of them has an empty box, which means "
                    "that there is no plate in the image",
                )

    def _wrong(self, line: int, what: str) -> DatasetError:
        return DatasetError(f"{self.path}, line {line}: {what}")

    def _checked(self, line: int, row: dict[str, str], numbers: list[str]) -> dict[str, Any]:
        checked = {
            "file": row["file"],
            "plate": row.get("plate", ""),
            "present": True,
            "lines": self._choice(line, row, "lines", ("1", "2")),
            "whole": self._choice(line, row, "whole", ("0", "1")) != 0,
        }
        if not row["file"]:
            raise self._wrong(line, "`file` is empty")
        if not any(row[name] for name in numbers):
            if checked["plate"]:
                raise self._wrong(
                    line,
                    "the box is empty, which means that there is no plate, but `plate` is not empty",
                )
            return {**checked, "present": False}
        if checked["plate"]:
            try:
                CHARSET.encode(row["plate"])
            except ValueError as error:
                raise self._wrong(
                    line, f"`plate`: {error}; leave it empty if there is no text to read"
                ) from error
        return {**checked, **self._place(line, row, numbers)}

    def _choice(
        self, line: int, row: dict[str, str], name: str, choice: tuple[str, ...]
    ) -> int | None:
        """Return the number in an optional column, or None if the column is absent or empty."""
        value = row.get(name, "")
        if not value:
            return None
        if value not in choice:
            raise self._wrong(line, f"`{name}` must be {' or '.join(choice)}, not {value!r}")
        return int(value)

    def _place(self, line: int, row: dict[str, str], numbers: list[str]) -> dict[str, float]:
        """Parse and validate the numbers of a row's box and corners."""
        values = {}
        for name in numbers:
            try:
                values[name] = float(row[name])
            except ValueError:
                values[name] = np.nan
            if not np.isfinite(values[name]):
                raise self._wrong(line, f"`{name}` must be a number, not {row[name]!r}")
        if self._boxes == BOX_COLUMNS:
            for name in BOX_COLUMNS:
                if not 0 <= values[name] <= 1:
                    raise self._wrong(
                        line,
                        f"`{name}` must be normalised to [0, 1], not {row[name]}; use the columns "
                        "x1,y1,x2,y2 for pixels",
                    )
            if values["w"] == 0 or values["h"] == 0:
                raise self._wrong(line, "`w` and `h` must be greater than 0")
        elif self._boxes and not (values["x1"] < values["x2"] and values["y1"] < values["y2"]):
            raise self._wrong(line, "`x1` must be less than `x2`, and `y1` less than `y2`")
        if self._corners and any(
            len({values[name] for name in names}) == 1
            for names in (CORNER_COLUMNS[::2], CORNER_COLUMNS[1::2])
        ):
            raise self._wrong(line, "the corners `x0,y0,x1,y1,x2,y2,x3,y3` must enclose an area")
        return values

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for name, rows in self._files.items():
            try:
                image = load_image(self.path.parent / name)
            except ImageError as error:
                raise self._wrong(rows[0][0], str(error)) from error
            size = (image.width, image.height)
            # A very large JPEG is decoded at a fraction of its size.
            scale = image.grey.shape[1] / image.width
            plates = [self._plate(*row, size, scale) for row in rows if row[1]["present"]]
            whole = all(values["whole"] for _, values in rows)
            yield AnnotatedImage(name, image.grey, plates, whole)

    def _plate(
        self, line: int, row: dict[str, Any], size: tuple[int, int], scale: float
    ) -> AnnotatedPlate:
        width, height = size
        normalised = self._boxes == BOX_COLUMNS
        corners = np.empty((0, 2))
        if self._corners:
            corners = np.array([row[name] for name in CORNER_COLUMNS], dtype=float).reshape(4, 2)
            if normalised:
                corners *= [width, height]
        if self._boxes:
            box = np.array([row[name] for name in self._boxes], dtype=float)
            if normalised:
                box = box_to_xyxy(box) * [width, height, width, height]
        else:
            box = box_to_xyxy(corners_to_box(corners))
        if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
            raise self._wrong(
                line, f"the box lies outside {row['file']}, which has {width}x{height} pixels"
            )
        known = corners * scale if self._corners else None
        return AnnotatedPlate(row["plate"] or None, box * scale, known, row["lines"])


_PLAIN: dict[Hashable, Any] = {
    "present": True,
    "others": "",
    "lines": 1,
    "format": "",
    "colour": "",
}
"""Default values of labels that a prepared set may omit if they apply to all its samples."""


class PreparedAnnotations:
    """A prepared set as annotated images with zero, one or several plates each."""

    has_corners = True
    has_text = True

    def __init__(self, samples: ShardedSet) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> AnnotatedImage:
        image = self.samples.image(i)
        row = {**_PLAIN, **self.samples.labels.iloc[i].to_dict()}
        # Each row is one image, so its further plates share a single column.
        others = json.loads(row["others"]) if row["others"] else []
        found = [labels for labels in (row, *others) if labels["present"]]
        return AnnotatedImage(str(i), image, [_labelled(labels, image.shape) for labels in found])

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return (self[i] for i in range(len(self)))


def _labelled(labels: Mapping[Any, Any], shape: tuple[int, ...]) -> AnnotatedPlate:
    """Build a plate from the labels of a prepared set, in pixels of an image of ``shape``."""
    height, width = shape[:2]
    box = box_to_xyxy(np.array([labels[name] for name in BOX_COLUMNS], dtype=np.float64))
    corners = np.array([labels[name] for name in CORNER_COLUMNS], dtype=np.float64).reshape(4, 2)
    return AnnotatedPlate(
        labels["plate"] or None,
        box * [width, height, width, height],
        corners * [width, height],
        int(labels["lines"]),
        labels["format"],
        labels["colour"],
    )
