"""The localizers: ``corner_net``, this project's own, and ``plate_localizer_v3``, the seed's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from src.models.base import Localizer, LocalizerOutput, ModelError, convolution, seed_convolutions

# Corners closer than this share of the picture's side are pulled in by their square.
_SMOOTH_L1_BETA = 0.02


class CornerNet(Localizer):
    """Each place of an eighth of the picture's size votes for the four corners.

    A place gives a score and the offsets of the corners from itself; the corners are the mean of all
    votes, weighted by the softmax of the scores (a soft-argmax over places).

    The output's score says how well the votes agree: 1 / (1 + spread), where spread is the weighted
    mean distance of the votes from the corners, in square roots of the quadrilateral's area. It
    ranks pictures, it is no probability.

    Args:
        input_shape: [1, height, width] of the pictures.
        channels: of the eight convolutions; the first, third and fifth halve the size.
    """

    def __init__(self, input_shape: list[int], channels: list[int]) -> None:
        super().__init__({"input_shape": input_shape, "channels": channels}, input_shape)
        if len(channels) != 8:
            raise ModelError(
                "LocalizeModelParams.CORNER_NET_CHANNELS: corner_net has 8 convolutions"
            )
        strides = [2, 1, 2, 1, 2, 1, 1, 1]
        inputs = [input_shape[0], *channels[:-1]]
        self.trunk = nn.Sequential(
            *(convolution(*shape) for shape in zip(inputs, channels, strides, strict=True))
        )
        self.head = nn.Conv2d(channels[-1], 9, 1)

    def forward(self, images: Tensor) -> LocalizerOutput:
        """Corners and agreement of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""
        features = self.trunk(images)
        # The corners are sums of small differences: bf16 would cost half a pixel.
        with torch.autocast(features.device.type, enabled=False):
            votes = self.head(features.float())
        rows, columns = votes.shape[-2:]
        y = (torch.arange(rows, device=votes.device) + 0.5) / rows
        x = (torch.arange(columns, device=votes.device) + 0.5) / columns
        places = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
        weights = votes[:, 0].flatten(1).softmax(dim=1)
        corners_of_places = votes[:, 1:].unflatten(1, (4, 2)).flatten(3) + places.flatten(1)
        corners = (corners_of_places * weights[:, None, None]).sum(dim=3)
        distances = (corners_of_places - corners[..., None]).square().sum(dim=2).sqrt().mean(dim=1)
        spread = (distances * weights).sum(dim=1) / quadrilateral_area(corners).sqrt().clamp(
            min=1e-3
        )
        return LocalizerOutput(corners, (1 / (1 + spread)).detach())

    def loss(self, output: LocalizerOutput, corners: Tensor) -> Tensor:
        """Smooth L1, summed over the eight coordinates, mean over the batch."""
        error = nn.functional.smooth_l1_loss(
            output.corners, corners, beta=_SMOOTH_L1_BETA, reduction="none"
        )
        return error.sum(dim=(1, 2)).mean()


class PlateLocalizerV3(Localizer):
    """The seed system's localizer, written anew from its shapes: convolutions, then a box.

    Its box is upright, so its corners are those of the box. It has no confidence: the score is 1 for
    every picture.

    Args:
        input_shape: [1, height, width] of the pictures.
        layers: channels of the convolutions; a 0 is a 2x2 max pooling.
        pooling: [height, width] of the adaptive average pooling.
        hidden: widths of the hidden layers.
        dropout: after each hidden layer.
    """

    def __init__(
        self,
        input_shape: list[int],
        layers: list[int],
        pooling: list[int],
        hidden: list[int],
        dropout: float,
    ) -> None:
        parameters = {
            "input_shape": input_shape,
            "layers": layers,
            "pooling": pooling,
            "hidden": hidden,
            "dropout": dropout,
        }
        super().__init__(parameters, input_shape)
        self.trunk = nn.Sequential(
            seed_convolutions(
                layers, input_shape, "LocalizeModelParams.CONV_LAYERS, LocalizeParams.IMG_SHAPE"
            ),
            nn.AdaptiveAvgPool2d((pooling[0], pooling[1])),
            nn.Flatten(),
        )
        width = [layer for layer in layers if layer][-1] * pooling[0] * pooling[1]
        modules: list[nn.Module] = []
        for outputs in hidden:
            modules += [nn.Linear(width, outputs), nn.ReLU(inplace=True), nn.Dropout(dropout)]
            width = outputs
        self.hidden = nn.Sequential(*modules)
        self.head = nn.Linear(width, 4)

    def forward(self, images: Tensor) -> LocalizerOutput:
        """The corners of the box in ``images``, ``(N, 1, H, W)`` float in [0, 1]."""
        features = self.hidden(self.trunk(images))
        with torch.autocast(features.device.type, enabled=False):
            box = self.head(features.float()).sigmoid()
        return LocalizerOutput(_box_to_corners(box), torch.ones_like(box[:, 0]))

    def loss(self, output: LocalizerOutput, corners: Tensor) -> Tensor:
        """Mean squared error of cx, cy, w, h."""
        return nn.functional.mse_loss(corners_to_box(output.corners), corners_to_box(corners))


def corners_to_box(corners: Tensor) -> Tensor:
    """The upright box around corners: ``(N, 4, 2)`` to ``(N, 4)`` as cx, cy, w, h."""
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    return torch.cat([(low + high) / 2, high - low], dim=1)


def _box_to_corners(box: Tensor) -> Tensor:
    signs = box.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    return box[:, None, :2] + box[:, None, 2:] * signs


def quadrilateral_area(corners: Tensor) -> Tensor:
    """Area of ``(N, 4, 2)`` corners (half the cross product of the diagonals): ``(N,)``."""
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs() / 2
