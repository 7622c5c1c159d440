"""False positives in photos whose plates are painted over: nothing should be found.

    python bench/masked.py CSV [--model models] [--json]

CSV is an annotation file (src/datasets/annotations.py) of images in which all plates are annotated with
boxes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.core.errors import UserError
from src.datasets.annotations import AnnotatedImage, AnnotationFile
from src.evaluation.end_to_end import score, without_plate
from src.evaluation.metrics import rounded
from src.inference.reader import PlateReader

GROWN = 0.1
"""Margin that is painted over on each side of a box, as a fraction of its width and height.

There is one because the boxes are drawn by hand.
"""


class Masked:
    """Images of an annotation file with their plates painted over."""

    has_corners = False
    has_text = True

    def __init__(self, path: Path) -> None:
        self._annotations = AnnotationFile(path)

    def __len__(self) -> int:
        return len(self._annotations)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for item in self._annotations:
            image = item.image.copy()
            for plate in item.plates:
                paint_over(image, plate.box)
            yield replace(item, image=image, plates=[])


def paint_over(image: np.ndarray, box: np.ndarray) -> None:
    """Fill a box x1, y1, x2, y2 of a ``(H, W)`` image with the mean of its surroundings."""
    size = np.tile(box[2:] - box[:2], 2)
    signs = np.array([-1, -1, 1, 1])
    limits = np.tile(image.shape[::-1], 2)
    inner, outer = (
        np.round(box + signs * share * size).clip(0, limits).astype(int)
        for share in (GROWN, 2 * GROWN)
    )
    around = image[outer[1] : outer[3], outer[0] : outer[2]].astype(float)
    hidden = image[inner[1] : inner[3], inner[0] : inner[2]]
    ring = around.size - hidden.size
    hidden[:] = round((around.sum() - hidden.sum()) / ring) if ring else 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", type=Path, metavar="CSV")
    parser.add_argument("--model", type=Path, help="bundle to use (default: the promoted one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        reader = PlateReader.load(options.model)
        scores = score(reader, Masked(options.labels), options.labels.name)
    except UserError as error:
        sys.exit(f"error: {error}")
    found: dict[str, Any] = rounded(without_plate(scores, reader.threshold))
    if options.json:
        print(json.dumps(found))
        return
    for name, share in found.items():
        print(
            f"{name}: {share['share']:.4f} ({share['low']:.4f} to {share['high']:.4f}) of "
            f"{share['count']} images"
        )


if __name__ == "__main__":
    main()
