"""Benchmark of training: samples per second of plate_net, crnn and the original project's two networks.

    python bench/train.py [--seconds 10] [--samples 2000] [--json]

Each network runs its real training steps for some time on this machine's device: Lightning, the loss,
the optimizer, weight averaging, and batches from a prepared set on disk. Warm-up (the first batches, in which
kernels are selected) is not counted. This project's networks are trained with the settings of params.py
and params.yaml; the original project's networks as in the original: 32 samples per batch, in float32.
The sets are drawn by the generator with the parameters of params.py, over procedural backgrounds unless
data/datasets/backgrounds exists.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lightning.pytorch as pl
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from generator import with_backgrounds

from src.config import Config, load_config
from src.core.errors import UserError
from src.core.provenance import machine
from src.datasets.localize import LocalizeDataset
from src.datasets.ocr import OCRDataset
from src.localize import prepare as prepare_localize
from src.models.registry import build_localizer, build_recognizer
from src.ocr import prepare as prepare_ocr
from src.training.averaging import update_average
from src.training.data import TrainingData
from src.training.fit import training_step
from src.training.hardware import FLOAT32, Precision, accelerator, choose_precision
from src.training.localizer import LocalizerTraining
from src.training.module import TrainingModule
from src.training.recognizer import RecognizerTraining

ORIGINAL_BATCH = 32
WARM_UP = 5
"""Number of warm-up steps, which are not counted."""


class Stopwatch(pl.Callback):
    """Average the weights after each step, as training does, and stop after some time.

    Args:
        seconds: Seconds during which steps are counted.
        decay: Decay of the weight average.
    """

    def __init__(self, seconds: float, decay: float) -> None:
        self._seconds, self._decay = seconds, decay
        self.steps = 0
        self.elapsed = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._average = copy.deepcopy(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any, **__: Any
    ) -> None:
        update_average(self._average, pl_module, trainer.global_step - 1, self._decay)
        if trainer.global_step == WARM_UP:
            self._start = self._now()
        elif trainer.global_step > WARM_UP:
            self.steps += 1
            # No ``_now`` here: synchronising with a GPU makes it wait.
            late = time.perf_counter() - self._start > self._seconds
            if late or trainer.global_step == trainer.max_steps:
                self.elapsed = self._now() - self._start
                trainer.should_stop = True

    def _now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(
    module: TrainingModule, data: TrainingData, device: str, precision: Precision, seconds: float
) -> dict[str, Any]:
    """Train a network for some time and return its rate in samples per second."""
    watch = Stopwatch(seconds, module.params.EMA_DECAY)
    trainer = pl.Trainer(
        accelerator=device,
        devices=1,
        precision=precision.name,  # type: ignore[arg-type]  # checked by Lightning
        max_epochs=1,
        max_steps=module.steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[watch],
    )
    trainer.fit(module, data)
    return {
        "samples_per_second": watch.steps * module.batch_size / watch.elapsed,
        "steps": watch.steps,
        "batch_size": module.batch_size,
        "precision": precision.name,
        "measured_by_auto": precision.samples_per_second,
        "parameters": sum(weight.numel() for weight in module.model.parameters()),
    }


def localizer_training(
    config: Config, name: str, batch: int
) -> tuple[TrainingModule, TrainingData]:
    model, folder = build_localizer(name, config), config.prepared("localize")
    train, val = (LocalizeDataset(folder / split, model.input_shape) for split in ("train", "val"))
    data = TrainingData(train, val, config.TrainLocalizeParams, batch)
    return LocalizerTraining(model, data), data


def reader_training(config: Config, name: str, batch: int) -> tuple[TrainingModule, TrainingData]:
    model, folder, params = (
        build_recognizer(name, config),
        config.prepared("ocr"),
        config.TrainOCRParams,
    )
    train, val = (
        OCRDataset(folder / split, model.rectification, model.input_shape, params, split == "val")
        for split in ("train", "val")
    )
    data = TrainingData(train, val, params, batch)
    return RecognizerTraining(model, data), data


Make = Callable[[Config, str, int], tuple[TrainingModule, TrainingData]]
NETWORKS: dict[str, tuple[Make, str, str]] = {
    "localizer": (localizer_training, "plate_net", "plate_localizer_v3"),
    "reader": (reader_training, "crnn", "plate_ocr_v2"),
}
"""Function that builds each training, with the names of this project's network and the original's."""


def run(config: Config, seconds: float) -> dict[str, Any]:
    """Measure all four networks on the prepared sets of ``config``."""
    device = accelerator(config)
    graphics = torch.cuda.get_device_name() if device == "cuda" else None
    result: dict[str, Any] = {"machine": machine(graphics), "device": device}
    for kind, (make, own, seed) in NETWORKS.items():
        rates = []
        for name, batch in ((own, config.BATCH_SIZE), (seed, ORIGINAL_BATCH)):
            torch.manual_seed(0)
            module, data = make(config, name, batch)
            precision = Precision(FLOAT32)
            if name == own:
                make_step = partial(training_step, module, data, batch)
                precision = choose_precision(config, make_step, batch)
            result[name] = measure(module, data, device, precision, seconds)
            rates.append(result[name]["samples_per_second"])
        result[f"{kind}_ratio"] = rates[0] / rates[1]
    return result


def drawn(config: Config, folder: Path, samples: int) -> Config:
    """Draw sets of ``samples`` into a folder; return parameters that use them, with endless epochs."""
    sizes = {
        name: getattr(config, name).model_copy(update={"MAX_IMAGES": samples})
        for name in ("PrepareLocalizeParams", "PrepareOCRParams")
    }
    endless = {
        name: getattr(config, name).model_copy(update={"EPOCHS": 10**6})
        for name in ("TrainLocalizeParams", "TrainOCRParams")
    }
    places = {"prepared_data_path": str(folder / "prepared"), "out_path": str(folder / "out")}
    config = config.model_copy(update={**sizes, **endless, **places})
    prepare_localize.main(config)
    prepare_ocr.main(config)
    return config


def table(result: dict[str, Any]) -> str:
    """Return the figures as a readable table."""
    lines = [f"{result['machine']}; {result['device']}"]
    for kind, (_, *names) in NETWORKS.items():
        for name in names:
            row = result[name]
            precision = Precision(row["precision"], row["measured_by_auto"])
            lines.append(
                f"{name:20}{row['samples_per_second']:10,.0f} samples/s, {row['parameters']:,} "
                f"parameters, batch size {row['batch_size']}, {precision}"
            )
        lines.append(f"{'':20}{result[f'{kind}_ratio']:10.1f} times the original's")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=10, help="duration per network (default: 10)"
    )
    parser.add_argument("--samples", type=int, default=2000, help="samples per set (default: 2000)")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    options = parser.parse_args()
    # As in training: crops are small, and the threads of two libraries wait for each other.
    cv2.setNumThreads(0)
    # Lightning warns about settings that are intended here.
    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = with_backgrounds(load_config(), Path(folder))
            result = run(drawn(config, Path(folder), options.samples), options.seconds)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
