"""Compare what tells a recognizer that it has not seen the whole plate.

    python bench/hidden.py [--data data/prepared/ocr/val] [--model out/models/ocr/model.safetensors]

Reads the validation set of the recognizer, whose crops are cut as a localizer would cut them. A text is given
from a confidence on: that of the text alone, that the plate is complete alone, or the product of both. It is
the lowest at which at most one percent of the plates with a hidden character get a wrong text.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.config import load_config
from src.core.layout import ILLEGIBLE, LEGIBLE
from src.datasets.batches import BatchIndices
from src.datasets.ocr import OCRDataset
from src.inference.decoding import Reading, decode
from src.models.registry import load_recognizer

WRONG = 0.01
"""Largest share of the plates with a hidden character that may get a wrong text."""
_BATCH = 64


@torch.inference_mode()
def read(folder: Path, model: Path) -> tuple[OCRDataset, list[Reading]]:
    """Return a set and its readings; each crop is cut for the right number of lines."""
    recognizer = load_recognizer(model).eval()
    params = load_config().TrainOCRParams.model_copy(update={"LINES_ERROR": 0.0})
    data = OCRDataset(folder, recognizer.rectification, recognizer.input_shape, params, fixed=True)
    readings: list[Reading] = []
    for start in tqdm(range(0, len(data), _BATCH), unit=" batches"):
        picked = BatchIndices(0, np.arange(start, min(start + _BATCH, len(data))))
        images = data.__getitems__(picked).images[:, None].float().div(255)
        readings += decode(recognizer.normalised(recognizer(images)).numpy())
    return data, readings


def compare(data: OCRDataset, readings: list[Reading]) -> list[dict[str, Any]]:
    """Return the shares of wrong and of right texts by what decides whether a text is given."""
    labels = data.samples.labels
    true, covered = labels["text"].to_numpy(), labels["covered"].to_numpy()
    right = np.array([reading.text for reading in readings]) == true
    hidden = (true != "") & (covered >= ILLEGIBLE)
    legible = (true != "") & (covered <= LEGIBLE)
    beside = legible & (labels["obstacle"].to_numpy() != "")
    text = np.array([reading.confidence for reading in readings])
    complete = np.array([reading.complete for reading in readings])
    rows = []
    for name, confidence in (
        ("text", text),
        ("complete", complete),
        ("text and complete", text * complete),
    ):
        given = confidence > least_confidence(np.where(right, 0, confidence)[hidden])
        rows.append(
            {
                "decides": name,
                "wrong_of_hidden": share(given & ~right, hidden),
                "read_of_legible": share(given & right, legible),
                "read_with_something_beside": share(given & right, beside),
            }
        )
    return rows


def least_confidence(wrong: NDArray[np.float64]) -> float:
    """Return the confidence that at most ``WRONG`` of the plates exceed with a wrong text.

    Args:
        wrong: Confidence of the wrong text of each plate with a hidden character; 0 for a right one.
    """
    return float(np.sort(wrong)[::-1][int(WRONG * len(wrong))]) if len(wrong) else 0.0


def share(which: NDArray[np.bool_], among: NDArray[np.bool_]) -> float | None:
    """Return the share of such plates among some; None if there are none."""
    return float(which[among].mean()) if among.any() else None


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare what tells that a plate is not whole.")
    parser.add_argument("--data", type=Path, default=Path("data/prepared/ocr/val"))
    parser.add_argument(
        "--model", type=Path, default=Path("out/models/ocr/model.safetensors"), metavar="FILE"
    )
    options = parser.parse_args()
    for row in compare(*read(options.data, options.model)):
        print(json.dumps(row))


if __name__ == "__main__":
    main()
