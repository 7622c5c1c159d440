"""Compare what tells a recognizer that it has not seen the whole plate.

    python bench/hidden.py [--data data/prepared/ocr/val] [--model out/models/ocr/model.safetensors]

Reads the validation set of the recognizer, whose crops are cut as a localizer would cut them. A text is given
where a confidence reaches a half: that of the text alone, for which a plate with a hidden character is a crop
without text; that the plate is complete alone; or the product of both.
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

GIVEN = 0.5
"""Confidence from which on a text is given."""
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
    return [
        {
            "decides": name,
            "wrong_of_hidden": share(confidence >= GIVEN, ~right, hidden),
            "read_of_legible": share(confidence >= GIVEN, right, legible),
            "read_with_something_beside": share(confidence >= GIVEN, right, beside),
        }
        for name, confidence in (
            ("text", text),
            ("complete", complete),
            ("text and complete", text * complete),
        )
    ]


def share(
    given: NDArray[np.bool_], wanted: NDArray[np.bool_], among: NDArray[np.bool_]
) -> float | None:
    """Return the share of plates with such a text, among some; None if there are none."""
    return float((given & wanted)[among].mean()) if among.any() else None


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
