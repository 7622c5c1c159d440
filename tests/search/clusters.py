"""A pretend cluster: the nodes of Ray on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

from ray.cluster_utils import Cluster

OBJECT_STORE = 80 * 2**20
"""Bytes of each node's object store, about the least that Ray takes."""
# A dead node is noticed after five seconds instead of a quarter of a minute. Less would take nodes for dead
# that wait for a core, as where other tests run beside this one.
_NOTICED = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 5,
}


def add_node(cluster: Cluster, cpus: int = 1) -> Any:
    """Add a node with that many cores, and wait for it."""
    return cluster.add_node(num_cpus=cpus, object_store_memory=OBJECT_STORE)


@contextmanager
def pretend_cluster(nodes: int, cpus: int = 1) -> Iterator[tuple[Cluster, list[Any]]]:
    """Yield a cluster with a head without work, and its nodes."""
    # Paths of sockets may have 107 bytes; those of pytest's folders are longer.
    folder = tempfile.mkdtemp(prefix="ray")
    head = {
        "num_cpus": 0,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "temp_dir": folder,
        "_system_config": _NOTICED,
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield cluster, [add_node(cluster, cpus) for _ in range(nodes)]
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
