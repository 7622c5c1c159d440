"""Feedback mixed with synthetic samples, so that a model learns the one and does not forget the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..core.random import Draws
from .batches import BatchIndices


class Mixture(Dataset[Any]):
    """Two sets of one kind as one; batches are tuples of tensors.

    Args:
        feedback: is passed through as a whole so many times in an epoch, each time as in another epoch of
            its own, so that it is cut and lit differently.
        replay: other samples of it in each epoch, or its first ones where it is fixed.
        passes: over the feedback.
        replayed: samples of ``replay`` in an epoch.
        seed: of the choice; None is fixed, for validation.
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
    """How often feedback is passed in an epoch, once at least, and how many samples are replayed.

    Args:
        feedback: samples of it.
        share: of them among all.
        samples: of an epoch, about.
    """
    passes = max(1, round(share * samples / feedback))
    return passes, max(1, round(passes * feedback * (1 - share) / share))


def balanced(feedback: Any, replay: Any, most: int) -> Mixture:
    """A fixed set, to choose the best weights by: half of each, the feedback as often as that needs.

    Args:
        feedback: at least one sample.
        replay: likewise.
        most: samples of each, about; more where there is more feedback.
    """
    passes = int(np.ceil(min(most, len(replay)) / len(feedback)))
    return Mixture(feedback, replay, passes, min(passes * len(feedback), len(replay)), None)
