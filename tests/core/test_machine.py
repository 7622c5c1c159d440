"""What the machine offers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from src.core import machine
from src.core.machine import available_cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of control groups of a machine with 64 cores; the process is in none."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    return tmp_path / "groups"


def member(groups: Path, *lines: str) -> None:
    (groups.parent / "membership").write_text("".join(f"{line}\n" for line in lines))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_cores_are_those_that_are_granted(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cores() == 64
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    assert available_cores() == 3


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("25000 5000", 5),
        ("9900000 100000", 64),
    ],
)
def test_a_container_with_a_quota(groups: Path, quota: str, cores: int) -> None:
    member(groups, "0::/")
    write(groups / "cpu.max", f"{quota}\n")
    assert available_cores() == cores


def test_the_smallest_quota_of_the_groups_above_counts(groups: Path) -> None:
    member(groups, "1:name=systemd:/", "0::/kubepods.slice/pod.slice/server.scope")
    write(groups / "kubepods.slice" / "cpu.max", "6000000 100000\n")
    write(groups / "kubepods.slice" / "pod.slice" / "cpu.max", "300000 100000\n")
    write(groups / "kubepods.slice" / "pod.slice" / "server.scope" / "cpu.max", "max 100000\n")
    write(groups / "other.slice" / "cpu.max", "100000 100000\n")
    assert available_cores() == 3


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct", "cpuacct,cpu"])
@pytest.mark.parametrize(("quota", "cores"), [("-1", 64), ("400000", 4), ("1000", 1)])
def test_control_groups_of_version_1(
    groups: Path, controllers: str, quota: str, cores: int
) -> None:
    member(groups, "3:cpuset:/elsewhere", f"4:{controllers}:/docker/0123", "0::/")
    # The container sees its own group at the top, under the host's name of it.
    write(groups / "cpu" / "cpu.cfs_quota_us", f"{quota}\n")
    write(groups / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert available_cores() == cores


def test_this_machine() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
