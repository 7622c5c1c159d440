"""Accuracy on photos whose plates are replaced by synthetic Swiss ones.

    python bench/swapped.py CSV [--model models] [--seed 0] [--draw DIR] [--json]

CSV is an annotation file (src/datasets/annotations.py) of images in which all plates, of any country,
are annotated with boxes. Backgrounds, light and sizes are thus those of photos, and the texts are known.
The letters are of the family that training never uses; format, light and contrast follow the replaced
plate. This substitutes for photos of Swiss plates where none are available, and it is easier: the
synthetic plates are clean and seen almost from the front.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.core.charset import CANTONS
from src.core.errors import UserError
from src.datasets.annotations import AnnotatedImage, AnnotatedPlate, AnnotationFile
from src.evaluation.end_to_end import Scores, given, score, texts_of
from src.evaluation.metrics import rounded, share
from src.generators.glyphs import GlyphStyle
from src.generators.plate import FORMATS, PlateSpec, draw_plate
from src.inference.reader import PlateReader
from src.stack.prepare import HELD_OUT_FAMILY

DRAWN = [i for i, plate in enumerate(FORMATS) if plate.name != "front_long"]
"""Formats that are drawn: all but ``front_long``, which is the original project's and on no car."""
SHAPES = np.log([FORMATS[i].width / FORMATS[i].height for i in DRAWN])
GROWN = 0.03
"""Margin by which the new plate exceeds a box on each side, as a fraction of its width and height.

There is one because the boxes are drawn by hand.
"""
TURNED = 0.02
"""Standard deviation of the new plate's corners, as a fraction of its height."""
FINER = 4
"""Supersampling factor: the plate is drawn and pasted at this multiple of the image's resolution."""
DARK, LIGHT, LEAST_CONTRAST = 4, 85, 50
"""Percentiles of the old plate's grey levels that become the ink and the ground of the new plate, and
the minimum difference of the two."""
BLUR, NOISE = (0.3, 0.8), 2.0
"""Standard deviations of the blur in pixels (a range), and of the noise in grey levels."""
HEIGHTS = (0, 15, 20, 30)
"""Limits of the plate heights in the rows of the table, in pixels."""


class Swapped:
    """Images of an annotation file with drawn plates in place of their own.

    Args:
        path: Path of the annotation file.
        seed: Random seed of all that is chosen.
    """

    has_corners = True
    has_text = True

    def __init__(self, path: Path, seed: int) -> None:
        self._annotations, self._seed = AnnotationFile(path), seed

    def __len__(self) -> int:
        return len(self._annotations)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        for number, item in enumerate(self._annotations):
            rng = np.random.default_rng([self._seed, number])
            image = item.image.copy()
            plates = [draw_over(image, plate.box, rng) for plate in item.plates]
            yield replace(item, image=image, plates=plates)


def draw_over(
    image: NDArray[np.uint8], box: NDArray[np.floating], rng: np.random.Generator
) -> AnnotatedPlate:
    """Draw a plate over the one in a box x1, y1, x2, y2 of a ``(H, W)`` image, in place."""
    limits = np.tile(image.shape[::-1], 2)
    low, high = np.split(np.clip(box, 0, limits), 2)
    width, height = high - low
    spec = PlateSpec(
        str(rng.choice(CANTONS)) + str(rng.integers(1_000, 1_000_000)),
        format_index=DRAWN[int(np.abs(SHAPES - np.log(width / height)).argmin())],
    )
    colours, alpha = draw_plate(spec, max(160, int(FINER * height)), GlyphStyle(HELD_OUT_FAMILY))
    grown = GROWN * np.array([width, height])
    (x1, y1), (x2, y2) = low - grown, high + grown
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    corners += rng.normal(0, TURNED * height, (4, 2))

    # Work in a window around the plate, so that large photographs take no longer.
    left, top = np.floor(corners.min(axis=0)).astype(int) - 4
    right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 4
    size = (int(right - left), int(bottom - top))
    rows, columns = alpha.shape
    matrix = cv2.getPerspectiveTransform(
        np.array([[0, 0], [columns, 0], [columns, rows], [0, rows]], np.float32),
        (FINER * (corners - (left, top))).astype(np.float32),
    )
    old = image[int(low[1]) : int(high[1]) + 1, int(low[0]) : int(high[0]) + 1]
    ink, ground = np.percentile(old, [DARK, LIGHT])
    ground = max(ground, ink + LEAST_CONTRAST)
    grey = cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    weight = alpha.astype(np.float32) / 255
    blur = float(rng.uniform(*BLUR))
    paint, cover = (
        cv2.GaussianBlur(
            cv2.resize(
                cv2.warpPerspective(layer, matrix, (FINER * size[0], FINER * size[1])),
                size,
                interpolation=cv2.INTER_AREA,
            ),
            (0, 0),
            blur,
        )
        for layer in ((ink + (ground - ink) * grey) * weight, weight)
    )
    paint += rng.normal(0, NOISE, paint.shape) * cover

    part = (
        slice(max(top, 0), min(bottom, image.shape[0])),
        slice(max(left, 0), min(right, image.shape[1])),
    )
    inner = tuple(
        slice(side.start - start, side.stop - start)
        for side, start in zip(part, (top, left), strict=True)
    )
    mixed = image[part] * (1 - cover[inner]) + paint[inner]
    image[part] = np.clip(np.round(mixed), 0, 255)
    return AnnotatedPlate(
        spec.text,
        np.concatenate([corners.min(axis=0), corners.max(axis=0)]),
        corners,
        spec.lines,
        spec.format.name,
    )


def measured(scores: Scores, threshold: float) -> dict[str, Any]:
    """Count the plates whose text is given and right, by height, and the wrong texts."""
    texts = texts_of(scores)
    read = texts["right"].to_numpy(bool) & (texts["confidence"].to_numpy() >= threshold)
    row = np.searchsorted(HEIGHTS, texts["height"].to_numpy(), side="right") - 1
    names = [f"{low} to {high} pixels" for low, high in pairwise(HEIGHTS)]
    names.append(f"{HEIGHTS[-1]} pixels and more")
    answers = given(scores, threshold)
    return {
        "images": len(scores.found),
        "read": share(int(read.sum()), len(read)),
        "read_by_height": {
            name: share(int(read[row == i].sum()), int((row == i).sum()))
            for i, name in enumerate(names)
        },
        "wrong": share(int((~answers["right"].to_numpy(bool)).sum()), len(answers)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("labels", type=Path, metavar="CSV")
    parser.add_argument("--model", type=Path, help="bundle to use (default: the promoted one)")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of texts, corners, blur and noise"
    )
    parser.add_argument("--draw", type=Path, help="folder to write the images to")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        reader = PlateReader.load(options.model)
        images = Swapped(options.labels, options.seed)
        if options.draw:
            options.draw.mkdir(parents=True, exist_ok=True)
            for item in images:
                cv2.imwrite(str(options.draw / f"{Path(item.name).stem}.png"), item.image)
        scores = score(reader, images, options.labels.name)
    except UserError as error:
        sys.exit(f"error: {error}")
    found = rounded(measured(scores, reader.threshold))
    if options.json:
        print(json.dumps(found))
        return
    for name, part in (
        ("plates read", found["read"]),
        *((f"  {name}", part) for name, part in found["read_by_height"].items()),
        ("wrong texts", found["wrong"]),
    ):
        if not part["count"]:
            print(f"{name:<28} none")
            continue
        interval = f"({part['low']:.3f} to {part['high']:.3f})"
        print(f"{name:<28} {part['share']:.3f} of {part['count']} {interval}")


if __name__ == "__main__":
    main()
