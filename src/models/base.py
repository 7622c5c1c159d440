"""What every localizer and every reader is, whatever network is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.geometry import Rectification


class ModelError(UserError):
    """A model is unknown, cannot be built with its parameters, or its file does not fit."""


class LocalizerOutput(NamedTuple):
    """What a localizer says of a batch.

    Attributes:
        corners: ``(N, 4, 2)`` float32, normalised to the picture, clockwise from the plate's own top
            left.
        score: ``(N,)`` float32 in [0, 1]; each localizer documents what it measures.
    """

    corners: Tensor
    score: Tensor


class Localizer(nn.Module, ABC):
    """Finds the corners of the plate in a picture.

    Args:
        parameters: the constructor's own arguments, as they are saved beside the weights.
        input_shape: (1, height, width) of the pictures that it takes.
    """

    def __init__(self, parameters: dict[str, Any], input_shape: list[int]) -> None:
        super().__init__()
        self.parameters_of_class = parameters
        self.input_shape: tuple[int, int, int] = (input_shape[0], input_shape[1], input_shape[2])

    @abstractmethod
    def forward(self, images: Tensor) -> LocalizerOutput:
        """Locate the plates of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""

    @abstractmethod
    def loss(self, output: LocalizerOutput, corners: Tensor) -> Tensor:
        """The scalar to minimise, of what ``forward`` gave and the true corners ``(N, 4, 2)``."""


class Reader(nn.Module, ABC):
    """Reads the text of a crop; its classes are those of src/charset.py, decoded as CTC does.

    Args:
        parameters: the constructor's own arguments, as they are saved beside the weights.
        input_shape: (1, height, width) of the crops that it takes.
        rectification: how a crop is cut out of the picture (src/datasets/crops.py).
        blank: the class of the CTC blank.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        input_shape: list[int],
        rectification: Rectification,
        blank: int,
    ) -> None:
        super().__init__()
        self.parameters_of_class = parameters
        self.input_shape: tuple[int, int, int] = (input_shape[0], input_shape[1], input_shape[2])
        self.rectification = rectification
        self.blank = blank

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, T, C)`` float32 of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""

    def loss(self, logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        """The CTC loss by character, mean over the batch.

        Args:
            logits: ``(N, T, C)``.
            targets: ``(N, 8)`` int64 classes, padded with the blank.
            lengths: ``(N,)`` int64, classes of each text.
        """
        # Autocast would hand bf16 to the sums of the forward-backward algorithm.
        log_probabilities = logits.float().log_softmax(dim=-1).transpose(0, 1)
        steps = torch.full_like(lengths, logits.shape[1])
        return nn.functional.ctc_loss(log_probabilities, targets, steps, lengths, blank=self.blank)


def convolution(inputs: int, outputs: int, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def seed_convolutions(layers: list[int], input_shape: list[int], names: str) -> nn.Sequential:
    """The seed system's trunk: 3x3 convolutions with ReLU; a 0 among ``layers`` is a 2x2 max pool.

    Raises:
        ModelError: there is no convolution, or too many poolings for the size; the message starts
            with ``names``, the parameters to change.
    """
    if not any(layers):
        raise ModelError(f"{names}: {layers} has no convolution, only poolings (0)")
    poolings = layers.count(0)
    if min(input_shape[1:]) < 2**poolings:
        raise ModelError(
            f"{names}: {poolings} poolings (0) leave nothing of a picture of "
            f"{input_shape[1]}x{input_shape[2]}; at most {min(input_shape[1:]).bit_length() - 1} fit"
        )
    modules: list[nn.Module] = []
    channels = input_shape[0]
    for layer in layers:
        if layer:
            modules += [nn.Conv2d(channels, layer, 3, padding=1), nn.ReLU(inplace=True)]
            channels = layer
        else:
            modules.append(nn.MaxPool2d(2))
    return nn.Sequential(*modules)
