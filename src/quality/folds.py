"""K-fold predictions: each sample is judged by a network that was not trained on it.

Each fold's network is trained on the other folds only, and predicts on its own fold. This costs as much
as k - 1 trainings on the whole set with the same number of epochs. Folds are meant for training sets:
the validation set of a trained pipeline is cheaper to check with the pipeline's networks, which have not
seen it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..config import Config
from ..core.errors import StageError
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from ..datasets.batches import BatchIndices
from ..datasets.localize import LocalizeDataset
from ..datasets.ocr import OCRDataset
from ..datasets.shards import NewSet, Shard, write_sets
from ..evaluation.inference import best_device
from ..models.base import Localizer, LocalizerTargets, Recognizer
from ..models.registry import build_localizer, build_recognizer
from ..training.data import TrainParams
from ..training.hardware import BF16, Step, choose_precision
from ..training.module import GRADIENT_NORM
from .base import Evidence
from .networks import Networks, torch_localizer, torch_recognizer
from .samples import Samples

Model = TypeVar("Model", Localizer, Recognizer)


@dataclass(frozen=True)
class Folds:
    """Parameters of the k-fold training.

    Attributes:
        count: Number of folds.
        epochs: Number of epochs each fold's network is trained for.
        seed: Random seed of the split, of the order of the samples and of the initial weights.
    """

    count: int
    epochs: int
    seed: int

    def split(self, samples: int) -> NDArray[np.int_]:
        """Return the fold of each sample, shape ``(n,)``; the folds differ by at most one in size."""
        return np.random.default_rng(self.seed).permutation(samples) % self.count


@dataclass(frozen=True)
class Cost:
    """Cost of the k-fold training.

    Attributes:
        seconds: Wall-clock time in seconds.
        samples: Number of samples trained on, counted once per network and epoch.
    """

    seconds: float
    samples: int


def by_folds(samples: Samples, config: Config, folds: Folds) -> tuple[list[Evidence], Cost]:
    """Split a prepared set into parts, each with a network that was not trained on it.

    A set of crops trains recognizers; a set of images of the localizer's input size trains localizers.

    Raises:
        StageError: The set is neither of these, or it is too small.
    """
    folder, count = samples.place, len(samples)
    if count < folds.count * config.BATCH_SIZE:
        raise StageError(f"{folder}: {count} samples are too few for {folds.count} folds")
    build, ask = _kind(samples, config)
    split, start, parts = folds.split(count), time.perf_counter(), []
    for fold in range(folds.count):
        seed = folds.seed + fold
        torch.manual_seed(seed)
        network = train(build(), folder, np.flatnonzero(split != fold), config, folds.epochs, seed)
        part = replace(samples.take(np.flatnonzero(split == fold)), name=f"{samples.name}-{fold}")
        parts.append(Evidence(part, part, ask(network), config))
    trained = folds.epochs * (folds.count - 1) * count
    return parts, Cost(time.perf_counter() - start, trained)


def _kind(samples: Samples, config: Config) -> tuple[Callable[[], Any], Callable[[Any], Networks]]:
    """Return a function that builds a network for such samples, and one that wraps it for the checks."""
    if samples.crops:
        return partial(build_recognizer, config.models.recognizer, config), torch_recognizer
    if list(samples.image(0).shape) == config.LocalizeParams.IMG_SHAPE[1:]:
        return partial(build_localizer, config.models.localizer, config), torch_localizer
    raise StageError(
        f"{samples.place}: --folds needs a prepared set of the localizer or the recognizer"
    )


def train(
    network: Model, folder: Path, rows: NDArray[np.intp], config: Config, epochs: int, seed: int
) -> Model:
    """Train a network on rows of a prepared set, using AdamW and a one-cycle learning rate schedule."""
    device = best_device()
    params: TrainParams = config.TrainLocalizeParams
    data: Any
    if isinstance(network, Recognizer):
        params = config.TrainOCRParams
        data = OCRDataset(folder, network.rectification, network.input_shape, params)
    else:
        data = LocalizeDataset(folder, network.input_shape)
    network.to(device).to(memory_format=torch.channels_last).train()
    per_epoch = -(-len(rows) // config.BATCH_SIZE)

    def optimizer_of(trained: Model) -> torch.optim.Optimizer:
        return torch.optim.AdamW(trained.parameters(), params.LR, weight_decay=params.WEIGHT_DECAY)

    def make_step() -> Step:
        trained = copy.deepcopy(network)
        picked, optimizer = BatchIndices(0, rows[: config.BATCH_SIZE]), optimizer_of(trained)
        return lambda context: _step(trained, data.__getitems__(picked), optimizer, context)

    precision = choose_precision(config, make_step, config.BATCH_SIZE)
    optimizer = optimizer_of(network)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, params.LR, epochs * per_epoch, pct_start=params.WARMUP
    )
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        for batch in np.array_split(order, per_epoch):
            context = torch.autocast(device.type, torch.bfloat16, precision.name == BF16)
            _step(network, data.__getitems__(BatchIndices(epoch, batch)), optimizer, context)
            schedule.step()
    return network.eval()


def _step(
    network: Localizer | Recognizer,
    batch: Any,
    optimizer: torch.optim.Optimizer,
    context: AbstractContextManager[object],
) -> None:
    optimizer.zero_grad()
    with context:
        loss = _loss(network, batch)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
    optimizer.step()


def _loss(network: Localizer | Recognizer, batch: Any) -> torch.Tensor:
    device = next(network.parameters()).device
    output = network(batch.images.to(device)[:, None].float().div(255))
    if isinstance(network, Recognizer):
        return network.loss(output, batch.targets.to(device), batch.lengths.to(device))
    places = (batch.corners.to(device), batch.present.to(device), batch.lines.to(device))
    return network.loss(output, LocalizerTargets(*places))


def write_set(samples: Samples, folder: Path) -> Path:
    """Write samples with their current labels as a prepared set for training, and return its folder."""
    columns = ["plate", "present", "style", "format", "colour", "lines", "plate_height", "angle"]
    labels = samples.labels[[*columns, *BOX_COLUMNS, *CORNER_COLUMNS]]

    def make(indices: range) -> Shard:
        images = [samples.image(i) for i in indices]
        part = labels.iloc[indices.start : indices.stop].reset_index(drop=True)
        return Shard(images if samples.crops else np.stack(images), part)

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_sets([NewSet(folder, range(len(samples)), make, {})])
    return folder
