"""Pictures with known plates, for evaluation: annotation files, and prepared sets.

An annotation file is a CSV of plates in pictures of any size. Its columns: ``file`` (relative to the CSV);
the box as ``cx, cy, w, h`` (normalised to [0, 1]) or as ``x1, y1, x2, y2`` (pixels of the picture as
it is displayed); ``x0, y0 … x3, y3`` where the corners are known: normalised where the box is, else in
pixels; ``plate``, the text. An empty ``plate`` says that there is no Swiss text to read (an army's
plate, a foreign one, one that nobody can read): a text that is given there is a false one. Without the
column no text is known, and boxes alone are measured. Several rows of a file are several plates of a
picture. A row whose box is empty says that there is no plate in the picture. ``lines`` may give the
number of lines, 1 or 2; ``whole`` says with 0 that the picture may have plates that no row tells of.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.charset import CHARSET
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_to_xyxy, corners_to_box
from ..core.images import ImageError, load_image
from .shards import DatasetError, ShardedSet

PIXEL_COLUMNS = ["x1", "y1", "x2", "y2"]
_COLUMNS = (
    "it needs `file`, and `cx,cy,w,h` (normalised) or `x1,y1,x2,y2` (pixels) or all of "
    "`x0,y0,x1,y1,x2,y2,x3,y3` (corners); `plate` is optional"
)


@dataclass(frozen=True)
class AnnotatedPlate:
    """A plate that is in a picture; lengths are pixels of it.

    Attributes:
        text: None where there is none to read, or where none is known.
        box: ``(4,)`` as x1, y1, x2, y2.
        corners: ``(4, 2)``, clockwise from the plate's own top left; None where not known.
        lines: of text, 1 or 2; None where not known.
        format, colour: names; "" where not known.
    """

    text: str | None
    box: NDArray[np.floating]
    corners: NDArray[np.floating] | None
    lines: int | None = None
    format: str = ""
    colour: str = ""


@dataclass(frozen=True)
class AnnotatedImage:
    """A picture and the plates in it.

    Attributes:
        name: of its file, or its number.
        picture: ``(H, W)`` uint8.
        plates: in it.
        whole: whether these are all.
    """

    name: str
    picture: NDArray[np.uint8]
    plates: list[AnnotatedPlate]
    whole: bool = True


class AnnotationFile:
    """The pictures of an annotation file, read one by one as it is iterated over.

    Args:
        path: of the CSV.

    Raises:
        DatasetError: the file is missing or wrong; while iterating, a picture cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # As text, so that a plate or a file that is a number keeps its spelling.
            table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read as CSV: {error}") from error
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
        if table.empty:
            raise DatasetError(f"{path}: it holds no row")
        self.has_corners = self._corners
        self.has_text = "plate" in table.columns
        numbers = [*self._boxes, *(CORNER_COLUMNS if self._corners else [])]
        # The heading is line 1.
        self._files: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for line, row in enumerate(table.to_dict("records"), start=2):
            rows = self._files.setdefault(row["file"], [])
            rows.append((line, self._checked(line, row, numbers)))
            if len(rows) > 1 and any(not values["present"] for _, values in rows):
                raise self._wrong(
                    line,
                    f"{row['file']} has several rows; one of them says, with an empty box, that there "
                    "is no plate in it",
                )

    def _wrong(self, line: int, what: str) -> DatasetError:
        return DatasetError(f"{self.path}, line {line}: {what}")

    def _checked(self, line: int, row: dict[Any, str], numbers: list[str]) -> dict[str, Any]:
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
                    line, "the box is empty, which says that there is no plate, but `plate` is not"
                )
            return {**checked, "present": False}
        if checked["plate"]:
            try:
                CHARSET.encode(row["plate"])
            except ValueError as error:
                raise self._wrong(
                    line, f"`plate`: {error}; or nothing, if there is no such text to read"
                ) from error
        return {**checked, **self._place(line, row, numbers)}

    def _choice(
        self, line: int, row: dict[Any, str], name: str, choice: tuple[str, ...]
    ) -> int | None:
        """The number of a column that need not be there, nor be filled."""
        value = row.get(name, "")
        if not value:
            return None
        if value not in choice:
            raise self._wrong(line, f"`{name}` must be {' or '.join(choice)}, not {value!r}")
        return int(value)

    def _place(self, line: int, row: dict[Any, str], numbers: list[str]) -> dict[str, float]:
        """The numbers of a row's box and corners."""
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
                        f"`{name}` must be in [0, 1], as a share of the picture, not {row[name]}; "
                        "pixels go into x1,y1,x2,y2",
                    )
            if values["w"] == 0 or values["h"] == 0:
                raise self._wrong(line, "`w` and `h` must be above 0")
        elif self._boxes and not (values["x1"] < values["x2"] and values["y1"] < values["y2"]):
            raise self._wrong(line, "`x1` must be less than `x2`, and `y1` less than `y2`")
        return values

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for name, rows in self._files.items():
            try:
                picture = load_image(self.path.parent / name)
            except ImageError as error:
                raise self._wrong(rows[0][0], str(error)) from error
            size = (picture.width, picture.height)
            # A very large JPEG comes at a part of its size.
            scale = picture.grey.shape[1] / picture.width
            plates = [self._plate(*row, size, scale) for row in rows if row[1]["present"]]
            whole = all(values["whole"] for _, values in rows)
            yield AnnotatedImage(name, picture.grey, plates, whole)

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
                line, f"the box lies outside of {row['file']}, which is {width}x{height} pixels"
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
"""What the labels of a prepared set need not say where it is so of all samples."""


class PreparedAnnotations:
    """A prepared set as pictures with their true plates: none, one, or several."""

    has_corners = True
    has_text = True

    def __init__(self, samples: ShardedSet) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> AnnotatedImage:
        picture = self.samples.image(i)
        row = {**_PLAIN, **self.samples.labels.iloc[i].to_dict()}
        # Further plates of a picture stand in one column, as a row is a picture.
        others = json.loads(row["others"]) if row["others"] else []
        found = [labels for labels in (row, *others) if labels["present"]]
        return AnnotatedImage(
            str(i), picture, [_labelled(labels, picture.shape) for labels in found]
        )

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return (self[i] for i in range(len(self)))


def _labelled(labels: Mapping[Any, Any], shape: tuple[int, ...]) -> AnnotatedPlate:
    """The plate of a prepared set's labels, in pixels of a picture of ``shape``."""
    height, width = shape
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
