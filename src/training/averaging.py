"""The moving average of the weights, which is what is validated and kept."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn


class AveragedWeights(WeightAveraging):
    """The moving average of the weights and of batch norm's statistics; it is what is validated.

    Early on the average is over few steps, so that a short training is not held at its start.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # The module itself is moved to the GPU later: its average would stay in main memory.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        # In place of AveragedModel's own update, which counts on the GPU and waits for it.
        if self._average_model is not None and trainer.global_step > self._latest_update_step:
            update_average(
                self._average_model.module, pl_module, self._latest_update_step, self._decay
            )
            self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Each process has statistics of its own batches; the model that is measured has their mean.
        if self._average_model is not None and trainer.world_size > 1:
            for buffer in self._average_model.module.buffers():
                if buffer.is_floating_point():
                    buffer.copy_(trainer.strategy.reduce(buffer.clone(), reduce_op="mean"))
        super().on_validation_epoch_start(trainer, pl_module)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, steps: int, decay: float) -> None:
    """Move an average towards a module's parameters and buffers.

    Args:
        average: of the first ``steps`` steps; of none, it becomes a copy.
        module: after one step more.
        steps: that were averaged before.
        decay: of an average over many steps.
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
