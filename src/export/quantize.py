"""Quantization of the exported networks to int8 weights and activations, for ONNX Runtime.

Convolutions are quantized statically, with one scale per channel of the weights (Jacob et al., 2018), and
LSTMs dynamically: the range of their activations is that of the whole input, so it must be one image. The
first convolution of each
network, which sees the pixels, and the last one of the localizer, which outputs coordinates, stay in
floating point.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..core.images import load_image
from ..core.machine import available_cores
from ..inference.bundle import Manifest
from ..inference.finder import Localize, find_plates, other_corners
from ..inference.pyramid import Pyramid
from ..inference.recognizer import Place, read_places
from ..inference.runtimes import IMAGES_AT_ONCE, Network

Batch = NDArray[np.uint8]

MOST_INPUTS = 200
"""Maximum number of batches for calibrating the ranges of activations."""


def inputs(
    localizer: bytes, reader: bytes, manifest: Manifest, images: Sequence[NDArray[np.uint8]]
) -> tuple[list[Batch], list[Batch]]:
    """Record the inputs that both networks receive while images are read, in a fixed order.

    Args:
        localizer: ONNX model of the localizer.
        reader: ONNX model of the recognizer.
        manifest: Bundle manifest that describes both networks.
        images: Greyscale images to read.

    Returns:
        Input batches of the localizer and input batches of the recognizer.
    """
    networks = Network(localizer, "onnxruntime"), Network(reader, "onnxruntime")

    def given(image: NDArray[np.uint8]) -> tuple[list[Batch], list[Batch]]:
        seen: tuple[list[Batch], list[Batch]] = ([], [])
        find, read = (_remembered(*pair) for pair in zip(networks, seen, strict=True))
        pyramid = Pyramid(load_image(image))
        (plates,) = find_plates([pyramid], find, manifest.localizer)
        places = [
            Place(pyramid, *plate)
            for plate in zip(
                plates.corners, plates.score.tolist(), plates.two_lines.tolist(), strict=True
            )
        ]
        read_places(
            places,
            read,
            lambda others: other_corners(others, find, manifest.localizer),
            manifest.recognizer,
        )
        return seen

    # Process images in parallel, but collect their inputs in the order of the images.
    with ThreadPoolExecutor(available_cores()) as pool:
        found, cut = zip(*pool.map(given, images), strict=True)
    return list(chain(*found)), list(chain(*cut))


def _remembered(network: Network, seen: list[Batch]) -> Localize:
    def run(images: Batch) -> NDArray[np.float32]:
        seen.append(images.copy())
        return network.run(images)

    return run


def quantized(model: bytes, seen: Sequence[Batch], keep_last: bool) -> bytes:
    """Quantize a model to int8.

    Args:
        model: ONNX model in floating point.
        seen: Input batches of the model; an evenly spaced subset calibrates the ranges of activations.
        keep_last: Whether the last convolution stays in floating point.

    Returns:
        ONNX model with int8 convolutions and LSTMs.
    """
    chosen = np.linspace(0, len(seen) - 1, min(MOST_INPUTS, len(seen))).astype(int)
    with TemporaryDirectory() as folder:
        path, prepared, recurrent, result = (Path(folder) / f"{i}.onnx" for i in range(4))
        path.write_bytes(model)
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        # Shapes are inferred again; among those of before, some are of weights that were transposed since.
        network = onnx.load(prepared)
        network.graph.ClearField("value_info")
        onnx.save(network, prepared)
        quantize_dynamic(
            prepared, recurrent, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8
        )
        nodes = onnx.load(recurrent).graph.node
        convolutions = [node.name for node in nodes if node.op_type == "Conv"]
        quantize_static(
            recurrent,
            result,
            _Inputs(iter([seen[i] for i in chosen])),
            # With each ReLU, the convolution before it writes the range that the next one reads: one scale
            # for both, whose values are all positive.
            op_types_to_quantize=["Conv", "Relu"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[convolutions[0], *(convolutions[-1:] if keep_last else [])],
        )
        network = onnx.load(result)
        if any(node.op_type == "DynamicQuantizeLSTM" for node in nodes):
            # An image would be read differently beside others.
            network.metadata_props.add(key=IMAGES_AT_ONCE, value="1")
        return bytes(network.SerializeToString(deterministic=True))


class _Inputs(CalibrationDataReader):
    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
