"""How the reader is trained: its loss, and how it is measured."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.ocr import OCRBatch
from ..models.base import Recognizer
from .module import TrainingModule


class RecognizerTraining(TrainingModule):
    """A reader, measured by the share of crops that greedy decoding gets wholly right.

    Nothing is right where there is nothing to read.
    """

    model: Recognizer
    measure = "exact_match"

    def batch_loss(self, batch: OCRBatch) -> Tensor:
        logits = self.model(self.pictures(batch.images))
        return self.model.loss(logits, batch.targets, batch.lengths)

    def batch_sums(self, batch: OCRBatch) -> dict[str, Tensor]:
        logits = self.model(self.pictures(batch.images))
        right = (greedy(logits, self.model.blank, batch.targets.shape[1]) == batch.targets).all(
            dim=1
        )
        loss = self.model.loss(logits, batch.targets, batch.lengths)
        return {"loss": loss * len(right), "exact_match": right.sum()}


def greedy(logits: Tensor, blank: int, length: int) -> Tensor:
    """The classes of the likeliest CTC path: repeats merged, blanks removed.

    src/inference/decoding.py has the same in numpy, for texts. Here the logits stay where they are, on the
    GPU: only a sum leaves it, once a validation.

    Args:
        logits: ``(N, T, C)``.
        blank: class of the blank.
        length: of the longest text.

    Returns:
        ``(N, length)`` classes padded with the blank; -1, which no text has, where there are more.
    """
    path = logits.argmax(dim=-1)
    kept = path != blank
    kept[:, 1:] &= path[:, 1:] != path[:, :-1]
    count = kept.sum(dim=1, keepdim=True)
    # What is dropped goes to a column of its own, behind all others.
    places = torch.where(kept, kept.cumsum(dim=1) - 1, path.shape[1])
    classes = torch.full((len(path), path.shape[1] + 1), blank, device=path.device)
    classes = classes.scatter(1, places, path)[:, :length]
    return torch.where(count <= length, classes, -1)
