"""Stage prepare_feedback: cut windows and crops from real images to fine-tune both models.

Reads all sets in data/feedback (src/datasets/detection_sets.py) and writes
data/prepared/feedback/{localize,ocr}/{train,val} in the format of the synthetic sets. Held-out test
splits are not opened. Without any feedback the sets are empty, and fine-tuning does nothing.

python -m src.flywheel.prepare
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from ..config import Config
from ..config.sets import PrepareFeedbackParams
from ..config.stage import run_stage
from ..core.files import complete_folder
from ..core.geometry import (
    BOX_COLUMNS,
    CORNER_COLUMNS,
    PAD_GREY,
    FloatArray,
    box_to_corners,
    corners_to_box,
    likely_lines,
    xyxy_to_box,
)
from ..core.random import Draws
from ..datasets.annotations import AnnotatedImage, AnnotatedPlate
from ..datasets.detection_sets import Split, find_sets, open_set
from ..datasets.shards import NewSet, Shard, write_sets

TASKS = ("localize", "ocr")
SPLITS = ("train", "val")
_ALONE = 0.6
"""Minimum fraction of a window that a plate fills if other plates in the image may be unknown."""
_TRIES = 10
"""Number of windows drawn per window wanted, as some show a second plate."""
_LONGEST = 384
"""Maximum length of a crop's longer side in pixels; a recognizer takes 128."""


@dataclass
class Samples:
    """Images and labels of a prepared set, collected as they are made."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        image: NDArray[np.uint8],
        corners: FloatArray | None,
        plate: AnnotatedPlate | None,
        text: str = "",
    ) -> None:
        """Add a sample, with corners of shape ``(4, 2)`` in its pixels or None if it shows no plate."""
        labels: dict[str, Any] = {
            "plate": text, "format": "", "colour": "", "present": plate is not None, "lines": 1,
            "has_corners": False, **dict.fromkeys([*BOX_COLUMNS, *CORNER_COLUMNS], np.nan),
        }  # fmt: skip
        if plate is not None and corners is not None:
            shares = corners / image.shape[1::-1]
            labels |= zip(BOX_COLUMNS, corners_to_box(shares.clip(0, 1)), strict=True)
            labels |= zip(CORNER_COLUMNS, shares.ravel(), strict=True)
            labels |= {"lines": _lines(plate), "has_corners": plate.corners is not None}
        self.images.append(image)
        self.rows.append(labels)

    def shard(self, indices: range) -> Shard:
        """Return the samples with these indices as a shard."""
        chosen = slice(indices.start, indices.stop)
        images = self.images[chosen]
        one_size = len({image.shape for image in self.images}) == 1
        return Shard(
            np.stack(images) if one_size else images,
            pd.DataFrame(self.rows[chosen]).reset_index(drop=True),
        )


def main(config: Config) -> None:
    """Write data/prepared/feedback."""
    made = {(task, split): Samples() for task in TASKS for split in SPLITS}
    folders = find_sets(Path(config.feedback_path))
    for folder in folders:
        for part in open_set(folder):
            if part.name in SPLITS:
                _take(
                    part,
                    f"{folder.name}-{part.name}",
                    config,
                    made["localize", part.name],
                    made["ocr", part.name],
                )
    with complete_folder(config.prepared("feedback")) as partial:
        sets = []
        for (task, split), samples in made.items():
            place = partial / task / split
            if samples.images:
                sets.append(NewSet(place, range(len(samples.images)), samples.shard, {}))
            else:
                place.mkdir(parents=True)
                empty = {"count": 0, "shards": 0, "sha256": ""}
                (place / "meta.json").write_text(json.dumps(empty) + "\n", encoding="utf-8")
        if sets:
            write_sets(sets)
    counts = ", ".join(
        f"{task} {split} {len(samples.images)}" for (task, split), samples in made.items()
    )
    print(f"{len(folders)} sets in {config.feedback_path}: {counts}")


def _take(split: Split, name: str, config: Config, windows: Samples, crops: Samples) -> None:
    """Add the samples of a split to ``windows`` and ``crops``."""
    params, side = config.PrepareFeedbackParams, config.LocalizeParams.IMG_SHAPE[1]
    low, high = config.PrepareLocalizeParams.STREET_WIDTH
    images = tqdm(split.images(), total=split.count, unit=" images", desc=name)
    for number, true in enumerate(images):
        sampler = _WindowSampler(params, name, number)
        for i, plate in enumerate(true.plates):
            least = low if true.whole else max(low, _ALONE)
            for window in sampler.windows(true, i, params.WINDOWS, (least, high)):
                windows.add(
                    cut_window(true.image, window, side), _in_window(plate, window, side), plate
                )
            if split.has_text:
                image, corners = cut_crop(true.image, plate, config.PrepareOCRParams.MARGIN)
                crops.add(image, corners, plate, plate.text or "")
        if true.whole:
            for window in sampler.empty_windows(true, params.NEGATIVES):
                windows.add(cut_window(true.image, window, side), None, None)


def _lines(plate: AnnotatedPlate) -> int:
    if plate.lines is not None:
        return plate.lines
    return likely_lines(_corners(plate))


def _corners(plate: AnnotatedPlate) -> FloatArray:
    """Return the corners of a plate, or those of its box if they are not annotated."""
    return box_to_corners(xyxy_to_box(plate.box)) if plate.corners is None else plate.corners


# A window is the x and y of its upper left corner and the length of its side, in pixels of the image.


class _WindowSampler:
    """Sampler of an image's windows, which depend only on the random seed, the set and its number."""

    def __init__(self, params: PrepareFeedbackParams, name: str, number: int) -> None:
        self._params, self._name, self._number = params, name, number

    def _draws(self, what: str, count: int) -> NDArray[np.float64]:
        stream = f"feedback-{self._name}-{self._number}-{what}"
        return Draws(self._params.SEED, stream, np.arange(count)).uniform(shape=(3,))

    def windows(
        self, true: AnnotatedImage, plate: int, count: int, widths: Sequence[float]
    ) -> list[FloatArray]:
        """Return windows that contain a plate's centre and show no other plate.

        Args:
            true: Annotated image.
            plate: Index of the plate in the image.
            count: Maximum number of windows.
            widths: Minimum and maximum width of the plate as a fraction of the window.
        """
        box = true.plates[plate].box
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        others = [each.box for i, each in enumerate(true.plates) if i != plate]
        found: list[FloatArray] = []
        for scale, x, y in self._draws(f"plate-{plate}", count * _TRIES):
            # Use the height of a plate that is taller than wide, or it would not fit in the window.
            share = widths[0] * (widths[1] / widths[0]) ** scale
            side = max(size) / share
            # Keep the centre inside the window, and away from its edge.
            start = centre - side * (0.1 + 0.8 * np.array([x, y]))
            if share < 1:
                # Show the whole plate if there is room for it.
                start = np.clip(start, np.minimum(box[2:] - side, box[:2]), box[:2])
            window = np.array([*start, side])
            if not any(_overlap(window, other) for other in others):
                found.append(window)
            if len(found) == count:
                break
        return found

    def empty_windows(self, true: AnnotatedImage, count: int) -> list[FloatArray]:
        """Return at most ``count`` windows of an image that show no plate."""
        height, width = true.image.shape
        found: list[FloatArray] = []
        for scale, x, y in self._draws("empty", count * _TRIES):
            side = min(height, width) * 0.1 ** (0.9 * scale)
            window = np.array([x * (width - side), y * (height - side), side])
            if not any(_overlap(window, plate.box) for plate in true.plates):
                found.append(window)
            if len(found) == count:
                break
        return found


def _overlap(window: FloatArray, box: FloatArray) -> bool:
    x, y, side = window
    return bool(x < box[2] and box[0] < x + side and y < box[3] and box[1] < y + side)


def _in_window(plate: AnnotatedPlate, window: FloatArray, side: int) -> FloatArray:
    return (_corners(plate) - window[:2]) * (side / window[2])


def cut_window(image: NDArray[np.uint8], window: FloatArray, side: int) -> NDArray[np.uint8]:
    """Cut a square window from an image, padded with grey where it extends beyond the image.

    Args:
        image: Greyscale image, shape ``(H, W)``, uint8.
        window: Window as x, y and side in pixels of the image, shape ``(3,)``.
        side: Side of the result in pixels.

    Returns:
        The resized window, shape ``(side, side)``, uint8.
    """
    x, y, wide = window
    # Downscale first to average over areas, because warping interpolates between only four pixels.
    factor = max(1, int(wide // side))
    # Include the neighbouring pixels, which interpolation uses too.
    left, top = (int(np.floor(start)) - factor for start in (x, y))
    first = max(left, 0), max(top, 0)
    reach = int(wide) + 2 * factor + 2
    part = image[first[1] : max(top + reach, 0), first[0] : max(left + reach, 0)]
    if factor > 1 and min(part.shape) >= factor:
        size = (part.shape[1] // factor, part.shape[0] // factor)
        part = cv2.resize(
            part[: size[1] * factor, : size[0] * factor], size, interpolation=cv2.INTER_AREA
        )
    else:
        factor = 1
    scale = wide / side / factor
    shift = np.array([x - first[0], y - first[1]]) / factor
    # OpenCV places pixel centres at integer coordinates.
    offset = shift + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]])
    return cv2.warpAffine(
        part, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT, borderValue=PAD_GREY,
    )  # fmt: skip


def cut_crop(
    image: NDArray[np.uint8], plate: AnnotatedPlate, margin: float
) -> tuple[NDArray[np.uint8], FloatArray]:
    """Cut out a plate with a margin, as in the recognizer's prepared set.

    Args:
        image: Greyscale image, shape ``(H, W)``, uint8.
        plate: Plate in the image.
        margin: Margin on each side of the plate's box, as a fraction of the box's sides.

    Returns:
        The crop, and the plate's corners in pixels of the crop.
    """
    corners = _corners(plate)
    low, high = corners.min(axis=0), corners.max(axis=0)
    around = margin * (high - low)
    limits = np.array(image.shape[::-1])
    start = np.floor(low - around).clip(0, limits - 1).astype(int)
    end = np.maximum(np.ceil(high + around).clip(0, limits).astype(int), start + 1)
    crop = np.ascontiguousarray(image[start[1] : end[1], start[0] : end[0]])
    corners = corners - start
    longest = max(crop.shape)
    if longest > _LONGEST:
        height, width = (max(1, round(side * _LONGEST / longest)) for side in crop.shape)
        corners = corners * [width / crop.shape[1], height / crop.shape[0]]
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
    return crop, corners


if __name__ == "__main__":
    run_stage(main)
