"""The localizer's prepared set as a torch dataset of whole batches."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from src.datasets.batches import Picked
from src.datasets.shards import DatasetError, ShardedSet


class LocalizeBatch(NamedTuple):
    """Pictures ``(N, H, W)`` uint8 and corners ``(N, 4, 2)`` float32 normalised to them."""

    images: Tensor
    corners: Tensor


class LocalizeDataset(Dataset[LocalizeBatch]):
    """Pictures and corners.

    Args:
        folder: of the prepared set.
        input_shape: of the localizer, (1, height, width).

    Raises:
        DatasetError: the set is missing or damaged, or of another size.
    """

    def __init__(self, folder: Path, input_shape: tuple[int, int, int]) -> None:
        self.samples = ShardedSet(folder)
        size = self.samples.image(0).shape
        if size != input_shape[1:]:
            raise DatasetError(
                f"{folder}: its pictures are {size[0]}x{size[1]}, the model takes "
                f"{input_shape[1]}x{input_shape[2]} (LocalizeParams.IMG_SHAPE). Make the set again "
                "with `dvc repro prepare_localize`."
            )

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, picked: Picked) -> LocalizeBatch:
        """A whole batch, bytes: the device makes numbers of them faster than a worker would."""
        return LocalizeBatch(
            torch.from_numpy(self.samples.images(picked.samples)),
            torch.from_numpy(self.samples.corners[picked.samples]),
        )
