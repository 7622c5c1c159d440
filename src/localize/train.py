"""Train the localizer of params.yaml on the prepared set: `python -m src.localize.train`.

Reads data/prepared/localize, writes the weights with the best mean IoU to
out/models/localize/model.safetensors, curves to out/runs/localize and checkpoints to
out/checkpoints/localize, from which a killed training goes on. Parameters: TrainLocalizeParams.
"""

from __future__ import annotations

import torch
from torch import Tensor

from src.config import Config
from src.datasets.localize import LocalizeBatch, LocalizeDataset
from src.models.base import Localizer
from src.models.localizers import corners_to_box
from src.models.registry import build_localizer
from src.utils.stage import run_stage
from src.utils.training import TrainingData, TrainingModule, train


class LocalizerTraining(TrainingModule):
    """A localizer, measured by the mean IoU of the upright boxes of its corners."""

    model: Localizer
    measure = "iou"

    def batch_loss(self, batch: LocalizeBatch) -> Tensor:
        return self.model.loss(self.model(self.pictures(batch.images)), batch.corners)

    def batch_sums(self, batch: LocalizeBatch) -> dict[str, Tensor]:
        output = self.model(self.pictures(batch.images))
        iou = box_iou(corners_to_box(output.corners), corners_to_box(batch.corners))
        size = output.corners.new_tensor([batch.images.shape[2], batch.images.shape[1]])
        error = ((output.corners - batch.corners) * size).square().sum(dim=-1).sqrt().mean(dim=1)
        return {
            "loss": self.model.loss(output, batch.corners) * len(iou),
            "iou": iou.sum(),
            "corner_error_px": error.sum(),
        }


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of ``(N, 4)`` cx, cy, w, h boxes, pair by pair: ``(N,)``."""
    low = torch.maximum(first[:, :2] - first[:, 2:] / 2, second[:, :2] - second[:, 2:] / 2)
    high = torch.minimum(first[:, :2] + first[:, 2:] / 2, second[:, :2] + second[:, 2:] / 2)
    intersection = (high - low).clamp(min=0).prod(dim=1)
    union = first[:, 2:].prod(dim=1) + second[:, 2:].prod(dim=1) - intersection
    return intersection / union.clamp(min=1e-12)


def main(config: Config) -> None:
    params, prepared = config.TrainLocalizeParams, config.prepared("localize")
    torch.manual_seed(params.SEED)
    model = build_localizer(config.models.localizer, config)
    data = TrainingData(
        LocalizeDataset(prepared / "train", model.input_shape),
        LocalizeDataset(prepared / "val", model.input_shape),
        params,
        config.BATCH_SIZE,
    )
    module = LocalizerTraining(model, data)
    train(module, data, config, "localize", config.models.localizer)


if __name__ == "__main__":
    run_stage(main)
