"""Training of the localizer: its loss and its validation metrics."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.geometry import box_iou, corners_to_box
from ..datasets.localize import LocalizeBatch
from ..inference.detection import best, quality
from ..models.base import Localizer, LocalizerTargets
from .module import TrainingModule

# Scores are counted in bins over their logits.
_LARGEST_LOGIT, _BINS = 15.0, 600


class LocalizerTraining(TrainingModule):
    """Train a localizer and validate it by the mean quality of its detections.

    The monitored metric is ``quality`` from src/inference/detection.py, averaged over all images: the
    IoU of the best detection in an image with a plate, and in an image without one, whether nothing is
    detected. Also logged are ``iou`` and ``corner_error_px`` of the best detection, whatever its score,
    in images with a plate, and ``average_precision``, which says how well the score separates images
    with a plate from those without.
    """

    model: Localizer
    measure = "quality"

    def batch_loss(self, batch: LocalizeBatch) -> Tensor:
        return self._loss_of(self.model(self.to_input(batch.images)), batch)

    def batch_sums(self, batch: LocalizeBatch) -> dict[str, Tensor]:
        maps = self.model(self.to_input(batch.images))
        # Decode in NumPy, exactly as in inference; these are few values, and only in validation.
        corners, score, _ = best(maps.cpu().numpy())
        present, true = batch.present.cpu().numpy(), batch.corners.cpu().numpy()
        # Boxes are clipped to the image.
        size = batch.images.shape[:0:-1]
        boxes = (corners_to_box(each[present].clip(0, size)) for each in (corners, true))
        iou = box_iou(*boxes)
        error = np.linalg.norm(corners[present] - true[present], axis=-1).mean(axis=-1)
        all_iou = np.zeros(len(score))
        all_iou[present] = iou
        bins = ((_logit(score) / _LARGEST_LOGIT + 1) / 2 * _BINS).astype(int).clip(0, _BINS - 1)
        counts = [np.bincount(bins[kind], minlength=_BINS) for kind in (present, ~present)]
        sums = {
            "quality": quality(all_iou, score, present).sum(),
            "plates": present.sum(),
            "iou": iou.sum(),
            "corner_error_px": error.sum(),
            "scores": np.stack(counts),
        }
        return {
            "loss": self._loss_of(maps, batch) * len(score),
            **{name: torch.as_tensor(value, dtype=torch.float64) for name, value in sums.items()},
        }

    def figures(self, sums: dict[str, Tensor]) -> dict[str, float]:
        """Return the metrics from the sums of ``batch_sums``.

        Metrics that need images with a plate, or images without one, are left out if there are none.
        """
        figures = super().figures({name: sums[name] for name in ("loss", "quality")})
        plates = float(sums["plates"])
        if plates:
            for name in ("iou", "corner_error_px"):
                figures[name] = float(sums[name]) / plates
        if 0 < plates < self.validation_count:
            figures["average_precision"] = average_precision(*sums["scores"].double())
        return figures

    def _loss_of(self, maps: Tensor, batch: LocalizeBatch) -> Tensor:
        return self.model.loss(maps, LocalizerTargets(batch.corners, batch.present, batch.lines))


def _logit(chance: NDArray[np.floating]) -> NDArray[np.floating]:
    chance = chance.clip(1e-9, 1 - 1e-9)
    return np.log(chance / (1 - chance))


def average_precision(right: Tensor, wrong: Tensor) -> float:
    """Return the area under the precision-recall curve.

    Args:
        right: Number of images with a plate in each score bin, shape ``(B,)``, lowest scores first.
        wrong: Number of images without a plate in each score bin, shape ``(B,)``.
    """
    right, wrong = right.flip(0), wrong.flip(0)
    found = right.cumsum(0)
    precision = found / (found + wrong.cumsum(0)).clamp(min=1)
    return float((precision * right).sum() / right.sum())
