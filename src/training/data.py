"""Training and validation batches."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..config.training import TrainLocalizeParams, TrainOCRParams
from ..core.machine import available_cores
from ..datasets.batches import TrainingBatches, ValidationBatches, identity_collate
from .hardware import is_first

VALIDATION_SAMPLES = 5000
"""Maximum number of samples used for validation.

More would cost time without changing the choice: an accuracy of 99.8 % on 5000 samples has a standard
error of 0.06 %.
"""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # not for files of our own
PREFETCHED = 2
"""Number of batches that a worker process makes ahead."""

TrainParams = TrainLocalizeParams | TrainOCRParams


class TrainingData(pl.LightningDataModule):
    """Serve the training and the validation set in batches.

    The data is not part of ``TrainingModule`` because weight averaging copies everything that the module
    holds.

    Args:
        train_set: Training set, which makes a batch from a ``BatchIndices``.
        val_set: Validation set, which makes a batch from a ``BatchIndices``. Its first 5000 samples are
            used to select the best weights.
        params: Parameters of the training stage.
        batch_size: Batch size of all processes together.
    """

    def __init__(
        self,
        train_set: Dataset[Any],
        val_set: Dataset[Any],
        params: TrainParams,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.trainer: pl.Trainer  # Only a trainer ever asks for the loaders.
        self.train_set, self.val_set = train_set, val_set
        self.params, self.batch_size = params, batch_size
        self.train_count: int = len(train_set)  # type: ignore[arg-type]  # sized
        self.validation_count = min(len(val_set), VALIDATION_SAMPLES)  # type: ignore[arg-type]  # sized
        self.start = 0
        """Number of steps taken before this run was resumed."""

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
        # Without a GPU, training itself needs every core, and making a batch takes only milliseconds.
        workers = min(8, available_cores() // self.trainer.num_devices) if cuda else 0
        if workers:
            batch = dataset.__getitems__(next(iter(batches)))  # type: ignore[attr-defined]  # whole batches
            workers = workers_that_fit(workers, batch, self.trainer.num_devices)
        return DataLoader(
            dataset,
            batch_sampler=batches,  # type: ignore[arg-type]  # a batch is BatchIndices, not a list
            collate_fn=identity_collate,
            num_workers=workers,
            prefetch_factor=PREFETCHED if workers else None,
            pin_memory=cuda,
            persistent_workers=workers > 0,
            worker_init_fn=one_thread,
        )


def workers_that_fit(wanted: int, batch: Sequence[Tensor], devices: int = 1) -> int:
    """Return for how many worker processes of a loader there is room in the shared memory.

    Workers hand their batches over in it. Docker gives a container 64 MB. Where a worker finds no room, its
    batch never arrives and the training waits for ever, or a bus error kills the worker.

    Args:
        wanted: Number of workers where there is room.
        batch: A batch of the loader.
        devices: Number of processes on this machine that have such loaders.
    """
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free
    except OSError:
        # Other systems have no such folder, and no such limit.
        return wanted
    size = sum(tensor.nbytes for tensor in batch)
    # Those that wait, and the one in the making. The loader of the other split takes as much.
    needed = (PREFETCHED + 1) * size * 2 * devices
    workers = min(wanted, free // needed)
    if workers < wanted and is_first():
        print(
            f"{SHARED_MEMORY}: {free / 1e6:.0f} MB are free, enough for {workers} of {wanted} worker "
            f"processes, which make the batches; training may be slower. To use all, give the container "
            f"{wanted * needed / 1e6:.0f} MB (docker run --shm-size; docker compose: shm_size).",
            file=sys.stderr,
        )
    return workers


def one_thread(_: int = 0) -> None:
    # Crops are small, so OpenCV's threads would only wait for each other and for those of PyTorch.
    cv2.setNumThreads(0)
