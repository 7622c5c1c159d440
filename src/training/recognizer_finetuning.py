"""Fine-tuning of the recognizer on feedback, without forgetting what it has learnt before."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config import Config
from ..datasets.ocr import OCRDataset
from ..models.registry import load_recognizer
from .finetuning import finetune, mixed_data, tunable
from .recognizer import RecognizerTraining


def tune(config: Config) -> None:
    """Train ``out/models/ocr_finetuned`` on prepared feedback and synthetic samples."""
    base = config.TrainOCRParams
    torch.manual_seed(base.SEED)
    weights = config.out("models", "ocr") / "model.safetensors"
    model = tunable(load_recognizer(weights))
    data = mixed_data(
        config,
        "ocr",
        base,
        config.FinetuneOCRParams,
        lambda folder, fixed: OCRDataset(
            folder, model.rectification, model.input_shape, base, fixed
        ),
    )
    module = RecognizerTraining(model, data)
    finetune(
        module,
        data,
        config,
        "ocr",
        load_recognizer,
        config.FinetuneOCRParams.ORIGINAL_SHARE,
        Path(__file__),
    )
