"""Stage prepare_stack: whole scenes that measure localizer and reader together.

They are composed over the backgrounds of validation, which no training set uses.

python -m src.stack.prepare
"""

from __future__ import annotations

from src.config import Config
from src.utils.prepare import WholeScenes, draw_sample, prepare_sets
from src.utils.stage import run_stage


def main(config: Config) -> None:
    """Write data/prepared/stack/val and out/prepared/stack."""
    params = config.PrepareStackParams
    prepare_sets(
        config,
        "stack",
        {"val": range(params.MAX_IMAGES)},
        WholeScenes,
        lambda data, i: draw_sample(data.image(i), data.corners[i], zoom=1),
        seed=params.SEED,
        side=params.IMG_SIZE[0],
        structure_probability=params.STRUCTURE_PROBABILITY,
    )


if __name__ == "__main__":
    run_stage(main)
