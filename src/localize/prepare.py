"""Stage prepare_localize: scenes at the localizer's input size, with box and corners.

Some of the original's scenes are rendered larger and cropped around the plate: this is what the
localizer sees in its refinement pass, or in a larger image.

python -m src.localize.prepare
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..config.stage import run_stage
from ..core.random import Draws
from ..datasets.prepare import (
    SceneSource,
    StreetMix,
    draw_sample,
    planned,
    prepare_sets,
    split_counts,
)
from ..datasets.shards import Shard
from ..generators.scene import SceneBlock
from ..generators.street import StreetBlock

ZOOMS = (1.0, 1.5, 2.0)
ZOOM_WEIGHTS = (0.5, 0.25, 0.25)
"""Fraction of the scenes at each of ``ZOOMS``; street scenes vary in size by themselves."""


@dataclass(frozen=True)
class ZoomedScenes:
    """Callable that generates shards of scenes at several zooms.

    Attributes:
        source: Source of the scenes.
        zooms: Factors by which a scene of the original is rendered larger than the source's side.
        weights: Weights of the zooms.
    """

    source: SceneSource
    zooms: tuple[float, ...] = ZOOMS
    weights: tuple[float, ...] = ZOOM_WEIGHTS

    def __call__(self, indices: range) -> Shard:
        side = self.source.side
        images = np.empty((len(indices), side, side), np.uint8)
        tables = []
        for positions, part in self.source.parts(indices):
            if isinstance(part.block, StreetBlock):
                windows = None
                for i, position in enumerate(positions):
                    images[position] = part.render(i)
            else:
                numbers = np.asarray(indices)[positions]
                windows = self._paint(part.block, numbers, images, positions)
            tables.append(part.block.labels(windows).set_index(positions))
        return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))

    def _paint(
        self,
        block: SceneBlock,
        numbers: NDArray[np.int64],
        images: NDArray[np.uint8],
        positions: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Render the block's scenes into ``images``; return their windows, normalised to the scene."""
        side = self.source.side
        draws = Draws(self.source.seed, f"{self.source.stream}-zoom", numbers)
        low, high = block.corners.min(axis=1), block.corners.max(axis=1)
        # The plate must stay within the window.
        largest = 0.96 / (high - low).max(axis=1)
        zooms = np.asarray(self.zooms)[draws.choice(self.weights)]
        zooms = np.where(zooms <= largest, zooms, 1.0)
        sides = np.round(zooms * side).astype(int)
        size = side / sides
        # The window lies anywhere between the plate touching one of its edges and the opposite one.
        first = np.clip(high - size[:, None], 0, None)
        last = np.clip(low, None, 1 - size[:, None])
        start = first + draws.uniform(shape=(2,)) * np.maximum(last - first, 0)
        pixels = np.floor(start * sides[:, None]).astype(int).clip(0, (sides - side)[:, None])
        for i, position in enumerate(positions):
            x, y = pixels[i].tolist()
            renderer = self.source.scenes_at(int(sides[i]))
            images[position] = renderer.render(block, i, (x, y, x + side, y + side))
        return np.concatenate([pixels, pixels + side], axis=1) / sides[:, None]


def main(config: Config) -> None:
    """Write data/prepared/localize/{train,val} and out/prepared/localize."""
    params = config.PrepareLocalizeParams
    width = (params.STREET_WIDTH[0], params.STREET_WIDTH[1])
    mix = StreetMix(params.STREET_SHARE, width, inside=False, obstacles=params.OBSTACLE_SHARE)
    side, structure = config.LocalizeParams.IMG_SHAPE[1], params.STRUCTURE_PROBABILITY
    sets = {
        split: planned(
            indices,
            SceneSource(config, params.SEED, "localize", split, side, structure, mix),
            ZoomedScenes,
        )
        for split, indices in split_counts(params.MAX_IMAGES, params.TRAIN_SPLIT).items()
    }
    prepare_sets(
        config,
        "localize",
        sets,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=3),
    )


if __name__ == "__main__":
    run_stage(main)
