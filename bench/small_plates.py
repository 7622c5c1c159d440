"""Measure how small plates in large frames are found, and what is found in noise.

    python bench/small_plates.py [--model DIR] [--frames N] [--width PX]

Frames of 3840 x 2160 pixels are drawn, each with one plate of the given width, and searched at reduced sizes
and at full resolution (``PlateReader.read(..., search="full")``). The same is done with images of
single-pixel noise, normal and uniform, in which there is nothing to find. Seconds are per frame.
Backgrounds are procedural unless data/datasets/backgrounds exists.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from generator import with_backgrounds

from src.config import Config, load_config
from src.core.geometry import box_iou, xyxy_to_box
from src.core.intervals import wilson
from src.core.random import draws_of
from src.datasets.prepare import SceneSource, StreetMix
from src.inference.detection import SURE
from src.inference.reader import PlateReader, Search

WIDTH, HEIGHT = 3840, 2160
NOISE = (300, 400)
"""Height and width of the noise images."""
NOISE_IMAGES = 240
FOUND = 0.5
"""Minimum IoU of a box with the plate."""
SWISS = {"KIND_WEIGHTS": [1.0, 0.0, 0.0, 0.0]}

ImageArray = NDArray[np.uint8]


def frames(
    config: Config, count: int, width: float
) -> Iterator[tuple[ImageArray, NDArray[np.float64]]]:
    """Yield frames, each with the box x1, y1, x2, y2 of its plate in pixels."""
    share = width / WIDTH
    mix = StreetMix(1.0, (share, share * 1.01), street=SWISS)
    source = SceneSource(config, 0, "small-plates", "val", WIDTH, 0.0, mix)
    for number in range(count):
        ((_, part),) = source.parts(range(number, number + 1))
        corners = part.block.corners[0] * WIDTH
        top = int(draws_of(0, "small-plates", number).uniform(0, WIDTH - HEIGHT))
        low, high = corners.min(axis=0), corners.max(axis=0)
        # The plate must lie within the frame, which is a part of a square scene.
        top = int(np.clip(top, high[1] - HEIGHT + 20, max(low[1] - 20, 0)).clip(0, WIDTH - HEIGHT))
        image = part.render(0, (0, top, WIDTH, top + HEIGHT))
        yield image, np.concatenate([low, high]) - [0, top, 0, top]


def noise(number: int) -> ImageArray:
    """Return an image of noise whose grain is a single pixel."""
    generator = np.random.default_rng(number)
    if number % 2:
        return generator.integers(0, 256, NOISE, dtype=np.uint8)
    level, spread = generator.uniform(60, 200), generator.uniform(10, 70)
    return generator.normal(level, spread, NOISE).clip(0, 255).astype(np.uint8)


def measure(
    reader: PlateReader, search: Search, drawn: list[tuple[ImageArray, NDArray[np.float64]]]
) -> dict[str, Any]:
    """Return the share of plates found, boxes where there is no plate, and seconds per frame."""
    found = others = 0
    start = time.perf_counter()
    for image, box in tqdm(drawn, unit=" frames", desc=search):
        plates = [plate for plate in reader.read(image, search=search) if plate.score >= SURE]
        boxes = np.array([plate.box for plate in plates], float).reshape(-1, 4)
        true = np.broadcast_to(xyxy_to_box(box), boxes.shape)
        hits = box_iou(xyxy_to_box(boxes), true) >= FOUND
        found += bool(hits.any())
        others += int((~hits).sum())
    seconds = (time.perf_counter() - start) / max(len(drawn), 1)
    in_noise = sum(bool(reader.read(noise(i), search=search)) for i in range(NOISE_IMAGES))
    low, high = wilson(found, len(drawn))
    return {
        "found": found / max(len(drawn), 1),
        "found_95": [low, high],
        "other_boxes": others,
        "noise_images_with_a_box": in_noise,
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure small plates in large frames.")
    parser.add_argument("--model", type=Path, help="folder of the bundle (default: models)")
    parser.add_argument("--frames", type=int, default=200, help="frames (default: 200)")
    parser.add_argument(
        "--width", type=float, default=40, help="plate width in pixels (default: 40)"
    )
    options = parser.parse_args()
    reader = PlateReader.load(options.model)
    with tempfile.TemporaryDirectory() as folder:
        config = with_backgrounds(load_config(), Path(folder))
        drawn = list(frames(config, options.frames, options.width))
    for search in get_args(Search):
        print(json.dumps({"search": search, **measure(reader, search, drawn)}))


if __name__ == "__main__":
    main()
