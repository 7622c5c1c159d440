"""Feedback and synthetic samples come together in their shares."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from src.datasets.batches import BatchIndices
from src.datasets.mixture import Mixture, balanced, mixed_sizes


class Batch(NamedTuple):
    numbers: Tensor
    sources: Tensor


class Numbers:
    def __init__(self, count: int, source: int) -> None:
        self.count, self.source = count, source

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, picked: BatchIndices) -> Batch:
        numbers = torch.from_numpy(picked.samples)
        assert (numbers < self.count).all()
        return Batch(numbers, torch.full_like(numbers, self.source))


def epoch(mixture: Mixture, number: int) -> Batch:
    return mixture.__getitems__(BatchIndices(number, np.arange(len(mixture))))


def test_feedback_is_passed_once_and_replay_drawn_anew() -> None:
    mixture = Mixture(Numbers(10, 0), Numbers(1000, 1), 1, 30, seed=1)
    first, second = epoch(mixture, 0), epoch(mixture, 1)
    for batch in (first, second):
        assert batch.numbers[batch.sources == 0].tolist() == list(range(10))
        assert int((batch.sources == 1).sum()) == 30
    replayed = [set(batch.numbers[batch.sources == 1].tolist()) for batch in (first, second)]
    assert len(replayed[0] & replayed[1]) < 10
    assert epoch(mixture, 0).numbers.tolist() == first.numbers.tolist()


def test_a_batch_of_one_kind() -> None:
    mixture = Mixture(Numbers(4, 0), Numbers(9, 1), 1, 4, seed=None)
    assert mixture.__getitems__(BatchIndices(0, np.arange(4))).sources.tolist() == [0] * 4
    assert mixture.__getitems__(BatchIndices(0, np.arange(4, 8))).numbers.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("feedback", "most", "wanted"), [(3, 8, 9), (20, 8, 20), (2, 50, 30)])
def test_validation_is_half_and_half(feedback: int, most: int, wanted: int) -> None:
    batch = epoch(balanced(Numbers(feedback, 0), Numbers(30, 1), most), 5)
    assert int((batch.sources == 0).sum()) == int((batch.sources == 1).sum()) == wanted


def test_each_pass_is_an_epoch_of_its_own() -> None:
    class Epochs(Numbers):
        def __getitems__(self, picked: BatchIndices) -> Batch:
            numbers = torch.from_numpy(picked.samples)
            return Batch(numbers, torch.full_like(numbers, picked.epoch))

    mixture = Mixture(Epochs(5, 0), Numbers(9, -1), 3, 4, seed=1)
    for number in range(2):
        batch = epoch(mixture, number)
        own = batch.sources >= 0
        found = set(zip(batch.numbers[own].tolist(), batch.sources[own].tolist(), strict=True))
        assert found == {(i, 3 * number + j) for i in range(5) for j in range(3)}


def test_sizes_follow_share_and_steps() -> None:
    passes, replayed = mixed_sizes(400, share=0.4, samples=10_000)
    assert passes == 10
    assert replayed == 6000
    assert mixed_sizes(10**6, 0.5, 10) == (1, 10**6), "all feedback is passed once"
