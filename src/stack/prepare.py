"""Stage prepare_stack: whole images that measure localizer and recognizer together.

They are composed over the validation backgrounds, which no training set uses.

- ``val``: Scenes of the original, on which its accuracy was measured.
- ``formats``: Street scenes with all formats and colours in the proportions of StreetPlateParams.
- ``shifted``: Street scenes with the glyph family, textures and degradations that training never sees.
- ``locked``: Held-out test set from a different generator (src/generators/holdout/scene.py), for final
  figures only.
- ``clutter``: Scenes without Swiss plates: foreign plates, signs and nothing.
- ``calibration``: Both kinds of scenes, from which export_stack derives probabilities.
- ``negatives``: Scenes without Swiss plates, mostly with foreign ones, from which export_stack derives
  the threshold.

python -m src.stack.prepare
"""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config
from ..config.stage import run_stage
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
        "calibration": StreetMix(0.7, width),
        "clutter": StreetMix(1.0, width, kinds=NO_SWISS_PLATE),
        "negatives": StreetMix(1.0, width, kinds=MOSTLY_FOREIGN),
    }

    def scenes(name: str, count: int, side: int, mix: StreetMix) -> Planned:
        source = SceneSource(
            config, params.SEED, name, "val", side, params.STRUCTURE_PROBABILITY, mix
        )
        return planned(range(count), source, WholeScenes)

    counts = {name: max(round(params.MAX_IMAGES * share), 1) for name, share in SHARES.items()}
    sets = {"val": scenes("stack", params.MAX_IMAGES, params.IMG_SIZE[0], StreetMix(0.0))}
    for name, mix in mixes.items():
        sets[name] = scenes(name, counts[name], params.STREET_SIZE[0], mix)
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
