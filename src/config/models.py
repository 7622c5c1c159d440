"""Parameters of the networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.charset import CHARSET
from .types import Channels, Count, GreyShape, Integer, Layers, Number, Section, Size


class ModelsConfig(Section):
    # The names are those of src/models/registry.py: here too, so that a wrong one is an error before
    # the sets are prepared and not after.
    localizer: Literal["plate_net", "plate_localizer_v3"]
    """Network that finds plates."""
    reader: Literal["crnn", "plate_ocr_v2"]
    """Network that reads plates."""


class LocalizeParams(Section):
    IMG_SHAPE: GreyShape
    """Shape of a localizer's input: [1, height, width]."""

    @model_validator(mode="after")
    def _square_scene(self) -> LocalizeParams:
        if self.IMG_SHAPE[1] != self.IMG_SHAPE[2] or not 32 <= self.IMG_SHAPE[1] <= 512:
            raise ValueError("IMG_SHAPE must be [1, side, side] with a side of 32 to 512")
        return self


class LocalizeModelParams(Section):
    PLATE_NET_CHANNELS: Channels
    """plate_net: channels of its eight convolutions."""
    CONV_LAYERS: Layers
    """plate_localizer_v3: channels of each 3x3 convolution; a 0 is a 2x2 max pooling."""
    AVGPOOL_SIZE: Size
    """plate_localizer_v3: adaptive average pooling before the hidden layers."""
    HIDDEN_LAYERS: Annotated[list[Count], Field(min_length=1)]
    """plate_localizer_v3: widths of the hidden layers."""
    DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """plate_localizer_v3: dropout after each hidden layer."""


class OCRParams(Section):
    IMG_SHAPE: GreyShape
    """Shape of plate_ocr_v2's input: [1, height, width]."""
    MAX_LABEL_LENGTH: Integer
    """Longest text in classes: one canton and seven digits."""
    GRU_NUM_CLASSES: Integer
    """Classes with the blank; the charset's."""
    GRU_BLANK_CLASS: Integer
    """The blank; the charset's."""

    @model_validator(mode="after")
    def _charset(self) -> OCRParams:
        wanted = {
            "MAX_LABEL_LENGTH": CHARSET.max_length,
            "GRU_NUM_CLASSES": CHARSET.num_classes,
            "GRU_BLANK_CLASS": CHARSET.blank,
        }
        for name, value in wanted.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is fixed by src/core/charset.py: it must be {value}")
        return self


class OCRModelParams(Section):
    CRNN_IMG_SHAPE: GreyShape
    """crnn: shape of its input, [1, height, width]."""
    CRNN_CHANNELS: Channels
    """crnn: channels of its eight convolutions."""
    CRNN_HIDDEN_SIZE: Count
    """crnn: width of its LSTM, each direction."""
    CRNN_NUM_LAYERS: Count
    """crnn: layers of its LSTM."""
    CRNN_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """crnn: dropout between and after the LSTM's layers."""
    CONV_LAYERS: Layers
    """plate_ocr_v2: channels of each 3x3 convolution; a 0 is a 2x2 max pooling."""
    GRU_AVGPOOL_SIZE: Size
    """plate_ocr_v2: adaptive average pooling before the GRU: [features a step, steps]."""
    GRU_HIDDEN_SIZE: Count
    """plate_ocr_v2: width of its GRU, each direction."""
    GRU_NUM_LAYERS: Count
    """plate_ocr_v2: layers of its GRU."""
    GRU_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """plate_ocr_v2: dropout between the GRU's layers."""
