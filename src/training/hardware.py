"""Training hardware: the device, the processes, and the precision, which is chosen by measurement.

The capabilities of a CPU do not tell which precision is faster on it: some have AMX-BF16, some only
vector instructions for bf16, and which precision is faster there depends on the network. A few steps of
the real training are therefore timed in both.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial

import torch
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from ..config import Config
from ..core.errors import StageError

FLOAT32, BF16 = "32-true", "bf16-mixed"
"""Lightning's names for the precisions that ``auto`` chooses between."""
GAIN = 1.1
"""Speedup that bf16 must reach to be chosen, as it rounds more coarsely than float32."""
MEASURED_SECONDS = 2.0
_MEASURED_STEPS = 10

_LAUNCHERS = (TorchElasticEnvironment, SLURMEnvironment, LSFEnvironment, MPIEnvironment)

Step = Callable[[AbstractContextManager[object]], object]
"""A training step: forward pass and loss inside the context, backward pass and optimizer outside it."""


@dataclass(frozen=True)
class Precision:
    """The precision of a training run, and the measurements it was chosen by.

    Attributes:
        name: Lightning's name for the precision.
        samples_per_second: Measured throughput of each precision; empty if nothing was measured.
    """

    name: str
    samples_per_second: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        rates = ", ".join(f"{rate:.0f} in {name}" for name, rate in self.samples_per_second.items())
        return f"{self.name} ({rates} samples per second)" if rates else self.name


def processes(config: Config) -> tuple[int, int]:
    """Return the numbers of processes per node and of nodes; torchrun overrides params.yaml."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    return config.trainer.devices, config.trainer.num_nodes


def check_launched(config: Config) -> None:
    """Check that this process can meet those of the other nodes.

    Raises:
        StageError: params.yaml asks for several nodes, and nothing tells where the others are. The training
            would wait for them.
    """
    nodes = processes(config)[1]
    if nodes == 1 or "MASTER_ADDR" in os.environ:
        return
    if not any(launcher.detect() for launcher in _LAUNCHERS):
        raise StageError(
            f"params.yaml: trainer.num_nodes: {nodes} nodes, but nothing tells this process where the others "
            "are. Start it with torchrun on each node, or on a Ray cluster with python -m "
            "src.search.train; or set trainer.num_nodes to 1."
        )


def is_first() -> bool:
    """Return whether this process is the one that writes; works before Lightning starts the others."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0


def accelerator(config: Config) -> str:
    """Return Lightning's name for the device to train on, ``cuda`` or ``cpu``.

    Raises:
        StageError: params.yaml asks for a device that does not exist here, or for too many GPUs.
    """
    name = config.trainer.accelerator
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    elif name == "cuda" and not torch.cuda.is_available():
        raise StageError("params.yaml: trainer.accelerator: no CUDA device is available; use auto")
    devices = processes(config)[0]
    if name == "cuda" and devices > (found := torch.cuda.device_count()):
        raise StageError(
            f"params.yaml: trainer.devices: {devices} processes (torchrun's --nproc_per_node takes "
            f"precedence), but only {found} GPUs are available; each process needs one"
        )
    return name


def choose_precision(config: Config, make_step: Callable[[], Step], samples: int) -> Precision:
    """Return the precision that params.yaml asks for, or the faster one for ``auto``.

    On GPUs, ``auto`` means bf16 if they support it natively. On CPUs, both precisions are timed, and
    bf16 is chosen if it is at least 10 % faster. All processes use what the first one measures.

    Args:
        config: Parameters of the pipeline.
        make_step: Function that makes a training step with a model and optimizer of its own.
        samples: Number of samples in one step of this process.

    Raises:
        StageError: The requested hardware does not exist here, or there is not enough of it.
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
        # Lightning starts the other processes later, and each of them would measure on its own.
        return Precision(FLOAT32)
    rates = {name: samples / value for name, value in seconds.items()}
    return Precision(BF16 if rates[BF16] >= GAIN * rates[FLOAT32] else FLOAT32, rates)


def _seconds_of_first_process(make_step: Callable[[], Step]) -> dict[str, float]:
    """Return the timings of the first process, while the others leave the cores to it."""
    if not torch.distributed.is_initialized():
        # Lightning uses an existing process group.
        torch.distributed.init_process_group("gloo")
    seconds = dict.fromkeys((FLOAT32, BF16), 0.0)
    if torch.distributed.get_rank() == 0:
        seconds = _seconds_per_step(make_step())
    shared = torch.tensor(list(seconds.values()), dtype=torch.float64)
    torch.distributed.broadcast(shared, src=0)
    return dict(zip(seconds, shared.tolist(), strict=True))


def _seconds_per_step(step: Step) -> dict[str, float]:
    """Time a step on the CPU in both precisions alternately, after one warm-up step of each."""
    contexts: dict[str, Callable[[], AbstractContextManager[object]]] = {
        FLOAT32: partial(torch.autocast, "cpu", torch.bfloat16, enabled=False),
        # The same arguments as in Lightning's precision plugin.
        BF16: partial(torch.autocast, "cpu", torch.bfloat16, cache_enabled=False),
    }
    times: dict[str, list[float]] = {name: [] for name in contexts}
    # Kernels are selected and memory is allocated in the first step.
    for context in contexts.values():
        _timed(step, context)
    end, pair = time.perf_counter() + MEASURED_SECONDS, 0.0
    while not pair or (len(times[BF16]) < _MEASURED_STEPS and time.perf_counter() + pair < end):
        for name, context in contexts.items():
            times[name].append(_timed(step, context))
        pair = sum(seconds[-1] for seconds in times.values())
    # Other load only makes a step slower, so the fastest one shows what the hardware can do.
    return {name: min(seconds) for name, seconds in times.items()}


def _timed(step: Step, context: Callable[[], AbstractContextManager[object]]) -> float:
    start = time.perf_counter()
    step(context())
    return time.perf_counter() - start
