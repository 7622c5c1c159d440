"""The networks as checks ask them, pictures in and arrays out; and those of the pipeline in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..core.geometry import box_to_corners
from ..evaluation.inference import best_device, localizer_maps, read_log_probs
from ..evaluation.metrics import batches
from ..inference.crops import recognizer_crop
from ..inference.detection import best
from ..models.base import Localizer, Recognizer
from .samples import FloatArray, Picture, Samples

BATCH_SIZE = 64


class Found(NamedTuple):
    """Plates that were found, one a picture.

    Attributes:
        corners: ``(n, 4, 2)``, normalised coordinates.
        score: ``(n,)`` probability that there is a plate; 0 where none was found.
        lines: ``(n,)`` 1 or 2.
    """

    corners: FloatArray
    score: FloatArray
    lines: FloatArray


Find = Callable[[Sequence[Picture], FloatArray], Found]
"""Finds the best plate of each picture ``(H, W)`` uint8. ``(n, 4)`` boxes cx, cy, w, h as shares say which:
of several plates the one is meant that overlaps its box most, where there is a box."""
Read = Callable[[Sequence[Picture], FloatArray, Sequence[int], bool], FloatArray]
"""Log-probabilities ``(n, T, C)`` of plates: of pictures, with corners ``(n, 4, 2)`` as shares of them and
the lines of each plate; and whether the network drops out units, where it can."""
Describe = Callable[[Samples], FloatArray]
"""Features ``(n, D)`` of samples."""


@dataclass(frozen=True)
class Networks:
    """What there is to ask; ``drops`` says whether ``read`` can drop out units."""

    find: Find | None = None
    read: Read | None = None
    describe: Describe | None = None
    drops: bool = False


def torch_localizer(localizer: Localizer) -> Networks:
    """A localizer finds plates and describes pictures."""
    device = best_device()
    localizer = localizer.to(device).eval()
    size = np.array(localizer.input_shape[:0:-1])

    def find(pictures: Sequence[Picture], near: FloatArray) -> Found:
        parts = [
            best(localizer_maps(localizer, [pictures[i] for i in batch], device))
            for batch in batches(len(pictures), BATCH_SIZE)
        ]
        corners, score, two_lines = (np.concatenate(part) for part in zip(*parts, strict=True))
        return Found(corners / size, score, np.where(two_lines >= 0.5, 2, 1))

    def describe(samples: Samples) -> FloatArray:
        with _features(localizer) as parts:
            for batch in batches(len(samples), BATCH_SIZE):
                localizer_maps(localizer, [samples.image(i) for i in batch], device)
        return np.concatenate(parts)

    return Networks(find=find, describe=describe)


def torch_recognizer(reader: Recognizer) -> Networks:
    """A reader reads plates, with dropout where it has it, and describes crops."""
    device = best_device()
    reader = reader.to(device).eval()
    drops = [module for module in reader.modules() if isinstance(module, nn.Dropout)]

    def read(
        pictures: Sequence[Picture], corners: FloatArray, lines: Sequence[int], dropout: bool
    ) -> FloatArray:
        for module in drops:
            module.train(dropout)
        try:
            parts = []
            for batch in batches(len(pictures), BATCH_SIZE):
                crops = [_crop(reader, pictures[i], corners[i], lines[i]) for i in batch]
                parts.append(read_log_probs(reader, crops, device))
            return np.concatenate(parts)
        finally:
            reader.eval()

    def describe(samples: Samples) -> FloatArray:
        corners, lines = samples.corners, samples.labels["lines"].clip(lower=1).tolist()
        whole = box_to_corners(np.array([0.5, 0.5, 1.0, 1.0]))
        quads = np.where(np.isnan(corners).any(axis=(1, 2), keepdims=True), whole, corners)
        with _features(reader) as parts:
            for batch in batches(len(samples), BATCH_SIZE):
                crops = [_crop(reader, samples.image(i), quads[i], lines[i]) for i in batch]
                read_log_probs(reader, crops, device)
        return np.concatenate(parts)

    return Networks(read=read, describe=describe, drops=any(module.p > 0 for module in drops))


def _crop(reader: Recognizer, picture: Picture, corners: FloatArray, lines: int) -> Picture:
    """What a reader sees of a plate whose ``(4, 2)`` corners are normalised coordinates."""
    quad = corners * picture.shape[::-1]
    return recognizer_crop(picture, quad, reader.rectification, reader.input_shape, lines)


@contextmanager
def _features(model: Localizer | Recognizer) -> Iterator[list[FloatArray]]:
    """A list of the features ``(N, D)`` of each batch: the mean over the last convolution's places."""
    parts: list[FloatArray] = []
    trunk = model.get_submodule("trunk")
    last = [module for module in trunk.modules() if isinstance(module, nn.Conv2d)][-1]

    def keep(_: nn.Module, __: Any, output: torch.Tensor) -> None:
        parts.append(output.float().relu().mean(dim=(2, 3)).cpu().numpy())

    handle = last.register_forward_hook(keep)
    try:
        yield parts
    finally:
        handle.remove()
