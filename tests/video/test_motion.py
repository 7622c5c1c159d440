"""Frames are read while something moves."""

from __future__ import annotations

import numpy as np

from src.video.motion import HOLD, MotionGate
from tests.video.footage import empty, frame_with


def test_what_stands_still_is_read_a_few_times() -> None:
    gate = MotionGate()
    opened = [gate.opens(empty()) for _ in range(HOLD + 5)]
    assert opened == [True] * (HOLD + 1) + [False] * 4


def test_a_plate_that_appears_opens_it() -> None:
    gate = MotionGate()
    for _ in range(HOLD + 2):
        gate.opens(empty())
    assert not gate.opens(empty())
    assert gate.opens(frame_with(("ZH123456", 100, 100, 40)))


def test_noise_does_not_open_it() -> None:
    numbers = np.random.default_rng(0)
    gate = MotionGate()
    wide = np.full((720, 1280, 3), 120.0)

    def noisy() -> bool:
        return gate.opens(np.clip(wide + numbers.normal(0, 8, wide.shape), 0, 255).astype(np.uint8))

    assert [noisy() for _ in range(HOLD + 4)][HOLD + 1 :] == [False] * 3


def test_slow_changes_add_up() -> None:
    gate = MotionGate()
    for _ in range(HOLD + 2):
        gate.opens(empty())
    opened = [gate.opens(empty() + np.uint8(step)) for step in range(1, 30)]
    assert not opened[0]
    assert any(opened)
