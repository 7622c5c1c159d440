"""Fine-tune the localizer on feedback and synthetic scenes: `python -m src.localize.finetune`.

Reads out/models/localize and data/prepared/{feedback/localize,localize} and writes
out/models/localize_finetuned, which export_stack then uses instead. Without feedback it says so and
trains nothing. Parameters: FinetuneLocalizeParams; all others are those of the training.
"""

from __future__ import annotations

from ..config import Config
from ..config.stage import run_stage
from ..training.feedback import has_feedback


def main(config: Config) -> None:
    if has_feedback(config, "localize"):
        from ..training import localizer_finetuning as tuning

        tuning.tune(config)


if __name__ == "__main__":
    run_stage(main)
