"""Stage prepare_ocr: the part of a scene around its plate, at the scene's own resolution.

Jitter and resizing to the recognizer's input size happen in training, so that every recognizer trains on
the same data and a small plate stays as hard to read as it is.

python -m src.ocr.prepare
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError
from ..datasets.cuts import Block, draw_windows
from ..datasets.prepare import (
    SceneSource,
    StreetMix,
    draw_sample,
    planned,
    prepare_sets,
    split_counts,
)
from ..datasets.shards import Shard
from ..generators.plate import ARMY_COLOUR, COLOURS


@dataclass(frozen=True)
class PlateWindows:
    """Callable that generates shards of windows around plates.

    Some windows end within the plate, as an image does that shows a part of it.

    Attributes:
        source: Source of the scenes; only the window of each is rendered.
        margin: Margin around the plate's box, relative to the box's sides.
        cut_share: Share of the windows that end within the plate's box.
    """

    source: SceneSource
    margin: float
    cut_share: float

    def __call__(self, indices: range) -> Shard:
        return draw_windows(self.source, indices, self._windows, self.cut_share)

    def _windows(self, block: Block) -> NDArray[np.int64]:
        side = self.source.side
        low, high = block.corners.min(axis=1), block.corners.max(axis=1)
        margin = (high - low) * self.margin
        windows = np.concatenate(
            [np.floor((low - margin) * side), np.ceil((high + margin) * side)], axis=1
        )
        return windows.clip(0, side).astype(int)


def readable(config: Config) -> Config:
    """Return the parameters without army plates: they have no canton, so there is no text to learn.

    Raises:
        StageError: If there are no other plates.
    """
    weights = [
        0.0 if colour.name == ARMY_COLOUR else weight
        for colour, weight in zip(COLOURS, config.PlateParams.COLOUR_WEIGHTS, strict=True)
    ]
    if sum(weights) == 0:
        raise StageError(
            f"params.py: PlateParams.COLOUR_WEIGHTS: a colour other than {ARMY_COLOUR} needs a "
            "weight above 0, because army plates have no text to learn"
        )
    plate = config.PlateParams.model_copy(update={"COLOUR_WEIGHTS": weights})
    return config.model_copy(update={"PlateParams": plate})


def main(config: Config) -> None:
    """Write data/prepared/ocr/{train,val} and out/prepared/ocr."""
    params, readables = config.PrepareOCRParams, readable(config)
    mix = StreetMix(
        params.STREET_SHARE,
        (params.STREET_WIDTH[0], params.STREET_WIDTH[1]),
        obstacles=params.OBSTACLE_SHARE,
        least_size=(params.NARROWEST, params.LOWEST),
    )
    side, structure = params.IMG_SIZE[0], params.STRUCTURE_PROBABILITY
    sets = {
        split: planned(
            indices,
            SceneSource(readables, params.SEED, "ocr", split, side, structure, mix),
            lambda source: PlateWindows(source, params.MARGIN, params.CUT_SHARE),
        )
        for split, indices in split_counts(params.MAX_IMAGES, params.TRAIN_SPLIT).items()
    }
    prepare_sets(
        config,
        "ocr",
        sets,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=2),
    )


if __name__ == "__main__":
    run_stage(main)
