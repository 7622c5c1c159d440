"""Stage prepare_stack: whole images that measure localizer and recognizer together.

They are composed over the validation backgrounds, which no training set uses.

- ``val``: Scenes of the original, on which its accuracy was measured.
- ``formats``: Street scenes with all formats and colours in the proportions of StreetPlateParams.
- ``shifted``: Street scenes with the glyph family, textures and degradations that training never sees.
- ``locked``: Held-out test set from a different generator (src/generators/holdout/scene.py), for final
  figures only.
- ``occluded``: Street scenes in which an object or the edge of the image hides characters of the plate, or
  something beside them.
- ``unoccluded``: The same scenes without that object, and as whole images.
- ``clutter``: Scenes without Swiss plates: foreign plates, signs and nothing.
- ``calibration``: Both kinds of scenes, some with an obstacle, from which export_stack derives
  probabilities.
- ``negatives``: Scenes without Swiss plates, mostly with foreign ones, from which export_stack derives
  the threshold.

python -m src.stack.prepare
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..config.stage import run_stage
from ..core.random import Draws
from ..datasets.cuts import cut_windows
from ..datasets.prepare import (
    Planned,
    SceneSource,
    StreetMix,
    WholeScenes,
    draw_sample,
    planned,
    prepare_sets,
)
from ..datasets.shards import Shard
from ..generators.glyphs import FAMILIES
from ..generators.holdout.scene import HoldoutScenes

# Sizes of the other sets relative to MAX_IMAGES, the number of the original's scenes.
SHARES = {
    "formats": 0.4,
    "shifted": 0.4,
    "occluded": 0.4,
    "unoccluded": 0.4,
    "locked": 0.2,
    "clutter": 0.2,
    "calibration": 0.8,
    "negatives": 0.4,
}
HELD_OUT_FAMILY = "grotesk"
NO_SWISS_PLATE = [0.0, 0.3, 0.3, 0.4]
"""Weights of Swiss plates, foreign plates, signs and nothing in ``clutter``."""
MOSTLY_FOREIGN = [0.0, 0.7, 0.2, 0.1]
"""The same weights in ``negatives``, where the objects most like a Swiss plate are foreign plates."""


CUT_SHARE = 0.3
"""Share of the scenes of ``occluded`` and ``calibration``'s obstacles where the edge of the image is the
obstacle."""
SWISS = [1.0, 0.0, 0.0, 0.0]
"""Weights of Swiss plates, foreign plates, signs and nothing in ``occluded``."""


@dataclass(frozen=True)
class PartialScenes:
    """Callable that generates shards of scenes in front of which is an obstacle, or which are cut.

    Attributes:
        source: Source of the scenes.
        cut_share: Share of the scenes that end within the plate.
    """

    source: SceneSource
    cut_share: float

    def __call__(self, indices: range) -> Shard:
        side = self.source.side
        images: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(indices)
        tables = []
        for positions, part in self.source.parts(indices):
            windows = np.tile([0, 0, side, side], (len(positions), 1))
            numbers = np.asarray(indices)[positions]
            draws = Draws(self.source.seed, f"{self.source.stream}-cut", numbers)
            windows = cut_windows(part.block, windows, side, self.cut_share, draws)
            for i, (position, window) in enumerate(zip(positions, windows.tolist(), strict=True)):
                images[position] = part.render(i, tuple(window))
            tables.append(part.block.labels(windows / side).set_index(positions))
        return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))


@dataclass(frozen=True)
class HoldoutShards:
    """Callable that generates shards of the held-out test set."""

    seed: int

    def __call__(self, indices: range) -> Shard:
        images, labels = HoldoutScenes(self.seed).make(indices)
        return Shard(images, labels)


def main(config: Config) -> None:
    """Write data/prepared/stack/* and out/prepared/stack."""
    params = config.PrepareStackParams
    width = (params.STREET_WIDTH[0], params.STREET_WIDTH[1])
    held_out = [float(family == HELD_OUT_FAMILY) for family in FAMILIES]
    mixes = {
        "formats": StreetMix(1.0, width),
        "shifted": StreetMix(1.0, width, degradations="shifted", families=held_out),
        "unoccluded": StreetMix(1.0, width, kinds=SWISS),
        "clutter": StreetMix(1.0, width, kinds=NO_SWISS_PLATE),
        "negatives": StreetMix(1.0, width, kinds=MOSTLY_FOREIGN),
    }

    partly = {
        "occluded": (StreetMix(1.0, width, kinds=SWISS, obstacles=1.0), CUT_SHARE),
        "calibration": (
            StreetMix(0.7, width, obstacles=params.OBSTACLE_SHARE),
            CUT_SHARE * params.OBSTACLE_SHARE,
        ),
    }

    def source_of(stream: str, side: int, mix: StreetMix) -> SceneSource:
        return SceneSource(
            config, params.SEED, stream, "val", side, params.STRUCTURE_PROBABILITY, mix
        )

    def scenes(name: str, count: int, side: int, mix: StreetMix) -> Planned:
        # The same scenes with and without obstacles are of one stream.
        stream = "occluded" if name == "unoccluded" else name
        return planned(range(count), source_of(stream, side, mix), WholeScenes)

    counts = {name: max(round(params.MAX_IMAGES * share), 1) for name, share in SHARES.items()}
    sets = {"val": scenes("stack", params.MAX_IMAGES, params.IMG_SIZE[0], StreetMix(0.0))}
    for name, mix in mixes.items():
        sets[name] = scenes(name, counts[name], params.STREET_SIZE[0], mix)
    for name, (mix, share) in partly.items():
        source = source_of(name, params.STREET_SIZE[0], mix)
        sets[name] = planned(range(counts[name]), source, partial(PartialScenes, cut_share=share))
    sets["locked"] = Planned(
        range(counts["locked"]), HoldoutShards(params.SEED), {"seed": params.SEED}
    )
    prepare_sets(
        config,
        "stack",
        sets,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=1),
    )


if __name__ == "__main__":
    run_stage(main)
