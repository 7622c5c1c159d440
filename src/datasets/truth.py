"""Truth files: a CSV of plates in pictures of any size, for evaluation.

Columns: ``file`` (relative to the CSV); the box as ``cx, cy, w, h`` (normalised to [0, 1]) or as
``x1, y1, x2, y2`` (pixels of the picture as it is displayed); ``plate`` where the text is known (an
empty one is not); ``x0, y0 … x3, y3`` where the corners are known: normalised where the box is, else
in pixels. Several rows of a file are several plates of a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from src.charset import CHARSET
from src.datasets.shards import DatasetError, ShardedSet
from src.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_to_xyxy, corners_to_box

PIXEL_COLUMNS = ["x1", "y1", "x2", "y2"]
_COLUMNS = (
    "it needs `file`, and `cx,cy,w,h` (normalised) or `x1,y1,x2,y2` (pixels) or all of "
    "`x0,y0,x1,y1,x2,y2,x3,y3` (corners); `plate` is optional"
)


@dataclass(frozen=True)
class TruePlate:
    """A plate that is in a picture; lengths are pixels of it.

    Attributes:
        text: None where it is not known.
        box: ``(4,)`` as x1, y1, x2, y2.
        corners: ``(4, 2)``, clockwise from the plate's own top left; None where not known.
    """

    text: str | None
    box: NDArray[np.floating]
    corners: NDArray[np.floating] | None


@dataclass(frozen=True)
class TruePicture:
    """A picture ``(H, W)`` uint8 and the plates in it."""

    name: str
    picture: NDArray[np.uint8]
    plates: list[TruePlate]


class TruthFile:
    """The pictures of a truth file, read one by one as it is iterated over.

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
        self.has_text = "plate" in table.columns and bool((table["plate"] != "").any())
        numbers = [*self._boxes, *(CORNER_COLUMNS if self._corners else [])]
        # The heading is line 1.
        self._files: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for line, row in enumerate(table.to_dict("records"), start=2):
            self._files.setdefault(row["file"], []).append(
                (line, self._checked(line, row, numbers))
            )

    def _wrong(self, line: int, what: str) -> DatasetError:
        return DatasetError(f"{self.path}, line {line}: {what}")

    def _checked(self, line: int, row: dict[Any, str], numbers: list[str]) -> dict[str, Any]:
        checked = {"file": row["file"], "plate": row.get("plate", "")}
        if not row["file"]:
            raise self._wrong(line, "`file` is empty")
        if checked["plate"]:
            try:
                CHARSET.encode(row["plate"])
            except ValueError as error:
                raise self._wrong(line, f"`plate`: {error}; or nothing, if unknown") from error
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
        return {**checked, **values}

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[TruePicture]:
        for name, rows in self._files.items():
            line = rows[0][0]
            try:
                picture = read_picture(self.path.parent / name)
            except DatasetError as error:
                raise self._wrong(line, str(error)) from error
            plates = [self._plate(line, row, picture.shape) for line, row in rows]
            yield TruePicture(name, picture, plates)

    def _plate(self, line: int, row: dict[str, Any], shape: tuple[int, ...]) -> TruePlate:
        height, width = shape
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
        return TruePlate(row["plate"] or None, box, corners if self._corners else None)


class PreparedTruth:
    """A prepared set as pictures with their true plates, one each."""

    has_corners = True
    has_text = True

    def __init__(self, samples: ShardedSet) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, i: int) -> TruePicture:
        samples = self._samples
        picture = samples.image(i)
        height, width = picture.shape
        box = box_to_xyxy(samples.boxes[i].astype(np.float64)) * [width, height, width, height]
        corners = samples.corners[i].astype(np.float64) * [width, height]
        return TruePicture(str(i), picture, [TruePlate(samples.plates[i] or None, box, corners)])

    def __iter__(self) -> Iterator[TruePicture]:
        return (self[i] for i in range(len(self)))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as it is displayed, in grey: ``(H, W)`` uint8.

    Raises:
        DatasetError: the file is missing, or is no whole picture.
    """
    try:
        with Image.open(path) as image:
            # Cameras store how they were held; boxes are those of the upright picture.
            return np.asarray(ImageOps.exif_transpose(image).convert("L"))
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path} is no picture that can be read (JPEG, PNG, WebP …)") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{path}: cannot read the picture: {error}") from error
