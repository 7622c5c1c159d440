"""The readers: ``crnn``, this project's own, and ``plate_ocr_v2``, the original's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.charset import CHARSET
from .base import ModelError, Recognizer, convolution, seed_convolutions

# CTC needs a blank between equal characters: of eight, the canton and seven equal digits.
_FEWEST_STEPS = CHARSET.max_length + CHARSET.max_length - 2


class CRNN(Recognizer):
    """Convolutions, a bidirectional LSTM over columns of a quarter of the width, CTC.

    After Shi, Bai, Yao: An end-to-end trainable neural network for image-based sequence recognition,
    PAMI 2017. An LSTM and not a GRU: processors have it as one kernel, in bfloat16 too, and train and
    run it faster, large as it is.

    Args:
        input_shape: [1, height, width] of the rectified crops.
        channels: of the eight convolutions.
        hidden_size: of the LSTM, each direction.
        layers: of the LSTM.
        dropout: between and after the LSTM's layers.
        num_classes: of the charset, with the blank as the last.
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
        super().__init__(parameters, input_shape, "corners", num_classes - 1)
        if len(channels) != 8:
            raise ModelError("OCRModelParams.CRNN_CHANNELS: crnn has 8 convolutions")
        _, height, width = input_shape
        if height % 16 or width % 4 or width // 4 < _FEWEST_STEPS:
            raise ModelError(
                f"OCRModelParams.CRNN_IMG_SHAPE: crnn cannot take {height}x{width}: the height must be "
                f"a multiple of 16, the width a multiple of 4 and at least {4 * _FEWEST_STEPS}"
            )
        # The width is kept from a quarter on: a step is 4 of 128 columns, half a digit. Strides, not
        # poolings: batch norm at the larger size and the pooling would take longer than all products.
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
        self.head = nn.Linear(2 * hidden_size, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, W / 4, C)`` of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""
        return _read_columns(self.trunk(images), self.recurrent, self.dropout, self.head)


class PlateOCRV2(Recognizer):
    """The original project's reader, written anew from its shapes: it reads a square of the upright box.

    Args:
        input_shape: [1, height, width] of the crops.
        layers: channels of the convolutions; a 0 is a 2x2 max pooling.
        pooling: [height, width] of the adaptive average pooling; the width is the steps of the GRU.
        hidden_size: of the GRU, each direction.
        gru_layers: of the GRU.
        dropout: between the GRU's layers.
        num_classes: of the charset, with the blank as the last.
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
                f"OCRModelParams.GRU_AVGPOOL_SIZE: {pooling[1]} steps cannot spell "
                f"{CHARSET.max_length} classes; CTC needs at least {_FEWEST_STEPS}"
            )
        self.trunk = nn.Sequential(
            seed_convolutions(
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
        """Logits ``(N, steps, C)`` of ``images``, ``(N, 1, H, W)`` float in [0, 1]."""
        return _read_columns(self.trunk(images), self.recurrent, nn.Identity(), self.head)


def _read_columns(
    features: Tensor, recurrent: nn.GRU | nn.LSTM, dropout: nn.Module, head: nn.Linear
) -> Tensor:
    """Run a recurrent network over the columns of ``(N, C, H, W)`` features: logits ``(N, W, classes)``."""
    columns, _ = recurrent(features.permute(0, 3, 1, 2).flatten(2))
    # Logits in bf16 have three digits: too few to tell a sure character from a doubtful one.
    with torch.autocast(columns.device.type, enabled=False):
        return head(dropout(columns).float())
