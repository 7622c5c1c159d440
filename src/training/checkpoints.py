"""Writing checkpoints, and resuming a killed training run from them.

Each validation writes ``last.ckpt``, from which a killed run is resumed, and also ``best.ckpt`` if the
monitored metric is the best so far. The model file is made from the latter.
"""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from ..config import Config
from ..core.dependencies import closure
from ..core.errors import StageError
from ..models.registry import save_model
from .callbacks import LOG_EVERY, validates
from .hardware import Precision, is_first, processes
from .module import TrainingModule

CHECKPOINT_SECONDS = 60.0
"""Most training time that a killed run loses, even if validations are hours apart."""
_DAMAGED = (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError)
"""Exceptions raised on reading a checkpoint that is damaged, missing or from another program."""


class ResumePoints(Checkpoint):
    """Write ``last.ckpt`` after each validation, and once a minute in between.

    It is a ``Checkpoint`` because Lightning calls these callbacks last and in the given order:
    ``last.ckpt`` must contain the best score of the preceding validation, whose ``best.ckpt`` has been
    written by then.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._written = path, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        # The broadcast between processes costs time, so check only once in a while. If a validation
        # follows, the checkpoint is written after it; otherwise Lightning would skip it on resuming.
        if trainer.global_step % LOG_EVERY or validates(trainer):
            return
        late = time.monotonic() - self._written > CHECKPOINT_SECONDS
        if trainer.strategy.broadcast(late):
            self._write(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._path)
        self._written = time.monotonic()


class AtomicCheckpoints(TorchCheckpointIO):
    """Write checkpoints atomically, through a temporary file in the same folder."""

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


def write_best(module: TrainingModule, best: Path, path: Path) -> None:
    remedy = f"Remove {best.parent} and train again."
    try:
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        found, state = checkpoint["fingerprint"], checkpoint["state_dict"]
    except _DAMAGED as error:
        raise StageError(
            f"{best}: the best weights are missing or damaged ({type(error).__name__}). {remedy}"
        ) from error
    if found != module.fingerprint:
        raise StageError(f"{best}: the weights are from another training run. {remedy}")
    weights = {key.removeprefix("model."): value for key, value in state.items()}
    module.model.load_state_dict(weights)
    save_model(module.model, path)


def fingerprint(
    module: TrainingModule,
    config: Config,
    task: str,
    name: str,
    code: Path,
    tuned_by: Sequence[Path] = (),
) -> dict[str, str]:
    """Return, by part, what a checkpoint must have in common with this run to be resumed from."""
    parameters = {
        "model": module.model.parameters_of_class,
        "training": module.params.model_dump(),
        "batch_size": module.batch_size,
    }
    # The precision as params.yaml names it: with auto, a resumed run keeps the one it started with.
    # Weights depend on the number of processes, but not on which of them share a machine.
    trainer = [config.trainer.precision, math.prod(processes(config))]
    # Each set's meta.json has a digest of its images and labels, which are gigabytes in size.
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
    """The point at which a killed training run is resumed.

    Attributes:
        step: Number of steps taken so far, at least 1.
        precision: Precision that the run started with, and keeps.
    """

    step: int
    precision: Precision


def resume_point(path: Path, wanted: dict[str, str]) -> ResumePoint | None:
    """Read the checkpoint of a killed training run, or print why it cannot be resumed from.

    Args:
        path: Path of the checkpoint.
        wanted: Fingerprint that the checkpoint must have.

    Returns:
        The point to resume at, or None if there is no usable checkpoint.
    """
    if not path.is_file():
        return None
    anew = f"{path}: cannot resume, training starts from scratch:"
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = dict(checkpoint["fingerprint"])
        if found.get("model") != wanted["model"]:
            say(f"{anew} it is a checkpoint of {found.get('model')}, not of {wanted['model']}")
            return None
        if different := [part for part in wanted if found.get(part) != wanted[part]]:
            say(f"{anew} it was written with different {' and '.join(different)}")
            return None
        step, precision = int(checkpoint["global_step"]), Precision(**checkpoint["precision"])
    except _DAMAGED as error:
        say(f"{anew} it is damaged or was written by another program ({type(error).__name__})")
        return None
    say(f"{path}: resumed at step {step}")
    return ResumePoint(step, precision)


def say(text: str) -> None:
    if is_first():
        print(text, file=sys.stderr, flush=True)
