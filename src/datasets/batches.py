"""Which samples are in which batch; a step's batch depends on the seed and the step alone."""

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
    """Samples for one batch; a dataset's ``__getitems__`` makes the batch at once.

    Attributes:
        epoch: the pass over the set.
        samples: ``(n,)`` positions in the set.
    """

    epoch: int
    samples: NDArray[np.int64]


class TrainingBatches(Sampler[BatchIndices]):
    """The batches of a whole training, all epochs in one run.

    Every batch is full: the last of an epoch is filled up from the epoch's start. ``len()`` counts
    all steps, also where the iteration starts later, as Lightning adds the steps of a checkpoint.

    Args:
        count: samples in the set.
        batch_size: of all processes together.
        epochs: passes over the set.
        seed: of the order.
        start: steps that were taken before (resuming).
        rank: of this process, which gets every ``world``-th sample of a batch.
        world: processes.
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
    """The first ``count`` samples once, in order, each in one process only: none is counted twice.

    Args:
        count: samples.
        batch_size: of each process.
        rank: of this process.
        world: processes.
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
    """The ``collate_fn`` of datasets that make whole batches."""
    return batch
