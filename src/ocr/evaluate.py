"""Stage evaluate_ocr: measure the reader on the whole validation set, given the true corners.

Writes out/evaluations/ocr: metrics.json, tables for ``dvc plots`` (also the confusion matrix), ten
pictures and a sheet of the worst failures. Run it with ``dvc repro evaluate_ocr``, or
``python -m src.ocr.evaluate``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from src.config import Config
from src.datasets.crops import reader_crop
from src.datasets.shards import ShardedSet
from src.decoding import decode, greedy
from src.models.base import Reader
from src.models.registry import load_reader
from src.utils import evaluation, plots
from src.utils.inference import best_device, read_log_probs
from src.utils.stage import run_stage


def crop(reader: Reader, samples: ShardedSet, i: int) -> NDArray[np.uint8]:
    """What the reader sees of sample ``i``: ``(h, w)`` uint8."""
    picture = samples.image(i)
    corners = samples.corners[i] * picture.shape[::-1]
    return reader_crop(picture, corners, reader.rectification, reader.input_shape)


def read(
    reader: Reader, samples: ShardedSet, batch_size: int, device: torch.device
) -> pd.DataFrame:
    """Read a prepared set.

    Returns:
        A row a sample: plate, text (by the grammar), confidence, greedy (the text of the best path,
        whatever the grammar says), right, right_greedy, and what the measures are broken down by.
    """
    raw, readings = [], []
    with tqdm(total=len(samples), unit=" crops", desc="ocr", mininterval=0.5) as progress:
        for batch in evaluation.batches(len(samples), batch_size):
            crops = [crop(reader, samples, i) for i in batch]
            log_probs = read_log_probs(reader, crops, device)
            raw += greedy(log_probs)
            readings += decode(log_probs)
            progress.update(len(batch))
    labels = samples.labels
    table = pd.DataFrame(
        {
            "plate": labels["plate"],
            "text": [reading.text for reading in readings],
            "confidence": [reading.confidence for reading in readings],
            "greedy": raw,
            "canton": labels["plate"].str[:2],
            "digits": labels["plate"].str.len() - 2,
            "height": labels["plate_height"],
            "format": labels["format"],
        }
    )
    return table.assign(
        right=table["text"] == table["plate"], right_greedy=table["greedy"] == table["plate"]
    )


def measure(table: pd.DataFrame) -> dict[str, object]:
    """The metrics of a set that was read."""
    measures = {"accuracy": "right"}
    low, high = evaluation.wilson(int(table["right"].sum()), len(table))
    true = table["plate"].tolist()
    return {
        "count": len(table),
        "accuracy": float(table["right"].mean()),
        "accuracy_95": {"low": low, "high": high},
        "accuracy_greedy": float(table["right_greedy"].mean()),
        "character_error_rate": evaluation.character_error_rate(table["text"].tolist(), true),
        "character_error_rate_greedy": evaluation.character_error_rate(
            table["greedy"].tolist(), true
        ),
        "by_digits": evaluation.by_value(table, "digits", measures),
        "by_canton": evaluation.by_value(table, "canton", measures),
        "by_height": evaluation.by_bins(table, "height", evaluation.HEIGHT_EDGES, measures),
        "by_format": evaluation.by_value(table, "format", measures),
    }


def draw(reader: Reader, samples: ShardedSet, table: pd.DataFrame, i: int) -> Image.Image:
    """Crop ``i`` with its outline, what the reader saw of it, and what it read."""
    picture, row = samples.image(i), table.iloc[i]
    return plots.draw_result(
        picture,
        [plots.Outline(samples.corners[i] * picture.shape[::-1], plots.TRUE)],
        [
            plots.Line(f"true: {row.plate}", plots.TRUE),
            plots.Line(f"read: {row.text}, confidence {row.confidence:.3f}", plots.FOUND),
            plots.Line(f"plate {row.height:.0f} px high; below, what the reader sees"),
        ],
        right=bool(row.right),
        below=crop(reader, samples, i),
    )


def main(config: Config) -> None:
    samples = ShardedSet(config.prepared("ocr") / "val")
    device = best_device()
    reader = load_reader(config.out("models", "ocr") / "model.safetensors").to(device).eval()
    table = read(reader, samples, config.BATCH_SIZE, device)
    measures = {"accuracy": "right"}
    picked = evaluation.chosen(len(table), config.EvaluateOCRParams.SEED)
    failures = evaluation.worst(table, ~table["right"], "confidence", ascending=False)
    metrics = {**measure(table), "backgrounds": samples.meta.get("backgrounds")}
    with evaluation.results_folder(config.out("evaluations", "ocr")) as folder:
        evaluation.write_metrics(folder, metrics)
        confusion = evaluation.confusion(table["plate"].tolist(), table["text"].tolist())
        evaluation.write_plot(folder, "confusion", confusion)
        for column in ("canton", "digits"):
            rows = pd.DataFrame(
                {column: value, **row}
                for value, row in evaluation.by_value(table, column, measures).items()
            )
            evaluation.write_plot(folder, f"accuracy_by_{column}", rows)
        for column, step in (("height", 5), ("confidence", 0.1)):
            # A confidence of 1 belongs to the last bin.
            values = table.assign(confidence=table["confidence"].clip(upper=1 - 1e-9))
            rows = evaluation.curve(values, column, step, measures)
            evaluation.write_plot(folder, f"accuracy_by_{column}", rows)
        plots.write_pictures(folder, "pred", [draw(reader, samples, table, i) for i in picked])
        plots.write_sheet(folder, [draw(reader, samples, table, i) for i in failures])


if __name__ == "__main__":
    run_stage(main)
