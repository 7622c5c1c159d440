"""Stage evaluate_localize: measure the localizer on the whole validation set.

Images with a plate are measured by the best detection, all images by the detections with a score of at
least 0.5. Writes out/evaluations/localize: metrics.json, corner_errors.json, tables for
``dvc plots``, ten images and a sheet of the worst failures. Run it with ``dvc repro
evaluate_localize``, or ``python -m src.localize.evaluate``.

The recognizer is trained on crops with the localizer's corner errors. These errors are in git, so that
they do not change with every training. ``python -m src.localize.evaluate --write-errors
src/datasets/corner_errors.csv`` measures them again.
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torchmetrics.functional.classification import binary_average_precision

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError
from ..core.geometry import CORNER_COLUMNS, box_to_xyxy
from ..datasets.shards import ShardedSet
from ..evaluation import figures as plots
from ..evaluation import metrics as evaluation
from ..evaluation.inference import best_device
from ..evaluation.localization import (
    ERRORS_IOU,
    LEAST_SCORE,
    SCENE_SIDE,
    Found,
    describe_errors,
    find,
    relative_errors,
)
from ..inference.detection import SURE
from ..models.registry import load_localizer

RIGHT_IOU = 0.7
"""Quality below which an image counts as a failure in the drawn images."""
ERROR_ROWS = 1000
"""Number of plates in the table of errors; a quantile of 0.1 % is then one row."""


def measure(found: Found, samples: ShardedSet) -> dict[str, object]:
    """Compute the metrics of a prepared set, and of each style if there are several."""
    styles = found.table["style"]
    by_style = {
        str(style): _measure(found, samples, styles == style) for style in sorted(set(styles))
    }
    return {
        **_measure(found, samples, styles.notna()),
        **({"by_style": by_style} if len(by_style) > 1 else {}),
        "backgrounds": samples.meta.get("backgrounds"),
    }


def _measure(found: Found, samples: ShardedSet, chosen: pd.Series) -> dict[str, object]:
    """Compute the metrics of selected images, for the best plate of each and for all detections."""
    table = found.table[chosen]
    plates = table[table["present"]]
    return {
        "count": len(table),
        "count_with_plate": len(plates),
        "quality": float(table["quality"].mean()),
        **(_measure_plates(found, samples, table) if len(plates) else {}),
        "detection": _measure_detection(found, table),
    }


def _measure_plates(found: Found, samples: ShardedSet, images: pd.DataFrame) -> dict[str, object]:
    plates = images[images["present"]]
    height, width = samples.image(0).shape
    per_pixel = np.array([width, height])
    rows = plates.index.to_numpy()
    error = {
        "picture_px": evaluation.corner_errors(
            found.corners[rows] * per_pixel, samples.corners[rows] * per_pixel
        ),
        "scene_px": plates["error"].to_numpy(),
        "plate_heights": (plates["error"] / plates["height"]).to_numpy(),
    }
    measures = {"mean_iou": "iou", "corner_error": "error"}
    # The more probable number of lines counts as predicted.
    counted = plates.assign(right=(plates["two_lines"] >= 0.5) == (plates["lines"] == 2))
    return {
        **evaluation.iou_measures(plates["iou"].to_numpy()),
        **_average_precision(found, samples, images.index.to_numpy()),
        "corner_error": {name: evaluation.spread(values) for name, values in error.items()},
        "by_height": evaluation.by_bins(plates, "height", evaluation.HEIGHT_EDGES, measures),
        "by_angle": evaluation.by_bins(plates, "size_of_angle", evaluation.ANGLE_EDGES, measures),
        "lines": {
            "accuracy": float(counted["right"].mean()),
            "by_lines": evaluation.by_value(counted, "lines", {"accuracy": "right"}),
        },
    }


def _measure_detection(found: Found, table: pd.DataFrame) -> dict[str, object]:
    every = found.every[found.every["image"].isin(table.index)]
    sure = every[every["score"] >= SURE]
    right, plates = int(sure["right"].sum()), int(table["present"].sum())
    empty = table.index[~table["present"]]
    result: dict[str, object] = {
        "score": SURE,
        "recall": evaluation.share(right, plates),
        "precision": evaluation.share(right, len(sure)),
    }
    if len(empty):
        false = int(sure["image"].isin(empty).sum())
        result["false_per_empty_picture"] = false / len(empty)
    if plates and len(empty):
        # How well the best score of an image tells whether it contains a plate.
        scores, present = (torch.tensor(table[name].to_numpy()) for name in ("score", "present"))
        result["picture_average_precision"] = float(
            binary_average_precision(scores, present.long())
        )
    return result


def _average_precision(
    found: Found, samples: ShardedSet, images: NDArray[np.int_]
) -> dict[str, float]:
    """Compute COCO's average precision of all boxes found in images, including those without a plate."""
    size = samples.image(0).shape[::-1] * 2
    every = found.every
    boxes = every[["x1", "y1", "x2", "y2"]].to_numpy() * size
    # The rows are in the order of the images.
    ends = np.searchsorted(every["image"].to_numpy(), np.arange(len(samples) + 1))
    parts = [slice(ends[i], ends[i + 1]) for i in images]
    scores, present = every["score"].to_numpy(copy=True), samples.present
    true = box_to_xyxy(samples.boxes.astype(np.float64)).clip(0, 1) * size
    return evaluation.average_precision(
        [boxes[part] for part in parts],
        [scores[part] for part in parts],
        [true[[i]] if present[i] else true[:0] for i in images],
    )


def precision_recall(found: Found) -> pd.DataFrame:
    """Return recall and precision of all detections by score threshold, for a plot."""
    plates = max(int(found.table["present"].sum()), 1)
    rows = []
    for score in np.linspace(LEAST_SCORE, 1, 96):
        asked = found.every[found.every["score"] >= score]
        right = int(asked["right"].sum())
        rows.append((score, right / plates, right / max(len(asked), 1)))
    return pd.DataFrame(rows, columns=["score", "recall", "precision"])


def score_shares(table: pd.DataFrame, step: float = 0.05) -> pd.DataFrame:
    """Return normalised score histograms of images with and without a plate, for a plot."""
    edges = np.arange(0, 1 + step / 2, step)
    parts = {"plate": table[table["present"]], "nothing": table[~table["present"]]}
    counts = {name: np.histogram(part["score"], edges)[0] for name, part in parts.items()}
    shares = {name: count / max(count.sum(), 1) for name, count in counts.items()}
    return pd.DataFrame({"score": edges[:-1] + step / 2, **shares})


def draw(found: Found, samples: ShardedSet, i: int) -> Image.Image:
    """Draw image ``i`` with the true outline and the one found."""
    image, row = samples.image(i), found.table.iloc[i]
    size = image.shape[::-1]
    outline = plots.Outline(found.corners[i] * size, plots.FOUND)
    place = f"found: {_pixels(found.boxes[i], size)}, score {row.score:.2f}"
    if not row.present:
        something = row.score >= SURE
        return plots.draw_result(
            image,
            [outline] if something else [],
            [
                plots.Line("true: no plate", plots.TRUE),
                plots.Line(
                    place if something else f"found: nothing, best score {row.score:.2f}",
                    plots.FOUND,
                ),
            ],
            right=not something,
        )
    return plots.draw_result(
        image,
        [plots.Outline(samples.corners[i] * size, plots.TRUE), outline],
        [
            plots.Line(f"true: {_pixels(samples.boxes[i], size)}", plots.TRUE),
            plots.Line(place, plots.FOUND),
            plots.Line(f"IoU {row.iou:.3f}, corner error {row.error:.1f} px of {SCENE_SIDE}"),
        ],
        right=bool(row.quality >= RIGHT_IOU),
    )


def _pixels(box: NDArray[np.floating], size: tuple[int, ...]) -> str:
    x1, y1, x2, y2 = box_to_xyxy(box) * np.tile(size, 2)
    return f"{x1:.0f}, {y1:.0f} to {x2:.0f}, {y2:.0f}"


def _find(config: Config) -> tuple[Found, ShardedSet]:
    samples = ShardedSet(config.prepared("localize") / "val")
    device = best_device()
    localizer = load_localizer(config.out("models", "localize") / "model.safetensors")
    return find(localizer.to(device).eval(), samples, config.BATCH_SIZE, device), samples


def main(config: Config) -> None:
    found, samples = _find(config)
    table = found.table
    plates = table[table["present"]]
    picked = evaluation.chosen(len(samples), config.EvaluateLocalizeParams.SEED)
    failures = evaluation.worst(table, table["quality"] < RIGHT_IOU, "quality", ascending=True)
    errors = describe_errors(relative_errors(found, samples), len(plates))
    with evaluation.results_folder(config.out("evaluations", "localize")) as folder:
        evaluation.write_metrics(folder, measure(found, samples))
        text = json.dumps(evaluation.rounded(errors), indent=2)
        (folder / "corner_errors.json").write_text(text + "\n", encoding="utf-8")
        for name, rows in _curves(plates).items():
            evaluation.write_plot(folder, name, rows)
        evaluation.write_plot(folder, "precision_recall", precision_recall(found))
        evaluation.write_plot(folder, "scores", score_shares(table))
        plots.write_images(folder, "pred", [draw(found, samples, i) for i in picked])
        plots.write_sheet(folder, [draw(found, samples, i) for i in failures])


def _curves(plates: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return curves of how well the best plate of each image is placed, for plots."""
    thresholds, shares = np.arange(0.5, 1, 0.01), np.linspace(0.01, 1, 100)
    recall = [float((plates["iou"] >= at).mean()) for at in thresholds]
    off = np.quantile(plates["error"], shares) if len(plates) else np.full(100, np.nan)
    return {
        "recall_by_iou": pd.DataFrame({"iou": thresholds, "recall": recall}),
        "corner_error": pd.DataFrame({"error": off, "share": shares}),
        **{
            f"iou_by_{column}": evaluation.curve(plates, column, step, {"mean_iou": "iou"})
            for column, step in (("height", 5), ("angle", 10))
        },
    }


def write_errors(config: Config, path: Path) -> None:
    """Write the table of errors that the recognizer's training samples from, one plate per row."""
    found, samples = _find(config)
    errors = relative_errors(found, samples)
    if len(errors) < ERROR_ROWS:
        raise StageError(
            f"{samples.folder}: {len(errors)} plates were found with an IoU of at least "
            f"{ERRORS_IOU}; {ERROR_ROWS} are needed"
        )
    rows = np.random.default_rng(config.EvaluateLocalizeParams.SEED).choice(
        len(errors), ERROR_ROWS, replace=False
    )
    columns = [f"d{name}" for name in CORNER_COLUMNS]
    frame = pd.DataFrame(errors[np.sort(rows)].reshape(-1, 8), columns=columns)
    frame.round(4).to_csv(path, index=False)
    missed = int(found.table["present"].sum()) - len(errors)
    print(f"{path}: {ERROR_ROWS} of {len(errors)} plates; excluded {missed} with a lower IoU")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--write-errors", type=Path, metavar="CSV", help="only write the corner errors to this file"
    )
    errors_path = parser.parse_args().write_errors
    run_stage(partial(write_errors, path=errors_path) if errors_path else main)
