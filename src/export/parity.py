"""Comparison of the exported networks with PyTorch's on samples of the validation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..core.errors import StageError
from ..datasets.shards import ShardedSet
from ..inference.crops import recognizer_crop
from ..inference.decoding import decode
from ..inference.detection import SURE, best
from ..inference.runtimes import Network, Runtime
from ..models.base import Localizer, Recognizer
from .onnx import LocalizerOfBytes, ReaderOfBytes

SAMPLES = 500
LEAST_PROBABILITY = 1e-3
"""Probability below which log-probabilities are not compared, because nothing depends on them."""
MOST_DIFFERENCE = 1e-3
"""Maximum allowed difference of a logit or a log-probability, in float32."""
MOST_PIXELS = 0.02
"""Maximum allowed difference of a corner in pixels of the localizer's input, in float32."""
MOST_LOST = 0.01
"""Maximum fraction of texts that a faster runtime may lose."""
MOST_PIXELS_MEDIAN = 0.5
"""Maximum median error of a faster runtime's corners, in pixels of the localizer's input."""

Batch = NDArray[np.uint8]


@dataclass(frozen=True)
class Reference:
    """PyTorch's outputs on samples of the validation sets.

    Attributes:
        images: Inputs of the localizer, shape ``(N, H, W)``.
        maps: Maps of the localizer for ``images``, shape ``(N, 10, h, w)``.
        crops: Inputs of the recognizer, shape ``(M, h, w)``.
        log_probs: Log-probabilities of the recognizer for ``crops``, shape ``(M, T, C)``.
        plates: Ground-truth text of each of the M crops.
    """

    images: Batch
    maps: NDArray[np.float32]
    crops: Batch
    log_probs: NDArray[np.float32]
    plates: list[str]


def reference(
    localizer: Localizer, reader: Recognizer, scenes: ShardedSet, windows: ShardedSet
) -> Reference:
    """Run both models on the first samples of their validation sets.

    Args:
        localizer: Localizer in evaluation mode.
        reader: Recognizer in evaluation mode.
        scenes: Validation set of the localizer.
        windows: Validation set of the recognizer, whose crops are cut at the ground-truth corners.

    Raises:
        StageError: A model returns non-finite values.
    """
    images = _images(localizer, scenes)
    crops = _crops(reader, windows)
    return Reference(
        images,
        _run(LocalizerOfBytes(localizer), images),
        crops,
        _run(ReaderOfBytes(reader), crops),
        windows.plates[: len(crops)],
    )


def _images(localizer: Localizer, samples: ShardedSet) -> Batch:
    _, height, width = localizer.input_shape
    if localizer.dense:
        # Round up to the nearest size that the localizer accepts.
        height, width = (
            -(-side // localizer.stride) * localizer.stride for side in (height, width)
        )
    chosen = range(min(SAMPLES, len(samples)))
    return np.stack(
        [
            cv2.resize(samples.image(i), (width, height), interpolation=cv2.INTER_AREA)
            for i in chosen
        ]
    ).astype(np.uint8)


def _crops(reader: Recognizer, samples: ShardedSet) -> Batch:
    crops = []
    for i in range(min(SAMPLES, len(samples))):
        image, lines = samples.image(i), int(samples.lines[i])
        corners = samples.corners[i] * image.shape[::-1]
        crops.append(
            recognizer_crop(image, corners, reader.rectification, reader.input_shape, lines)
        )
    return np.stack(crops)


@torch.inference_mode()
def _run(module: nn.Module, batch: Batch) -> NDArray[np.float32]:
    module.eval()
    parts = [module(part).numpy() for part in torch.from_numpy(batch).split(64)]
    values = np.concatenate(parts)
    if not np.isfinite(values).all():
        raise StageError(
            "a model returns values that are not finite: train it again with a lower LR"
        )
    return values


def compare_exactly(known: Reference, localizer: bytes, reader: bytes) -> dict[str, float]:
    """Compare the float32 exported networks under ONNX Runtime with PyTorch's outputs.

    Args:
        known: PyTorch's outputs.
        localizer: ONNX model of the localizer.
        reader: ONNX model of the recognizer.

    Returns:
        Largest difference of each compared quantity.

    Raises:
        StageError: A difference is larger than rounding can explain.
    """
    maps = Network(localizer, "onnxruntime").run(known.images)
    log_probs = Network(reader, "onnxruntime").run(known.crops)
    matters = np.maximum(known.log_probs, log_probs) >= np.log(LEAST_PROBABILITY)
    differences = {
        "logit": _largest(maps[:, :2], known.maps[:, :2]),
        "corner_px": _largest(maps[:, 2:], known.maps[:, 2:]),
        "log_prob": _largest(log_probs[matters], known.log_probs[matters]),
    }
    limits = {"logit": MOST_DIFFERENCE, "corner_px": MOST_PIXELS, "log_prob": MOST_DIFFERENCE}
    for name, difference in differences.items():
        # Written this way round so that NaN is rejected as well.
        if not difference <= limits[name]:
            raise StageError(
                "the exported models differ from the PyTorch models: the largest difference of "
                f"{name} is {difference:g}, the maximum is {limits[name]:g}"
            )
    return differences


def _largest(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    return float(np.abs(first - second).max(initial=0.0))


def compare_decisions(
    known: Reference, localizer: bytes, reader: bytes, runtime: Runtime
) -> dict[str, Any]:
    """Compare the decisions of lower-precision networks with PyTorch's on the same samples.

    Args:
        known: PyTorch's outputs.
        localizer: ONNX model of the localizer.
        reader: ONNX model of the recognizer.
        runtime: Runtime that runs both models.

    Returns:
        Fractions of equal and of correct texts, and differences of the corners; None where there is
        nothing to compare.
    """
    corners, score, _ = best(known.maps)
    found, _, _ = best(Network(localizer, runtime).run(known.images))
    sure = score >= SURE
    distances = np.linalg.norm(found - corners, axis=2).mean(axis=1)[sure]
    texts = _texts(known.log_probs)
    others = _texts(Network(reader, runtime).run(known.crops))
    readable = [i for i, plate in enumerate(known.plates) if plate]
    return {
        "runtime": runtime,
        "equal_texts": _share([others[i] == texts[i] for i in readable]),
        "right_in_pytorch": _share([texts[i] == known.plates[i] for i in readable]),
        "right": _share([others[i] == known.plates[i] for i in readable]),
        "plates_compared": int(sure.sum()),
        "corner_px_median": float(np.median(distances)) if sure.any() else None,
        "corner_px_95": float(np.percentile(distances, 95)) if sure.any() else None,
    }


def loss(decisions: dict[str, Any]) -> str | None:
    """Return what is wrong with lower-precision decisions, or None if they are good enough.

    Args:
        decisions: Result of ``compare_decisions``.
    """
    runtime, right = decisions["runtime"], decisions["right"]
    lost = 0.0 if right is None else decisions["right_in_pytorch"] - right
    if lost > MOST_LOST:
        return f"{runtime} loses {lost:.1%} of the texts; the maximum is {MOST_LOST:.1%}"
    pixels = decisions["corner_px_median"]
    if pixels is not None and pixels > MOST_PIXELS_MEDIAN:
        return (
            f"the median corner error of {runtime} is {pixels:.2f} pixels; the maximum is "
            f"{MOST_PIXELS_MEDIAN}"
        )
    return None


def _texts(log_probs: NDArray[np.float32]) -> list[str]:
    return [reading.text for reading in decode(log_probs)]


def _share(right: Sequence[bool]) -> float | None:
    return float(np.mean(right)) if right else None
