"""Resources of this machine."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Return the number of cores this process may use; containers and schedulers may restrict it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
