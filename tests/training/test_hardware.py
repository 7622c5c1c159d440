"""Device and precision of a training: what is asked for, what is there, and what is faster."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from src.config import Config, load_config
from src.core.errors import StageError
from src.training import hardware
from src.training.hardware import BF16, FLOAT32, Precision, Step, accelerator, choose_precision

SAMPLES = 8


def config_with(folder: Path, **trainer: object) -> Config:
    config = load_config(folder)
    return config.model_copy(update={"trainer": config.trainer.model_copy(update=trainer)})


def step_of(seconds: dict[bool, float]) -> Step:
    """A step that takes so long with autocast, and without."""

    def step(context: AbstractContextManager[object]) -> None:
        with context:
            time.sleep(seconds[torch.is_autocast_enabled("cpu")])

    return step


@pytest.mark.parametrize(
    ("bf16", "float32", "name"),
    [(0.01, 0.05, BF16), (0.05, 0.01, FLOAT32), (0.030, 0.031, FLOAT32)],
    ids=["faster", "slower", "hardly-faster"],
)
def test_auto_takes_bf16_where_it_is_faster_by_a_tenth(
    tiny_workspace: Path, bf16: float, float32: float, name: str
) -> None:
    config = config_with(tiny_workspace, precision="auto", accelerator="cpu")
    start = time.monotonic()
    chosen = choose_precision(config, lambda: step_of({True: bf16, False: float32}), SAMPLES)
    assert time.monotonic() - start < hardware.MEASURED_SECONDS
    assert chosen.name == name
    assert chosen.samples_per_second[BF16] == pytest.approx(SAMPLES / bf16, rel=0.2)
    assert chosen.samples_per_second[FLOAT32] == pytest.approx(SAMPLES / float32, rel=0.2)
    for part in (name, f"in {BF16}", f"in {FLOAT32}", "samples per second"):
        assert part in str(chosen)


def test_the_first_step_of_each_precision_is_not_counted(tiny_workspace: Path) -> None:
    config = config_with(tiny_workspace, precision="auto", accelerator="cpu")
    seen: set[bool] = set()

    def step(context: AbstractContextManager[object]) -> None:
        with context:
            kind = torch.is_autocast_enabled("cpu")
            time.sleep(0.02 if kind in seen else 0.3 if kind else 0.01)
            seen.add(kind)

    rates = choose_precision(config, lambda: step, SAMPLES).samples_per_second
    assert rates[BF16] == pytest.approx(rates[FLOAT32], rel=0.2)


def test_slow_steps_are_measured_once(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is so slow that a choice is made without a measurement, or takes long."""
    monkeypatch.setattr(hardware, "MEASURED_SECONDS", 0.1)
    config = config_with(tiny_workspace, precision="auto", accelerator="cpu")
    count = 0

    def step(context: AbstractContextManager[object]) -> None:
        nonlocal count
        count += 1
        time.sleep(0.1)

    choose_precision(config, lambda: step, SAMPLES)
    assert count == 4


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "16-mixed"])
def test_an_explicit_precision_is_obeyed_and_nothing_is_measured(
    tiny_workspace: Path, name: str
) -> None:
    config = config_with(tiny_workspace, precision=name)
    assert choose_precision(config, _fail, SAMPLES) == Precision(name)


def _fail() -> Step:
    raise AssertionError("a step was made")


@pytest.mark.parametrize(("able", "name"), [(True, BF16), (False, FLOAT32)])
def test_gpus_have_a_rule(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch, able: bool, name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: able)
    config = config_with(tiny_workspace, precision="auto", accelerator="auto")
    assert choose_precision(config, _fail, SAMPLES) == Precision(name)


def test_processes_that_cannot_agree_take_float32(tiny_workspace: Path) -> None:
    config = config_with(tiny_workspace, precision="auto", accelerator="cpu", devices=2)
    assert choose_precision(config, _fail, SAMPLES) == Precision(FLOAT32)


def test_each_process_must_have_a_gpu(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert accelerator(config_with(tiny_workspace)) == "cuda"
    with pytest.raises(
        StageError, match=r"params\.yaml: trainer\.devices: 2 .* only 1 GPUs are available"
    ):
        accelerator(config_with(tiny_workspace, devices=2))
    assert accelerator(config_with(tiny_workspace, devices=2, accelerator="cpu")) == "cpu"


def test_hardware_is_found_or_named(tiny_workspace: Path) -> None:
    config = config_with(tiny_workspace, accelerator="auto")
    assert accelerator(config) == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(StageError, match=r"trainer\.accelerator: no CUDA device"):
            accelerator(config_with(tiny_workspace, accelerator="cuda"))
