"""Inference with the two models, from NumPy arrays to NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ..models.base import Localizer, ModelError, Recognizer

ImageArray = NDArray[np.uint8]


def best_device() -> torch.device:
    """Return the CUDA device if there is one, and the CPU otherwise."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def localizer_maps(
    localizer: Localizer, images: Sequence[ImageArray], device: torch.device
) -> NDArray[np.float32]:
    """Return the output maps ``(N, 10, h, w)`` of a localizer for images, resized to its input shape.

    Args:
        localizer: Localizer on ``device``, in evaluation mode.
        images: Images of any sizes, each ``(H, W)`` uint8.
        device: Device that the model is on.

    Raises:
        ModelError: The localizer returns NaN.
    """
    _, height, width = localizer.input_shape
    resized = [_resized(image, height, width) for image in images]
    maps = localizer(_batch(resized, device)).float().cpu().numpy()
    _check(localizer, maps)
    return maps


@torch.inference_mode()
def read_log_probs(
    reader: Recognizer, crops: Sequence[ImageArray], device: torch.device
) -> NDArray[np.float32]:
    """Return the log-probabilities ``(N, T, C)`` of the characters in crops, and behind them the layout.

    Args:
        reader: Recognizer on ``device``, in evaluation mode.
        crops: Crops of the recognizer's input size, each ``(h, w)`` uint8.
        device: Device that the model is on.

    Raises:
        ModelError: The recognizer returns NaN.
    """
    log_probs = reader.normalised(reader(_batch(crops, device)).float()).cpu().numpy()
    _check(reader, log_probs)
    return log_probs


def _resized(image: ImageArray, height: int, width: int) -> ImageArray:
    if image.shape == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _batch(images: Sequence[ImageArray], device: torch.device) -> torch.Tensor:
    """Convert images of one size to a batch ``(N, 1, H, W)``, float in [0, 1]."""
    pixels = torch.from_numpy(np.stack(images)).to(device)
    return pixels.unsqueeze(1).float() / 255


def _check(model: Localizer | Recognizer, values: NDArray[np.floating]) -> None:
    if np.isnan(values).any():
        raise ModelError(
            f"the weights of {type(model).__name__} are broken: its output contains NaN. Train it "
            "again with a lower LR."
        )
