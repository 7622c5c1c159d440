"""Trainings of the localizer by several processes: one without a break, and one that goes on after two.

The weights of all are written to whole.pt and resumed.pt of the folder, with the statistics of each process.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from src.config import Config, load_config
from src.localize import train
from src.training import callbacks, checkpoints

RANK = int(os.environ["RANK"])
FOUND: dict[str, torch.Tensor] = {}


class BreakError(Exception):
    pass


class Broken(train.LocalizerTraining):
    """Ends before the step ``broken_at``; keeps what the process has after the last one."""

    broken_at = -1

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step == self.broken_at:
            raise BreakError

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == self.steps:
            FOUND.update({name: value.clone() for name, value in self.state_dict().items()})


def trained(config: Config, name: str, breaks: list[int]) -> None:
    config = config.model_copy(update={"out_path": name})
    for step in breaks:
        Broken.broken_at = step
        try:
            train.main(config)
        except BreakError:
            continue
        raise AssertionError("it was to break off")
    Broken.broken_at = -1
    train.main(config)
    torch.save(FOUND, f"{name}-{RANK}.pt")


if __name__ == "__main__":
    train.LocalizerTraining = Broken
    # A checkpoint after each step, also between validations.
    checkpoints.CHECKPOINT_SECONDS = 0.0
    checkpoints.LOG_EVERY = callbacks.LOG_EVERY = 1
    parameters = load_config()
    trained(parameters, "whole", [])
    trained(parameters, "resumed", [2, 7])
