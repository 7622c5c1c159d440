"""What fine-tuning both models shares: from what it learns, how long, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ..config import Config
from ..config.training import FinetuneLocalizeParams, FinetuneOCRParams
from ..datasets.mixture import Mixture, balanced, mixed_sizes
from ..models.base import Localizer, Recognizer
from ..models.registry import save_model
from .data import TrainingData, TrainParams
from .feedback import count
from .fit import train
from .module import TrainingModule

Model = TypeVar("Model", bound=nn.Module)

VALIDATIONS = 6
"""Of a fine-tuning, at equal distances; its epochs."""
_VALIDATED = 1000
"""Samples of feedback, and as many synthetic ones, that the curves are of."""


def tunable(model: Model) -> Model:
    """A model in training mode, but for its statistics of batch norm, which stay what they were.

    They would become those of the mixture, and what the model knows would be seen in another scale.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return model


def mixed_data(
    config: Config,
    task: str,
    base: TrainParams,
    params: FinetuneLocalizeParams | FinetuneOCRParams,
    open_set: Callable[[Path, bool], Any],
) -> TrainingData:
    """Feedback and synthetic samples to train with, and the parameters to do it by.

    Args:
        config: the parameters.
        task: ``localize`` or ``ocr``.
        base: parameters of the training.
        params: what is other when fine-tuning.
        open_set: opens a prepared set by its folder; fixed for validation.
    """
    real, synthetic = config.prepared("feedback") / task, config.prepared(task)
    feedback = open_set(real / "train", False)
    samples = params.STEPS * config.BATCH_SIZE // VALIDATIONS
    passes, replayed = mixed_sizes(len(feedback), params.FEEDBACK_SHARE, samples)
    train_set = Mixture(feedback, open_set(synthetic / "train", False), passes, replayed, base.SEED)
    val_set = open_set(synthetic / "val", True)
    if count(config, task, "val"):
        val_set = balanced(open_set(real / "val", True), val_set, _VALIDATED)
    values = {
        "LR": params.LR,
        "EPOCHS": VALIDATIONS,
        "VALIDATE_EVERY": -(-len(train_set) // config.BATCH_SIZE),
        "PATIENCE": VALIDATIONS,
    }
    return TrainingData(train_set, val_set, base.model_copy(update=values), config.BATCH_SIZE)


def finetune(
    module: TrainingModule,
    data: TrainingData,
    config: Config,
    task: str,
    load: Callable[[Path], Localizer | Recognizer],
    kept: float,
    code: Path,
) -> None:
    """Train, and write the mean of the weights before and after to out/models/<task>_finetuned.

    Args:
        module: the trained model and its loss.
        data: of ``mixed_data``.
        config: the parameters.
        task: ``localize`` or ``ocr``.
        load: opens a model's file.
        kept: share of the weights before.
        code: The module that calls this, as in ``train``.
    """
    trained = config.out("models", task) / "model.safetensors"
    feedback = config.prepared("feedback") / task
    depends = [trained, *(feedback / split / "meta.json" for split in ("train", "val"))]
    name = config.models.localizer if task == "localize" else config.models.reader
    train(module, data, config, task, name, code, depends)
    if module.trainer.is_global_zero:
        tuned = config.out("models", f"{task}_finetuned") / "model.safetensors"
        blend(load(tuned), load(trained), kept, tuned)


@torch.no_grad()
def blend(
    model: Localizer | Recognizer, trained: Localizer | Recognizer, kept: float, path: Path
) -> None:
    """Write the mean of the weights before and after fine-tuning.

    It keeps more of what was known than it loses of what was learnt (Wortsman et al. 2022: Robust
    fine-tuning of zero-shot models).

    Args:
        model: after.
        trained: before.
        kept: share of that.
        path: of the file.
    """
    for new, old in zip(model.parameters(), trained.parameters(), strict=True):
        new.lerp_(old, kept)
    save_model(model, path)
