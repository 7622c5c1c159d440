"""Base classes of all localizers and recognizers, independent of the network inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..core.errors import UserError
from ..core.geometry import Rectification


class ModelError(UserError):
    """Raised when a model is unknown, cannot be built with its parameters, or does not fit its file."""


MAP_CHANNELS = 10
"""Number of channels of a localizer's maps; see ``Localizer``."""


class LocalizerTargets(NamedTuple):
    """Ground truth of a batch of images with at most one plate each.

    Attributes:
        corners: Plate corners in pixels of the input, shape ``(N, 4, 2)``, float32, clockwise from the
            plate's own top left; arbitrary (usually NaN) where there is no plate.
        present: Presence of a plate, shape ``(N,)``, bool.
        lines: Number of lines of text, shape ``(N,)``, int64, 1 or 2.
    """

    corners: Tensor
    present: Tensor
    lines: Tensor


class Localizer(nn.Module, ABC):
    """Base class of networks that find plates, with a prediction for each cell of a coarse grid.

    The output maps are float32 of shape ``(N, 10, h, w)``. Their channels are

    - 0: the logit that a plate is centred near this cell;
    - 1: the logit that this plate has two lines of text;
    - 2 to 9: its corners, x0 y0 to x3 y3, in pixels of the input (image edges at 0 and at W or H, pixel
      centres at halves), clockwise from the plate's own top left.

    src/inference/detection.py turns the maps into plates.

    Args:
        parameters: Arguments of the subclass's constructor, which are saved with the weights.
        input_shape: Shape of the training images, (1, height, width).
    """

    dense: bool
    """True if images of any size in multiples of ``stride`` are accepted, else only ``input_shape``."""
    stride: int
    """Distance between neighbouring cells in pixels."""

    def __init__(self, parameters: dict[str, Any], input_shape: list[int]) -> None:
        super().__init__()
        self.parameters_of_class = parameters
        self.input_shape: tuple[int, int, int] = (input_shape[0], input_shape[1], input_shape[2])

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Compute maps ``(N, 10, h, w)``, float32, from ``images`` ``(N, 1, H, W)``, float in [0, 1]."""

    @abstractmethod
    def loss(self, maps: Tensor, targets: LocalizerTargets) -> Tensor:
        """Return the scalar loss of the maps from ``forward`` with respect to the ground truth."""


class LayoutTargets(NamedTuple):
    """What is known of the plates of a batch beside their texts.

    Attributes:
        complete: 1 where every character can be read, 0 where one is hidden, NaN where that is unknown,
            shape ``(N,)``, float32.
        swiss: 1 for Swiss plates, 0 for others and for no plate, NaN where that is unknown, shape
            ``(N,)``, float32.
        format: Index into ``FORMATS``, -1 where there is none, shape ``(N,)``, int64.
    """

    complete: Tensor
    swiss: Tensor
    format: Tensor


class Recognizer(nn.Module, ABC):
    """Base class of networks that read the text of a crop.

    The classes are those of src/core/charset.py; the output is decoded by CTC. Behind the C classes, each
    step may have one of the class of characters that are hidden, and the same outputs of ``LAYOUT``
    (src/core/layout.py), which describe the plate.

    Args:
        parameters: Arguments of the subclass's constructor, which are saved with the weights.
        input_shape: Shape of the input crops, (1, height, width).
        rectification: Method by which a crop is cut out of the image (src/inference/crops.py).
        blank: Class of the CTC blank, the last of the C classes.
        tells_hidden: Whether there is an output of the class of hidden characters.
    """

    def __init__(
        self,
        parameters: dict[str, Any],
        input_shape: list[int],
        rectification: Rectification,
        blank: int,
        tells_hidden: bool = False,
    ) -> None:
        super().__init__()
        self.parameters_of_class = parameters
        self.input_shape: tuple[int, int, int] = (input_shape[0], input_shape[1], input_shape[2])
        self.rectification = rectification
        self.blank = blank
        self.classes = blank + 1 + tells_hidden

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Compute logits from ``images`` ``(N, 1, H, W)``, float in [0, 1].

        Returns:
            Logits ``(N, T, C)``, or ``(N, T, C + 1 + len(LAYOUT))``, float32.
        """

    def normalised(self, logits: Tensor) -> Tensor:
        """Return the log-probabilities of the C classes, followed by the logits of the layout if any.

        That of the class of hidden characters is left out, since it is in no text: what the others lack
        to 1 is its probability.
        """
        log_probs = logits[..., : self.classes].log_softmax(dim=-1)[..., : self.blank + 1]
        return torch.cat([log_probs, logits[..., self.classes :]], dim=-1)

    def taught(self, targets: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets and lengths of texts as this recognizer can tell them.

        Without a class of hidden characters, a text that has some is empty.
        """
        untold = (targets >= self.classes).any(dim=1)
        return torch.where(untold[:, None], self.blank, targets), torch.where(untold, 0, lengths)

    def loss(
        self,
        logits: Tensor,
        targets: Tensor,
        lengths: Tensor,
        layout: LayoutTargets | None = None,
    ) -> Tensor:
        """Return the CTC loss, averaged over the batch and divided by the maximum text length.

        This way a crop with nothing to read weighs as much as a plate. ``reduction="mean"`` divides
        each sample by the length of its own text (at least 1): a crop without text would weigh as much
        as seven characters of another.

        Args:
            logits: Output of ``forward``, shape ``(N, T, C)``.
            targets: Classes of the texts, shape ``(N, 8)``, int64, padded with the blank.
            lengths: Lengths of the texts, shape ``(N,)``, int64; 0 where there is nothing to read.
            layout: Targets of the layout; None to leave them out.
        """
        targets, lengths = self.taught(targets, lengths)
        texts = self._text_loss(logits[..., : self.classes], targets, lengths)
        if layout is None or logits.shape[-1] == self.classes:
            return texts
        return texts + LAYOUT_WEIGHT * layout_loss(logits[:, 0, self.classes :].float(), layout)

    def _text_loss(self, logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        # Under autocast, the sums of the forward-backward algorithm would be in bf16.
        log_probabilities = logits.float().log_softmax(dim=-1).transpose(0, 1)
        steps = torch.full_like(lengths, logits.shape[1])
        total = nn.functional.ctc_loss(
            log_probabilities, targets, steps, lengths, blank=self.blank, reduction="sum"
        )
        return total / targets.numel()


LAYOUT_WEIGHT = 1.0
"""Weight of the layout's loss relative to that of the texts, which is a mean over eight characters."""


def layout_loss(logits: Tensor, targets: LayoutTargets) -> Tensor:
    """Return the cross-entropy of a plate's layout, summed over its parts and averaged over the batch.

    Args:
        logits: Outputs of ``LAYOUT``, shape ``(N, 7)``, float32.
        targets: Ground truth of the batch.
    """
    true = torch.stack([targets.complete, targets.swiss], dim=1)
    binary = nn.functional.binary_cross_entropy_with_logits(
        logits[:, :2], true.nan_to_num(), true.isfinite().float(), reduction="sum"
    )
    formats = nn.functional.cross_entropy(
        logits[:, 2:], targets.format, ignore_index=-1, reduction="sum"
    )
    return (binary + formats) / len(logits)


def convolution(
    inputs: int, outputs: int, stride: int | tuple[int, int] = 1, dilation: int = 1
) -> nn.Sequential:
    """Build a 3x3 convolution with batch norm and ReLU; a stride of 1 preserves the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def original_convolutions(layers: list[int], input_shape: list[int], names: str) -> nn.Sequential:
    """Build the original project's trunk of 3x3 convolutions with ReLU and 2x2 max pooling.

    Args:
        layers: Output channels of the convolutions; a 0 stands for a max pooling.
        input_shape: Shape of the input, [channels, height, width].
        names: Names of the parameters to change, with which error messages start.

    Raises:
        ModelError: If there is no convolution, or more poolings than the size allows.
    """
    if not any(layers):
        raise ModelError(f"{names}: {layers} has no convolution, only poolings (0)")
    poolings = layers.count(0)
    if min(input_shape[1:]) < 2**poolings:
        raise ModelError(
            f"{names}: {poolings} poolings (0) leave nothing of an image of "
            f"{input_shape[1]}x{input_shape[2]}; the maximum is {min(input_shape[1:]).bit_length() - 1}"
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
