"""Export of localizers and recognizers to ONNX, with uint8 images as input and a bundle's outputs."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ..core.errors import StageError
from ..models.base import Localizer, Recognizer

# Batch size for tracing; it must not be a size that the exporter could take for a constant.
_IMAGES = 3


class LocalizerOfBytes(nn.Module):
    """Localizer that takes ``(N, H, W)`` uint8 images and returns ``(N, 10, h, w)`` maps."""

    def __init__(self, localizer: Localizer) -> None:
        super().__init__()
        self.localizer = localizer

    def forward(self, images: Tensor) -> Tensor:
        return self.localizer(images.unsqueeze(1).float() / 255)


class ReaderOfBytes(nn.Module):
    """Recognizer that takes ``(N, h, w)`` uint8 images and returns its normalised outputs."""

    def __init__(self, reader: Recognizer) -> None:
        super().__init__()
        self.reader = reader

    def forward(self, images: Tensor) -> Tensor:
        return self.reader.normalised(self.reader(images.unsqueeze(1).float() / 255))


def localizer_to_onnx(localizer: Localizer) -> bytes:
    """Export a localizer to ONNX.

    Returns:
        Content of an ONNX file that maps ``images`` (uint8) to ``maps`` (float32).

    Raises:
        StageError: PyTorch cannot export the localizer.
    """
    _, height, width = localizer.input_shape
    axes: dict[int, Any] = {}
    if localizer.dense:
        stride = localizer.stride
        axes = {1: stride * torch.export.Dim("rows"), 2: stride * torch.export.Dim("columns")}
        # Use different multiples of the stride, or one axis would be taken for the other.
        height, width = (-(-height // stride) + 1) * stride, (-(-width // stride) + 2) * stride
    return _export(LocalizerOfBytes(localizer), (height, width), axes, "maps")


def recognizer_to_onnx(reader: Recognizer) -> bytes:
    """Export a recognizer to ONNX.

    Returns:
        Content of an ONNX file that maps ``images`` (uint8) to ``log_probs`` (float32).

    Raises:
        StageError: PyTorch cannot export the recognizer.
    """
    _, height, width = reader.input_shape
    return _export(ReaderOfBytes(reader), (height, width), {}, "log_probs")


def _export(module: nn.Module, size: tuple[int, int], axes: dict[int, Any], output: str) -> bytes:
    images = torch.zeros((_IMAGES, *size), dtype=torch.uint8)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # Hide warnings of the exporter about its own code.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (images,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("pictures"), **axes},),
                input_names=["images"],
                output_names=[output],
                verbose=False,
            )
    except Exception as error:
        raise StageError(
            f"{type(error).__name__}: PyTorch {torch.__version__} cannot export the model to ONNX: "
            f"{error}"
        ) from error
    finally:
        log.setLevel(level)
    if program is None:
        raise StageError("PyTorch did not export an ONNX program")
    model = program.model_proto
    _forget_the_source(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _forget_the_source(graph: onnx.GraphProto) -> None:
    """Remove the source lines recorded for each node, which contain paths on this machine."""
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("metadata_props")
