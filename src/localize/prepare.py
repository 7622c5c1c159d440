"""Stage prepare_localize: scenes at the localizer's size, with box and corners.

python -m src.localize.prepare
"""

from __future__ import annotations

from src.config import Config
from src.utils.prepare import WholeScenes, draw_sample, prepare_sets, split_counts
from src.utils.stage import run_stage


def main(config: Config) -> None:
    """Write data/prepared/localize/{train,val} and out/prepared/localize."""
    params = config.PrepareLocalizeParams
    prepare_sets(
        config,
        "localize",
        split_counts(params.MAX_IMAGES, params.TRAIN_SPLIT),
        WholeScenes,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=3),
        seed=params.SEED,
        side=config.LocalizeParams.IMG_SHAPE[1],
        structure_probability=params.STRUCTURE_PROBABILITY,
    )


if __name__ == "__main__":
    run_stage(main)
