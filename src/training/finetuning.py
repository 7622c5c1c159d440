"""Fine-tuning shared by both models: the data, the schedule and the weight interpolation."""

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
"""Number of evenly spaced validations in a fine-tuning run; each ends an epoch."""
_VALIDATED = 1000
"""Number of feedback samples, and of synthetic samples, that the validation curves are based on."""


def tunable(model: Model) -> Model:
    """Set a model to training mode, but freeze its batch norm statistics.

    Otherwise they would adapt to the mixture of samples, and the features that the model has already
    learnt would be scaled differently.
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
    """Return the mixture of feedback and synthetic samples, with the parameters to train on it.

    Args:
        config: Parameters of the pipeline.
        task: Task of the model, ``localize`` or ``ocr``.
        base: Parameters of the original training.
        params: Parameters that differ when fine-tuning.
        open_set: Function that opens a prepared set, given its folder and whether its samples are to be
            fixed, as they are for validation.
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
    """Fine-tune a model and write the interpolated weights to ``out/models/<task>_finetuned``.

    Args:
        module: The trained model and its loss.
        data: Data returned by ``mixed_data``.
        config: Parameters of the pipeline.
        task: Task of the model, ``localize`` or ``ocr``.
        load: Function that loads a model file.
        kept: Weight of the original parameters in the interpolation, from 0 to 1.
        code: Path of the calling module, as in ``train``.
    """
    trained = config.out("models", task) / "model.safetensors"
    feedback = config.prepared("feedback") / task
    depends = [trained, *(feedback / split / "meta.json" for split in ("train", "val"))]
    name = config.models.localizer if task == "localize" else config.models.recognizer
    train(module, data, config, task, name, code, depends)
    if module.trainer.is_global_zero:
        tuned = config.out("models", f"{task}_finetuned") / "model.safetensors"
        blend(load(tuned), load(trained), kept, tuned)


@torch.no_grad()
def blend(
    model: Localizer | Recognizer, trained: Localizer | Recognizer, kept: float, path: Path
) -> None:
    """Interpolate between the weights before and after fine-tuning, and write the result.

    Weight interpolation (WiSE-FT) retains more of the original abilities than it loses of what was
    learnt (Wortsman et al. 2022: Robust fine-tuning of zero-shot models).

    Args:
        model: The model after fine-tuning, changed in place.
        trained: The model before fine-tuning.
        kept: Weight of ``trained`` in the interpolation, from 0 to 1.
        path: File that the interpolated model is written to.
    """
    for new, old in zip(model.parameters(), trained.parameters(), strict=True):
        new.lerp_(old, kept)
    save_model(model, path)
