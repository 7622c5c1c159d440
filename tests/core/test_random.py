"""Random numbers by (seed, stream, index): the same in any block, and of the right distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from src.core.random import Draws

SEEDS = st.integers(min_value=0, max_value=2**63 - 1)


def _everything(draws: Draws) -> NDArray[np.float64]:
    """One of each kind of draw: ``(n, 9)``."""
    columns = [
        draws.uniform()[:, None],
        draws.uniform(-1, 1, (3,)),
        draws.integers(0, 9)[:, None],
        draws.choice([1, 2, 3])[:, None],
        draws.chance(0.3)[:, None],
        draws.normal((2,)),
    ]
    return np.concatenate(columns, axis=1)


@given(SEEDS, st.lists(st.integers(0, 2**40), min_size=1, max_size=20, unique=True), st.data())
def test_a_sample_depends_on_seed_and_index_alone(
    seed: int, indices: list[int], data: st.DataObject
) -> None:
    whole = _everything(Draws(seed, "scene", indices))
    order = data.draw(st.permutations(range(len(indices))))
    cut = data.draw(st.integers(0, len(indices)))
    for part in (order[:cut], order[cut:]):
        if part:
            some = _everything(Draws(seed, "scene", [indices[i] for i in part]))
            np.testing.assert_array_equal(some, whole[part])


@given(SEEDS)
def test_streams_seeds_and_indices_differ(seed: int) -> None:
    first = Draws(seed, "train", [0, 1, 2]).uniform(shape=(4,))
    assert len(np.unique(first)) == first.size
    assert not np.isin(first, Draws(seed, "val", [0, 1, 2]).uniform(shape=(4,))).any()
    assert not np.isin(first, Draws(seed + 1, "train", [0, 1, 2]).uniform(shape=(4,))).any()


def test_the_numbers_are_these() -> None:
    """A change of the hash changes every prepared set: let it be on purpose."""
    numbers = Draws(25032023, "scene", [0, 1, 10**9]).uniform(shape=(2,))
    np.testing.assert_allclose(numbers, EXPECTED, rtol=0, atol=1e-15)


EXPECTED = [
    [0.5855924930766682, 0.05772411821897483],
    [0.114239307200653, 0.029194001092554767],
    [0.7418936229129676, 0.3543465190669979],
]


def test_uniform_numbers_are_uniform() -> None:
    numbers = Draws(1, "uniform", np.arange(100_000)).uniform(2, 4)
    assert ((numbers >= 2) & (numbers < 4)).all()
    counts, _ = np.histogram(numbers, bins=50, range=(2, 4))
    chi_square = ((counts - 2000) ** 2 / 2000).sum()
    assert chi_square < 85  # 49 degrees of freedom: 0.1 % of uniform samples exceed it


def test_neighbouring_samples_and_draws_are_independent() -> None:
    numbers = Draws(2, "independent", np.arange(50_000)).uniform(shape=(2,))
    pairs = [(numbers[:-1, 0], numbers[1:, 0]), (numbers[:, 0], numbers[:, 1])]
    for first, second in pairs:
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.02


def test_integers_include_both_ends() -> None:
    numbers = Draws(3, "integers", np.arange(10_000)).integers(-2, 2)
    assert set(numbers.tolist()) == {-2, -1, 0, 1, 2}


def test_choice_follows_the_weights() -> None:
    weights = [0.05, 0.0, 0.2, 0.75]
    picks = Draws(4, "choice", np.arange(50_000)).choice(weights)
    np.testing.assert_allclose(np.bincount(picks, minlength=4) / 50_000, weights, atol=0.01)
    assert not (picks == 1).any()


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_chance_follows_the_probability(probability: float) -> None:
    share = Draws(5, "chance", np.arange(50_000)).chance(probability).mean()
    assert share == pytest.approx(probability, abs=0.01 if 0 < probability < 1 else 0)


def test_normal_numbers_are_normal() -> None:
    numbers = Draws(6, "normal", np.arange(100_000)).normal()
    assert np.isfinite(numbers).all()
    assert numbers.mean() == pytest.approx(0, abs=0.02)
    assert numbers.std() == pytest.approx(1, abs=0.02)
    assert (np.abs(numbers) > 1.96).mean() == pytest.approx(0.05, abs=0.005)
