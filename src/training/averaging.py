"""Exponential moving average of the weights, which is what is validated and saved."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn


class AveragedWeights(WeightAveraging):
    """Maintain and validate a moving average of the weights and the batch norm statistics.

    The average covers few steps early in training, so that a short run is not held back by its initial
    weights. Lightning's ``EMAWeightAveraging`` has a constant decay, updates parameter by parameter, and
    does not average the statistics of batch norm over processes before a validation.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The module itself is moved to the GPU later; without this, its average would stay on the CPU.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        # Replaces AveragedModel's own update, whose step counter on the GPU forces a synchronisation.
        if self._average_model is not None and trainer.global_step > self._latest_update_step:
            update_average(
                self._average_model.module, pl_module, self._latest_update_step, self._decay
            )
            self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Each process has the statistics of its own batches; validate with their mean.
        if self._average_model is not None and trainer.world_size > 1:
            for buffer in self._average_model.module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))
        super().on_validation_epoch_start(trainer, pl_module)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, steps: int, decay: float) -> None:
    """Move an average towards a module's parameters and buffers.

    Args:
        average: Average over the first ``steps`` steps, updated in place. It becomes a copy of the
            module if ``steps`` is 0.
        module: The module after one more step.
        steps: Number of steps that have been averaged so far.
        decay: Decay that the average reaches after many steps.
    """
    weight = 1 - min(decay, (1 + steps) / (10 + steps)) if steps else 1.0
    pairs = list(
        zip(
            [*average.parameters(), *average.buffers()],
            [*module.parameters(), *module.buffers()],
            strict=True,
        )
    )
    floats = [pair for pair in pairs if pair[0].is_floating_point()]
    torch._foreach_lerp_([old for old, _ in floats], [new for _, new in floats], weight)
    for old, new in pairs:
        if not old.is_floating_point():
            old.copy_(new)
