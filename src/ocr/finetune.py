"""Fine-tune the recognizer on feedback and synthetic crops: `python -m src.ocr.finetune`.

Reads out/models/ocr and data/prepared/{feedback/ocr,ocr} and writes out/models/ocr_finetuned, which
export_stack then uses instead. Without feedback it says so and trains nothing. Parameters:
FinetuneOCRParams; all others are those of the training.
"""

from __future__ import annotations

from ..config import Config
from ..config.stage import run_stage
from ..training.feedback import has_feedback


def main(config: Config) -> None:
    if has_feedback(config, "ocr"):
        from ..training import recognizer_finetuning as tuning

        tuning.tune(config)


if __name__ == "__main__":
    run_stage(main)
