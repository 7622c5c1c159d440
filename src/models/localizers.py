"""Localizers: ``plate_net``, this project's own, and ``plate_localizer_v3``, the original's."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .base import (
    MAP_CHANNELS,
    Localizer,
    LocalizerTargets,
    ModelError,
    convolution,
    original_convolutions,
)
from .losses import plate_loss

_STRIDES = (2, 1, 2, 1, 2, 1, 1, 1)
# The last two are dilated for a receptive field of 107 pixels: more than a plate that fills an 84-pixel
# scene needs, even if the cell is not exactly at its centre.
_DILATIONS = (1, 1, 1, 1, 1, 1, 2, 2)
# Unit of the corner offsets from the cell, in pixels: the outputs that the head learns are then about 1.
_OFFSET = 32.0
# Initial probability of a plate at a cell. Almost all cells are empty; their loss would else dominate.
_FIRST_CHANCE = 0.01
# Constant logit of plate_localizer_v3, which has no confidence: a probability of 0.99995.
_CERTAIN = 10.0


class PlateNet(Localizer):
    """Fully convolutional localizer that predicts a plate for each cell of a grid of stride 8.

    Each cell says whether a plate is centred there, and where its corners are. Cell k is centred on
    pixel 8k, as each stride of 2 with a padding of 1 keeps the even pixels.

    Args:
        input_shape: Shape of the training images, [1, height, width].
        channels: Output channels of the eight convolutions.
    """

    dense = True
    stride = math.prod(_STRIDES)

    def __init__(self, input_shape: list[int], channels: list[int]) -> None:
        super().__init__({"input_shape": input_shape, "channels": channels}, input_shape)
        if len(channels) != len(_STRIDES):
            raise ModelError(
                f"LocalizeModelParams.PLATE_NET_CHANNELS: expected {len(_STRIDES)} values, one per "
                "convolution of plate_net"
            )
        inputs = [input_shape[0], *channels[:-1]]
        self.trunk = nn.Sequential(
            *(
                convolution(*shape)
                for shape in zip(inputs, channels, _STRIDES, _DILATIONS, strict=True)
            )
        )
        self.head = nn.Conv2d(channels[-1], MAP_CHANNELS, 1)
        with torch.no_grad():
            self.head.get_parameter("bias")[0] = math.log(_FIRST_CHANCE / (1 - _FIRST_CHANCE))

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps ``(N, 10, h, w)`` from ``images`` ``(N, 1, H, W)``, float in [0, 1]."""
        features = self.trunk(images)
        # The corners are sums of small differences: bf16 would cost half a pixel of accuracy.
        with torch.autocast(features.device.type, enabled=False):
            maps = self.head(features.float())
            corners = maps[:, 2:] * _OFFSET + self._places(maps).repeat(4, 1, 1)
        return torch.cat([maps[:, :2], corners], dim=1)

    def loss(self, maps: Tensor, targets: LocalizerTargets) -> Tensor:
        """Return the loss over all cells; see ``plate_loss``."""
        return plate_loss(maps, targets, self._places(maps), self.stride)

    def _places(self, maps: Tensor) -> Tensor:
        """Return the centres of the cells in pixels, x and y, shape ``(2, h, w)``."""
        rows, columns = maps.shape[-2:]
        y = torch.arange(rows, device=maps.device, dtype=torch.float32) * self.stride + 0.5
        x = torch.arange(columns, device=maps.device, dtype=torch.float32) * self.stride + 0.5
        return torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])


class PlateLocalizerV3(Localizer):
    """The original project's localizer, reimplemented from its shapes: convolutions that regress a box.

    Its grid has a single cell, the whole image, with one upright box, whose corners it returns. It has
    no confidence: every image is taken to contain a plate with one line.

    Args:
        input_shape: Shape of the images, [1, height, width].
        layers: Output channels of the convolutions; a 0 stands for a 2x2 max pooling.
        pooling: Output size of the adaptive average pooling, [height, width].
        hidden: Widths of the hidden layers.
        dropout: Dropout probability after each hidden layer.
    """

    dense = False
    size: Tensor

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
        self.stride = max(input_shape[1:])
        self.trunk = nn.Sequential(
            original_convolutions(
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
        # Width and height; not saved with the weights, but moved to the device with them.
        self.register_buffer(
            "size", torch.tensor([input_shape[2], input_shape[1]]).float(), persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Compute maps ``(N, 10, 1, 1)`` from ``images`` ``(N, 1, H, W)``, float in [0, 1]."""
        features = self.hidden(self.trunk(images))
        with torch.autocast(features.device.type, enabled=False):
            box = self.head(features.float()).sigmoid()
        corners = (_box_to_corners(box) * self.size).flatten(1)
        certain = torch.full_like(corners[:, :1], _CERTAIN)
        return torch.cat([certain, -certain, corners], dim=1)[..., None, None]

    def loss(self, maps: Tensor, targets: LocalizerTargets) -> Tensor:
        """Return the mean squared error of cx, cy, w, h over the images with a plate."""
        present = targets.present[:, None]
        corners = torch.where(present[..., None], targets.corners, 0.0) / self.size
        box = corners_to_box(maps[:, 2:].reshape(-1, 4, 2) / self.size)
        error = (box - corners_to_box(corners)).square() * present
        return error.mean(dim=1).sum() / present.sum().clamp(min=1)


def corners_to_box(corners: Tensor) -> Tensor:
    """Return the upright boxes around corners ``(N, 4, 2)``, as cx, cy, w, h of shape ``(N, 4)``."""
    low, high = corners.amin(dim=1), corners.amax(dim=1)
    return torch.cat([(low + high) / 2, high - low], dim=1)


def _box_to_corners(box: Tensor) -> Tensor:
    signs = box.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    return box[:, None, :2] + box[:, None, 2:] * signs
