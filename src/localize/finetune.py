"""Fine-tune the localizer on feedback and synthetic scenes: `python -m src.localize.finetune`.

Reads out/models/localize and data/prepared/{feedback/localize,localize}, writes
out/models/localize_finetuned, which export_stack takes instead. Without feedback it says so and trains
nothing. Parameters: FinetuneLocalizeParams, else those of the training.
"""

from __future__ import annotations

from src.config import Config
from src.utils.feedback import has_feedback
from src.utils.stage import run_stage


def main(config: Config) -> None:
    if has_feedback(config, "localize"):
        from src.localize import tuning

        tuning.tune(config)


if __name__ == "__main__":
    run_stage(main)
