"""Stage prepare_stack: whole images that measure localizer and recognizer together.

They are composed over the validation backgrounds, which no training set uses.

- ``val``: Scenes of the original, on which its accuracy was measured.
- ``formats``: Street scenes with all formats and colours in the proportions of StreetPlateParams.
- ``shifted``: Street scenes with the glyph family, textures and degradations that training never sees.
- ``holdout``: Held-out test set from a different generator (src/generators/holdout/scene.py), for final
  figures only.
- ``occluded``: Street scenes in which an object or the edge of the image hides characters of the plate, or
  something beside them.
- ``unoccluded``: The same scenes without that object, and as whole images.
- ``occluded_holdout``, ``unoccluded_holdout``: The same two from the generator of ``holdout``.
- ``tight``: Images that show nothing but a plate, at all sizes.
- ``colours``: Street scenes in colour, in which all colours of plates are common, under many lights
  (src/generators/colour.py).
- ``clutter``: Scenes without Swiss plates: foreign plates, signs and nothing.
- ``calibration``: Both kinds of scenes, some with an obstacle, from which export_stack derives
  probabilities.
- ``negatives``: Scenes without Swiss plates, mostly with foreign ones, from which export_stack derives
  the threshold.
- ``incomplete``: More scenes like those of ``occluded``, from which export_stack derives the threshold too.
- ``colours_calibration``: More scenes like those of ``colours``, some with an obstacle, on which
  export_stack fits what tells the colours apart.

python -m src.stack.prepare
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config import Config
from ..config.stage import run_stage
from ..core.random import Draws
from ..datasets.cuts import Block, draw_windows
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
from ..generators.colour import INFRARED, LIGHT_WEIGHTS, LIGHTS, paint
from ..generators.glyphs import FAMILIES
from ..generators.holdout.scene import HoldoutScenes
from ..generators.street import StreetBlock

# Sizes of the other sets relative to MAX_IMAGES, the number of the original's scenes.
SHARES = {
    "formats": 0.4,
    "shifted": 0.4,
    "occluded": 0.4,
    "unoccluded": 0.4,
    "occluded_holdout": 0.1,
    "unoccluded_holdout": 0.1,
    "tight": 0.2,
    "holdout": 0.2,
    "colours": 0.4,
    "clutter": 0.2,
    "calibration": 0.8,
    "negatives": 0.4,
    "incomplete": 1.0,
    "colours_calibration": 0.8,
}
HELD_OUT_FAMILY = "grotesk"
NO_SWISS_PLATE = {"KIND_WEIGHTS": [0.0, 0.3, 0.3, 0.4]}
"""Kinds of scenes in ``clutter``: no Swiss plates, foreign plates, signs and nothing."""
MOSTLY_FOREIGN = {"KIND_WEIGHTS": [0.0, 0.7, 0.2, 0.1]}
"""Kinds of scenes in ``negatives``, where the objects most like a Swiss plate are foreign plates."""


CUT_SHARE = 0.3
"""Share of the hidden plates that the edge of the image hides, and not an obstacle."""
SWISS = {"KIND_WEIGHTS": [1.0, 0.0, 0.0, 0.0]}
"""Kinds of scenes in sets of which each has a Swiss plate."""


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
        return draw_windows(self.source, indices, self._whole, self.cut_share)

    def _whole(self, block: Block) -> NDArray[np.int64]:
        side = self.source.side
        return np.tile([0, 0, side, side], (len(block), 1))


TIGHT = {
    **SWISS, "BLUR": [0.0, 0.04], "MOTION_PROBABILITY": 0.0, "NOISE": [0.0, 0.06], "CONTRAST": [0.5, 1.0],
    "SHADOW_PROBABILITY": 0.05, "DIRT_PROBABILITY": 0.05, "JPEG_QUALITY": [40, 95],
}  # fmt: skip
"""Parameters of ``tight``: mild, so that what is measured is that nothing surrounds the plate."""
TIGHT_WIDTH = (0.72, 0.95)
"""Range of the longer side of a plate's box in ``tight``, relative to the scene that it is cut from."""
TIGHT_SIDES = tuple(round(60 * 1.25**step) for step in range(14))
"""Sides of these scenes in pixels: plates of 43 to 1036 pixels."""
TIGHT_MARGINS = (-0.05, 0.15)
"""Range of the margin beyond each side of a plate's box, relative to that side."""


@dataclass(frozen=True)
class TightScenes:
    """Callable that generates shards of images that show nothing but a plate.

    The column ``cap`` of the labels is the height of the characters in pixels.

    Attributes:
        source: Source of street scenes; their side is chosen for each sample.
    """

    source: SceneSource

    def __call__(self, indices: range) -> Shard:
        images: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(indices)
        tables = []
        renderers = [replace(self.source.streets, side=side) for side in TIGHT_SIDES]
        for positions, part in self.source.parts(indices):
            block = part.block
            if not isinstance(block, StreetBlock):
                raise TypeError("tight images are cut from street scenes")
            draws = Draws(self.source.seed, "tight-window", np.asarray(indices)[positions])
            chosen = draws.integers(0, len(TIGHT_SIDES) - 1)
            margins = draws.uniform(*TIGHT_MARGINS, (4,)) * [-1, -1, 1, 1]
            sides = np.array(TIGHT_SIDES)[chosen]
            low, high = block.corners.min(axis=1), block.corners.max(axis=1)
            edges = np.concatenate([low, high], axis=1) + margins * np.tile(high - low, 2)
            windows = np.round(edges.clip(0, 1) * sides[:, None]).astype(int)
            for i, (position, window) in enumerate(zip(positions, windows.tolist(), strict=True)):
                images[position] = renderers[chosen[i]].render(block, i, tuple(window))
            labels = block.labels(windows / sides[:, None]).set_index(positions)
            tables.append(labels.assign(cap=(np.array(block.caps) * sides).astype(np.float32)))
        return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))


COLOURFUL = {**SWISS, "DIPLOMATIC_PROBABILITY": 0.1}
COLOUR_WEIGHTS = [0.3, 0.15, 0.12, 0.12, 0.12, 0.1, 0.09]
"""Weights of the colours in the sets of colours, where every colour is common enough to be measured."""


@dataclass(frozen=True)
class ColourScenes:
    """Callable that generates shards of street scenes in colour.

    The column ``light`` of the labels is the name of the light. The colour is "" in infrared light, where
    none can be told.

    Attributes:
        source: Source of street scenes.
    """

    source: SceneSource

    def __call__(self, indices: range) -> Shard:
        side = self.source.side
        images = np.empty((len(indices), side, side, 3), np.uint8)
        tables = []
        for positions, part in self.source.parts(indices):
            block = part.block
            if not isinstance(block, StreetBlock):
                raise TypeError("scenes in colour are street scenes")
            draws = Draws(
                self.source.seed, f"{self.source.stream}-light", np.asarray(indices)[positions]
            )
            lights = draws.choice(LIGHT_WEIGHTS).tolist()
            numbers = draws.split(1)
            for i, position in enumerate(positions.tolist()):
                grey = part.render(i)
                images[position] = paint(grey, block, i, LIGHTS[lights[i]], numbers[i])
            names = [LIGHTS[light].name for light in lights]
            labels = block.labels().set_index(positions).assign(light=names)
            labels.loc[labels["light"] == INFRARED, "colour"] = ""
            tables.append(labels)
        return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))


@dataclass(frozen=True)
class HoldoutShards:
    """Callable that generates shards of a held-out test set; ``HoldoutScenes`` documents the fields."""

    seed: int
    occluded: bool = False
    objects: bool = True

    def __call__(self, indices: range) -> Shard:
        scenes = HoldoutScenes(self.seed, occluded=self.occluded, objects=self.objects)
        images, labels = scenes.make(indices)
        return Shard(images, labels)


def main(config: Config) -> None:
    """Write data/prepared/stack/* and out/prepared/stack."""
    params = config.PrepareStackParams
    width = (params.STREET_WIDTH[0], params.STREET_WIDTH[1])
    held_out = [float(family == HELD_OUT_FAMILY) for family in FAMILIES]
    mixes = {
        "formats": StreetMix(1.0, width),
        "shifted": StreetMix(1.0, width, degradations="shifted", families=held_out),
        "unoccluded": StreetMix(1.0, width, street=SWISS),
        "clutter": StreetMix(1.0, width, street=NO_SWISS_PLATE),
        "negatives": StreetMix(1.0, width, street=MOSTLY_FOREIGN),
    }

    hidden = StreetMix(1.0, width, street=SWISS, obstacles=1 - CUT_SHARE), 1.0
    partly = {
        "occluded": hidden,
        "incomplete": hidden,
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
    plates = config.StreetPlateParams.model_copy(update={"COLOUR_WEIGHTS": COLOUR_WEIGHTS})
    colourful = config.model_copy(update={"StreetPlateParams": plates})
    # The colour of a plate is told from its text too, which some must lack for being hidden.
    for name, obstacles in (("colours", 0.0), ("colours_calibration", params.OBSTACLE_SHARE)):
        source = SceneSource(
            colourful, params.SEED, name, "val", params.STREET_SIZE[0], 0.0,
            StreetMix(1.0, width, street=COLOURFUL, obstacles=obstacles),
        )  # fmt: skip
        sets[name] = planned(range(counts[name]), source, ColourScenes)
    tight = source_of("tight", params.STREET_SIZE[0], StreetMix(1.0, TIGHT_WIDTH, street=TIGHT))
    sets["tight"] = planned(range(counts["tight"]), tight, TightScenes)
    held_out_sets = {
        "holdout": HoldoutShards(params.SEED),
        "occluded_holdout": HoldoutShards(params.SEED, occluded=True),
        "unoccluded_holdout": HoldoutShards(params.SEED, occluded=True, objects=False),
    }
    for name, make in held_out_sets.items():
        sets[name] = Planned(range(counts[name]), make, {"seed": params.SEED})
    prepare_sets(
        config,
        "stack",
        sets,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=1),
    )


if __name__ == "__main__":
    run_stage(main)
