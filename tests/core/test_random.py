"""Random numbers by (seed, stream, index): the same in any block, and of the right distribution."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from src.core.random import Draws, draws_of

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


# One sample, value by value


def values(index: int, seed: int = 1, stream: str = "a") -> list[object]:
    draws = draws_of(seed, stream, index)
    return [
        draws.uniform(),
        draws.integer(0, 10**6),
        draws.pick("abcdefgh"),
        draws.field((8, 8)).sum(),
        draws.uniform(2, 3),
    ]


def test_values_depend_on_seed_stream_and_index_alone() -> None:
    assert values(3) == values(3)
    others = [values(4), values(3, seed=2), values(3, stream="b")]
    assert all(other[:2] != values(3)[:2] for other in others)


def test_values_are_those_of_a_block() -> None:
    block = Draws(1, "a", [2, 7]).uniform(shape=(1000,))[1]
    draws = draws_of(1, "a", 7)
    found = [draws.uniform() for _ in range(300)]
    found += draws.field((10, 10)).ravel().tolist()
    found += [draws.uniform() for _ in range(600)]
    np.testing.assert_array_equal(np.array(found[:300]), block[:300])
    np.testing.assert_array_equal(np.float32(found[300:400]), block[300:400].astype(np.float32))
    np.testing.assert_array_equal(np.array(found[400:]), block[400:])


def test_ranges_of_values() -> None:
    draws = draws_of(1, "ranges", 0)
    integers = {draws.integer(2, 4) for _ in range(100)}
    assert integers == {2, 3, 4}
    uniforms = [draws.uniform(-1, 3) for _ in range(500)]
    assert -1 <= min(uniforms) < -0.8
    assert 2.8 < max(uniforms) < 3
    indices = [draws.index((0.0, 0.25, 0.75)) for _ in range(1000)]
    assert set(indices) == {1, 2}
    assert 0.7 < np.mean(np.array(indices) == 2) < 0.8
    assert 0.2 < np.mean([draws.chance(0.25) for _ in range(1000)]) < 0.3


def test_a_block_is_split_and_goes_on() -> None:
    draws, whole = (Draws(1, "a", [2, 7]) for _ in range(2))
    expected = whole.uniform(shape=(30,))
    first = draws.uniform(shape=(10,))
    samples = draws.split(15)
    later = draws.uniform(shape=(5,))
    np.testing.assert_array_equal(first, expected[:, :10])
    np.testing.assert_array_equal(later, expected[:, 25:])
    for row, sample in zip(expected, samples, strict=True):
        taken = [sample.uniform() for _ in range(15)]
        np.testing.assert_array_equal(taken, row[10:25])
        # More than was reserved: it goes on, and shares nothing with the block.
        more = [sample.uniform() for _ in range(500)]
        assert len({*more, *row.tolist()}) == 530
        again = sample.copy()
        np.testing.assert_array_equal([again.uniform() for _ in range(515)], taken + more)
        mixed = sample.copy()
        assert [mixed.uniform() for _ in range(10)] == taken[:10]
        field = mixed.field((10,))
        np.testing.assert_array_equal(field, np.float32(taken[10:] + more[:5]))
