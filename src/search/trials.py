"""Trials of a search: trainings of a network, each in a folder of its own, compared by Ray Tune.

A search is a folder::

    search.json       what is searched (manifest.py)
    tune/             Ray Tune's state
    trials/NAME/      of each trial: values.json, log.txt, and what the training stage writes below out/
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import TensorBoardLogger
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import BasicVariantGenerator
from tqdm import tqdm

from ..config import Config
from ..core.errors import StageError, UserError
from ..training.hardware import FLOAT32
from ..training.localizer import LocalizerTraining
from ..training.recognizer import RecognizerTraining
from .spaces import Choice, Range, Space, rounded, values_now, with_values
from .train import STAGES

MEASURES = {"localize": LocalizerTraining.measure, "ocr": RecognizerTraining.measure}
"""Metric that trials are compared by, by task; higher is better."""
REDUCTION = 3
"""One of so many trials goes on at each rung of ASHA (Li et al., A system for massively parallel
hyperparameter tuning, 2020)."""
LOST_NODES = 5
"""Number of times that a trial is started again after its node was lost."""
_STATE, _TRIALS, _VALUES = "tune", "trials", "values.json"
_STEP, _ERROR = "step", "error"


@dataclass(frozen=True)
class Best:
    """The best trial of a search.

    Attributes:
        name: Its folder's name.
        values: Its values by the names of parameters.
        measure: Name of the metric.
        value: Largest value of the metric over its validations.
        first: The same of the first trial, which has the values of params.py; NaN if it failed.
        trials: Number of trials.
        failures: Message of each trial that failed, by its name.
    """

    name: str
    values: dict[str, Any]
    measure: str
    value: float
    first: float
    trials: int
    failures: dict[str, str]


def search(config: Config, task: str, space: Space, trials: int, folder: Path, gpu: bool) -> Best:
    """Run a search, or what is left of it, on the cluster that this process is connected to.

    Args:
        config: Parameters of the pipeline.
        task: Task of the network.
        space: Ranges of parameters.
        trials: Number of trials. The first one has the values of params.py.
        folder: Absolute path of the search, on storage that all nodes share.
        gpu: Whether each trial gets a GPU instead of a core.

    Raises:
        StageError: No trial succeeded.
    """
    measure = MEASURES[task]
    _quiet()
    trainable = tune.with_resources(
        tune.with_parameters(_trial, config=_of_trials(config, gpu), task=task, folder=folder),
        {"CPU": 1, "GPU": 1} if gpu else {"CPU": 1},
    )
    state = folder / _STATE
    if tune.Tuner.can_restore(str(state)):
        tuner = tune.Tuner.restore(str(state), trainable)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={name: _domain(values) for name, values in space.items()},
            tune_config=tune.TuneConfig(
                metric=measure,
                mode="max",
                num_samples=trials,
                reuse_actors=True,
                trial_dirname_creator=_id,
                search_alg=BasicVariantGenerator(
                    points_to_evaluate=[values_now(config, space)],
                    random_state=_seed(config, task),
                ),
                scheduler=_scheduler(config, task),
            ),
            run_config=tune.RunConfig(
                name=_STATE,
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=LOST_NODES),
                callbacks=[JsonLoggerCallback(), _Progress(trials, measure, folder)],
                verbose=0,
            ),
        )
    grid = tuner.fit()
    return _best([grid[number] for number in range(len(grid))], measure)


def _quiet() -> None:
    """Let Tune write its state often, no tables, and no TensorBoard events beside those of the trials.

    Ctrl-C ends the search as it ends everything else here, instead of calling all trials complete.
    """
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "5"
    logging.getLogger("ray.tune").setLevel(logging.ERROR)


def _id(trial: Trial) -> str:
    return str(trial.trial_id)


def _of_trials(config: Config, gpu: bool) -> Config:
    """Return the parameters of all trials: a process each, all with the same precision.

    Trials beside each other would disturb each other's timings, from which ``auto`` concludes on CPUs.
    """
    trainer = {"devices": 1, "num_nodes": 1, "accelerator": "cuda" if gpu else "cpu"}
    if not gpu and config.trainer.precision == "auto":
        trainer["precision"] = FLOAT32
    return config.model_copy(
        update={
            "trainer": config.trainer.model_copy(update=trainer),
            "prepared_data_path": str(Path(config.prepared_data_path).absolute()),
        }
    )


def _domain(values: Range | Choice) -> Any:
    if isinstance(values, Choice):
        return tune.choice(list(values.values))
    draw = tune.loguniform if values.log else tune.uniform
    return draw(values.low, values.high)


def _seed(config: Config, task: str) -> int:
    seeds = {"localize": config.TrainLocalizeParams.SEED, "ocr": config.TrainOCRParams.SEED}
    # NumPy's generator, which Tune draws from, takes 32 bits.
    return seeds[task] % 2**32


def _scheduler(config: Config, task: str) -> ASHAScheduler:
    """Return ASHA with rungs at a ninth and a third of the training's steps."""
    steps = _steps(config, task)
    return ASHAScheduler(
        time_attr=_STEP,
        max_t=steps,
        grace_period=max(1, steps // REDUCTION**2),
        reduction_factor=REDUCTION,
        stop_last_trials=False,
    )


def _steps(config: Config, task: str) -> int:
    epochs = {"localize": config.TrainLocalizeParams.EPOCHS, "ocr": config.TrainOCRParams.EPOCHS}
    count = json.loads((config.prepared(task) / "train" / "meta.json").read_text())["count"]
    return int(epochs[task] * -(-count // config.BATCH_SIZE))


# In the processes of the trials


class _Report(pl.Callback):
    """Tell Tune the best metric so far after each validation."""

    def __init__(self, measure: str) -> None:
        self._measure = measure

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # ASHA may end the trial now.
                logger.experiment.flush()
        value = float(trainer.callback_metrics[f"val/{self._measure}"])
        # That of the validations before this one, also of those before the trial was started again.
        best = getattr(trainer.checkpoint_callback, "best_model_score", None)
        value = value if best is None else max(value, float(best))
        tune.report({self._measure: value, _STEP: trainer.global_step})


def _trial(drawn: dict[str, Any], config: Config, task: str, folder: Path) -> None:
    """Train with drawn values in a folder of its own, and report the metric to Tune."""
    values, measure = rounded(drawn), MEASURES[task]
    own = folder / _TRIALS / tune.get_context().get_trial_id()
    own.mkdir(parents=True, exist_ok=True)
    (own / _VALUES).write_text(json.dumps(values, indent=2), encoding="utf-8")
    config = with_values(config, values).model_copy(update={"out_path": str(own / "out")})
    with (
        (own / "log.txt").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            STAGES[task](config, [_Report(measure)])
        except UserError as error:
            # Such as a loss that diverges. Tune would try it again, as it does where a node is lost.
            tune.report({measure: 0.0, _STEP: _steps(config, task), _ERROR: str(error)})


# In the process of the search


class _Progress(tune.Callback):
    """Show a bar with the best metric so far, and delete the checkpoints of trials that have ended."""

    def __init__(self, trials: int, measure: str, folder: Path) -> None:
        self._trials, self._measure, self._folder = trials, measure, folder
        self._bar: Any = None

    def setup(self, *_: Any, **__: Any) -> None:
        self._bar = tqdm(
            total=self._trials,
            unit=" trials",
            desc="search",
            mininterval=0.5 if sys.stderr.isatty() else 10.0,
        )

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **_: Any
    ) -> None:
        shutil.rmtree(self._folder / _TRIALS / trial.trial_id / "out/checkpoints", True)
        self._show(trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        self._show(trials)

    def on_experiment_end(self, trials: list[Trial], **_: Any) -> None:
        self._show(trials)
        self._bar.close()

    def _show(self, trials: list[Trial]) -> None:
        values = [trial.last_result.get(self._measure, math.nan) for trial in trials]
        best = max((value for value in values if not math.isnan(value)), default=math.nan)
        self._bar.set_postfix_str(f"best {self._measure} {best:.4f}", refresh=False)
        self._bar.update(sum(trial.is_finished() for trial in trials) - self._bar.n)

    def __getstate__(self) -> dict[str, Any]:
        # Tune stores its callbacks with the search.
        return {**self.__dict__, "_bar": None}


def _best(results: Sequence[tune.Result], measure: str) -> Best:
    """Return the best trial.

    Raises:
        StageError: All trials failed.
    """
    values: dict[str, float] = {}
    failures: dict[str, str] = {}
    drawn: dict[str, dict[str, Any]] = {}
    # In the order in which they were begun, which a search that is continued does not keep.
    for each in sorted(results, key=_name):
        name, metrics = _name(each), each.metrics or {}
        drawn[name] = rounded(each.config or {})
        if error := metrics.get(_ERROR) or each.error:
            failures[name] = str(error)
        else:
            values[name] = float(metrics[measure])
    if not values:
        raise StageError(f"all trials failed. The first: {next(iter(failures.values()))}")
    best = max(values, key=values.__getitem__)
    first = next(iter(drawn))
    return Best(
        best, drawn[best], measure, values[best], values.get(first, math.nan), len(drawn), failures
    )


def _name(result: tune.Result) -> str:
    return Path(result.path).name
