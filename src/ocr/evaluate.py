"""Stage evaluate_ocr: measure the recognizer on the whole validation set, given the true corners.

Crops with a text are measured by exact match; crops with nothing to read (foreign plates, signs, no
plate at all) by whether a text would be returned for them. Writes out/evaluations/ocr: metrics.json,
tables for ``dvc plots`` (including the confusion matrix), ten images and a sheet of the worst failures.
Run it with ``dvc repro evaluate_ocr``, or ``python -m src.ocr.evaluate``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from ..config import Config
from ..config.stage import run_stage
from ..datasets.shards import ShardedSet
from ..evaluation import figures as plots
from ..evaluation import metrics as evaluation
from ..evaluation.inference import best_device, read_log_probs
from ..inference.crops import recognizer_crop
from ..inference.decoding import decode, greedy
from ..models.base import Recognizer
from ..models.registry import load_recognizer

CONFIDENT = 0.5
"""Confidence, not calibrated, from which a reading counts as a returned text."""


def crop(reader: Recognizer, samples: ShardedSet, i: int) -> NDArray[np.uint8]:
    """Return the crop of sample ``i`` as the recognizer sees it, shape ``(h, w)``, uint8."""
    image = samples.image(i)
    corners = samples.corners[i] * image.shape[::-1]
    lines = int(samples.lines[i])
    return recognizer_crop(image, corners, reader.rectification, reader.input_shape, lines)


def read(
    reader: Recognizer, samples: ShardedSet, batch_size: int, device: torch.device
) -> pd.DataFrame:
    """Read a prepared set.

    Returns:
        Table with one row per sample: plate (empty where there is nothing to read), text (decoded with
        the grammar), confidence, greedy (the text of the best path, regardless of the grammar), right,
        right_greedy, and the columns that the metrics are broken down by. Where there is nothing to
        read, right means a low confidence, and right_greedy an empty path.
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
            "size_of_angle": labels["angle"].abs(),
            "format": labels["format"],
            "lines": samples.lines,
            "style": labels.get("style", ""),
        }
    )
    right = (table["text"] == table["plate"]).where(
        table["plate"] != "", table["confidence"] < CONFIDENT
    )
    return table.assign(right=right, right_greedy=table["greedy"] == table["plate"])


def measure(table: pd.DataFrame) -> dict[str, object]:
    """Compute the metrics of a set, first of the crops with a text, then of those without."""
    texts, nothing = _texts(table), table[table["plate"] == ""]
    low, high = evaluation.wilson(int(texts["right"].sum()), len(texts))
    true = texts["plate"].tolist()
    accuracy, false_texts = {"accuracy": "right"}, {"false_texts": "given"}
    nothing = nothing.assign(given=~nothing["right"])
    return {
        "count": len(table),
        "count_with_text": len(texts),
        "accuracy": float(texts["right"].mean()),
        "accuracy_95": {"low": low, "high": high},
        "accuracy_greedy": float(texts["right_greedy"].mean()),
        "character_error_rate": evaluation.character_error_rate(texts["text"].tolist(), true),
        "character_error_rate_greedy": evaluation.character_error_rate(
            texts["greedy"].tolist(), true
        ),
        "refused": float((texts["confidence"] < CONFIDENT).mean()),
        "by_digits": evaluation.by_value(texts, "digits", accuracy),
        "by_canton": evaluation.by_value(texts, "canton", accuracy),
        "by_height": evaluation.by_bins(texts, "height", evaluation.HEIGHT_EDGES, accuracy),
        "by_angle": evaluation.by_bins(texts, "size_of_angle", evaluation.ANGLE_EDGES, accuracy),
        "by_format": evaluation.by_value(texts, "format", accuracy),
        **_by_kind(texts, accuracy),
        "nothing_to_read": {
            "false_texts": evaluation.share(int(nothing["given"].sum()), len(nothing)),
            "false_texts_greedy": float((~nothing["right_greedy"]).mean()),
            "by_format": evaluation.by_value(nothing, "format", false_texts),
            **_by_kind(nothing, false_texts),
        },
    }


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["plate"] != ""]


def _by_kind(table: pd.DataFrame, measures: dict[str, str]) -> dict[str, object]:
    """Compute metrics by kind of scene and by number of lines, if there are several of them."""
    return {
        f"by_{column}": evaluation.by_value(table, column, measures)
        for column in ("style", "lines")
        if len(set(table[column])) > 1
    }


def confidences(table: pd.DataFrame, step: float = 0.05) -> pd.DataFrame:
    """Return normalised confidence histograms of crops with and without a text, for a plot."""
    edges = np.arange(0, 1 + step / 2, step)
    parts = {"text": _texts(table), "nothing": table[table["plate"] == ""]}
    counts = {name: np.histogram(part["confidence"], edges)[0] for name, part in parts.items()}
    shares = {name: count / max(count.sum(), 1) for name, count in counts.items()}
    return pd.DataFrame({"confidence": edges[:-1] + step / 2, **shares})


def draw(reader: Recognizer, samples: ShardedSet, table: pd.DataFrame, i: int) -> Image.Image:
    """Draw sample ``i`` with its outline, what the recognizer saw of it, and what it read."""
    image, row = samples.image(i), table.iloc[i]
    size = f"plate {row.height:.0f} px high; " if np.isfinite(row.height) else ""
    return plots.draw_result(
        image,
        [plots.Outline(samples.corners[i] * image.shape[::-1], plots.TRUE)],
        [
            plots.Line(f"true: {row.plate or 'nothing to read'}", plots.TRUE),
            plots.Line(f"read: {row.text}, confidence {row.confidence:.3f}", plots.FOUND),
            plots.Line(f"{size}below: the recognizer's input"),
        ],
        right=bool(row.right),
        below=crop(reader, samples, i),
    )


def main(config: Config) -> None:
    samples = ShardedSet(config.prepared("ocr") / "val")
    device = best_device()
    reader = load_recognizer(config.out("models", "ocr") / "model.safetensors").to(device).eval()
    table = read(reader, samples, config.BATCH_SIZE, device)
    measures = {"accuracy": "right"}
    picked = evaluation.chosen(len(table), config.EvaluateOCRParams.SEED)
    failures = evaluation.worst(table, ~table["right"], "confidence", ascending=False)
    metrics = {**measure(table), "backgrounds": samples.meta.get("backgrounds")}
    texts = _texts(table)
    with evaluation.results_folder(config.out("evaluations", "ocr")) as folder:
        evaluation.write_metrics(folder, metrics)
        confusion = evaluation.confusion(texts["plate"].tolist(), texts["text"].tolist())
        evaluation.write_plot(folder, "confusion", confusion)
        for column in ("canton", "digits"):
            rows = pd.DataFrame(
                {column: value, **row}
                for value, row in evaluation.by_value(texts, column, measures).items()
            )
            evaluation.write_plot(folder, f"accuracy_by_{column}", rows)
        # A confidence of 1 must fall into the last bin.
        values = texts.assign(confidence=texts["confidence"].clip(upper=1 - 1e-9))
        values = values.rename(columns={"size_of_angle": "angle"})
        for column, step in (("height", 5), ("angle", 5), ("confidence", 0.1)):
            rows = evaluation.curve(values, column, step, measures)
            evaluation.write_plot(folder, f"accuracy_by_{column}", rows)
        evaluation.write_plot(folder, "confidence", confidences(table))
        plots.write_images(folder, "pred", [draw(reader, samples, table, i) for i in picked])
        plots.write_sheet(folder, [draw(reader, samples, table, i) for i in failures])


if __name__ == "__main__":
    run_stage(main)
