"""Work on a pretend cluster of a head and two workers: the same bytes as on one machine, also where a node or
the driver is killed in the middle.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import pytest

from src import fetch_backgrounds
from src.config import Config, load_config
from src.datasets.prepare import SceneSource, StreetMix
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.engine.ray_cluster import RayEngine, connect
from src.engine.tasks import LocalEngine
from src.localize import prepare as prepare_localize
from src.ocr import prepare as prepare_ocr
from src.read.__main__ import main as read
from src.stack import prepare as prepare_stack
from tests.bundles import scene, write_bundle
from tests.conftest import PARAMETERS
from tests.scripts.conftest import S3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
STORE = 100 * 2**20
"""Bytes of a node's object store: /dev/shm may be small."""
NOTICED = {
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}
"""Ray's settings with which a dead node is noticed after two seconds, not fifteen."""


def _resources() -> dict[str, int]:
    """Return a node's memory, and free ports for its agents.

    Otherwise it waits for them to name theirs, and dies after fifteen seconds: little on a busy machine.
    """
    names = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for each in sockets:
            each.bind(("", 0))
        ports = [each.getsockname()[1] for each in sockets]
    named = {f"{name}_port": port for name, port in zip(names, ports, strict=True)}
    return {"object_store_memory": STORE, **named}


class Nodes:
    """A cluster on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # No work on the head, so that all of it can be lost.
        head = {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICED}
        self._cluster = Cluster(initialize_head=True, head_node_args=head | _resources())
        self.address: str = self._cluster.address
        self._workers: list[Any] = []

    def fill(self) -> None:
        """Start nodes until there are two workers."""
        while len(self._workers) < 2:
            self._workers.append(self._cluster.add_node(num_cpus=1, **_resources()))

    def kill_one(self) -> None:
        """Kill a worker node with all its processes, as when a machine goes away."""
        self._cluster.remove_node(self._workers.pop(), allow_graceful=False)

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def environment(s3_server: tuple[str, dict[str, str]]) -> Iterator[None]:
    """Variables that the nodes are started with: nobody else's token, and an S3 server."""
    url, keys = s3_server
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        yield


@pytest.fixture(scope="module")
def cluster(environment: None) -> Iterator[Nodes]:
    nodes = Nodes()
    try:
        yield nodes
    finally:
        nodes.stop()


@pytest.fixture
def nodes(cluster: Nodes) -> Nodes:
    cluster.fill()
    # Nodes import these tests from the current folder of when they were connected to.
    connect(cluster.address)
    return cluster


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("workspace")
    whole = load_config(PARAMETERS)
    small = {
        name: getattr(whole, name).model_copy(update={"MAX_IMAGES": 20})
        for name in ("PrepareLocalizeParams", "PrepareOCRParams", "PrepareStackParams")
    }
    config = whole.model_copy(
        update={
            **small,
            "MULTIPROCESSING": False,
            "dataset_path": str(folder / "datasets"),
            "backgrounds": whole.backgrounds.model_copy(update={"source": "procedural"}),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_backgrounds, "PROCEDURAL_COUNTS", {"train": 40, "val": 20})
        fetch_backgrounds.write_backgrounds(config)
    return config


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Any tasks


def note(state: str, task: int) -> tuple[str, int, str, str]:
    import src.engine.tasks

    return state, os.getpid(), src.engine.tasks.__file__, os.environ["OMP_NUM_THREADS"]


def start_state() -> str:
    return f"state of {os.getpid()}"


def fail(state: str, task: int) -> int:
    if task == 5:
        raise KeyError("the fifth")
    return task


def test_every_task_has_its_output_and_each_process_starts_once(nodes: Nodes) -> None:
    found = dict(RayEngine(nodes.address).map(start_state, note, range(60)))
    assert sorted(found) == list(range(60))
    assert all(state == f"state of {process}" for state, process, *_ in found.values())
    assert len({process for _, process, *_ in found.values()}) >= 2
    assert {threads for *_, threads in found.values()} == {"1"}


def test_no_task_is_no_output(nodes: Nodes) -> None:
    assert list(RayEngine(nodes.address).map(start_state, note, [])) == []


def test_the_exception_of_a_task_is_raised(nodes: Nodes) -> None:
    with pytest.raises(KeyError, match="the fifth"):
        list(RayEngine(nodes.address).map(start_state, fail, range(20)))


def test_few_tasks_are_taken_ahead(nodes: Nodes) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for i in range(10**9):
            taken += 1
            yield i

    outputs = RayEngine(nodes.address).map(start_state, note, tasks())
    for _ in range(50):
        next(outputs)
    assert taken <= 256 + 50 + 100
    outputs.close()  # type: ignore[attr-defined]  # a generator


def leave_mark(state: str, folder: Path) -> None:
    (folder / str(time.time_ns())).touch()
    time.sleep(0.05)


def test_tasks_in_flight_end_with_their_map(nodes: Nodes, tmp_path: Path) -> None:
    """And that does not abort this process, as canceling tasks one by one does now and then."""
    for _ in range(3):
        outputs = RayEngine(nodes.address).map(start_state, leave_mark, repeat(tmp_path))
        for _ in range(20):
            next(outputs)
        outputs.close()  # type: ignore[attr-defined]  # a generator
        # Processes are told to end, and do so soon.
        time.sleep(2)
        done = len(list(tmp_path.iterdir()))
        time.sleep(1)
        assert len(list(tmp_path.iterdir())) == done


# Prepared sets


@pytest.mark.parametrize("task", ["localize", "ocr", "stack"])
def test_a_stage_writes_the_same_bytes(
    nodes: Nodes, config: Config, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Relative paths, as in params.yaml; workers have another current folder.
    monkeypatch.chdir(tmp_path)
    Path("datasets").symlink_to(config.dataset_path)
    stage = {"localize": prepare_localize, "ocr": prepare_ocr, "stack": prepare_stack}[task]
    for engine in ("local", "ray"):
        places = {"prepared_data_path": f"{engine}/prepared", "out_path": f"{engine}/out"}
        where = {"engine": engine, "cluster": nodes.address, "dataset_path": "datasets"}
        stage.main(config.model_copy(update={**places, **where}))
    expected = hashes(Path("local"))
    assert len(expected) > 10
    assert hashes(Path("ray")) == expected


@dataclass
class Slowly:
    """Makes shards of a maker, each after a pause."""

    make: Callable[[range], Shard]
    seconds: float

    def __call__(self, indices: range) -> Shard:
        time.sleep(self.seconds)
        return self.make(indices)


def windows(config: Config, seconds: float = 0) -> Slowly:
    mix = StreetMix(0.5, obstacles=0.3)
    source = SceneSource(config, config.PrepareOCRParams.SEED, "ocr", "train", 256, 0.5, mix)
    return Slowly(prepare_ocr.PlateWindows(source, 0.3, 0.3), seconds)


class KillingEngine(RayEngine):
    """Kills a node when some tasks are done."""

    nodes: Nodes

    def map(self, *arguments: Any) -> Iterator[Any]:
        for number, output in enumerate(super().map(*arguments)):
            if number == 6:
                self.nodes.kill_one()
            yield output


def killing(nodes: Nodes) -> KillingEngine:
    engine = KillingEngine(nodes.address)
    object.__setattr__(engine, "nodes", nodes)
    return engine


def test_a_lost_node_costs_only_its_shards(nodes: Nodes, config: Config, tmp_path: Path) -> None:
    indices = range(160)
    write_sets([NewSet(tmp_path / "local", indices, windows(config), {})], size=5)
    new = NewSet(tmp_path / "ray", indices, windows(config, 0.15), {})
    write_sets([new], killing(nodes), 5)
    assert hashes(tmp_path / "ray") == hashes(tmp_path / "local")
    assert len(ShardedSet(tmp_path / "ray")) == 160


DRIVER = """
import sys
from pathlib import Path
from src.config import Config
from src.datasets.shards import NewSet, write_sets
from src.engine.ray_cluster import RayEngine
from ray import cloudpickle
from tests.engine import test_cluster

if __name__ == "__main__":
    address, config, folder = sys.argv[1:]
    # Workers have the package from here, but no tests: neither is in the current folder.
    cloudpickle.register_pickle_by_value(test_cluster)
    make = test_cluster.windows(Config.model_validate_json(Path(config).read_text()), 0.15)
    new = NewSet(Path(folder), range(160), make, {})
    write_sets([new], RayEngine(address), 5, Path(folder).with_name(".set-1.partial"))
"""


def test_a_killed_driver_goes_on_with_the_shards_that_are_there(
    nodes: Nodes, config: Config, tmp_path: Path
) -> None:
    write_sets([NewSet(tmp_path / "local", range(160), windows(config), {})], size=5)
    (tmp_path / "driver.py").write_text(DRIVER)
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = [
        sys.executable, str(tmp_path / "driver.py"), nodes.address, str(tmp_path / "config.json"),
        str(tmp_path / "set"),
    ]  # fmt: skip
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, cwd=tmp_path, env=variables, start_new_session=True)
    records = tmp_path / ".set-1.partial" / "records"
    end = time.monotonic() + 200
    while not (records.is_dir() and len(list(records.iterdir())) >= 8):
        assert first.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "set").exists()
    second = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert second.returncode == 0, second.stderr
    complete = int(second.stderr.split(" of 32 shards were complete already")[0].split()[-1])
    assert 8 <= complete < 32
    assert hashes(tmp_path / "set") == hashes(tmp_path / "local")
    assert not records.exists()


# Reading


@pytest.fixture
def bucket(environment: None, s3_server: tuple[str, dict[str, str]]) -> S3:
    """An empty bucket, whose address and keys are in the environment."""
    import boto3

    url, keys = s3_server
    server = S3(url, keys, boto3.client("s3", endpoint_url=url))
    server.client.create_bucket(Bucket=server.bucket)
    return server


def test_reading_a_bucket_survives_a_lost_node(
    nodes: Nodes, bucket: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, content = cv2.imencode(".png", scene("GE65432"))
    for i in range(60):
        body = content.tobytes() if i % 10 else b"broken"
        bucket.client.put_object(Bucket=bucket.bucket, Key=f"in/{i:03d}.png", Body=body)
    model = write_bundle(tmp_path / "bundle")
    source = f"s3://{bucket.bucket}/in"
    size = ["--part-size", "2", "--model", str(model)]
    monkeypatch.setattr("src.engine.tasks.LocalEngine", lambda _: LocalEngine(1))
    assert read([source, "--out", f"s3://{bucket.bucket}/local", *size]) == 1
    monkeypatch.setattr("src.engine.ray_cluster.RayEngine", lambda _: killing(nodes))
    monkeypatch.setattr("src.read.parts.write_part", write_slowly)
    on_ray = [source, "--out", f"s3://{bucket.bucket}/ray", *size, "--engine", "ray"]
    assert read([*on_ray, "--cluster", nodes.address]) == 1

    def contents(folder: str) -> dict[str, str]:
        names = [name for name in bucket.objects() if name.startswith(f"{folder}/")]
        return {
            name.partition("/")[2]: hashlib.sha256(
                bucket.client.get_object(Bucket=bucket.bucket, Key=name)["Body"].read()
            ).hexdigest()
            for name in names
        }

    expected = contents("local")
    assert len(expected) == 33
    assert contents("ray") == expected


def write_slowly(writer: Any, part: Any) -> Any:
    time.sleep(0.2)
    return writer.write(part)
