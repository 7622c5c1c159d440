"""Both sets of a training, as batches."""

from __future__ import annotations

from typing import Any

import cv2
import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

from ..config.training import TrainLocalizeParams, TrainOCRParams
from ..core.machine import available_cores
from ..datasets.batches import TrainingBatches, ValidationBatches, identity_collate

VALIDATION_SAMPLES = 5000
"""More would cost time and change no choice: of 5000 samples, 99.8 % stands with an error of 0.06 %."""

TrainParams = TrainLocalizeParams | TrainOCRParams


class TrainingData(pl.LightningDataModule):
    """Both sets as batches. Not part of ``TrainingModule``: averaging copies all that it holds.

    Args:
        train_set: makes batches of ``BatchIndices``.
        val_set: likewise; the first 5000 of its samples choose the best weights.
        params: of the stage.
        batch_size: of all processes together.
    """

    def __init__(
        self,
        train_set: Dataset[Any],
        val_set: Dataset[Any],
        params: TrainParams,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.trainer: pl.Trainer  # Loaders are asked for by one, never without.
        self.train_set, self.val_set = train_set, val_set
        self.params, self.batch_size = params, batch_size
        self.train_count: int = len(train_set)  # type: ignore[arg-type]  # sized
        self.validation_count = min(len(val_set), VALIDATION_SAMPLES)  # type: ignore[arg-type]  # sized
        self.start = 0
        """Steps that were taken before."""

    def train_dataloader(self) -> DataLoader[Any]:
        batches = TrainingBatches(
            self.train_count,
            self.batch_size,
            self.params.EPOCHS,
            self.params.SEED,
            self.start,
            self.trainer.global_rank,
            self.trainer.world_size,
        )
        return self._loader(self.train_set, batches)

    def val_dataloader(self) -> DataLoader[Any]:
        world = self.trainer.world_size
        batches = ValidationBatches(
            self.validation_count, self.batch_size // world, self.trainer.global_rank, world
        )
        return self._loader(self.val_set, batches)

    def _loader(
        self, dataset: Dataset[Any], batches: TrainingBatches | ValidationBatches
    ) -> DataLoader[Any]:
        cuda = self.trainer.strategy.root_device.type == "cuda"
        # Without a GPU, training needs every core, and a batch is made in a few milliseconds.
        workers = min(8, available_cores() // self.trainer.num_devices) if cuda else 0
        return DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # a batch is BatchIndices, not a list
            collate_fn=identity_collate,
            num_workers=workers,
            pin_memory=cuda,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
        )


def one_thread(_: int = 0) -> None:
    # Crops are small: OpenCV's threads would only wait for each other and for torch's.
    cv2.setNumThreads(0)
