"""Fine-tuning of the localizer on feedback, without forgetting what it has learnt before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..config import Config
from ..core.geometry import box_iou, corners_to_box
from ..datasets.localize import LocalizeDataset
from ..inference.detection import SURE, best
from ..models.base import Localizer
from ..models.registry import load_localizer
from .finetuning import finetune, mixed_data, tunable
from .localizer import LocalizerTraining

AGREEING = 0.5
"""Minimum IoU with an annotated box at which the model's own corners are used as pseudo-labels."""
_BATCH = 256


def pseudo_label_corners(dataset: LocalizeDataset, model: Localizer) -> None:
    """Replace the corners of plates that have only a box by those that the model predicts.

    The corners of the box itself would teach the model that all plates are upright. They are kept only
    where the model finds no plate that matches the box.

    Args:
        dataset: Dataset whose corners are changed in place.
        model: The trained model, before fine-tuning.
    """
    labels = dataset.samples.labels
    if "has_corners" not in labels:
        return
    rows = np.flatnonzero(labels["present"] & ~labels["has_corners"])
    size = model.input_shape[:0:-1]
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        images = torch.from_numpy(dataset.samples.images(part))[:, None].float().div(255)
        with torch.inference_mode():
            corners, score, _ = best(model(images).numpy())
        given = dataset.corners[part].numpy()
        boxes = (corners_to_box(each.clip(0, size)) for each in (corners, given))
        agreeing = (box_iou(*boxes) >= AGREEING) & (score >= SURE)
        dataset.corners[part[agreeing]] = torch.from_numpy(corners[agreeing]).float()


def tune(config: Config) -> None:
    """Train ``out/models/localize_finetuned`` on prepared feedback and synthetic samples."""
    base = config.TrainLocalizeParams
    torch.manual_seed(base.SEED)
    weights = config.out("models", "localize") / "model.safetensors"
    model = load_localizer(weights)

    def open_set(folder: Path, _: bool) -> LocalizeDataset:
        dataset = LocalizeDataset(folder, model.input_shape)
        pseudo_label_corners(dataset, model)
        return dataset

    data = mixed_data(config, "localize", base, config.FinetuneLocalizeParams, open_set)
    module = LocalizerTraining(tunable(model), data)
    finetune(
        module,
        data,
        config,
        "localize",
        load_localizer,
        config.FinetuneLocalizeParams.ORIGINAL_SHARE,
        Path(__file__),
    )
