"""Callbacks for training: progress, logged metrics, early stopping and termination."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping
from tqdm import tqdm

from .module import TrainingModule

LOG_EVERY = 10
"""Number of steps between two log entries."""


class ResumedEarlyStopping(EarlyStopping):
    """Stop early, also when a run that was killed after its last validation is resumed."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def validates(trainer: pl.Trainer) -> bool:
    """Return whether a validation follows the step that has just been taken."""
    return trainer.global_step % int(trainer.val_check_batch or 1) == 0


class OwnTermination(pl.Callback):
    """Let SIGTERM end each process as it did before the training.

    Lightning's handler broadcasts the signal among all processes. That never ends, or disturbs what they do
    together, where one of them waits for the gradients of another (Lightning's issue 20806).
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, _: pl.Trainer, __: pl.LightningModule) -> None:
        # Lightning, too, handles signals in the main thread only.
        if threading.current_thread() is threading.main_thread() and self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)


class Progress(pl.Callback):
    """Show a progress bar, and log the loss, the learning rate and the throughput.

    All figures of a step are written together, under names that do not depend on the optimizer.
    Lightning's ``LearningRateMonitor`` names a curve for each parameter group, and its
    ``ThroughputMonitor`` waits for the GPU at every batch.
    """

    def __init__(self, module: TrainingModule) -> None:
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._logged, self._since = self._module.global_step, time.monotonic()
        self._bar = tqdm(
            total=self._module.steps * self._module.batch_size,
            initial=self._module.global_step * self._module.batch_size,
            unit=" samples",
            desc="train",
            # A terminal gets a moving bar, a log file only an occasional line.
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self._bar.update(self._module.batch_size)
        step = self._module.global_step
        # Also before each validation, so that no weights with a non-finite loss are saved.
        if step % LOG_EVERY and not validates(trainer):
            return
        metrics = self._module.mean_loss(step - self._logged)
        seconds = time.monotonic() - self._since
        metrics["train/samples_per_second"] = (
            (step - self._logged) * self._module.batch_size / seconds
        )
        metrics["train/learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        metrics["train/epoch"] = step / self._module.steps_per_epoch
        self._module.write(metrics)
        self._logged, self._since = step, time.monotonic()
        self._bar.set_postfix_str(f"loss {metrics['train/loss']:.4f}", refresh=False)

    def on_validation_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        # The throughput covers training only, so the time spent in validation is not counted.
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        value = float(trainer.callback_metrics[f"val/{self._module.measure}"])
        if trainer.is_global_zero:
            self._bar.write(
                f"step {self._module.global_step}: val {self._module.measure} {value:.4f}"
            )
        self._since += time.monotonic() - self._paused

    def on_train_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._bar.close()
