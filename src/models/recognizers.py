"""Recognizers: ``crnn``, this project's own, and ``plate_ocr_v2``, the original's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.charset import CHARSET
from ..core.layout import LAYOUT
from .base import ModelError, Recognizer, convolution, original_convolutions

# CTC needs a blank between equal classes. The worst case of eight is a canton and seven equal digits.
_FEWEST_STEPS = CHARSET.max_length + CHARSET.max_length - 2


class CRNN(Recognizer):
    """Convolutional recurrent network with a bidirectional LSTM, trained with CTC.

    The LSTM runs over the columns of a feature map with a quarter of the crop's width. After Shi, Bai,
    Yao: An end-to-end trainable neural network for image-based sequence recognition, PAMI 2017. An LSTM
    is used instead of a GRU because CPUs run it as a single kernel, in bfloat16 too, so that it trains
    and runs faster despite its size.

    Args:
        input_shape: Shape of the rectified crops, [1, height, width].
        channels: Output channels of the eight convolutions.
        hidden_size: Hidden size of the LSTM per direction.
        layers: Number of LSTM layers.
        dropout: Dropout probability between and after the LSTM layers.
        num_classes: Number of classes of the charset, including the blank as the last.
    """

    def __init__(
        self,
        input_shape: list[int],
        channels: list[int],
        hidden_size: int,
        layers: int,
        dropout: float,
        num_classes: int,
    ) -> None:
        parameters = {
            "input_shape": input_shape,
            "channels": channels,
            "hidden_size": hidden_size,
            "layers": layers,
            "dropout": dropout,
            "num_classes": num_classes,
        }
        super().__init__(parameters, input_shape, "corners", num_classes - 1, tells_hidden=True)
        if len(channels) != 8:
            raise ModelError(
                "OCRModelParams.CRNN_CHANNELS: expected 8 values, one per convolution of crnn"
            )
        _, height, width = input_shape
        if height % 16 or width % 4 or width // 4 < _FEWEST_STEPS:
            raise ModelError(
                f"OCRModelParams.CRNN_IMG_SHAPE: crnn does not support {height}x{width}: "
                "the height must be "
                f"a multiple of 16, the width a multiple of 4 and at least {4 * _FEWEST_STEPS}"
            )
        # The width is kept at a quarter: a step is 4 of 128 columns, half a digit. Strides, not pooling:
        # batch norm at the larger size and the pooling would take longer than all multiplications.
        strides: list[int | tuple[int, int]] = [2, 1, 2, 1, (2, 1), 1, (2, 1), 1]
        inputs = [input_shape[0], *channels[:-1]]
        self.trunk = nn.Sequential(
            *(convolution(*shape) for shape in zip(inputs, channels, strides, strict=True))
        )
        self.recurrent = nn.LSTM(
            channels[-1] * height // 16,
            hidden_size,
            layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden_size, self.classes)
        self.layout = nn.Linear(4 * hidden_size, len(LAYOUT))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits of classes and layout from ``images`` ``(N, 1, H, W)``, float in [0, 1].

        Returns:
            Logits ``(N, W / 4, C + 1 + len(LAYOUT))``; those of the layout are the same at each step.
        """
        columns = _columns(self.trunk(images), self.recurrent)
        with torch.autocast(columns.device.type, enabled=False):
            columns = self.dropout(columns).float()
            whole = torch.cat([columns.mean(dim=1), columns.amax(dim=1)], dim=1)
            layout = self.layout(whole)[:, None].expand(-1, columns.shape[1], -1)
            return torch.cat([self.head(columns), layout], dim=2)


class PlateOCRV2(Recognizer):
    """The original project's recognizer, reimplemented from its shapes.

    It reads the upright box, resized to a square.

    Args:
        input_shape: Shape of the crops, [1, height, width].
        layers: Output channels of the convolutions; a 0 stands for a 2x2 max pooling.
        pooling: Output size of the adaptive average pooling, [height, width]; the width is the number of
            GRU steps.
        hidden_size: Hidden size of the GRU per direction.
        gru_layers: Number of GRU layers.
        dropout: Dropout probability between the GRU layers.
        num_classes: Number of classes of the charset, including the blank as the last.
    """

    def __init__(
        self,
        input_shape: list[int],
        layers: list[int],
        pooling: list[int],
        hidden_size: int,
        gru_layers: int,
        dropout: float,
        num_classes: int,
    ) -> None:
        parameters = {
            "input_shape": input_shape,
            "layers": layers,
            "pooling": pooling,
            "hidden_size": hidden_size,
            "gru_layers": gru_layers,
            "dropout": dropout,
            "num_classes": num_classes,
        }
        super().__init__(parameters, input_shape, "box", num_classes - 1)
        if pooling[1] < _FEWEST_STEPS:
            raise ModelError(
                f"OCRModelParams.GRU_AVGPOOL_SIZE: {pooling[1]} steps are too few for "
                f"{CHARSET.max_length} classes; CTC needs at least {_FEWEST_STEPS}"
            )
        self.trunk = nn.Sequential(
            original_convolutions(
                layers, input_shape, "OCRModelParams.CONV_LAYERS, OCRParams.IMG_SHAPE"
            ),
            nn.AdaptiveAvgPool2d((pooling[0], pooling[1])),
        )
        self.recurrent = nn.GRU(
            [layer for layer in layers if layer][-1] * pooling[0],
            hidden_size,
            gru_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if gru_layers > 1 else 0.0,
        )
        self.head = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits ``(N, steps, C)`` from ``images`` ``(N, 1, H, W)``, float in [0, 1]."""
        columns = _columns(self.trunk(images), self.recurrent)
        with torch.autocast(columns.device.type, enabled=False):
            return self.head(columns.float())


def _columns(features: Tensor, recurrent: nn.GRU | nn.LSTM) -> Tensor:
    """Read the columns of features ``(N, C, H, W)``; return ``(N, W, 2 * hidden size)``.

    Logits are computed from them in float32: in bf16 they have three digits, too few to tell a certain
    character from an uncertain one.
    """
    columns, _ = recurrent(features.permute(0, 3, 1, 2).flatten(2))
    return columns
