"""Stage prepare_ocr: the part of a scene around its plate, at the scene's own resolution.

Jitter and the resize to a reader's input happen in training, so that every reader trains on the same
data and a small plate stays as hard as it is.

python -m src.ocr.prepare
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.config import Config
from src.datasets.shards import Shard
from src.generators.plate import ARMY_COLOUR, COLOURS
from src.utils.prepare import SceneSource, draw_sample, prepare_sets, split_counts
from src.utils.stage import StageError, run_stage


@dataclass(frozen=True)
class PlateWindows:
    """Makes shards of windows around plates.

    Attributes:
        source: of the scenes; only the window of each is painted.
        margin: around the plate's box, as a share of the box's sides.
    """

    source: SceneSource
    margin: float

    def __call__(self, indices: range) -> Shard:
        block, renderer, side = self.source.block(indices), self.source.renderer, self.source.side
        low, high = block.corners.min(axis=1), block.corners.max(axis=1)
        margin = (high - low) * self.margin
        windows = np.concatenate(
            [np.floor((low - margin) * side), np.ceil((high + margin) * side)], axis=1
        )
        windows = windows.clip(0, side).astype(int)
        images = [
            renderer.render(block, i, (x1, y1, x2, y2))
            for i, (x1, y1, x2, y2) in enumerate(windows.tolist())
        ]
        return Shard(images, block.labels(windows / side))


def readable(config: Config) -> Config:
    """The parameters without army plates: they have no canton, so there is no text to learn.

    Raises:
        StageError: there are no others.
    """
    weights = [
        0.0 if colour.name == ARMY_COLOUR else weight
        for colour, weight in zip(COLOURS, config.PlateParams.COLOUR_WEIGHTS, strict=True)
    ]
    if sum(weights) == 0:
        raise StageError(
            "params.py: PlateParams.COLOUR_WEIGHTS: a reader needs another colour than "
            f"{ARMY_COLOUR}: army plates have no text to learn"
        )
    plate = config.PlateParams.model_copy(update={"COLOUR_WEIGHTS": weights})
    return config.model_copy(update={"PlateParams": plate})


def main(config: Config) -> None:
    """Write data/prepared/ocr/{train,val} and out/prepared/ocr."""
    params = config.PrepareOCRParams
    prepare_sets(
        readable(config),
        "ocr",
        split_counts(params.MAX_IMAGES, params.TRAIN_SPLIT),
        lambda source: PlateWindows(source, params.MARGIN),
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=2),
        seed=params.SEED,
        side=params.IMG_SIZE[0],
        structure_probability=params.STRUCTURE_PROBABILITY,
    )


if __name__ == "__main__":
    run_stage(main)
