"""Fine-tune the reader on feedback and synthetic crops: `python -m src.ocr.finetune`.

Reads out/models/ocr and data/prepared/{feedback/ocr,ocr}, writes out/models/ocr_finetuned, which
export_stack takes instead. Without feedback it says so and trains nothing. Parameters: FinetuneOCRParams,
else those of the training.
"""

from __future__ import annotations

import torch

from src.config import Config
from src.datasets.ocr import OCRDataset
from src.models.registry import load_reader
from src.ocr.train import ReaderTraining
from src.utils.finetuning import finetune, has_feedback, mixed_data, tunable
from src.utils.stage import run_stage


def main(config: Config) -> None:
    if not has_feedback(config, "ocr"):
        return
    base = config.TrainOCRParams
    torch.manual_seed(base.SEED)
    weights = config.out("models", "ocr") / "model.safetensors"
    model = tunable(load_reader(weights))
    data = mixed_data(
        config,
        "ocr",
        base,
        config.FinetuneOCRParams,
        lambda folder, fixed: OCRDataset(
            folder, model.rectification, model.input_shape, base, fixed
        ),
    )
    module = ReaderTraining(model, data)
    finetune(module, data, config, "ocr", load_reader, config.FinetuneOCRParams.KEPT)


if __name__ == "__main__":
    run_stage(main)
