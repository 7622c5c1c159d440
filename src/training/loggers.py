"""Loggers for training metrics: DVCLive, TensorBoard and, optionally, Weights & Biases."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from dvclive.fabric import DVCLiveLogger as DVCLiveFabricLogger
from dvclive.lightning import DVCLiveLogger
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from ..config import Config
from ..core.errors import StageError
from .hardware import is_first
from .module import TrainingModule


class LiveLogger(DVCLiveLogger):
    """DVCLive's logger without its inspection of the call stack, which takes 60 ms each time."""

    def log_metrics(
        self,
        metrics: Mapping[str, int | float | str],
        step: int | None = None,
        sync: bool | None = False,
    ) -> None:
        # ``TrainingModule.write`` decides when to sync; DVCLive would guess it from the caller.
        DVCLiveFabricLogger.log_metrics(self, metrics, step, sync)


def loggers(runs: Path, start: int) -> list[Logger]:
    resume = start > 0
    if is_first():
        if resume:
            _rewind(runs, start)
        else:
            shutil.rmtree(runs / "tensorboard", ignore_errors=True)
    return [
        LiveLogger(dir=str(runs), dvcyaml=None, save_dvc_exp=False, resume=resume),
        TensorBoardLogger(
            str(runs), name="tensorboard", version="", purge_step=start + 1 if resume else None
        ),
    ]


def trackers(module: TrainingModule, config: Config, place: str) -> list[Logger]:
    """Return the Weights & Biases logger if params.yaml asks for it.

    Args:
        module: Module whose parameters are logged.
        config: Parameters of the pipeline.
        place: Name of the output folder, which is the job type that all runs of a kind share.

    Raises:
        StageError: Weights & Biases is not installed, or cannot start.
    """
    if config.tracker == "none":
        return []
    parameter = f"params.yaml: tracker: {config.tracker}:"
    try:
        project = os.environ.get("WANDB_PROJECT", "swiss-plate-reader")
        logger = WandbLogger(project=project, job_type=place)
    except ModuleNotFoundError as error:
        raise StageError(f"{parameter} not installed; run `make wandb`") from error
    try:
        # This starts the run, so that any error occurs now and not in the middle of training.
        logger.log_hyperparams(module.params.model_dump())
    except Exception as error:
        raise StageError(
            f"{parameter} cannot start: {error}. Run `wandb login`, or set WANDB_MODE=offline."
        ) from error
    return [logger]


def _rewind(runs: Path, step: int) -> None:
    """Drop what a killed run has logged after the step that it is resumed from.

    DVCLive writes in place, so the kill may have left an incomplete line or an incomplete summary.
    """
    for path in (runs / "plots" / "metrics").rglob("*.tsv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
        kept = [row for row in rows if all(row.values()) and int(row["step"]) <= step]
        if not kept:
            # DVCLive then writes the header again.
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
