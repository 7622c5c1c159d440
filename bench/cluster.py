"""What an engine costs, what a lost node costs, and how large a set may be.

    python bench/cluster.py [--samples 8000] [--shard 200] [--json]
    python bench/cluster.py --set 1000000 [--folder DIR] [--json]

The first command draws a set for the recognizer with as many processes on all engines: this machine's, a
pretend Ray cluster of one node, one of two nodes, and the same with one node killed half way and replaced.
The bytes of all are compared. It also times tasks that do nothing.

With --set, one set is drawn with all cores of this machine, as by the stage; then random samples are read.
The default parameters of params.py are used, over procedural backgrounds unless data/datasets/backgrounds
exists.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generator import with_backgrounds

from src.config import Config, load_config
from src.core.errors import UserError
from src.core.machine import available_cores
from src.core.random import Draws
from src.datasets.prepare import SceneSource, StreetMix
from src.datasets.shards import NewSet, ShardedSet, write_sets
from src.engine.ray_cluster import RayEngine
from src.engine.tasks import Engine, LocalEngine
from src.localize.prepare import ZoomedScenes
from src.ocr.prepare import PlateWindows

EMPTY_TASKS = 2000
READ = 20_000
STORE_BYTES = 150 * 2**20
HEALTH = {
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 3,
    "health_check_initial_delay_ms": 0,
}
"""A dead node is noticed after two seconds; by Ray's defaults after fifteen."""


class Nodes:
    """A pretend cluster on this machine, with a head that does no work.

    Args:
        nodes: Number of worker nodes.
        cores: Number of CPUs of each.
    """

    def __init__(self, nodes: int, cores: int) -> None:
        from ray.cluster_utils import Cluster

        self._cores = cores
        head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self._cluster = Cluster(True, head_node_args={**head, "_system_config": HEALTH})
        self.address: str = self._cluster.address
        self._nodes = [self._add() for _ in range(nodes)]

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=self._cores, object_store_memory=STORE_BYTES)

    def replace_one(self) -> None:
        """Kill a node, and start another one."""
        self._cluster.remove_node(self._nodes.pop(), allow_graceful=False)
        self._nodes.append(self._add())

    def stop(self) -> None:
        """Disconnect and end all nodes."""
        import ray

        ray.shutdown()
        self._cluster.shutdown()


@contextmanager
def cluster(nodes: int, cores: int) -> Iterator[Nodes]:
    """Yield a cluster, and end it."""
    started = Nodes(nodes, cores)
    try:
        yield started
    finally:
        started.stop()


class Killing(RayEngine):
    """Engine of a cluster that loses a node after a number of tasks."""

    nodes: Nodes
    after: int

    def map(self, *arguments: Any) -> Iterator[Any]:
        """Call ``RayEngine.map``."""
        for number, output in enumerate(super().map(*arguments)):
            if number == self.after:
                self.nodes.replace_one()
            yield output


def recognizer_set(config: Config, folder: Path, samples: int) -> NewSet:
    """Return a set of crops, as of the stage prepare_ocr."""
    params = config.PrepareOCRParams
    mix = StreetMix(params.STREET_SHARE, (params.STREET_WIDTH[0], params.STREET_WIDTH[1]))
    side, structure = params.IMG_SIZE[0], params.STRUCTURE_PROBABILITY
    source = SceneSource(config, params.SEED, "ocr", "train", side, structure, mix)
    return NewSet(folder, range(samples), PlateWindows(source, params.MARGIN, params.CUT_SHARE), {})


def localizer_set(config: Config, folder: Path, samples: int) -> NewSet:
    """Return a set of scenes, as of the stage prepare_localize."""
    params = config.PrepareLocalizeParams
    mix = StreetMix(params.STREET_SHARE, (params.STREET_WIDTH[0], params.STREET_WIDTH[1]), False)
    side, structure = config.LocalizeParams.IMG_SHAPE[1], params.STRUCTURE_PROBABILITY
    source = SceneSource(config, params.SEED, "localize", "train", side, structure, mix)
    return NewSet(folder, range(samples), ZoomedScenes(source), {})


def nothing(state: None, task: int) -> int:
    """Do nothing."""
    return task


def no_state() -> None:
    """Return no state."""


def timed(engine: Engine, new: NewSet, shard: int) -> float:
    """Return the seconds that a set takes, once the workers have started."""
    list(engine.map(no_state, nothing, range(available_cores() * 2)))
    start = time.perf_counter()
    write_sets([new], engine, shard)
    return time.perf_counter() - start


def empty_task_ms(engine: Engine) -> float:
    """Return the milliseconds that a task costs which does nothing."""
    list(engine.map(no_state, nothing, range(available_cores() * 2)))
    start = time.perf_counter()
    list(engine.map(no_state, nothing, range(EMPTY_TASKS)))
    return (time.perf_counter() - start) / EMPTY_TASKS * 1e3


def compare(config: Config, folder: Path, samples: int, shard: int) -> dict[str, Any]:
    """Measure all engines.

    Raises:
        AssertionError: The bytes differ.
    """
    cores = max(2, available_cores())
    rows: dict[str, Any] = {}

    def measure(name: str, engine: Engine) -> None:
        new = recognizer_set(config, folder / name, samples)
        rows[name] = {"seconds": timed(engine, new, shard)}
        meta = [json.loads((folder / each / "meta.json").read_text()) for each in rows]
        if any(each != meta[0] for each in meta):
            raise AssertionError(f"{name}: the bytes differ from those of the first engine")

    local = LocalEngine(cores)
    measure("local", local)
    rows["local"]["empty_task_ms"] = empty_task_ms(local)
    with cluster(1, cores) as nodes:
        engine = RayEngine(nodes.address)
        measure("one node", engine)
        rows["one node"]["empty_task_ms"] = empty_task_ms(engine)
    with cluster(2, cores // 2) as nodes:
        engine = RayEngine(nodes.address)
        measure("two nodes", engine)
        rows["two nodes"]["empty_task_ms"] = empty_task_ms(engine)
        killing = Killing(nodes.address)
        # Frozen, as engines are.
        vars(killing).update(nodes=nodes, after=10**9)
        list(killing.map(no_state, nothing, range(4)))
        vars(killing).update(after=samples // shard // 2)
        measure("two nodes, one killed", killing)
    for row in rows.values():
        row["samples_per_second"] = samples / row["seconds"]
        row["overhead"] = row["seconds"] / rows["local"]["seconds"] - 1
    lost = rows["two nodes, one killed"]["seconds"] - rows["two nodes"]["seconds"]
    return {"cores": cores, "samples": samples, "seconds_lost": lost, "engines": rows}


class Watched(LocalEngine):
    """Engine that notes the largest memory of a worker."""

    peak: list[float]

    def map(self, *arguments: Any) -> Iterator[Any]:
        """Call ``LocalEngine.map``."""
        for output in super().map(*arguments):
            children = psutil.Process().children()
            self.peak[0] = max(self.peak[0], *(_peak_mb(each.pid) for each in children), 0)
            yield output


def _peak_mb(pid: int) -> float:
    """Return the largest memory of a process so far, in MB; from Linux's proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _own_mb() -> float:
    """Return this process's memory but for pages of mapped files, which Linux can drop at any time."""
    memory = psutil.Process().memory_info()
    return float(memory.rss - memory.shared) / 2**20


def one_set(config: Config, folder: Path, samples: int) -> dict[str, Any]:
    """Draw one set for the localizer, open it, and read random samples."""
    engine = Watched(available_cores())
    # Frozen, as engines are.
    vars(engine).update(peak=[0.0])
    start = time.perf_counter()
    write_sets([localizer_set(config, folder / "set", samples)], engine)
    drawn, before_mb = time.perf_counter(), _own_mb()
    prepared = ShardedSet(folder / "set")
    opened = time.perf_counter()
    chosen = Draws(0, "bench", np.arange(READ)).integers(0, samples - 1)
    for i in chosen.tolist():
        prepared.image(i).max()
    read = time.perf_counter()
    size = sum(path.stat().st_size for path in (folder / "set").iterdir())
    return {
        "cores": available_cores(),
        "samples": samples,
        "shards": prepared.meta["shards"],
        "bytes_per_sample": size / samples,
        "samples_per_second": samples / (drawn - start),
        "open_seconds": opened - drawn,
        "label_bytes_per_sample": float(prepared.labels.memory_usage(deep=True).sum()) / samples,
        "random_reads_per_second": READ / (read - opened),
        "open_shards": Path("/proc/self/maps").read_text().count(f"{folder}/set/images-"),
        "worker_peak_mb": engine.peak[0],
        "driver_drawing_mb": before_mb,
        "driver_reading_mb": _own_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=8000, help="samples (default: 8000)")
    parser.add_argument("--shard", type=int, default=200, help="samples per shard (default: 200)")
    parser.add_argument("--set", type=int, metavar="N", help="draw one set of N samples instead")
    parser.add_argument("--folder", type=Path, help="where (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    # A pretend cluster listens on this machine only, and needs no token.
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        config = load_config()
        if arguments.folder:
            arguments.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
            folder = Path(temporary)
            config = with_backgrounds(config, folder / "datasets")
            if arguments.set:
                result = one_set(config, folder, arguments.set)
            else:
                result = compare(config, folder, arguments.samples, arguments.shard)
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    for name, row in result.pop("engines", {}).items():
        empty = f", {row['empty_task_ms']:.2f} ms an empty task" if "empty_task_ms" in row else ""
        print(
            f"{name:22s} {row['seconds']:7.1f} s, {row['samples_per_second']:6,.0f} samples/s, "
            f"{row['overhead']:+.0%}{empty}"
        )
    for name, value in result.items():
        print(
            f"{name.replace('_', ' ')}: {value:,.1f}"
            if isinstance(value, float)
            else f"{name}: {value}"
        )


if __name__ == "__main__":
    main()
