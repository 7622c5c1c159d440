"""The localizer's prepared set as a PyTorch dataset that builds whole batches."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .batches import BatchIndices
from .shards import DatasetError, ShardedSet


class LocalizeBatch(NamedTuple):
    """A batch of images with the plate of each.

    Attributes:
        images: Grey images, shape ``(N, H, W)``, uint8.
        corners: Plate corners in pixels, shape ``(N, 4, 2)``, float32; NaN where there is no plate.
        present: Presence of a plate, shape ``(N,)``, bool.
        lines: Number of lines of text, shape ``(N,)``, int64, 1 or 2; 1 where there is no plate.
    """

    images: Tensor
    corners: Tensor
    present: Tensor
    lines: Tensor


class LocalizeDataset(Dataset[LocalizeBatch]):
    """Dataset of images and their plates, for training the localizer.

    Args:
        folder: Folder of the prepared set.
        input_shape: Input shape of the localizer, (1, height, width).

    Raises:
        DatasetError: If the set is missing, damaged or too old, or its images have another size.
    """

    def __init__(self, folder: Path, input_shape: tuple[int, int, int]) -> None:
        self.samples = ShardedSet(folder)
        size = self.samples.image(0).shape
        if size != input_shape[1:]:
            raise DatasetError(
                f"{folder}: its images are {size[0]}x{size[1]}, but the model takes "
                f"{input_shape[1]}x{input_shape[2]} (LocalizeParams.IMG_SHAPE). Recreate the set "
                "with `dvc repro prepare_localize`."
            )
        pixels = np.array([size[1], size[0]], dtype=np.float32)
        self.corners = torch.from_numpy(self.samples.corners * pixels)
        self.present = torch.from_numpy(self.samples.present.copy())
        self.lines = torch.from_numpy(self.samples.lines.copy())

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, picked: BatchIndices) -> LocalizeBatch:
        """Return a whole batch as uint8, since the device converts it to float faster than a worker."""
        return LocalizeBatch(
            torch.from_numpy(self.samples.images(picked.samples)),
            self.corners[picked.samples],
            self.present[picked.samples],
            self.lines[picked.samples],
        )
