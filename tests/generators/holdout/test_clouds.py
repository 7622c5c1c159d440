"""Fractal noise."""

from __future__ import annotations

import numpy as np

from src.core.random import draws_of
from src.generators.holdout.clouds import clouds


def test_clouds_are_smooth_and_fill_their_range() -> None:
    found = clouds(draws_of(1, "clouds", 0), (60, 80), 4)
    assert found.shape == (60, 80)
    assert (found.min(), found.max()) == (0, 1)
    assert np.abs(np.diff(found, axis=1)).max() < 0.15
