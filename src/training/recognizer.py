"""Training of the recognizer: its loss and its validation metrics."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets.ocr import OCRBatch
from ..models.base import LayoutTargets, Recognizer
from .module import TrainingModule


class RecognizerTraining(TrainingModule):
    """Train a recognizer and validate it by the share of crops whose whole text is decoded correctly.

    Decoding is greedy. For a crop without text, the empty text is correct; of a plate with hidden
    characters, these must be told where they are, by recognizers that can.
    """

    model: Recognizer
    measure = "exact_match"

    def batch_loss(self, batch: OCRBatch) -> Tensor:
        logits = self.model(self.to_input(batch.images))
        return self.model.loss(logits, batch.targets, batch.lengths, layout_of(batch))

    def batch_sums(self, batch: OCRBatch) -> dict[str, Tensor]:
        logits = self.model(self.to_input(batch.images))
        classes = logits[..., : self.model.classes]
        read = greedy(classes, self.model.blank, batch.targets.shape[1])
        targets, _ = self.model.taught(batch.targets, batch.lengths)
        right = (read == targets).all(dim=1)
        loss = self.model.loss(logits, batch.targets, batch.lengths, layout_of(batch))
        return {"loss": loss * len(right), "exact_match": right.sum()}


def layout_of(batch: OCRBatch) -> LayoutTargets:
    """Return the targets of the layout in a batch."""
    return LayoutTargets(batch.complete, batch.swiss, batch.formats)


def greedy(logits: Tensor, blank: int, length: int) -> Tensor:
    """Return the classes along the most likely CTC path, with repeats merged and blanks removed.

    src/inference/decoding.py does the same in NumPy and returns texts. Here the logits stay on the GPU,
    and only a sum leaves it, once per validation.

    Args:
        logits: Output of the recognizer, shape ``(N, T, C)``.
        blank: Class index of the CTC blank.
        length: Length of the longest text.

    Returns:
        Classes padded with the blank, shape ``(N, length)``. A row that would be longer is -1
        throughout, which matches no text.
    """
    path = logits.argmax(dim=-1)
    kept = path != blank
    kept[:, 1:] &= path[:, 1:] != path[:, :-1]
    count = kept.sum(dim=1, keepdim=True)
    # Dropped classes are scattered to an extra column behind all others.
    places = torch.where(kept, kept.cumsum(dim=1) - 1, path.shape[1])
    classes = torch.full((len(path), path.shape[1] + 1), blank, device=path.device)
    classes = classes.scatter(1, places, path)[:, :length]
    return torch.where(count <= length, classes, -1)
