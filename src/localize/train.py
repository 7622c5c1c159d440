"""Train the localizer of params.yaml on the prepared set: `python -m src.localize.train`.

Reads data/prepared/localize and writes the weights with the best mean quality to
out/models/localize/model.safetensors, curves to out/runs/localize and checkpoints to
out/checkpoints/localize, from which an interrupted training resumes. Parameters: TrainLocalizeParams.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch import Callback

from ..config import Config
from ..config.stage import run_stage
from ..datasets.localize import LocalizeDataset
from ..models.registry import build_localizer
from ..training.data import TrainingData
from ..training.fit import train
from ..training.localizer import LocalizerTraining


def main(config: Config, callbacks: Sequence[Callback] = ()) -> None:
    """Train with the given parameters; ``callbacks`` are Lightning's, in addition to the training's own."""
    params, prepared = config.TrainLocalizeParams, config.prepared("localize")
    torch.manual_seed(params.SEED)
    model = build_localizer(config.models.localizer, config)
    data = TrainingData(
        LocalizeDataset(prepared / "train", model.input_shape),
        LocalizeDataset(prepared / "val", model.input_shape),
        params,
        config.BATCH_SIZE,
    )
    module = LocalizerTraining(model, data)
    code = Path(__file__)
    train(module, data, config, "localize", config.models.localizer, code, callbacks=callbacks)


if __name__ == "__main__":
    run_stage(main)
