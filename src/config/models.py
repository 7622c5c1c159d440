"""Parameters of the models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ..core.charset import CHARSET
from .types import Channels, Count, GreyShape, Integer, Layers, Number, Section, Size


class ModelsConfig(Section):
    # The names of src/models/registry.py, repeated here so that an unknown name is reported before the
    # sets are prepared rather than after.
    localizer: Literal["plate_net", "plate_localizer_v3"]
    """Name of the model that finds plates."""
    recognizer: Literal["crnn", "plate_ocr_v2"]
    """Name of the model that reads plates."""


class LocalizeParams(Section):
    IMG_SHAPE: GreyShape
    """Shape of the localizer's input in pixels: [1, height, width]."""

    @model_validator(mode="after")
    def _square_scene(self) -> LocalizeParams:
        if self.IMG_SHAPE[1] != self.IMG_SHAPE[2] or not 32 <= self.IMG_SHAPE[1] <= 512:
            raise ValueError("IMG_SHAPE must be [1, side, side] with a side of 32 to 512")
        return self


class LocalizeModelParams(Section):
    PLATE_NET_CHANNELS: Channels
    """Numbers of channels of plate_net's eight convolutions."""
    CONV_LAYERS: Layers
    """Numbers of channels of plate_localizer_v3's 3x3 convolutions; 0 stands for a 2x2 max pooling."""
    AVGPOOL_SIZE: Size
    """Output size of the adaptive average pooling before the hidden layers of plate_localizer_v3."""
    HIDDEN_LAYERS: Annotated[list[Count], Field(min_length=1)]
    """Widths of plate_localizer_v3's hidden layers."""
    DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """Dropout probability after each hidden layer of plate_localizer_v3."""


class OCRParams(Section):
    IMG_SHAPE: GreyShape
    """Shape of plate_ocr_v2's input in pixels: [1, height, width]."""
    MAX_LABEL_LENGTH: Integer
    """Maximum length of a text in classes: one for the canton and one per digit, up to seven."""
    GRU_NUM_CLASSES: Integer
    """Number of classes including the blank; must match the charset."""
    GRU_BLANK_CLASS: Integer
    """Index of the blank class; must match the charset."""

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
    """Shape of crnn's input in pixels: [1, height, width]."""
    CRNN_CHANNELS: Channels
    """Numbers of channels of crnn's eight convolutions."""
    CRNN_HIDDEN_SIZE: Count
    """Number of hidden units of crnn's LSTM per direction."""
    CRNN_NUM_LAYERS: Count
    """Number of layers of crnn's LSTM."""
    CRNN_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """Dropout probability between and after the layers of crnn's LSTM."""
    CONV_LAYERS: Layers
    """Numbers of channels of plate_ocr_v2's 3x3 convolutions; 0 stands for a 2x2 max pooling."""
    GRU_AVGPOOL_SIZE: Size
    """Output size of the adaptive average pooling before plate_ocr_v2's GRU:
    [features per time step, time steps]."""
    GRU_HIDDEN_SIZE: Count
    """Number of hidden units of plate_ocr_v2's GRU per direction."""
    GRU_NUM_LAYERS: Count
    """Number of layers of plate_ocr_v2's GRU."""
    GRU_DROPOUT: Annotated[Number, Field(ge=0, lt=1)]
    """Dropout probability between the layers of plate_ocr_v2's GRU."""
