"""Stage evaluate_localize: measure the localizer on the whole validation set.

Writes out/evaluations/localize: metrics.json, tables for ``dvc plots``, ten pictures and a sheet of
the worst failures. Run it with ``dvc repro evaluate_localize``, or
``python -m src.localize.evaluate``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from src.config import Config
from src.datasets.shards import ShardedSet
from src.geometry import box_iou, box_to_xyxy, corners_to_box, xyxy_to_box
from src.models.base import Localizer
from src.models.registry import load_localizer
from src.utils import evaluation, plots
from src.utils.inference import best_device, find_corners
from src.utils.stage import run_stage

SCENE_SIDE = 256
"""Errors are given in pixels of a scene of this side too, as the labels' heights are."""
RIGHT_IOU = 0.7
"""A plate found worse than this counts as a failure in the pictures."""


@dataclass(frozen=True)
class Found:
    """What a localizer found in a set, beside what is true; all normalised to the pictures.

    Attributes:
        corners: ``(N, 4, 2)``.
        boxes: ``(N, 4)`` as cx, cy, w, h, within the pictures.
        scores: ``(N,)``.
        table: a row a sample: iou, error (in pixels of the scene), height, angle.
    """

    corners: NDArray[np.float64]
    boxes: NDArray[np.floating]
    scores: NDArray[np.float64]
    table: pd.DataFrame


def find(localizer: Localizer, samples: ShardedSet, batch_size: int, device: torch.device) -> Found:
    """Run a localizer over a prepared set."""
    corners = np.empty((len(samples), 4, 2))
    scores = np.empty(len(samples))
    with tqdm(total=len(samples), unit=" pictures", desc="localize", mininterval=0.5) as progress:
        for batch in evaluation.batches(len(samples), batch_size):
            part = slice(batch.start, batch.stop)
            pictures = [samples.image(i) for i in batch]
            corners[part], scores[part] = find_corners(localizer, pictures, device)
            progress.update(len(batch))
    boxes = xyxy_to_box(box_to_xyxy(corners_to_box(corners)).clip(0, 1))
    table = pd.DataFrame(
        {
            "iou": box_iou(boxes, samples.boxes.astype(np.float64)),
            "error": evaluation.corner_errors(corners, samples.corners) * SCENE_SIDE,
            "height": samples.labels["plate_height"],
            "angle": samples.labels["angle"],
        }
    )
    return Found(corners, boxes, scores, table.assign(size_of_angle=table["angle"].abs()))


def measure(found: Found, samples: ShardedSet) -> dict[str, object]:
    """The metrics of what was found in a prepared set."""
    height, width = samples.image(0).shape
    pixels = np.array([width, height, width, height])
    table = found.table
    per_pixel = np.array([width, height])
    measures = {"mean_iou": "iou", "corner_error": "error"}
    errors = evaluation.corner_errors(found.corners * per_pixel, samples.corners * per_pixel)
    return {
        "count": len(samples),
        **evaluation.iou_measures(table["iou"].to_numpy()),
        **evaluation.average_precision(
            list((box_to_xyxy(found.boxes) * pixels)[:, None]),
            list(found.scores[:, None]),
            list((box_to_xyxy(samples.boxes) * pixels)[:, None]),
        ),
        "corner_error": {
            "picture_px": evaluation.spread(errors),
            "scene_px": evaluation.spread(table["error"].to_numpy()),
        },
        "by_height": evaluation.by_bins(table, "height", evaluation.HEIGHT_EDGES, measures),
        "by_angle": evaluation.by_bins(table, "size_of_angle", evaluation.ANGLE_EDGES, measures),
        "backgrounds": samples.meta.get("backgrounds"),
    }


def draw(found: Found, samples: ShardedSet, i: int) -> Image.Image:
    """Picture ``i`` with the true outline and the one found."""
    picture, row = samples.image(i), found.table.iloc[i]
    size = picture.shape[::-1]
    return plots.draw_result(
        picture,
        [
            plots.Outline(samples.corners[i] * size, plots.TRUE),
            plots.Outline(found.corners[i] * size, plots.FOUND),
        ],
        [
            plots.Line(f"true: {_pixels(samples.boxes[i], size)}", plots.TRUE),
            plots.Line(f"found: {_pixels(found.boxes[i], size)}", plots.FOUND),
            plots.Line(f"IoU {row.iou:.3f}, corners off by {row.error:.1f} px of {SCENE_SIDE}"),
        ],
        right=bool(row.iou >= RIGHT_IOU),
    )


def _pixels(box: NDArray[np.floating], size: tuple[int, ...]) -> str:
    x1, y1, x2, y2 = box_to_xyxy(box) * np.tile(size, 2)
    return f"{x1:.0f}, {y1:.0f} to {x2:.0f}, {y2:.0f}"


def main(config: Config) -> None:
    samples = ShardedSet(config.prepared("localize") / "val")
    device = best_device()
    localizer = load_localizer(config.out("models", "localize") / "model.safetensors")
    found = find(localizer.to(device).eval(), samples, config.BATCH_SIZE, device)
    table = found.table
    thresholds = np.arange(0.5, 1, 0.01)
    errors = np.sort(table["error"].to_numpy())
    shares = np.linspace(0.01, 1, 100)
    picked = evaluation.chosen(len(samples), config.EvaluateLocalizeParams.SEED)
    failures = evaluation.worst(table, table["iou"] < RIGHT_IOU, "iou", ascending=True)
    with evaluation.results_folder(config.out("evaluations", "localize")) as folder:
        evaluation.write_metrics(folder, measure(found, samples))
        recall = [float((table["iou"] >= at).mean()) for at in thresholds]
        recall_by_iou = pd.DataFrame({"iou": thresholds, "recall": recall})
        evaluation.write_plot(folder, "recall_by_iou", recall_by_iou)
        corner_error = pd.DataFrame({"error": np.quantile(errors, shares), "share": shares})
        evaluation.write_plot(folder, "corner_error", corner_error)
        for column, step in (("height", 5), ("angle", 10)):
            rows = evaluation.curve(table, column, step, {"mean_iou": "iou"})
            evaluation.write_plot(folder, f"iou_by_{column}", rows)
        plots.write_pictures(folder, "pred", [draw(found, samples, i) for i in picked])
        plots.write_sheet(folder, [draw(found, samples, i) for i in failures])


if __name__ == "__main__":
    run_stage(main)
