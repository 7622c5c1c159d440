"""Single random values: what they depend on, and their ranges."""

from __future__ import annotations

import numpy as np

from src.generators.holdout.dice import Dice


def rolls(index: int, seed: int = 1, stream: str = "a") -> list[object]:
    dice = Dice(seed, stream, index)
    return [
        dice.uniform(),
        dice.integer(0, 10**6),
        dice.pick("abcdefgh"),
        dice.clouds((8, 8), 2).sum(),
    ]


def test_values_depend_on_seed_stream_and_index_alone() -> None:
    assert rolls(3) == rolls(3)
    others = [rolls(4), rolls(3, seed=2), rolls(3, stream="b")]
    assert all(other[:2] != rolls(3)[:2] for other in others)


def test_ranges() -> None:
    dice = Dice(1, "ranges", 0)
    integers = {dice.integer(2, 4) for _ in range(100)}
    assert integers == {2, 3, 4}
    uniforms = [dice.uniform(-1, 3) for _ in range(500)]
    assert -1 <= min(uniforms) < -0.8
    assert 2.8 < max(uniforms) < 3
    indices = [dice.index((0.0, 0.25, 0.75)) for _ in range(1000)]
    assert set(indices) == {1, 2}
    assert 0.7 < np.mean(np.array(indices) == 2) < 0.8
    assert 0.2 < np.mean([dice.chance(0.25) for _ in range(1000)]) < 0.3


def test_clouds_are_smooth_and_fill_their_range() -> None:
    clouds = Dice(1, "clouds", 0).clouds((60, 80), 4)
    assert clouds.shape == (60, 80)
    assert (clouds.min(), clouds.max()) == (0, 1)
    assert np.abs(np.diff(clouds, axis=1)).max() < 0.15
