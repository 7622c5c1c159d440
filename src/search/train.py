"""Train a network on several machines with Ray: ``python -m src.search.train ocr`` (or ``localize``).

It does what ``python -m src.ocr.train`` does, in ``trainer.devices`` processes on each of
``trainer.num_nodes`` nodes of the cluster that params.yaml names. The workspace must be a folder that all
nodes share. Where a node is lost, Ray starts the processes again, on another node if there is one, and they
go on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError, UserError
from ..core.program import program
from ..engine.ray_cluster import connect
from ..localize import train as localize
from ..ocr import train as ocr

STAGES: dict[str, Callable[..., None]] = {"localize": localize.main, "ocr": ocr.main}
"""Training stages by the name of their task."""
LOST_NODES = 20
"""Number of lost nodes after which the training is given up."""
_STATE = Path(".ray")
"""Folder of the workspace for what Ray's processes share; that of a task is deleted in the end."""


@dataclass(frozen=True)
class _Job:
    """What each process of a training is given.

    Attributes:
        config: Parameters of the pipeline.
        task: Task of the network.
        workspace: Folder that the paths of the parameters are relative to, the same on all nodes.
        failure: File for the message of an error that a user can fix.
        on_gpus: Whether each process has a GPU.
    """

    config: Config
    task: str
    workspace: Path
    failure: Path
    on_gpus: bool


def main(config: Config, task: str) -> None:
    """Train the network of a task in the cluster.

    Raises:
        StageError: The prepared set is missing, the training failed, or too many nodes were lost.
        ClusterError: Ray is not installed, or no cluster answers.
    """
    check_prepared(config, task)
    # Ray Train would print lines of standard error twice.
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")
    connect(config.cluster)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    state = _STATE.absolute() / task
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    failure = state / "error.txt"
    workers = config.trainer.devices * config.trainer.num_nodes
    resources = resources_of(config)
    _say_if_short(resources, workers)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"job": _Job(config, task, Path.cwd(), failure, "GPU" in resources)},
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu="GPU" in resources,
            resources_per_worker=resources,
            placement_strategy="PACK" if config.trainer.devices > 1 else "SPREAD",
        ),
        run_config=RunConfig(
            name="train",
            storage_path=str(state),
            failure_config=FailureConfig(max_failures=LOST_NODES),
        ),
    )
    try:
        trainer.fit()
        if failure.exists():
            raise StageError(failure.read_text(encoding="utf-8"))
    except TrainingFailedError as error:
        raise StageError(f"the training in the cluster failed: {error}") from error
    finally:
        shutil.rmtree(state, ignore_errors=True)


def check_prepared(config: Config, task: str) -> None:
    """Check that the sets of a task are there.

    Raises:
        StageError: They are not; the message names the stage that makes them.
    """
    for split in ("train", "val"):
        path = config.prepared(task) / split / "meta.json"
        if not path.is_file():
            raise StageError(
                f"{path.parent}: there is no prepared set. Run `dvc repro prepare_{task}` first, or "
                f"`dvc pull prepare_{task}` for the one of dvc.lock."
            )


def resources_of(config: Config) -> dict[str, float]:
    """Return what Ray reserves for each process: a GPU, or an equal share of a node's cores.

    The cores are those of the smallest node, so that a process has as many wherever it is started again: on
    a CPU the number of threads changes the last bits of sums.
    """
    import ray

    name = config.trainer.accelerator
    if name == "cuda" or (name == "auto" and ray.cluster_resources().get("GPU")):
        return {"CPU": 1, "GPU": 1}
    cores = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    smallest = min((count for count in cores if count), default=1.0)
    return {"CPU": max(1, smallest // config.trainer.devices)}


def _say_if_short(resources: dict[str, float], workers: int) -> None:
    import ray

    there = ray.cluster_resources()
    for name, each in resources.items():
        if there.get(name, 0.0) < each * workers:
            print(
                f"The training needs {each * workers:g} {name}s in {workers} processes, and the cluster has "
                f"{there.get(name, 0.0):g}: waiting for more nodes.",
                file=sys.stderr,
            )


def _work(given: dict[str, _Job]) -> None:
    """Train in one of the processes.

    The process that meets an error that a user can fix leaves its message and fails: others may wait for it.
    Ray starts all of them again, and they find the message.
    """
    job = given["job"]
    os.chdir(job.workspace)
    if job.failure.exists():
        return
    try:
        _as_torchrun(job)
        STAGES[job.task](job.config)
    except UserError as error:
        own = job.failure.with_name(f".{job.failure.name}.{os.environ['RANK']}")
        own.write_text(str(error), encoding="utf-8")
        own.replace(job.failure)
        raise


def _as_torchrun(job: _Job) -> None:
    """Set what torchrun would set beside Ray, so that Lightning and the stage take Ray's processes as its.

    On CPUs each process counts as a node, since Ray puts them wherever there is room, perhaps not the same
    number on each node.

    Raises:
        StageError: A node has another number of GPU processes than ``trainer.devices``.
    """
    variables = os.environ
    if job.on_gpus:
        found, devices = int(variables["LOCAL_WORLD_SIZE"]), job.config.trainer.devices
        if found != devices:
            raise StageError(
                f"params.yaml: trainer.devices: {devices} processes a node, but Ray started {found} on "
                "a node. Give it nodes with that many GPUs, or set trainer.devices to theirs."
            )
        variables["GROUP_RANK"] = variables["NODE_RANK"]
    else:
        variables["GROUP_RANK"] = variables["RANK"]
        variables["LOCAL_RANK"], variables["LOCAL_WORLD_SIZE"] = "0", "1"
    variables["TORCHELASTIC_RUN_ID"] = "ray"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog=program("search.train"),
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("task", choices=STAGES, help="network to train")
    return parser.parse_args(arguments)


def command(arguments: Sequence[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: An error occurred; its message is shown to the user.
    """
    run_stage(partial(main, task=parse(arguments).task))


if __name__ == "__main__":
    command()
