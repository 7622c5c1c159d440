"""Measure how many plates ``swiss-plates blur`` covers.

    python bench/blur.py [--labels FILE] [--clips N] [--height 720] [--seed 0] [--model DIR]

With --labels, a CSV file with the columns file, x1, y1, x2, y2 (pixels), its images are searched. A plate
counts as covered if 90 % of its box are, since labelled boxes are often larger than the plate.

Then clips are drawn from the seed, encoded with ffmpeg, and searched as videos are. Of each frame in which a
plate can be read, it is told whether 95 % of the plate are covered; a vehicle is hidden if that holds for
all of its frames. Prints a JSON object for each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.blur.__main__ import find_plates
from src.blur.covering import MARGIN, grown
from src.blur.videos import find_ways
from src.config import load_config
from src.core.geometry import FloatArray
from src.core.images import load_image
from src.evaluation.metrics import rounded, share
from src.generators.atlas import Atlas
from src.generators.clips import draw_clip, frame_size
from src.generators.footage import Footage, write_clip
from src.inference.reader import PlateReader, Search

OF_BOX, OF_PLATE = 0.9, 0.95
"""Minimum covered part of a labelled box, and of a drawn plate."""


def covered(plate: FloatArray, covers: Iterable[FloatArray], size: tuple[int, int]) -> float:
    """Return the covered part of a plate's visible area, 0 to 1.

    Args:
        plate: Corners of the plate in pixels, shape ``(4, 2)``.
        covers: Corners of the plates that were found, each ``(4, 2)``.
        size: Width and height of the image in pixels.
    """
    area, cover = (np.zeros(size[::-1], np.uint8) for _ in range(2))
    cv2.fillConvexPoly(area, np.round(plate).astype(np.int32), 1)
    for corners in covers:
        cv2.fillConvexPoly(cover, np.round(grown(corners, MARGIN)).astype(np.int32), 1)
    return float((area & cover).sum() / max(int(area.sum()), 1))


def of_images(reader: PlateReader, labels: Path, search: Search) -> dict[str, Any]:
    """Return how many labelled plates are covered, and how many covers there are beside."""
    hits, others = [], 0
    table = pd.read_csv(labels)
    for file, boxes in tqdm(table.groupby("file", sort=False), unit=" images"):
        image = load_image(labels.parent / str(file))
        found = [np.array(plate.corners) for plate in find_plates(reader, image, search)]
        size = (image.width, image.height)
        plates = [
            np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.float64)
            for x1, y1, x2, y2 in boxes[["x1", "y1", "x2", "y2"]].to_numpy()
        ]
        hits += [covered(plate, found, size) >= OF_BOX for plate in plates]
        others += sum(covered(each, plates, size) == 0 for each in found)
    return {
        "images": str(labels),
        "search": search,
        "covered": share(sum(hits), len(hits)),
        "covers_without_plate": others,
    }


def of_clips(
    reader: PlateReader, count: int, height: int, seed: int, folder: Path
) -> dict[str, Any]:
    """Return in how many frames, and of how many vehicles, the plates of drawn clips are covered."""
    params = load_config().StreetPlateParams
    atlas = Atlas(params, 0)
    size = frame_size(height)
    frames: list[bool] = []
    vehicles: dict[tuple[int, int], list[bool]] = defaultdict(list)
    for index in tqdm(range(count), unit=" clips"):
        clip = draw_clip(params, atlas, seed, index, size)
        path = folder / f"{index}.mp4"
        write_clip(Footage(clip), path)
        ways = list(
            find_ways(
                str(path),
                lambda image: find_plates(
                    reader, np.ascontiguousarray(image[..., ::-1]), "standard"
                ),
            )
        )
        for number in range(len(clip)):
            time = number / clip.frame_rate
            covers = [at for way in ways for at in way.at(time)]
            for vehicle, seen in enumerate(clip.seen(number)):
                if seen is not None and seen.is_clear:
                    hit = covered(seen.corners, covers, size) >= OF_PLATE
                    frames.append(hit)
                    vehicles[index, vehicle].append(hit)
        path.unlink()
    hidden = [all(hits) for hits in vehicles.values()]
    return {
        "clips": count,
        "height": height,
        "frames": share(sum(frames), len(frames)),
        "vehicles": share(sum(hidden), len(hidden)),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--labels", type=Path, help="CSV file of labelled images")
    parser.add_argument("--clips", type=int, default=60, metavar="N")
    parser.add_argument("--height", type=int, default=720, metavar="PX")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", type=Path, metavar="DIR", help="bundle (the promoted one)")
    options = parser.parse_args()
    reader = PlateReader.load(options.model)
    if options.labels is not None:
        for search in ("standard", "full"):
            print(json.dumps(rounded(of_images(reader, options.labels, search))), flush=True)
    if options.clips:
        with tempfile.TemporaryDirectory() as folder:
            result = of_clips(reader, options.clips, options.height, options.seed, Path(folder))
        print(json.dumps(rounded(result)))


if __name__ == "__main__":
    main()
