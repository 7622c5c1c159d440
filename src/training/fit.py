"""What both trainings share: optimizer, averaged weights, loggers, resuming, the best model.

A whole training is one run of batches, validated every so many steps. Each validation writes
``last.ckpt``, with which a killed training goes on where it was, and ``best.ckpt`` where the measure
is the best so far; the model's file is made of the latter.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import json
import logging
import math
import os
import pickle
import shutil
import sys
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import torch
from dvclive.fabric import DVCLiveLogger as DVCLiveFabricLogger
from dvclive.lightning import DVCLiveLogger
from lightning.pytorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..config import Config
from ..config.training import TrainLocalizeParams, TrainOCRParams
from ..core.dependencies import closure
from ..core.errors import StageError
from ..core.machine import available_cores
from ..datasets.batches import TrainingBatches, ValidationBatches, as_it_is
from ..models.base import Localizer, Reader
from ..models.registry import save_model
from .hardware import FLOAT32, Precision, Step, accelerator, choose_precision, is_first, processes

LOG_EVERY = 10
GRADIENT_NORM = 1.0
# More would cost time and change no choice: of 5000 samples, 99.8 % stands with an error of 0.06 %.
VALIDATION_SAMPLES = 5000
# A killed training loses this much at most, also where validations are hours apart.
CHECKPOINT_SECONDS = 60.0

# What reading a checkpoint raises that is damaged, missing or of another program.
_DAMAGED = (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError)

TrainParams = TrainLocalizeParams | TrainOCRParams


class TrainingData(pl.LightningDataModule):
    """Both sets as batches. Not part of ``TrainingModule``: averaging copies all that it holds.

    Args:
        train_set: makes batches of ``Picked``.
        val_set: likewise; the first 5000 of its samples choose the best weights.
        params: of the stage.
        batch_size: of all processes together.
    """

    def __init__(
        self,
        train_set: Dataset[Any],
        val_set: Dataset[Any],
        params: TrainParams,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.trainer: pl.Trainer  # Loaders are asked for by one, never without.
        self.train_set, self.val_set = train_set, val_set
        self.params, self.batch_size = params, batch_size
        self.train_count: int = len(train_set)  # type: ignore[arg-type]  # sized
        self.validation_count = min(len(val_set), VALIDATION_SAMPLES)  # type: ignore[arg-type]  # sized
        self.start = 0
        """Steps that were taken before."""

    def train_dataloader(self) -> DataLoader[Any]:
        batches = TrainingBatches(
            self.train_count,
            self.batch_size,
            self.params.EPOCHS,
            self.params.SEED,
            self.start,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return self._loader(self.train_set, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        world = self.trainer.world_size
        batches = ValidationBatches(
            self.validation_count, self.batch_size // world, self.trainer.global_rank, world
        )
        return self._loader(self.val_set, batches)

    def _loader(
        self, dataset: Dataset[Any], batches: TrainingBatches | ValidationBatches
    ) -> DataLoader[Any]:
        cuda = self.trainer.strategy.root_device.type == "cuda"
        # Without a GPU, training needs every core, and a batch is made in a few milliseconds.
        workers = min(8, available_cores() // self.trainer.num_devices) if cuda else 0
        return DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # a batch is Picked, not a list
            collate_fn=as_it_is,
            num_workers=workers,
            pin_memory=cuda,
            persistent_workers=workers > 0,
            worker_init_fn=_one_thread,
        )


class TrainingModule(pl.LightningModule, ABC):
    """A model with its loss and measure.

    Args:
        model: what is trained.
        data: what it is trained on; only its sizes and parameters are kept.
    """

    measure: str
    """Name of the figure that chooses the best weights: the higher the better."""

    def __init__(self, model: Localizer | Reader, data: TrainingData) -> None:
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
        """The scalar to minimise."""

    @abstractmethod
    def batch_sums(self, batch: Any) -> dict[str, Tensor]:
        """Sums over a batch's samples, of any shape, that ``figures`` makes its figures of."""

    def figures(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """The measure and what else is worth a plot, of the sums over the whole validation set.

        By default each sum by sample.
        """
        return {name: float(value) / self.validation_count for name, value in sums.items()}

    def pictures(self, images: Tensor) -> Tensor:
        """``(N, H, W)`` uint8 to ``(N, 1, H, W)`` float in [0, 1]."""
        return images[:, None].float().div(255).contiguous(memory_format=torch.channels_last)

    # Training

    def on_train_start(self) -> None:
        # Not by ``write``: it is known once and is no curve.
        metrics = {"name": self.precision.name, **self.precision.samples_per_second}
        for logger in self.loggers:
            if isinstance(logger, DVCLiveLogger) and self.trainer.is_global_zero:
                for name, value in metrics.items():
                    logger.experiment.log_metric(f"precision/{name}", value, plot=False)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout of a step depends on the step alone, so that a resumed training is the same one.
        rank = self.trainer.global_rank
        torch.manual_seed(self.params.SEED + self.global_step * self.trainer.world_size + rank)
        if self.global_step + 1 == self.steps:
            # The last step is validated too, also where VALIDATE_EVERY does not divide the steps.
            self.trainer.val_check_batch = batch_idx + 1

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.batch_loss(batch)
        self._loss = self._loss.to(loss.device) + loss.detach()
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        self._gradient_norm = torch.nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_NORM)

    def mean_loss(self, steps: int) -> dict[str, float]:
        """Loss and gradient since the last call, which was ``steps`` ago, as they are logged.

        Raises:
            StageError: the loss is not a finite number any more.
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
        decayed = [value for value in self.parameters() if value.ndim > 1]
        others = [value for value in self.parameters() if value.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": self.params.WEIGHT_DECAY},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=self.params.LR,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate(self, step: int) -> float:
        """Share of the highest learning rate: a line up, then a cosine down to almost nothing."""
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
        """Hand metrics to the loggers, by the step."""
        for logger in self.loggers:
            logger.log_metrics(metrics, step=self.global_step)
            if isinstance(logger, DVCLiveLogger) and self.trainer.is_global_zero:
                logger.experiment.sync()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["fingerprint"] = self.fingerprint
        checkpoint["precision"] = asdict(self.precision)


class _LiveLogger(DVCLiveLogger):
    """DVCLive's logger without its look at the stack, which takes 60 ms each time."""

    def log_metrics(
        self,
        metrics: Mapping[str, int | float | str],
        step: int | None = None,
        sync: bool | None = False,
    ) -> None:
        # ``write`` says when to sync; DVCLive's own would guess it by who has called.
        DVCLiveFabricLogger.log_metrics(self, metrics, step, sync)


class _AveragedWeights(WeightAveraging):
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


class _EarlyStopping(EarlyStopping):
    """Also ends a training that was killed after its last validation and is resumed from it."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _validates(trainer: pl.Trainer) -> bool:
    """Whether a validation follows the step that was taken just now."""
    return trainer.global_step % int(trainer.val_check_batch or 1) == 0


class _Progress(pl.Callback):
    """The bar, with samples a second and the time left; loss, rate and throughput in the logs."""

    def __init__(self, module: TrainingModule) -> None:
        self._module = module

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._logged, self._since = self._module.global_step, time.monotonic()
        self._bar = tqdm(
            total=self._module.steps * self._module.batch_size,
            initial=self._module.global_step * self._module.batch_size,
            unit=" samples",
            desc="train",
            # A log gets a line now and then, a terminal a bar that moves.
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
            disable=not trainer.is_global_zero,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any, **__: Any) -> None:
        self._bar.update(self._module.batch_size)
        step = self._module.global_step
        # Before each validation too, so that no weights are kept whose loss is no number.
        if step % LOG_EVERY and not _validates(trainer):
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
        # Validation is no training: its time is not counted.
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


class _ResumePoints(Checkpoint):
    """Writes ``last.ckpt`` after each validation and once a minute between two.

    It is a ``Checkpoint`` because Lightning calls those last and in their order: ``last.ckpt`` must
    know the best score of the validation before it, whose ``best.ckpt`` is then written already.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._written = path, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        # Processes ask each other, which costs: now and then is enough. Where a validation
        # follows, the checkpoint follows it, or Lightning would skip the validation when resuming.
        if trainer.global_step % LOG_EVERY or _validates(trainer):
            return
        late = time.monotonic() - self._written > CHECKPOINT_SECONDS
        if trainer.strategy.broadcast(late):
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._path)
        self._written = time.monotonic()


class _AtomicCheckpoints(TorchCheckpointIO):
    """A checkpoint appears when all of it is written, beside it and not on another disk before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(checkpoint, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            temporary.unlink(missing_ok=True)
            raise StageError(
                f"{path}: cannot write the checkpoint: {error}. Free some space (`dvc gc -w` drops "
                "unused cache)."
            ) from error


def train(
    module: TrainingModule,
    data: TrainingData,
    config: Config,
    task: str,
    name: str,
    code: Path,
    tuned_by: Sequence[Path] = (),
) -> None:
    """Train a model and write its best weights to ``out/models/<task>/model.safetensors``.

    Args:
        module: the model and its loss.
        data: what the module was made for.
        config: the parameters.
        task: ``localize`` or ``ocr``.
        name: of the model in the registry.
        code: The module that calls this: a checkpoint of other code than it imports is not resumed from.
        tuned_by: of a model that is fine-tuned, the files that this depends on beside the task's own
            sets; what is written gets ``_finetuned`` behind the task's name.

    Raises:
        StageError: the loss is no number any more, or a parameter does not fit the processes.
    """
    _quiet()
    local, nodes = processes(config)
    if module.batch_size % (local * nodes):
        raise StageError(
            f"params.py: BATCH_SIZE: {module.batch_size} is not divisible by the "
            f"{local * nodes} processes of params.yaml: trainer"
        )
    if data.validation_count < local * nodes:
        params = {"localize": "PrepareLocalizeParams", "ocr": "PrepareOCRParams"}[task]
        raise StageError(
            f"{config.prepared(task) / 'val'}: its {data.validation_count} samples are fewer than "
            f"the {local * nodes} processes of params.yaml: trainer. Raise {params}.MAX_IMAGES "
            f"in params.py, or lower {params}.TRAIN_SPLIT."
        )
    device = accelerator(config)
    place = f"{task}_finetuned" if tuned_by else task
    checkpoints, runs = config.out("checkpoints", place), config.out("runs", place)
    last, best = checkpoints / "last.ckpt", checkpoints / "best.ckpt"
    module.fingerprint = fingerprint(module, config, task, name, code, tuned_by)
    point = resume_point(last, module.fingerprint)
    data.start = point.step if point else 0
    if data.start == 0 and is_first():
        # DVC keeps the folder: what is of another training must not be taken for this one's.
        for path in (last, best):
            path.unlink(missing_ok=True)
    _one_thread()
    if point:
        module.precision = point.precision
    else:
        samples = module.batch_size // (local * nodes)
        module.precision = choose_precision(
            config, lambda: training_step(module, data, samples), samples
        )
    _say(f"precision: {module.precision}")
    trainer = pl.Trainer(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        # Statistics of batch norm are averaged before each validation instead of at each step.
        strategy=DDPStrategy(broadcast_buffers=False) if local * nodes > 1 else "auto",
        precision=module.precision.name,  # type: ignore[arg-type]  # checked by Lightning
        max_epochs=1,
        max_steps=module.steps,
        val_check_interval=min(module.params.VALIDATE_EVERY, module.steps_per_epoch),
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=[*_loggers(runs, data.start), *_trackers(module, config, place)],
        plugins=[_AtomicCheckpoints()],
        callbacks=[
            _AveragedWeights(module.params.EMA_DECAY),
            _Progress(module),
            _EarlyStopping(
                f"val/{module.measure}",
                mode="max",
                patience=module.params.PATIENCE,
                check_on_train_epoch_end=False,
            ),
            ModelCheckpoint(
                checkpoints,
                filename="best",
                # Feedback is too little to choose by: of a fine-tuning, the end is the best.
                monitor=None if tuned_by else f"val/{module.measure}",
                mode="max",
                save_top_k=1,
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
            # After the best one: see there.
            _ResumePoints(last),
        ],
    )
    trainer.fit(module, data, ckpt_path=last if data.start else None, weights_only=True)
    if trainer.is_global_zero:
        _write_best(module, best, config.out("models", place) / "model.safetensors")
        # A finished training is not gone on with: the next one starts anew.
        last.unlink(missing_ok=True)


def training_step(module: TrainingModule, data: TrainingData, samples: int) -> Step:
    """Make a step of a training that changes a copy of the module, to be timed.

    Args:
        module: The model and its loss; it stays as it is.
        data: The sets that it is trained on.
        samples: Number of samples in the step's batch, which is the same each time.
    """
    trained = copy.deepcopy(module)
    optimizer = trained.configure_optimizers()["optimizer"]
    picked = next(iter(TrainingBatches(data.train_count, samples, 1, data.params.SEED)))

    def step(context: AbstractContextManager[object]) -> None:
        batch = data.train_set.__getitems__(picked)  # type: ignore[attr-defined]  # makes whole batches
        with context:
            loss = trained.batch_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        trained.configure_gradient_clipping(optimizer)
        optimizer.step()

    return step


def _write_best(module: TrainingModule, best: Path, path: Path) -> None:
    remedy = f"Remove {best.parent} and train again."
    try:
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        found, state = checkpoint["fingerprint"], checkpoint["state_dict"]
    except _DAMAGED as error:
        raise StageError(
            f"{best}: the best weights are missing or damaged ({type(error).__name__}). {remedy}"
        ) from error
    if found != module.fingerprint:
        raise StageError(f"{best}: the weights are of another training. {remedy}")
    weights = {key.removeprefix("model."): value for key, value in state.items()}
    module.model.load_state_dict(weights)
    save_model(module.model, path)


def _loggers(runs: Path, start: int) -> list[Logger]:
    resume = start > 0
    if is_first():
        if resume:
            _rewind(runs, start)
        else:
            shutil.rmtree(runs / "tensorboard", ignore_errors=True)
    return [
        _LiveLogger(dir=str(runs), dvcyaml=None, save_dvc_exp=False, resume=resume),
        TensorBoardLogger(
            str(runs), name="tensorboard", version="", purge_step=start + 1 if resume else None
        ),
    ]


def _trackers(module: TrainingModule, config: Config, place: str) -> list[Logger]:
    """Weights & Biases, if params.yaml asks for it; runs of a kind share the name of their place.

    Raises:
        StageError: it is not installed, or cannot start.
    """
    if config.tracker == "none":
        return []
    parameter = f"params.yaml: tracker: {config.tracker}:"
    try:
        project = os.environ.get("WANDB_PROJECT", "swiss-plate-reader")
        logger = WandbLogger(project=project, job_type=place)
    except ModuleNotFoundError as error:
        raise StageError(f"{parameter} it is not installed; `make wandb` does that") from error
    try:
        # Now, and not in the middle of the training.
        logger.log_hyperparams(module.params.model_dump())
    except Exception as error:
        raise StageError(
            f"{parameter} cannot start: {error}. Call `wandb login`, or set WANDB_MODE=offline."
        ) from error
    return [logger]


def _rewind(runs: Path, step: int) -> None:
    """Drop what a killed training had plotted after the step that it is resumed from.

    DVCLive writes in place, so that the kill may have left half a line, or half a summary.
    """
    for path in (runs / "plots" / "metrics").rglob("*.tsv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        kept = [row for row in rows if all(row.values()) and int(row["step"]) <= step]
        if not kept:
            # DVCLive writes its heading again.
            path.unlink()
            continue
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
    summary = runs / "metrics.json"
    try:
        json.loads(summary.read_text())
    except (FileNotFoundError, ValueError):
        summary.write_text(json.dumps({"step": step}))


# Resuming


def fingerprint(
    module: TrainingModule,
    config: Config,
    task: str,
    name: str,
    code: Path,
    tuned_by: Sequence[Path] = (),
) -> dict[str, str]:
    """What a checkpoint must share with this training to be resumed from, part by part."""
    parameters = {
        "model": module.model.parameters_of_class,
        "training": module.params.model_dump(),
        "batch_size": module.batch_size,
    }
    # The precision that params.yaml names: with auto, a resumed training keeps what it began with.
    trainer = [config.trainer.precision, *processes(config)]
    # Each set's meta.json has a digest of its pictures and labels, which are gigabytes.
    sets = [config.prepared(task) / split / "meta.json" for split in ("train", "val")]
    return {
        "model": name,
        "parameters": hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest(),
        "trainer": json.dumps(trainer),
        "data": _digest([*sets, *tuned_by]),
        "code": _digest(closure(code)),
    }


def _digest(files: list[Path]) -> str:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


@dataclass(frozen=True)
class ResumePoint:
    """Where a killed training goes on.

    Attributes:
        step: Number of steps that were taken, at least 1.
        precision: What it began with, and keeps.
    """

    step: int
    precision: Precision


def resume_point(path: Path, wanted: dict[str, str]) -> ResumePoint | None:
    """Read the checkpoint of a killed training, or say why it is not resumed from.

    Args:
        path: The checkpoint; None is returned where there is none.
        wanted: Fingerprint that it has to have.
    """
    if not path.is_file():
        return None
    anew = f"{path}: not resumed, training starts anew:"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = dict(checkpoint["fingerprint"])
        if found.get("model") != wanted["model"]:
            _say(f"{anew} it is a checkpoint of {found.get('model')}, not of {wanted['model']}")
            return None
        if different := [part for part in wanted if found.get(part) != wanted[part]]:
            _say(f"{anew} other {' and '.join(different)} than now")
            return None
        step, precision = int(checkpoint["global_step"]), Precision(**checkpoint["precision"])
    except _DAMAGED as error:
        _say(f"{anew} it is damaged or of another program ({type(error).__name__})")
        return None
    _say(f"{path}: resumed at step {step}")
    return ResumePoint(step, precision)


def _say(text: str) -> None:
    if is_first():
        print(text, file=sys.stderr, flush=True)


def _one_thread(_: int = 0) -> None:
    # Crops are small: OpenCV's threads would only wait for each other and for torch's.
    cv2.setNumThreads(0)


def _quiet() -> None:
    """Hide Lightning's remarks on what is meant as it is; its warnings of trouble stay."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*treespec, LeafSpec.*",
        # Statistics of batch norm, when a model is fine-tuned.
        ".*eval mode at the start of training.*",
    ):
        warnings.filterwarnings("ignore", message)
