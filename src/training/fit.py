"""Training of a model, from its data sets to its model file.

A training is a single pass over a stream of batches, validated at regular steps. A run that was killed
is resumed at the next call.
"""

from __future__ import annotations

import copy
import logging
import subprocess
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from ..config import Config
from ..core.errors import StageError
from ..datasets.batches import TrainingBatches
from .averaging import AveragedWeights
from .callbacks import OwnTermination, Progress, ResumedEarlyStopping
from .checkpoints import AtomicCheckpoints, ResumePoints, fingerprint, resume_point, say, write_best
from .data import TrainingData, one_thread
from .hardware import (
    Step,
    accelerator,
    check_launched,
    choose_precision,
    is_first,
    processes,
)
from .loggers import loggers, trackers
from .module import TrainingModule


def train(
    module: TrainingModule,
    data: TrainingData,
    config: Config,
    task: str,
    name: str,
    code: Path,
    tuned_by: Sequence[Path] = (),
    callbacks: Sequence[pl.Callback] = (),
) -> None:
    """Train a model and write its best weights to ``out/models/<task>/model.safetensors``.

    Args:
        module: The model and its loss.
        data: Data that the module was created with.
        config: Parameters of the pipeline.
        task: Task of the model, ``localize`` or ``ocr``.
        name: Name of the model in the registry.
        code: Path of the calling module. A checkpoint is resumed only if this module and everything it
            imports are unchanged.
        tuned_by: Files that fine-tuning depends on in addition to the task's own sets; empty for
            ordinary training. If given, the outputs get ``_finetuned`` appended to the task's name.
        callbacks: Further callbacks, called after those of the training but before checkpoints are written.

    Raises:
        StageError: The loss is no longer finite, a parameter does not fit the number of processes, or the
            processes of other nodes cannot be met.
    """
    _quiet()
    check_launched(config)
    local, nodes = processes(config)
    if module.batch_size % (local * nodes):
        raise StageError(
            f"params.py: BATCH_SIZE: {module.batch_size} is not divisible by the {local * nodes} "
            "processes set in params.yaml: trainer"
        )
    if data.validation_count < local * nodes:
        params = {"localize": "PrepareLocalizeParams", "ocr": "PrepareOCRParams"}[task]
        raise StageError(
            f"{config.prepared(task) / 'val'}: {data.validation_count} samples are fewer than the "
            f"{local * nodes} processes set in params.yaml: trainer. Raise {params}.MAX_IMAGES "
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
        # DVC keeps the folder: checkpoints of another run must not be mistaken for those of this one.
        for path in (last, best):
            path.unlink(missing_ok=True)
    one_thread()
    if point:
        module.precision = point.precision
    else:
        samples = module.batch_size // (local * nodes)
        module.precision = choose_precision(
            config, lambda: training_step(module, data, samples), samples
        )
    say(f"precision: {module.precision}")
    trainer = pl.Trainer(
        accelerator=device,
        devices=local,
        num_nodes=nodes,
        # Batch norm statistics are averaged before each validation instead of at each step. Without the
        # search for unused parameters, DistributedDataParallel would order the gradients anew after its
        # first step, and with that their sums over three processes or more: not so a resumed training's.
        strategy=DDPStrategy(broadcast_buffers=False, find_unused_parameters=True)
        if local * nodes > 1
        else "auto",
        precision=module.precision.name,  # type: ignore[arg-type]  # checked by Lightning
        max_epochs=1,
        max_steps=module.steps,
        val_check_interval=min(module.params.VALIDATE_EVERY, module.steps_per_epoch),
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=[*loggers(runs, data.start), *trackers(module, config, place)],
        plugins=[AtomicCheckpoints()],
        callbacks=[
            AveragedWeights(module.params.EMA_DECAY),
            Progress(module),
            OwnTermination(),
            ResumedEarlyStopping(
                f"val/{module.measure}",
                mode="max",
                patience=module.params.PATIENCE,
                check_on_train_epoch_end=False,
            ),
            *callbacks,
            ModelCheckpoint(
                checkpoints,
                filename="best",
                # There is too little feedback to select by, so fine-tuning keeps its last weights.
                monitor=None if tuned_by else f"val/{module.measure}",
                mode="max",
                save_top_k=1,
                save_on_train_epoch_end=False,
                enable_version_counter=False,
            ),
            # Must come after ModelCheckpoint; ResumePoints says why.
            ResumePoints(last),
        ],
    )
    try:
        trainer.fit(module, data, ckpt_path=last if data.start else None, weights_only=True)
    except BaseException:
        _end_launched(trainer)
        raise
    if trainer.is_global_zero:
        write_best(module, best, config.out("models", place) / "model.safetensors")
        # A finished run is not resumed: the next one starts from scratch.
        last.unlink(missing_ok=True)


def _end_launched(trainer: pl.Trainer) -> None:
    """End the processes that Lightning has launched for the other devices; it does so at Ctrl-C only.

    They may wait for this one in a collective, in which no other signal is handled. They write nothing.
    """
    launched: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
    processes = launched.copy()
    # Lightning watches this list: once one of them has failed, it kills this process, too.
    launched.clear()
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()


def training_step(module: TrainingModule, data: TrainingData, samples: int) -> Step:
    """Return a training step for timing, which works on a copy of the module.

    Args:
        module: The model and its loss, which are not changed.
        data: Data that the module is trained on.
        samples: Number of samples in the batch, which is the same for each step.
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


def _quiet() -> None:
    """Hide Lightning's messages about intended behaviour, but keep its warnings about real problems."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*your dataloader is not resumable.*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*treespec, LeafSpec.*",
        # Batch norm layers are in evaluation mode while a model is fine-tuned.
        ".*eval mode at the start of training.*",
        # What is measured has been gathered from all processes.
        ".*sync_dist=True.*",
        # Lightning's own calls of PyTorch.
        ".*all_gather is deprecated.*",
    ):
        warnings.filterwarnings("ignore", message)
