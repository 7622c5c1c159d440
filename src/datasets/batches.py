"""Samplers that choose each batch's samples; a step's batch depends only on the seed and the step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ..core.random import Draws

Batch = TypeVar("Batch")


class BatchIndices(NamedTuple):
    """Indices of one batch, from which a dataset's ``__getitems__`` builds the whole batch at once.

    Attributes:
        epoch: Number of the pass over the set.
        samples: Positions in the set, shape ``(n,)``.
    """

    epoch: int
    samples: NDArray[np.int64]


class TrainingBatches(Sampler[BatchIndices]):
    """Sampler of the batches of a whole training run, across all epochs.

    Every batch is full: the last one of an epoch is filled up from the start of the epoch's order.
    ``len()`` counts all steps even if iteration starts later, as Lightning adds a checkpoint's steps.

    Args:
        count: Number of samples in the set.
        batch_size: Global batch size, summed over all processes.
        epochs: Number of passes over the set.
        seed: Random seed of the sample order.
        start: Number of steps already taken, when resuming.
        rank: Rank of this process, which gets every ``world``-th sample of a batch.
        world: Number of processes.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        epochs: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._count, self._batch_size, self._seed = count, batch_size, seed
        self._start, self._rank, self._world = start, rank, world
        self.steps_per_epoch = -(-count // batch_size)
        self._steps = epochs * self.steps_per_epoch

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[BatchIndices]:
        current = -1
        for step in range(self._start, self._steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != current:
                current, order = epoch, self._order(epoch)
            batch = order[position * self._batch_size : (position + 1) * self._batch_size]
            yield BatchIndices(epoch, batch[self._rank :: self._world])

    def _order(self, epoch: int) -> NDArray[np.int64]:
        draws = Draws(self._seed, f"order-{epoch}", np.arange(self._count))
        order = np.argsort(draws.uniform(), kind="stable")
        return np.resize(order, self.steps_per_epoch * self._batch_size)


class ValidationBatches(Sampler[BatchIndices]):
    """Sampler of the first ``count`` samples, in order, each exactly once across all processes.

    Args:
        count: Number of samples.
        batch_size: Batch size per process.
        rank: Rank of this process.
        world: Number of processes.
    """

    def __init__(self, count: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        self._samples = np.arange(rank, count, world)
        self._batch_size = batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._samples) / self._batch_size)

    def __iter__(self) -> Iterator[BatchIndices]:
        for start in range(0, len(self._samples), self._batch_size):
            yield BatchIndices(0, self._samples[start : start + self._batch_size])


def identity_collate(batch: Batch) -> Batch:
    """Return the batch unchanged: the ``collate_fn`` for datasets that build whole batches."""
    return batch
