"""A training of the localizer that records what each process did, into record-RANK.pt of the folder.

The first process finds float32 the faster precision and the others bf16, so that processes which each
chose for themselves would not fit together.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from src.config.stage import run_stage
from src.datasets.batches import BatchIndices
from src.datasets.localize import LocalizeDataset
from src.localize import train
from src.training import hardware

RANK = int(os.environ.get("RANK", "0"))
RECORD: dict[str, Any] = {"batches": {}, "gradients": {}, "precision": ""}


class RecordedSet(LocalizeDataset):
    def __getitems__(self, picked: BatchIndices) -> Any:
        RECORD["batches"].setdefault(len(self), []).append(picked.samples.tolist())
        return super().__getitems__(picked)


class RecordedTraining(train.LocalizerTraining):
    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        if self.global_step == 0:
            RECORD["gradients"] = {
                name: value.grad.clone() for name, value in self.model.named_parameters()
            }
            RECORD["precision"] = self.precision.name
        super().configure_gradient_clipping(optimizer)


def seconds_per_step(_: hardware.Step) -> dict[str, float]:
    return {hardware.FLOAT32: 1.0, hardware.BF16: 1.0 if RANK == 0 else 0.1}


if __name__ == "__main__":
    hardware._seconds_per_step = seconds_per_step
    train.LocalizeDataset, train.LocalizerTraining = RecordedSet, RecordedTraining
    run_stage(train.main)
    torch.save(RECORD, f"record-{RANK}.pt")
