"""Exponential moving average of the weights, which is what is validated and saved."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn

STATISTICS = "statistics_of_processes"
"""Key in a checkpoint for the batch norm statistics of all processes, shape ``(processes, values)``."""


class AveragedWeights(WeightAveraging):
    """Maintain and validate a moving average of the weights and the batch norm statistics.

    The average covers few steps early in training, so that a short run is not held back by its initial
    weights. Lightning's ``EMAWeightAveraging`` has a constant decay, updates parameter by parameter, and
    does not average the statistics of batch norm over processes before a validation.

    Each process has the statistics of its own batches, while Lightning saves those of the first process and
    gives them to all. So checkpoints of several processes contain those of each.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay
        self._restored: torch.Tensor | None = None

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

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        own = self._statistics(pl_module)
        if trainer.world_size > 1 and own:
            values = torch.cat([value.flatten() for value in own])
            checkpoint[STATISTICS] = trainer.strategy.all_gather(values).cpu()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._restored = checkpoint.get(STATISTICS)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: DistributedDataParallel starts with the first process's for all.
        if self._restored is not None:
            own = self._statistics(pl_module)
            values = self._restored[trainer.global_rank].to(own[0].device)
            parts = values.split([value.numel() for value in own])
            for value, part in zip(own, parts, strict=True):
                value.copy_(part.view_as(value))
            self._restored = None

    def _statistics(self, pl_module: pl.LightningModule) -> list[torch.Tensor]:
        """Return the buffers of the module and of the average that differ between processes."""
        average = [] if self._average_model is None else self._average_model.module.buffers()
        return [value for value in (*pl_module.buffers(), *average) if value.is_floating_point()]


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
