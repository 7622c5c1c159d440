"""Fine-tune the reader on feedback and synthetic crops: `python -m src.ocr.finetune`.

Reads out/models/ocr and data/prepared/{feedback/ocr,ocr}, writes out/models/ocr_finetuned, which
export_stack takes instead. Without feedback it says so and trains nothing. Parameters: FinetuneOCRParams,
else those of the training.
"""

from __future__ import annotations

from src.config import Config
from src.utils.feedback import has_feedback
from src.utils.stage import run_stage


def main(config: Config) -> None:
    if has_feedback(config, "ocr"):
        from src.ocr import tuning

        tuning.tune(config)


if __name__ == "__main__":
    run_stage(main)
