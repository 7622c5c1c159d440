"""The shared training: best weights, averages, resuming after SIGKILL, two processes, errors."""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from lightning.pytorch.loggers import Logger

from src.config import Config, load_config
from src.core.dependencies import closure
from src.core.errors import StageError
from src.datasets.batches import BatchIndices, TrainingBatches
from src.datasets.localize import LocalizeDataset
from src.localize import train as localize_train
from src.localize.train import main
from src.models.registry import build_localizer, load_localizer
from src.training import callbacks, checkpoints, fit, hardware, loggers
from src.training.averaging import AveragedWeights, update_average
from src.training.checkpoints import ResumePoints, resume_point
from src.training.data import TrainingData
from src.training.hardware import Precision
from src.training.localizer import LocalizerTraining
from tests.conftest import ROOT, set_params, set_texts

MODEL = Path("out/models/localize/model.safetensors")
CHECKPOINTS = Path("out/checkpoints/localize")
RUNS = Path("out/runs/localize")


def command(*start: str) -> list[str]:
    return [sys.executable, *start, "-m", "src.localize.train"]


def torchrun(processes: int) -> list[str]:
    options = [f"--nproc_per_node={processes}", "--master_port=0", "--rdzv_backend=c10d"]
    return ["-m", "torch.distributed.run", *options, "--rdzv_endpoint=localhost:0"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_localizer(folder / MODEL).state_dict()


def plot(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / RUNS / f"plots/metrics/{name}.tsv", sep="\t")


def module_data(config: Config, folder: Path) -> TrainingData:
    prepared = folder / "data/prepared/localize"
    shape = build_localizer(config.models.localizer, config).input_shape
    sets = [LocalizeDataset(prepared / split, shape) for split in ("train", "val")]
    return TrainingData(*sets, config.TrainLocalizeParams, config.BATCH_SIZE)


def module_of(config: Config, folder: Path) -> LocalizerTraining:
    model = build_localizer(config.models.localizer, config)
    return LocalizerTraining(model, module_data(config, folder))


@pytest.fixture
def workspace(tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tiny_workspace)
    # Weights are compared; in bf16 they would differ more.
    set_texts(tiny_workspace, "precision: auto", "precision: 32-true")
    return tiny_workspace


def train_here(folder: Path, **params: object) -> None:
    set_params(folder, {f"TrainLocalizeParams.{name}": value for name, value in params.items()})
    main(load_config(folder))


def test_a_training_leaves_model_plots_and_no_resumable_checkpoint(workspace: Path) -> None:
    train_here(workspace)
    assert [path.name for path in (workspace / CHECKPOINTS).iterdir()] == ["best.ckpt"]
    assert list((workspace / RUNS / "tensorboard").glob("events*"))
    # Every third step, and the last one.
    assert plot(workspace, "val/iou")["step"].tolist() == [3, 6, 8]
    assert plot(workspace, "train/learning_rate")["step"].tolist() == [3, 6, 8]
    metrics = json.loads((workspace / RUNS / "metrics.json").read_text())
    assert metrics["step"] == 8
    assert metrics["train"]["samples_per_second"] > 0
    assert metrics["train"]["epoch"] == 2


def test_the_model_is_the_best_not_the_last(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With measures that fall, the model is that of the first validation; with a copy of it."""
    measures = iter([0.9, 0.5, 0.1])
    seen: list[dict[str, torch.Tensor]] = []

    class Falling(LocalizerTraining):
        def on_validation_epoch_end(self) -> None:
            seen.append({name: value.clone() for name, value in self.model.state_dict().items()})
            value = next(measures)
            self._sums["quality"] = torch.tensor(value * self.validation_count)
            super().on_validation_epoch_end()

    monkeypatch.setattr("src.localize.train.LocalizerTraining", Falling)
    # The averaged weights are back in the model's place when the module's hook is called; without
    # an average of the past, both are the same.
    train_here(workspace, EMA_DECAY=0.0, LR=0.01)
    assert len(seen) == 3
    found = weights(workspace)
    name = "trunk.0.0.weight"
    torch.testing.assert_close(found[name], seen[0][name])
    assert not torch.allclose(found[name], seen[2][name])


def test_early_stopping_counts_validations(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Constant(LocalizerTraining):
        def on_validation_epoch_end(self) -> None:
            self._sums["quality"] = torch.tensor(1.0)
            super().on_validation_epoch_end()

    monkeypatch.setattr("src.localize.train.LocalizerTraining", Constant)
    train_here(workspace, EPOCHS=50, VALIDATE_EVERY=1, PATIENCE=2)
    assert plot(workspace, "val/iou")["step"].tolist() == [1, 2, 3]


def test_average_is_what_the_formula_says() -> None:
    average, module = torch.nn.BatchNorm1d(1), torch.nn.BatchNorm1d(1)
    torch.nn.init.constant_(average.weight, 5.0)
    update_average(average, module, steps=0, decay=0.9)
    assert average.weight.item() == 1
    torch.nn.init.constant_(module.weight, 2.0)
    module.running_mean += 2.0
    module.num_batches_tracked += 7
    update_average(average, module, steps=1, decay=0.9)
    decay = 2 / 11
    assert average.weight.item() == pytest.approx(decay * 1 + (1 - decay) * 2)
    assert average.running_mean.item() == pytest.approx((1 - decay) * 2)
    assert average.num_batches_tracked.item() == 7
    before = average.weight.item()
    update_average(average, module, steps=1000, decay=0.9)
    assert average.weight.item() == pytest.approx(0.9 * before + 0.1 * 2)


def test_the_average_lies_where_the_model_is_trained(workspace: Path) -> None:
    """Lightning moves the module only later; a device without data stands for the GPU."""
    module = module_of(load_config(workspace), workspace)
    averaged = AveragedWeights(0.9)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("meta")))
    averaged.setup(trainer, module, "fit")
    assert {value.device.type for value in averaged._average_model.parameters()} == {"meta"}


def test_averaging_copies_no_dataset(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of a mapped set would be all its images in memory."""

    def fail(*_: object) -> None:
        raise AssertionError("a dataset was copied")

    monkeypatch.setattr(LocalizeDataset, "__deepcopy__", fail, raising=False)
    train_here(workspace, EPOCHS=1)
    assert (workspace / MODEL).exists()


def test_rate_rises_then_falls_to_almost_nothing(workspace: Path) -> None:
    set_params(workspace, {"TrainLocalizeParams.EPOCHS": 25, "TrainLocalizeParams.WARMUP": 0.1})
    module = module_of(load_config(workspace), workspace)
    rates = [module.rate(step) for step in range(module.steps)]
    assert module.steps == 100
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1
    assert rates[-1] < 0.001
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_norms_and_biases_do_not_decay(workspace: Path) -> None:
    module = module_of(load_config(workspace), workspace)
    groups = module.configure_optimizers()["optimizer"].param_groups
    for group in groups:
        decays = {value.ndim > 1 for value in group["params"]}
        assert decays == {group["weight_decay"] == module.params.WEIGHT_DECAY > 0}
        assert group["weight_decay"] in (0, module.params.WEIGHT_DECAY)
    assert {value.ndim for group in groups for value in group["params"]} == {1, 4}


def begun(workspace: Path, params: dict[str, int], seconds: float) -> subprocess.Popen[str]:
    """Start a training of the localizer, and wait until its first checkpoint is there."""
    set_params(workspace, {f"TrainLocalizeParams.{name}": value for name, value in params.items()})
    training = subprocess.Popen(
        command(), cwd=workspace, env=environment(), stderr=subprocess.PIPE, text=True
    )
    last = workspace / CHECKPOINTS / "last.ckpt"
    deadline = time.monotonic() + seconds
    while not last.exists() and time.monotonic() < deadline and training.poll() is None:
        time.sleep(0.005)
    return training


def test_a_killed_training_goes_on_to_the_same_weights(workspace: Path) -> None:
    """A real SIGKILL after the first checkpoint, then the same command again."""
    killed = begun(workspace, {"EPOCHS": 10, "VALIDATE_EVERY": 2, "PATIENCE": 1000}, 90)
    last = workspace / CHECKPOINTS / "last.ckpt"
    time.sleep(0.2)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step < 40
    resumed = subprocess.run(
        command(), cwd=workspace, env=environment(), capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert f"last.ckpt: resumed at step {step}" in resumed.stderr
    assert not last.exists()
    # Each step is plotted once, also those between the checkpoint and the kill.
    iou = plot(workspace, "val/iou")
    assert iou["step"].tolist() == list(range(2, 41, 2))
    found = weights(workspace)
    main(load_config(workspace))
    expected = weights(workspace)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
    again = plot(workspace, "val/iou")
    assert again["iou"].tolist() == pytest.approx(iou["iou"].tolist(), abs=1e-3)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 128 + 15), (signal.SIGINT, 128 + 2)]
)
def test_a_training_that_is_ended_fails_and_can_be_resumed(
    workspace: Path, number: signal.Signals, status: int
) -> None:
    """By kill -TERM and by Ctrl-C: Lightning alone would end with the statuses 0 and 1."""
    training = begun(workspace, {"EPOCHS": 1000, "VALIDATE_EVERY": 2, "PATIENCE": 100_000}, 300)
    last = workspace / CHECKPOINTS / "last.ckpt"
    training.send_signal(number)
    errors = training.communicate(timeout=300)[1]
    assert training.returncode == status, errors
    assert "Traceback" not in errors
    assert not (workspace / MODEL).exists(), "weights of a training that has not finished"
    assert torch.load(last, weights_only=True)["global_step"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["first", "all"])
def test_all_processes_of_a_training_end_with_it(workspace: Path, whom: str) -> None:
    """Where SIGTERM comes to the first one alone, and where it comes to all, as from `make run`."""
    set_texts(workspace, "devices: 1", "devices: 2")
    training = begun(workspace, {"EPOCHS": 1000, "VALIDATE_EVERY": 2, "PATIENCE": 100_000}, 300)
    others = psutil.Process(training.pid).children(recursive=True)
    try:
        assert len(others) == 1
        training.send_signal(signal.SIGTERM)
        if whom == "all":
            others[0].send_signal(signal.SIGTERM)
        # The others have its standard error, too.
        errors = training.communicate(timeout=60)[1]
        assert not psutil.wait_procs(others, timeout=10)[1]
    finally:
        for process in (training, *others):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    # Where the other one is the first to end, Lightning may kill this one.
    assert training.returncode in ({143} if whom == "first" else {143, -signal.SIGKILL}), errors
    assert "Traceback" not in errors
    assert not (workspace / MODEL).exists()


class KilledError(Exception):
    pass


def interrupt(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training that ends at its second validation; gives its checkpoint, of step 3."""

    class Interrupted(LocalizerTraining):
        def on_validation_epoch_end(self) -> None:
            if self.global_step > 3:
                raise KilledError
            super().on_validation_epoch_end()

    with monkeypatch.context() as patch:
        patch.setattr("src.localize.train.LocalizerTraining", Interrupted)
        with pytest.raises(KilledError):
            main(load_config(workspace))
    # The bar of what was interrupted says its last word when it is thrown away: now.
    gc.collect()
    return workspace / CHECKPOINTS / "last.ckpt"


def test_what_is_not_resumed_and_why(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = interrupt(workspace, monkeypatch)
    config = load_config(workspace)

    def found(config: Config, name: str) -> tuple[int, str]:
        capsys.readouterr()
        module = module_of(config, workspace)
        wanted = checkpoints.fingerprint(
            module, config, "localize", name, Path(localize_train.__file__)
        )
        point = resume_point(last, wanted)
        return point.step if point else 0, capsys.readouterr().err

    assert found(config, "plate_net") == (3, f"{Path(last)}: resumed at step 3\n")
    step, text = found(config.model_copy(update={"BATCH_SIZE": 8}), "plate_net")
    assert step == 0
    assert "written with different parameters" in text
    step, text = found(config, "plate_localizer_v3")
    assert step == 0
    assert "it is a checkpoint of plate_net, not of plate_localizer_v3" in text
    trainer = config.trainer.model_copy(update={"precision": "bf16-mixed"})
    step, text = found(config.model_copy(update={"trainer": trainer}), "plate_net")
    assert step == 0
    assert "written with different trainer" in text
    trainer = config.trainer.model_copy(update={"devices": 2})
    assert found(config.model_copy(update={"trainer": trainer}), "plate_net")[0] == 0
    # The digest of all images and labels; an image alone does not change without it.
    path = workspace / "data/prepared/localize/val/meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "0" * 64}))
    step, text = found(config, "plate_net")
    assert step == 0
    assert "written with different data" in text
    last.write_bytes(last.read_bytes()[:1000])
    step, text = found(config, "plate_net")
    assert step == 0
    assert "damaged" in text
    torch.save({"weights": 1}, last)
    assert found(config, "plate_net")[0] == 0


def test_a_resumed_training_keeps_the_precision_that_it_began_with(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_texts(workspace, "precision: 32-true", "precision: auto")
    rates = {"32-true": 10.0, "bf16-mixed": 20.0}
    monkeypatch.setattr(
        fit, "choose_precision", lambda *_: Precision("bf16-mixed", rates), raising=True
    )
    interrupt(workspace, monkeypatch)
    recorded = {"name": "bf16-mixed", **rates}
    # What would be measured now is something else.
    monkeypatch.setattr(fit, "choose_precision", lambda *_: Precision("32-true"))
    used = []

    class Watched(LocalizerTraining):
        def on_train_start(self) -> None:
            super().on_train_start()
            used.append(self.trainer.precision)

    monkeypatch.setattr("src.localize.train.LocalizerTraining", Watched)
    main(load_config(workspace))
    assert used == ["bf16-mixed"]
    metrics = json.loads((workspace / RUNS / "metrics.json").read_text())
    assert metrics["precision"] == recorded
    # A new training is measured anew.
    main(load_config(workspace))
    assert used == ["bf16-mixed", "32-true"]
    metrics = json.loads((workspace / RUNS / "metrics.json").read_text())
    assert metrics["precision"] == {"name": "32-true"}


def test_measuring_changes_nothing_but_the_choice(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real steps, on this machine: the same weights as with the precision that they choose."""
    set_texts(workspace, "precision: 32-true", "precision: auto")
    train_here(workspace)
    found = weights(workspace)
    precision = json.loads((workspace / RUNS / "metrics.json").read_text())["precision"]
    assert precision["32-true"] > 0
    assert precision["bf16-mixed"] > 0
    assert f"precision: {precision['name']} (" in capsys.readouterr().err
    set_texts(workspace, "precision: auto", f"precision: {precision['name']}")
    main(load_config(workspace))
    torch.testing.assert_close(weights(workspace), found, rtol=0, atol=0)


@pytest.mark.parametrize(("task", "other"), [("localize", "ocr"), ("ocr", "localize")])
def test_weights_depend_on_this_code(task: str, other: str) -> None:
    files = {
        path.relative_to(ROOT / "src").as_posix()
        for path in closure(ROOT / "src" / task / "train.py")
    }
    ours = {"core/geometry.py", "models/base.py", f"datasets/{task}.py", "training/fit.py"}
    assert ours <= files
    unrelated = {
        "datasets/annotations.py",
        "datasets/backgrounds.py",
        "datasets/mixture.py",
        f"datasets/{other}.py",
    }
    assert not unrelated & files


def with_measures(measures: dict[int, float], killed_at: int = 0) -> type[LocalizerTraining]:
    """A training whose measure at each validated step is given; killed in the validation of one."""

    class Measured(LocalizerTraining):
        def on_validation_epoch_end(self) -> None:
            if self.global_step == killed_at:
                raise KilledError
            self._sums["quality"] = torch.tensor(measures[self.global_step] * self.validation_count)
            super().on_validation_epoch_end()

    return Measured


def test_a_resumed_training_knows_the_best_before_the_kill(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = {3: 0.9, 6: 0.5, 8: 0.1}
    with monkeypatch.context() as patch:
        patch.setattr("src.localize.train.LocalizerTraining", with_measures(falling, killed_at=6))
        with pytest.raises(KilledError):
            main(load_config(workspace))
    monkeypatch.setattr("src.localize.train.LocalizerTraining", with_measures(falling))
    main(load_config(workspace))
    assert "resumed at step 3" in capsys.readouterr().err
    assert torch.load(CHECKPOINTS / "best.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.parametrize(
    ("owner", "name", "resumed"),
    [
        # With the best weights of the last validation, without its resume point.
        (ResumePoints, "_write", 6),
        # With both, without the model.
        (fit, "write_best", 8),
    ],
)
def test_a_training_killed_at_its_end_ends_right_when_started_again(
    owner: Any,
    name: str,
    resumed: int,
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rising = {3: 0.1, 6: 0.5, 8: 0.9}
    monkeypatch.setattr("src.localize.train.LocalizerTraining", with_measures(rising))
    original = getattr(owner, name)

    def killed(*args: object) -> None:
        if owner is fit or args[1].global_step == 8:
            raise KilledError
        original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KilledError):
            main(load_config(workspace))
    assert not MODEL.exists()
    main(load_config(workspace))
    assert f"resumed at step {resumed}" in capsys.readouterr().err
    found = weights(workspace)
    assert not (CHECKPOINTS / "last.ckpt").exists()
    main(load_config(workspace))
    for key, value in weights(workspace).items():
        torch.testing.assert_close(found[key], value, msg=key)


def test_an_early_stop_holds_after_a_kill(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures = {step: 0.1 * (step > 3) for step in range(1, 9)}
    monkeypatch.setattr("src.localize.train.LocalizerTraining", with_measures(measures))

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(fit, "write_best", killed)
        with pytest.raises(KilledError):
            train_here(workspace, VALIDATE_EVERY=1, PATIENCE=2)
    main(load_config(workspace))
    assert plot(workspace, "val/iou")["step"].tolist() == [1, 2, 3]


def test_what_another_training_left_is_not_taken_for_this_ones(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(LocalizerTraining):
        def on_train_start(self) -> None:
            raise KilledError

    train_here(workspace)
    (CHECKPOINTS / "last.ckpt").write_bytes(b"damaged")
    monkeypatch.setattr("src.localize.train.LocalizerTraining", Interrupted)
    with pytest.raises(KilledError):
        main(load_config(workspace))
    assert not list(CHECKPOINTS.iterdir())


def test_best_weights_of_another_training_are_an_error(workspace: Path) -> None:
    module = module_of(load_config(workspace), workspace)
    module.fingerprint = {"model": "plate_net"}
    best = workspace / "best.ckpt"
    with pytest.raises(StageError, match=r"best weights are missing.*Remove .* and train again"):
        checkpoints.write_best(module, best, MODEL)
    state = {f"model.{name}": value for name, value in module.model.state_dict().items()}
    torch.save({"fingerprint": {"model": "other"}, "state_dict": state}, best)
    with pytest.raises(StageError, match=r"from another training run\. Remove"):
        checkpoints.write_best(module, best, MODEL)
    assert not MODEL.exists()
    torch.save({"fingerprint": {"model": "plate_net"}, "state_dict": state}, best)
    checkpoints.write_best(module, best, MODEL)
    assert MODEL.exists()


def test_a_truncated_checkpoint_is_not_fatal(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = interrupt(workspace, monkeypatch)
    last.write_bytes(last.read_bytes()[:-100])
    main(load_config(workspace))
    assert "damaged" in capsys.readouterr().err
    assert plot(workspace, "val/iou")["step"].tolist() == [3, 6, 8]


def test_figures_that_were_half_written_are_not_fatal(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVCLive writes in place: a kill may come in the middle of a summary, or of a line."""
    interrupt(workspace, monkeypatch)
    (workspace / RUNS / "metrics.json").write_text("")
    with (workspace / RUNS / "plots/metrics/train/loss.tsv").open("a") as file:
        file.write("4\t")
    main(load_config(workspace))
    assert "resumed at step 3" in capsys.readouterr().err
    assert json.loads((workspace / RUNS / "metrics.json").read_text())["step"] == 8
    assert plot(workspace, "train/loss")["step"].tolist() == [3, 6, 8]


def test_a_checkpoint_between_validations_loses_none(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (callbacks, checkpoints):
        monkeypatch.setattr(module, "LOG_EVERY", 1)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)

    class Interrupted(LocalizerTraining):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            super().on_train_batch_start(batch, batch_idx)
            if self.global_step == 5:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("src.localize.train.LocalizerTraining", Interrupted)
        with pytest.raises(KilledError):
            main(load_config(workspace))
    main(load_config(workspace))
    assert "resumed at step 5" in capsys.readouterr().err
    assert plot(workspace, "val/iou")["step"].tolist() == [3, 6, 8]
    assert plot(workspace, "train/loss")["step"].tolist() == list(range(1, 9))
    found = weights(workspace)
    main(load_config(workspace))
    for name, value in weights(workspace).items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_two_processes_train_as_one(workspace: Path) -> None:
    """Two CPU processes under torchrun (gloo): the same batches, gradients, samples measured, figures."""
    set_texts(workspace, "precision: 32-true", "precision: auto")
    params = {"EPOCHS": 4, "VALIDATE_EVERY": 4, "LR": 0.003}
    set_params(workspace, {f"TrainLocalizeParams.{name}": value for name, value in params.items()})
    done = subprocess.run(
        [sys.executable, *torchrun(2), str(ROOT / "tests/training/recorded_training.py")],
        cwd=workspace, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [torch.load(workspace / f"record-{rank}.pt", weights_only=True) for rank in (0, 1)]
    config = load_config(workspace)
    torch.manual_seed(config.TrainLocalizeParams.SEED)
    module = module_of(config, workspace)

    # What the first process finds faster; the second one finds another.
    assert [record["precision"] for record in records] == ["32-true", "32-true"]

    # Each step's batch is that of one process, each validation sample is measured once.
    whole = TrainingBatches(60, config.BATCH_SIZE, 4, config.TrainLocalizeParams.SEED)
    parts = zip(*(record["batches"][60] for record in records), strict=True)
    for expected, halves in zip(whole, parts, strict=True):
        assert sorted(itertools.chain(*halves)) == sorted(expected.samples.tolist())
        assert len(halves[0]) == len(halves[1])
    validated = [sample for record in records for part in record["batches"][25] for sample in part]
    assert sorted(validated) == sorted(4 * list(range(25)))

    # The gradient of the first step is the mean of those of both halves, by the sums of float32: each
    # is over some ten thousand places, whose errors of rounding add up like a random walk.
    halves = [gradients(module, record["batches"][60][0], workspace) for record in records]
    tolerance = torch.finfo(torch.float32).eps * math.sqrt(8 * 84 * 84)
    for name, found in records[0]["gradients"].items():
        assert torch.equal(found, records[1]["gradients"][name]), name
        expected = (halves[0][name] + halves[1][name]) / 2
        largest = max(half[name].abs().max().item() for half in halves)
        torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * largest, msg=name)

    # The loss falls, and what was measured together is what one process measures.
    losses = plot(workspace, "val/loss")
    assert losses["step"].tolist() == [4, 8, 12, 16]
    trained = plot(workspace, "train/loss")["loss"]
    assert trained.iloc[-1] < 0.9 * trained.iloc[0]
    quality = plot(workspace, "val/quality")["quality"]
    best = load_localizer(workspace / MODEL)
    alone = sums_of(LocalizerTraining(best, module_data(config, workspace)), workspace)
    assert quality.max() == pytest.approx(alone["quality"] / 25, abs=1e-3)
    assert losses["loss"][quality.idxmax()] == pytest.approx(alone["loss"] / 25, rel=1e-3)


@pytest.mark.slow
def test_several_processes_resume_to_the_same_bits(workspace: Path) -> None:
    """Each has statistics of its own. Three sum in an order that would depend on when DDP was made."""
    set_params(
        workspace,
        {"BATCH_SIZE": 12}
        | {
            f"TrainLocalizeParams.{name}": value
            for name, value in {"EPOCHS": 2, "VALIDATE_EVERY": 4, "LR": 0.003}.items()
        },
    )
    done = subprocess.run(
        [sys.executable, *torchrun(3), str(ROOT / "tests/training/resumed_training.py")],
        cwd=workspace, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [f"resumed at step {step}" in done.stderr for step in (2, 7)] == [True, True]
    states = {}
    for rank in range(3):
        whole, resumed = (
            torch.load(workspace / f"{name}-{rank}.pt", weights_only=True)
            for name in ("whole", "resumed")
        )
        assert whole.keys() == resumed.keys()
        assert not [name for name in whole if not torch.equal(whole[name], resumed[name])]
        states[rank] = whole
    name = "model.trunk.0.1.running_mean"
    assert not torch.equal(states[0][name], states[1][name]), "all had the same statistics"
    models = [
        load_localizer(workspace / name / "models/localize/model.safetensors").state_dict()
        for name in ("whole", "resumed")
    ]
    torch.testing.assert_close(models[0], models[1], rtol=0, atol=0)


def gradients(
    module: LocalizerTraining, samples: list[int], folder: Path
) -> dict[str, torch.Tensor]:
    """Of a batch, with its own statistics of batch norm."""
    module.zero_grad()
    dataset = LocalizeDataset(folder / "data/prepared/localize/train", module.model.input_shape)
    module.batch_loss(dataset.__getitems__(BatchIndices(0, np.array(samples)))).backward()
    return {name: value.grad.clone() for name, value in module.model.named_parameters()}


@torch.no_grad()
def sums_of(module: LocalizerTraining, folder: Path) -> dict[str, float]:
    """Of the validation set in one batch."""
    module.eval()
    dataset = LocalizeDataset(folder / "data/prepared/localize/val", module.model.input_shape)
    sums = module.batch_sums(dataset.__getitems__(BatchIndices(0, np.arange(len(dataset)))))
    return {name: float(sums[name]) for name in ("quality", "loss")}


def test_batch_must_divide_among_processes(workspace: Path) -> None:
    set_texts(workspace, "devices: 1", "devices: 3")
    with pytest.raises(StageError, match=r"BATCH_SIZE: 16 is not divisible by the 3 processes"):
        main(load_config(workspace))


def test_several_nodes_need_a_launcher(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, a process would wait for the others until it is killed."""
    set_texts(workspace, "num_nodes: 1", "num_nodes: 2")
    config = load_config(workspace)
    with pytest.raises(StageError, match=r"num_nodes: 2 nodes.*src\.search\.train"):
        main(config)
    assert not (workspace / "out").exists()
    for variable in ("MASTER_ADDR", "SLURM_NTASKS"):
        monkeypatch.setenv(variable, "2")
        hardware.check_launched(config)
        monkeypatch.delenv(variable)


def test_each_process_must_have_a_sample_to_validate(workspace: Path) -> None:
    set_texts(workspace, "devices: 1", "devices: 32")
    set_params(workspace, {"BATCH_SIZE": 32})
    wanted = r"val: 25 samples are fewer than the 32 processes.*PrepareLocalizeParams\.MAX_IMAGES"
    with pytest.raises(StageError, match=wanted):
        main(load_config(workspace))


def test_a_loss_that_is_no_number_stops_with_the_remedy(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging(LocalizerTraining):
        def batch_loss(self, batch: object) -> torch.Tensor:
            return super().batch_loss(batch) * math.nan  # type: ignore[arg-type]  # any batch

    monkeypatch.setattr("src.localize.train.LocalizerTraining", Diverging)
    with pytest.raises(
        StageError, match=r"the loss is nan at step 3.*Lower TrainLocalizeParams\.LR"
    ):
        main(load_config(workspace))
    assert not (workspace / MODEL).exists()
    assert not (workspace / CHECKPOINTS / "last.ckpt").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_training_on_a_gpu(workspace: Path) -> None:
    set_texts(workspace, "precision: 32-true", "precision: auto")
    train_here(workspace)
    assert plot(workspace, "val/iou")["step"].tolist() == [3, 6, 8]


# --- the tracker ----------------------------------------------------------------------------------


class Tracker(Logger):
    """In the place of Lightning's WandbLogger."""

    made: ClassVar[list[Tracker]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options, self.metrics, self.parameters = options, [], {}
        self.made.append(self)

    @property
    def name(self) -> str:
        return "tracker"

    @property
    def version(self) -> str:
        return "1"

    def log_hyperparams(self, params: dict[str, Any], *_: Any, **__: Any) -> None:
        self.parameters |= params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.metrics += [(step, name) for name in metrics]


def tracked(folder: Path) -> dict[str, torch.Tensor]:
    """Train with the parameter set."""
    set_texts(folder, "tracker: none", "tracker: wandb")
    main(load_config(folder))
    return weights(folder)


def test_nothing_is_tracked_unless_that_is_asked_for(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loggers, "WandbLogger", Tracker)
    monkeypatch.setattr(Tracker, "made", [])
    train_here(workspace)
    assert Tracker.made == []


def test_the_tracker_gets_what_dvclive_gets_and_changes_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_here(workspace)
    untracked = weights(workspace)
    monkeypatch.setattr(loggers, "WandbLogger", Tracker)
    monkeypatch.setattr(Tracker, "made", [])
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    torch.testing.assert_close(tracked(workspace), untracked, rtol=0, atol=0)
    (tracker,) = Tracker.made
    assert tracker.options == {"project": "mine", "job_type": "localize"}
    assert tracker.parameters == load_config(workspace).TrainLocalizeParams.model_dump()
    plots = workspace / RUNS / "plots" / "metrics"
    names = {path.relative_to(plots).with_suffix("").as_posix() for path in plots.rglob("*.tsv")}
    assert {name for _, name in tracker.metrics} == names
    steps = [step for step, name in tracker.metrics if name == "val/iou"]
    assert steps == plot(workspace, "val/iou")["step"].tolist()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ModuleNotFoundError("wandb"), "not installed; run `make wandb`"),
        (None, "cannot start: no key. Run `wandb login`, or set WANDB_MODE=offline."),
    ],
)
def test_a_tracker_that_cannot_start_is_told_before_the_training(
    error: Exception | None, says: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Tracker):
        def __init__(self, **options: Any) -> None:
            if error:
                raise error
            super().__init__(**options)

        def log_hyperparams(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("no key")

    monkeypatch.setattr(loggers, "WandbLogger", Failing)
    with pytest.raises(StageError, match=re.escape(says)):
        tracked(workspace)
    assert not (workspace / MODEL).exists()


@pytest.mark.slow
def test_weights_and_biases_offline(workspace: Path) -> None:
    pytest.importorskip("wandb.sdk", reason="make wandb installs it")
    train_here(workspace)
    untracked = weights(workspace)
    set_texts(workspace, "tracker: none", "tracker: wandb")
    # Where no network is, and nobody is logged in.
    variables = {**environment(), "WANDB_MODE": "offline", "WANDB_API_KEY": ""}
    done = subprocess.run(
        command(), cwd=workspace, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(weights(workspace), untracked, rtol=0, atol=0)
    (run,) = (workspace / "wandb").glob("offline-run-*/*.wandb")
    content = run.read_bytes()
    for name in (b"val/iou", b"train/loss", b"VALIDATE_EVERY", b"swiss-plate-reader"):
        assert name in content
