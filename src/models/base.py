"""What every localizer and every reader is, whatever network is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.geometry import Rectification


class ModelError(UserError):
    """A model is unknown, cannot be built with its parameters, or its file does not fit."""


MAP_CHANNELS = 10
"""Of a localizer's maps: see ``Localizer``."""


class LocalizerTargets(NamedTuple):
    """What is true of the pictures of a batch: at most one plate each.

    Attributes:
        corners: ``(N, 4, 2)`` float32 in pixels of the input, clockwise from the plate's own top left;
            whatever it is (as a rule NaN) where there is no plate.
        present: ``(N,)`` bool, whether there is a plate.
        lines: ``(N,)`` int64, 1 or 2 lines of text.
    """

    corners: Tensor
    present: Tensor
    lines: Tensor


class Localizer(nn.Module, ABC):
    """Finds plates: what it thinks of each place of a coarse grid over a picture.

    Its maps are ``(N, 10, h, w)`` float32. The channels are

    - 0: the logit that a plate is centred near this place;
    - 1: the logit that this plate has two lines of text;
    - 2 to 9: its corners, x0 y0 to x3 y3, in pixels of the input (edges of the picture at 0 and at W
      or H, pixel centres at halves), clockwise from the plate's own top left.

    src/inference/detection.py makes plates of them.

    Args:
        parameters: the constructor's own arguments, as they are saved beside the weights.
        input_shape: (1, height, width) of the pictures that it is trained on.
    """

    dense: bool
    """Whether it takes pictures of any size, multiples of ``stride``; else those of ``input_shape``."""
    stride: int
    """Pixels from a place to the next."""

    def __init__(self, parameters: dict[str, Any], input_shape: list[int]) -> None:
        super().__init__()
        self.parameters_of_class = parameters
        self.input_shape: tuple[int, int, int] = (input_shape[0], input_shape[1], input_shape[2])

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Maps ``(N, 10, h, w)`` float32 of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""

    @abstractmethod
    def loss(self, maps: Tensor, targets: LocalizerTargets) -> Tensor:
        """The scalar to minimise, of what ``forward`` gave and what is true."""


class Recognizer(nn.Module, ABC):
    """Reads the text of a crop; its classes are those of src/core/charset.py, decoded as CTC does.

    Args:
        parameters: the constructor's own arguments, as they are saved beside the weights.
        input_shape: (1, height, width) of the crops that it takes.
        rectification: how a crop is cut out of the picture (src/inference/crops.py).
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
        """The CTC loss of a text, mean over the batch, by the characters of the longest one.

        A crop with nothing to read so weighs what a plate does. ``reduction="mean"`` divides each
        sample by the length of its own text (at least 1): a crop without one would weigh as much as
        seven characters of another.

        Args:
            logits: ``(N, T, C)``.
            targets: ``(N, 8)`` int64 classes, padded with the blank.
            lengths: ``(N,)`` int64, classes of each text; 0 where there is nothing to read.
        """
        # Autocast would hand bf16 to the sums of the forward-backward algorithm.
        log_probabilities = logits.float().log_softmax(dim=-1).transpose(0, 1)
        steps = torch.full_like(lengths, logits.shape[1])
        total = nn.functional.ctc_loss(
            log_probabilities, targets, steps, lengths, blank=self.blank, reduction="sum"
        )
        return total / targets.numel()


def convolution(
    inputs: int, outputs: int, stride: int | tuple[int, int] = 1, dilation: int = 1
) -> nn.Sequential:
    """A 3x3 convolution, batch norm and ReLU; with a stride of 1 the size stays."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def seed_convolutions(layers: list[int], input_shape: list[int], names: str) -> nn.Sequential:
    """The original project's trunk: 3x3 convolutions with ReLU; a 0 among ``layers`` is a 2x2 max pool.

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
