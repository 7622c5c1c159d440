"""Mix feedback with synthetic samples, so that a model learns from one without forgetting the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..core.random import Draws
from .batches import BatchIndices


class Mixture(Dataset[Any]):
    """Combine two datasets of the same kind whose batches are tuples of tensors.

    Args:
        feedback: Dataset that is used in full, ``passes`` times per epoch. Each pass has its own epoch
            number, so that samples are cropped and lit differently each time.
        replay: Dataset to replay from: random samples in each epoch, or its first ones if ``seed`` is
            None.
        passes: Number of passes over the feedback per epoch.
        replayed: Number of samples of ``replay`` per epoch.
        seed: Random seed for the choice of replayed samples; None fixes the choice, for validation.
    """

    def __init__(
        self, feedback: Any, replay: Any, passes: int, replayed: int, seed: int | None
    ) -> None:
        self._feedback, self._replay, self._seed = feedback, replay, seed
        self._passes, self._replayed = passes, replayed

    def __len__(self) -> int:
        return self._passes * len(self._feedback) + self._replayed

    def __getitems__(self, picked: BatchIndices) -> Any:
        first = self._passes * len(self._feedback)
        passes, own = np.divmod(picked.samples[picked.samples < first], len(self._feedback))
        others = picked.samples[picked.samples >= first] - first
        if self._seed is not None:
            draws = Draws(self._seed, f"replay-{picked.epoch}", others)
            others = draws.integers(0, len(self._replay) - 1)
        parts = [
            self._feedback.__getitems__(
                BatchIndices(picked.epoch * self._passes + number, own[passes == number])
            )
            for number in np.unique(passes).tolist()
        ]
        if len(others):
            parts.append(self._replay.__getitems__(BatchIndices(picked.epoch, others)))
        return type(parts[0])(*(torch.cat(values) for values in zip(*parts, strict=True)))


def mixed_sizes(feedback: int, share: float, samples: int) -> tuple[int, int]:
    """Return the number of passes over the feedback per epoch and the number of replayed samples.

    Both are at least 1.

    Args:
        feedback: Number of feedback samples.
        share: Fraction of feedback among all samples of an epoch.
        samples: Approximate number of samples per epoch.
    """
    passes = max(1, round(share * samples / feedback))
    return passes, max(1, round(passes * feedback * (1 - share) / share))


def balanced(feedback: Any, replay: Any, most: int) -> Mixture:
    """Return a fixed mixture for choosing the best weights: one half feedback, one half replay.

    The feedback is repeated as often as needed to balance the halves.

    Args:
        feedback: Feedback dataset with at least one sample.
        replay: Replay dataset with at least one sample.
        most: Approximate number of samples of each; larger if there is more feedback.
    """
    passes = int(np.ceil(min(most, len(replay)) / len(feedback)))
    return Mixture(feedback, replay, passes, min(passes * len(feedback), len(replay)), None)
