"""Evaluation of a localizer on a prepared set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ..core.geometry import box_iou, box_to_xyxy, corners_to_box, plate_axes, xyxy_to_box
from ..datasets.shards import ShardedSet
from ..inference.detection import Detections, best, detect, quality, suppress
from ..models.base import Localizer
from . import metrics as evaluation
from .inference import localizer_maps

SCENE_SIDE = 256
"""Side in pixels of the scene that corner errors refer to, as do the heights in the labels."""
MATCH_IOU = 0.5
"""Minimum IoU at which a detection counts as the plate in recall and precision."""
ERRORS_IOU = 0.7
"""Minimum IoU at which the corner errors of a plate are counted.

Below it, the crop shows too little of the plate for a recognizer to learn its text from.
"""
LEAST_SCORE, MOST_PLATES = 0.05, 20
"""Minimum score, and maximum number per image, of the detections in the average precision."""


@dataclass(frozen=True)
class Found:
    """Detections of a localizer in a set, with ground truth; coordinates are normalised to the image.

    Attributes:
        corners: Corners of the best detection in each image, whatever its score, shape ``(N, 4, 2)``.
        boxes: Boxes around ``corners`` as cx, cy, w, h, clipped to the image, shape ``(N, 4)``.
        table: One row per image, with the columns present, style, lines, height, angle, score and
            quality, and iou, error (in pixels of the scene) and two_lines, which are meaningful only if
            there is a plate.
        every: One row per detection, with the columns image, score, box (x1, y1, x2, y2, clipped to
            the image), and right, which says whether it is the plate and no detection with a higher
            score is.
    """

    corners: NDArray[np.floating]
    boxes: NDArray[np.floating]
    table: pd.DataFrame
    every: pd.DataFrame


def find(localizer: Localizer, samples: ShardedSet, batch_size: int, device: torch.device) -> Found:
    """Run a localizer over a prepared set and compare it with the ground truth."""
    corners = np.empty((len(samples), 4, 2))
    scores, two_lines = np.empty(len(samples)), np.empty(len(samples))
    every: list[Detections] = []
    with tqdm(total=len(samples), unit=" images", desc="localize", mininterval=0.5) as progress:
        for batch in evaluation.batches(len(samples), batch_size):
            part = slice(batch.start, batch.stop)
            maps = localizer_maps(localizer, [samples.image(i) for i in batch], device)
            corners[part], scores[part], two_lines[part] = best(maps)
            every += detect(maps, LEAST_SCORE, MOST_PLATES)
            progress.update(len(batch))
    size = np.array(localizer.input_shape[:0:-1])
    corners /= size
    present = samples.present
    boxes, true = _within(corners_to_box(corners)), _within(samples.boxes.astype(np.float64))
    iou = np.where(present, box_iou(boxes, true), 0.0)
    angle = samples.labels["angle"]
    table = pd.DataFrame(
        {
            "present": present,
            "style": samples.labels.get("style", "scene"),
            "lines": samples.lines,
            "height": samples.labels["plate_height"],
            "angle": angle,
            "size_of_angle": angle.abs(),
            "score": scores,
            "two_lines": two_lines,
            "iou": iou,
            "error": evaluation.corner_errors(corners, samples.corners) * SCENE_SIDE,
            "quality": quality(iou, scores, present),
        }
    )
    return Found(corners, boxes, table, _matched(every, size, true))


def _within(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    return xyxy_to_box(box_to_xyxy(boxes).clip(0, 1))


def _matched(
    every: Sequence[Detections], size: NDArray[np.int_], true: NDArray[np.floating]
) -> pd.DataFrame:
    """Return ``Found.every``; ``true`` are annotated boxes ``(N, 4)``, NaN where there is no plate."""
    kept = [suppress(found.corners, found.score) for found in every]
    boxes = [
        _within(corners_to_box(found.corners[stays] / size))
        for found, stays in zip(every, kept, strict=True)
    ]
    scores = [found.score[stays] for found, stays in zip(every, kept, strict=True)]
    image = np.repeat(np.arange(len(every)), [len(stays) for stays in kept])
    found = np.concatenate(boxes)
    table = pd.DataFrame(box_to_xyxy(found), columns=["x1", "y1", "x2", "y2"])
    table = table.assign(image=image, score=np.concatenate(scores))
    same = table["image"][box_iou(found, true[image]) >= MATCH_IOU]
    return table.assign(right=table.index.isin(same.drop_duplicates().index))


def relative_errors(found: Found, samples: ShardedSet) -> NDArray[np.floating]:
    """Return the corner errors ``(M, 4, 2)`` of detected plates, in plate sizes along their axes."""
    images = found.table[found.table["present"] & (found.table["iou"] >= ERRORS_IOU)].index
    size = samples.image(0).shape[::-1]
    true = samples.corners[images].astype(np.float64) * size
    errors = found.corners[images] * size - true
    return errors @ np.linalg.inv(plate_axes(true))


def describe_errors(errors: NDArray[np.floating], plates: int) -> dict[str, Any]:
    """Summarise corner errors as the shift of the whole plate and the remaining error of its corners.

    Args:
        errors: Corner errors of the detected plates, shape ``(M, 4, 2)``.
        plates: Number of all plates, detected or not.
    """
    shift = errors.mean(axis=1)
    kinds = {"shift": shift, "corners": (errors - shift[:, None]).reshape(-1, 2)}
    return {
        "unit": "half the geometric mean of a plate's sides, along its top (x) and down its side (y)",
        "plates": len(errors),
        "left_out": plates - len(errors),
        **{
            f"{kind}_{axis}": {
                "standard_deviation": values[:, i].std(),
                **{
                    f"p{at:g}": np.percentile(values[:, i], at) for at in (1, 5, 25, 50, 75, 95, 99)
                },
            }
            for kind, values in kinds.items()
            if len(values)
            for i, axis in enumerate("xy")
        },
    }
