"""What the machine offers."""

from __future__ import annotations

import os

import pytest

from src.core.machine import available_cores


def test_cores_are_those_that_are_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == 3
