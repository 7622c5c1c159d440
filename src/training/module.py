"""Lightning module of a model with its loss, its metrics, its optimizer and its schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
import torch
from dvclive.lightning import DVCLiveLogger
from torch import Tensor

from ..core.errors import StageError
from ..models.base import Localizer, Recognizer
from .data import TrainingData
from .hardware import FLOAT32, Precision
from .optimizer import MuonAdamW

GRADIENT_NORM = 1.0
"""Norm that gradients are clipped to."""


class TrainingModule(pl.LightningModule, ABC):
    """Base class for training a model with its loss and its validation metrics.

    Args:
        model: The model to train.
        data: Data to train on; the module keeps only its sizes and parameters.
    """

    measure: str
    """Name of the metric that selects the best weights; higher is better."""

    def __init__(self, model: Localizer | Recognizer, data: TrainingData) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.params, self.batch_size = data.params, data.batch_size
        self.validation_count = data.validation_count
        self.steps_per_epoch = -(-data.train_count // data.batch_size)
        self.steps = data.params.EPOCHS * self.steps_per_epoch
        self.fingerprint: dict[str, str] = {}
        self.precision = Precision(FLOAT32)
        self._loss = torch.zeros(())
        self._gradient_norm = torch.zeros(())
        self._sums: dict[str, Tensor] = {}

    @abstractmethod
    def batch_loss(self, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar to minimise."""

    @abstractmethod
    def batch_sums(self, batch: Any) -> dict[str, Tensor]:
        """Return sums over a batch's samples, of any shape, that ``figures`` computes metrics from."""

    def figures(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the monitored metric and others to plot, from the sums over the whole validation set.

        By default, each sum is divided by the number of samples.
        """
        return {name: float(value) / self.validation_count for name, value in sums.items()}

    def to_input(self, images: Tensor) -> Tensor:
        """Convert uint8 images ``(N, H, W)`` to model input: float in [0, 1], shape ``(N, 1, H, W)``."""
        return images[:, None].float().div(255).contiguous(memory_format=torch.channels_last)

    # Training

    def on_train_start(self) -> None:
        # Not through ``write``: these values are constant and not a curve.
        metrics = {"name": self.precision.name, **self.precision.samples_per_second}
        for logger in self.loggers:
            if isinstance(logger, DVCLiveLogger) and self.trainer.is_global_zero:
                for name, value in metrics.items():
                    logger.experiment.log_metric(f"precision/{name}", value, plot=False)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Seed dropout by step and process only, so that a resumed run equals an uninterrupted one.
        rank = self.trainer.global_rank
        torch.manual_seed(self.params.SEED + self.global_step * self.trainer.world_size + rank)
        if self.global_step + 1 == self.steps:
            # Validate after the last step even if VALIDATE_EVERY does not divide the number of steps.
            self.trainer.val_check_batch = batch_idx + 1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.batch_loss(batch)
        self._loss = self._loss.to(loss.device) + loss.detach()
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self._gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_NORM)

    def mean_loss(self, steps: int) -> dict[str, float]:
        """Return the mean loss since the last call and the latest gradient norm, by their logged names.

        Args:
            steps: Number of steps since the last call.

        Raises:
            StageError: The loss is no longer finite.
        """
        loss = float(self._reduce(self._loss, "mean")) / steps
        self._loss = torch.zeros(())
        if not math.isfinite(loss):
            raise StageError(
                f"the loss is {loss} at step {self.global_step}: training has diverged. Lower "
                f"{type(self.params).__name__}.LR in params.py (now {self.params.LR})."
            )
        return {"train/loss": loss, "train/gradient_norm": float(self._gradient_norm)}

    def configure_optimizers(self) -> Any:
        optimizer = MuonAdamW(self, self.params.LR, self.params.WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Return the learning rate factor at a step: linear warm-up, then cosine decay to almost 0."""
        warmup = max(1, round(self.params.WARMUP * self.steps))
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))

    # Validation

    def on_validation_epoch_start(self) -> None:
        self._sums = {}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        for name, value in self.batch_sums(batch).items():
            self._sums[name] = self._sums.get(name, 0.0) + value.double()

    def on_validation_epoch_end(self) -> None:
        sums = {name: self._reduce(value, "sum") for name, value in self._sums.items()}
        metrics = {f"val/{name}": value for name, value in self.figures(sums).items()}
        self.log(f"val/{self.measure}", metrics[f"val/{self.measure}"], logger=False)
        self.write(metrics)

    def _reduce(self, value: Tensor, operation: str) -> Tensor:
        return self.trainer.strategy.reduce(value.to(self.device), reduce_op=operation)

    def write(self, metrics: dict[str, float]) -> None:
        """Pass metrics to the loggers, with the current step."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)
            if isinstance(logger, DVCLiveLogger) and self.trainer.is_global_zero:
                logger.experiment.sync()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fingerprint"] = self.fingerprint
        checkpoint["precision"] = asdict(self.precision)
