"""Interface of the networks to the checks, and its implementation for the pipeline's PyTorch models.

The networks take images and return arrays.
"""

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
from .samples import FloatArray, ImageArray, Samples

BATCH_SIZE = 64


class Found(NamedTuple):
    """Detected plates, one per image.

    Attributes:
        corners: Corners in normalised coordinates, shape ``(n, 4, 2)``.
        score: Probability that the image has a plate, shape ``(n,)``; 0 where none was found.
        lines: Number of lines of text, 1 or 2, shape ``(n,)``.
    """

    corners: FloatArray
    score: FloatArray
    lines: FloatArray


Find = Callable[[Sequence[ImageArray], FloatArray], Found]
"""Function that finds the best plate of each image.

Its arguments are the images, shape ``(H, W)``, uint8, and boxes cx, cy, w, h in normalised coordinates,
shape ``(n, 4)``. Of several plates in an image, the one that overlaps the image's box most is meant, if
it has a box.
"""
Read = Callable[[Sequence[ImageArray], FloatArray, Sequence[int], bool], FloatArray]
"""Function that reads plates and returns log-probabilities, shape ``(n, T, C)``.

Its arguments are the images, the corners of the plates in normalised coordinates, shape ``(n, 4, 2)``,
the number of lines of each plate, and whether to apply dropout if the network has it.
"""
Describe = Callable[[Samples], FloatArray]
"""Function that returns the features of samples, shape ``(n, D)``."""


@dataclass(frozen=True)
class Networks:
    """Networks that the checks can query.

    Attributes:
        find: Function that finds plates; None if no network does.
        read: Function that reads plates; None if no network does.
        describe: Function that computes features; None if no network does.
        drops: True if ``read`` can apply dropout.
    """

    find: Find | None = None
    read: Read | None = None
    describe: Describe | None = None
    drops: bool = False


def torch_localizer(localizer: Localizer) -> Networks:
    """Wrap a localizer, which finds plates and computes features of images."""
    device = best_device()
    localizer = localizer.to(device).eval()
    size = np.array(localizer.input_shape[:0:-1])

    def find(images: Sequence[ImageArray], near: FloatArray) -> Found:
        parts = [
            best(localizer_maps(localizer, [images[i] for i in batch], device))
            for batch in batches(len(images), BATCH_SIZE)
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
    """Wrap a recognizer, which reads plates (with dropout if it has it) and describes crops."""
    device = best_device()
    reader = reader.to(device).eval()
    drops = [module for module in reader.modules() if isinstance(module, nn.Dropout)]

    def read(
        images: Sequence[ImageArray], corners: FloatArray, lines: Sequence[int], dropout: bool
    ) -> FloatArray:
        for module in drops:
            module.train(dropout)
        try:
            parts = []
            for batch in batches(len(images), BATCH_SIZE):
                crops = [_crop(reader, images[i], corners[i], lines[i]) for i in batch]
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


def _crop(reader: Recognizer, image: ImageArray, corners: FloatArray, lines: int) -> ImageArray:
    """Return the recognizer's crop of a plate.

    Args:
        reader: Recognizer whose input shape and rectification the crop follows.
        image: Image, shape ``(H, W)``.
        corners: Corners of the plate in normalised coordinates, shape ``(4, 2)``.
        lines: Number of lines of the plate.
    """
    quad = corners * image.shape[::-1]
    return recognizer_crop(image, quad, reader.rectification, reader.input_shape, lines)


@contextmanager
def _features(model: Localizer | Recognizer) -> Iterator[list[FloatArray]]:
    """Collect the features of each batch in a list, shape ``(N, D)`` each, while the context is active.

    Features are the means over all positions of the trunk's last convolution, after ReLU.
    """
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
