"""Train the recognizer of params.yaml on the prepared set: `python -m src.ocr.train`.

Reads data/prepared/ocr and writes the weights with the best exact match to
out/models/ocr/model.safetensors, curves to out/runs/ocr and checkpoints to out/checkpoints/ocr,
from which an interrupted training resumes. Parameters: TrainOCRParams.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback

from ..config import Config
from ..config.stage import run_stage
from ..datasets.ocr import OCRDataset
from ..models.registry import build_recognizer
from ..training.data import TrainingData
from ..training.fit import train
from ..training.recognizer import RecognizerTraining


def main(config: Config, callbacks: Sequence[Callback] = ()) -> None:
    """Train with the given parameters; ``callbacks`` are Lightning's, in addition to the training's own."""
    params, prepared = config.TrainOCRParams, config.prepared("ocr")
    torch.manual_seed(params.SEED)
    model = build_recognizer(config.models.recognizer, config)
    train_set, val_set = (
        OCRDataset(prepared / split, model.rectification, model.input_shape, params, split == "val")
        for split in ("train", "val")
    )
    data = TrainingData(train_set, val_set, params, config.BATCH_SIZE)
    module = RecognizerTraining(model, data)
    code = Path(__file__)
    train(module, data, config, "ocr", config.models.recognizer, code, callbacks=callbacks)


if __name__ == "__main__":
    run_stage(main)
