"""Training in a pretend cluster: a node that dies costs time, and changes no bit."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from src.config import load_config
from src.models.registry import load_localizer
from src.search import train
from tests.conftest import ROOT, set_params, set_texts
from tests.search.clusters import Cluster, add_node, pretend_cluster

TORCHRUN = [
    "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0",
    "--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0",
]  # fmt: skip
CHECKPOINTS = Path("out/checkpoints/localize")


def environment(**others: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **others}


def sha256_of_weights(folder: Path) -> str:
    state = load_localizer(folder / "out/models/localize/model.safetensors").state_dict()
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


def curves(folder: Path) -> dict[str, list[float]]:
    plots = folder / "out/runs/localize/plots/metrics/val"
    return {
        path.stem: pd.read_csv(path, sep="\t")[path.stem].tolist()
        for path in sorted(plots.glob("*.tsv"))
    }


@pytest.fixture
def workspace(tiny_workspace: Path) -> Path:
    set_texts(tiny_workspace, "precision: auto", "precision: 32-true")
    params = {"EPOCHS": 12, "VALIDATE_EVERY": 2, "PATIENCE": 1000, "LR": 0.003}
    set_params(
        tiny_workspace, {f"TrainLocalizeParams.{name}": value for name, value in params.items()}
    )
    return tiny_workspace


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Cluster, list[Any]]]:
    with pretend_cluster(nodes=2) as made:
        yield made


def begun(workspace: Path, cluster: Cluster) -> subprocess.Popen[str]:
    set_texts(workspace, "num_nodes: 1", "num_nodes: 2")
    return subprocess.Popen(
        [sys.executable, "-m", "src.search.train", "localize"],
        cwd=workspace, env=environment(RAY_ADDRESS=cluster.address),
        stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_error_that_a_user_can_fix_ends_the_training(
    workspace: Path, cluster: tuple[Cluster, list[Any]]
) -> None:
    """It is not tried again and again, as a lost node is."""
    set_params(workspace, {"BATCH_SIZE": 15})
    training = begun(workspace, cluster[0])
    output = training.communicate(timeout=500)[0]
    assert training.returncode == 1, output
    message = (
        "error: params.py: BATCH_SIZE: 15 is not divisible by the 2 processes set in params.yaml"
    )
    assert message in output
    # Lines of processes that are ending may come later.
    assert "TrainingFailedError" not in output[output.index(message) :]
    assert not list((workspace / ".ray").iterdir())
    assert not (workspace / "out/models").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_lost_node_is_replaced_and_changes_no_bit(
    workspace: Path, cluster: tuple[Cluster, list[Any]]
) -> None:
    last = workspace / CHECKPOINTS / "last.ckpt"
    training = begun(workspace, cluster[0])
    while not last.exists() and training.poll() is None:
        time.sleep(0.01)
    started = time.monotonic()
    cluster[0].remove_node(cluster[1][1], allow_graceful=False)
    step = torch.load(last, weights_only=True)["global_step"] if last.exists() else None
    add_node(cluster[0])
    output = training.communicate(timeout=500)[0]
    assert training.returncode == 0, output
    print(f"{time.monotonic() - started:.1f} s from the loss at step {step} to the end")
    # The last one that was complete, perhaps one after that which was seen.
    (resumed,) = set(map(int, re.findall(r"last\.ckpt: resumed at step (\d+)", output)))
    assert step is not None, output
    assert 0 < step <= resumed < 48
    assert not last.exists()
    interrupted = sha256_of_weights(workspace), curves(workspace)
    assert len(interrupted[1]["quality"]) == 24

    # The same number of processes, and neither Ray nor a loss.
    done = subprocess.run(
        [sys.executable, *TORCHRUN, "-m", "src.localize.train"],
        cwd=workspace, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (sha256_of_weights(workspace), curves(workspace)) == interrupted


def test_a_missing_set_is_told_with_its_stage(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / "data/prepared/localize/train")
    monkeypatch.chdir(workspace)
    with pytest.raises(
        SystemExit, match=r"localize/train: there is no prepared set\. Run `dvc rep"
    ):
        train.command(["localize"])


@pytest.mark.parametrize(
    ("accelerator", "devices", "nodes", "expected"),
    [
        ("auto", 1, [4, 8], {"CPU": 4}),
        ("cpu", 3, [0, 8], {"CPU": 2}),
        ("auto", 4, [2], {"CPU": 1}),
        # Those of an autoscaler are not there yet.
        ("auto", 1, [0], {"CPU": 1}),
        ("cuda", 2, [0], {"CPU": 1, "GPU": 1}),
    ],
)
def test_each_process_has_its_share_of_the_smallest_node(
    accelerator: str,
    devices: int,
    nodes: list[int],
    expected: dict[str, float],
    workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        {"Alive": True, "Resources": {"CPU": float(cores)} if cores else {}} for cores in nodes
    ]
    dead = {"Alive": False, "Resources": {"CPU": 1.0}}
    monkeypatch.setattr("ray.nodes", lambda: [*found, dead])
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": float(sum(nodes))})
    config = load_config(workspace)
    trainer = config.trainer.model_copy(update={"accelerator": accelerator, "devices": devices})
    assert train.resources_of(config.model_copy(update={"trainer": trainer})) == expected
