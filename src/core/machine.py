"""Resources of this machine."""

from __future__ import annotations

import math
import os
from pathlib import Path, PurePosixPath

_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Return the number of cores this process may use, at least 1.

    Affinity and CPU quota may restrict it, which schedulers and containers set. A quota of 1.5 cores
    counts as two.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cpu_quota())))


def _cpu_quota() -> float:
    """Return the CPU quota in cores of this process's control groups; infinity where there is none.

    Source: Linux's Documentation/admin-guide/cgroup-v2.rst (cpu.max) and
    Documentation/scheduler/sched-bwc.rst (cpu.cfs_quota_us).
    """
    quota = math.inf
    try:
        memberships = _MEMBERSHIP.read_text(encoding="utf-8").splitlines()
    except OSError:
        return quota  # Not Linux.
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        # A group is bound by the quotas of those above it, too. Inside a container the path may be
        # the host's, while the container's own group is mounted at the top.
        group = PurePosixPath(path)
        for each in (group, *group.parents):
            name = each.relative_to("/")
            read = _quota_v1(_GROUPS / "cpu" / name) if controllers else _quota_v2(_GROUPS / name)
            quota = min(quota, read)
    return quota


def _quota_v1(group: Path) -> float:
    try:
        used = int((group / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period = int((group / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except OSError:
        return math.inf
    return used / period if used > 0 else math.inf


def _quota_v2(group: Path) -> float:
    try:
        used, period = (group / "cpu.max").read_text(encoding="ascii").split()
    except OSError:
        return math.inf
    return math.inf if used == "max" else int(used) / int(period)
