"""What a training runs on: the device, the processes, and the precision, which is measured.

What a processor can do does not tell what is fast on it: some multiply matrices of bf16 (AMX), some only
have vector instructions for it, and which of both precisions is faster there depends on the network. So a
few steps of the real training are timed in both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch

from ..config import Config
from ..core.errors import StageError

FLOAT32, BF16 = "32-true", "bf16-mixed"
"""Lightning's names of the precisions that ``auto`` chooses between."""
GAIN = 1.1
"""bf16 rounds more, so it has to be this much faster to be taken."""
MEASURED_SECONDS = 2.0
_MEASURED_STEPS = 10

Step = Callable[[AbstractContextManager[object]], object]
"""A training step: forward and loss within the context, then backward and optimizer without it."""


@dataclass(frozen=True)
class Precision:
    """The precision of a training, by Lightning's name, and what it was chosen by.

    Attributes:
        name: Lightning's name of the precision.
        samples_per_second: Measured rate of each precision; empty where nothing was measured.
    """

    name: str
    samples_per_second: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:.0f} in {name}" for name, rate in self.samples_per_second.items())
        return f"{self.name} ({rates} samples a second)" if rates else self.name


def processes(config: Config) -> tuple[int, int]:
    """Return the number of processes on each node, and of nodes; torchrun overrides params.yaml."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    return config.trainer.devices, config.trainer.num_nodes


def is_first() -> bool:
    """Return whether this process is the one that writes, before Lightning has started the others."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def accelerator(config: Config) -> str:
    """Return Lightning's name of the device to train on: ``cuda`` or ``cpu``.

    Raises:
        StageError: params.yaml asks for a device that is not here, or for more GPUs than there are.
    """
    name = config.trainer.accelerator
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise StageError("params.yaml: trainer.accelerator: there is no CUDA device here; use auto")
    devices = processes(config)[0]
    if name == "cuda" and devices > (found := torch.cuda.device_count()):
        raise StageError(
            f"params.yaml: trainer.devices: {devices} processes (torchrun's --nproc_per_node goes "
            f"before it), but there are {found} GPUs here; each process takes one"
        )
    return name


def choose_precision(config: Config, make_step: Callable[[], Step], samples: int) -> Precision:
    """Return the precision that params.yaml asks for, or by ``auto`` the faster one.

    On GPUs ``auto`` is bf16 where they compute in it. On CPUs it is measured: bf16 is taken where it is
    faster by a tenth. All processes take what the first one measures.

    Args:
        config: The parameters.
        make_step: Makes a training step whose model and optimizer are used for nothing else.
        samples: Number of samples in one step of this process.

    Raises:
        StageError: There is no such hardware here, or not enough of it.
    """
    device = accelerator(config)
    if config.trainer.precision != "auto":
        return Precision(config.trainer.precision)
    if device == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return Precision(BF16 if fast else FLOAT32)
    local, nodes = processes(config)
    if local * nodes == 1:
        seconds = _seconds_per_step(make_step())
    elif torch.distributed.is_initialized() or "TORCHELASTIC_RUN_ID" in os.environ:
        seconds = _seconds_of_first_process(make_step)
    else:
        # Lightning starts the other processes later, and each would measure for itself.
        return Precision(FLOAT32)
    rates = {name: samples / value for name, value in seconds.items()}
    return Precision(BF16 if rates[BF16] >= GAIN * rates[FLOAT32] else FLOAT32, rates)


def _seconds_of_first_process(make_step: Callable[[], Step]) -> dict[str, float]:
    """Return what the first process measures, while the others leave the cores to it."""
    if not torch.distributed.is_initialized():
        # Lightning takes over a group that is there.
        torch.distributed.init_process_group("gloo")
    seconds = dict.fromkeys((FLOAT32, BF16), 0.0)
    if torch.distributed.get_rank() == 0:
        seconds = _seconds_per_step(make_step())
    shared = torch.tensor(list(seconds.values()), dtype=torch.float64)
    torch.distributed.broadcast(shared, src=0)
    return dict(zip(seconds, shared.tolist(), strict=True))


def _seconds_per_step(step: Step) -> dict[str, float]:
    """Time a step on the CPU in both precisions in turn, after one of each that is not counted."""
    contexts: dict[str, Callable[[], AbstractContextManager[object]]] = {
        FLOAT32: partial(torch.autocast, "cpu", torch.bfloat16, enabled=False),
        # As Lightning's plugin does it.
        BF16: partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False),
    }
    times: dict[str, list[float]] = {name: [] for name in contexts}
    # Kernels are chosen and memory is taken at the first step.
    for context in contexts.values():
        _timed(step, context)
    end, pair = time.perf_counter() + MEASURED_SECONDS, 0.0
    while not pair or (len(times[BF16]) < _MEASURED_STEPS and time.perf_counter() + pair < end):
        for name, context in contexts.items():
            times[name].append(_timed(step, context))
        pair = sum(seconds[-1] for seconds in times.values())
    # What else runs only makes a step slower, so the fastest is what the hardware can do.
    return {name: min(seconds) for name, seconds in times.items()}


def _timed(step: Step, context: Callable[[], AbstractContextManager[object]]) -> float:
    start = time.perf_counter()
    step(context())
    return time.perf_counter() - start
