"""The stack: a localizer finds the plate of a picture, a reader reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from src.config import Config
from src.datasets.crops import reader_crop
from src.decoding import Reading, decode
from src.geometry import box_to_xyxy, corners_to_box
from src.models.base import Localizer, Reader
from src.models.registry import load_localizer, load_reader
from src.utils.inference import Picture, best_device, find_corners, read_log_probs

BATCH_SIZE = 64


@dataclass(frozen=True)
class StackResult:
    """The plate of a picture.

    Attributes:
        box: x1, y1, x2, y2 in pixels, within the picture.
        corners: ``(4, 2)`` in pixels, clockwise from the plate's own top left; perhaps outside.
        score: the localizer's, in [0, 1].
        reading: what the reader read there.
    """

    box: tuple[float, float, float, float]
    corners: NDArray[np.float64]
    score: float
    reading: Reading


class Stack:
    """A localizer and a reader as one.

    Args:
        localizer: finds corners.
        reader: reads crops.
        batch_size: pictures that go through a model at once.
        device: where the models run; by default CUDA where there is one.
    """

    def __init__(
        self,
        localizer: Localizer,
        reader: Reader,
        batch_size: int = BATCH_SIZE,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or best_device()
        self.localizer = localizer.to(self.device).eval()
        self.reader = reader.to(self.device).eval()
        self.batch_size = batch_size

    @classmethod
    def load(
        cls,
        localizer: Path,
        reader: Path,
        batch_size: int = BATCH_SIZE,
        device: torch.device | None = None,
    ) -> Stack:
        """The stack of two model files.

        Raises:
            ModelError: a file is missing, damaged or holds another model.
        """
        return cls(load_localizer(localizer), load_reader(reader), batch_size, device)

    @classmethod
    def of(cls, config: Config) -> Stack:
        """The stack of the models that the pipeline has trained; raises as ``load`` does."""
        return cls.load(
            config.out("models", "localize") / "model.safetensors",
            config.out("models", "ocr") / "model.safetensors",
        )

    def read_batch(self, pictures: Sequence[Picture]) -> list[StackResult]:
        """Find and read the plate of each picture.

        Args:
            pictures: ``(H, W)`` uint8 each, of any sizes.
        """
        corners, scores = self.locate(pictures)
        readings = self.read(pictures, corners)
        return [
            StackResult(_box(corner, picture), corner, score, reading)
            for picture, corner, score, reading in zip(
                pictures, corners, scores, readings, strict=True
            )
        ]

    def locate(self, pictures: Sequence[Picture]) -> tuple[list[NDArray[np.float64]], list[float]]:
        """Corners ``(4, 2)`` in pixels and a score for each ``(H, W)`` picture."""
        corners: list[NDArray[np.float64]] = []
        scores: list[float] = []
        for start in range(0, len(pictures), self.batch_size):
            batch = pictures[start : start + self.batch_size]
            found, score = find_corners(self.localizer, batch, self.device)
            corners += [
                corner * picture.shape[::-1] for corner, picture in zip(found, batch, strict=True)
            ]
            scores += score.tolist()
        return corners, scores

    def read(
        self, pictures: Sequence[Picture], corners: Sequence[NDArray[np.floating]]
    ) -> list[Reading]:
        """Read each ``(H, W)`` picture's plate at its corners ``(4, 2)`` in pixels."""
        readings: list[Reading] = []
        for start in range(0, len(pictures), self.batch_size):
            stop = start + self.batch_size
            crops = [
                reader_crop(picture, corner, self.reader.rectification, self.reader.input_shape)
                for picture, corner in zip(pictures[start:stop], corners[start:stop], strict=True)
            ]
            readings += decode(read_log_probs(self.reader, crops, self.device))
        return readings


def _box(corners: NDArray[np.float64], picture: Picture) -> tuple[float, float, float, float]:
    height, width = picture.shape
    x1, y1, x2, y2 = box_to_xyxy(corners_to_box(corners)).clip(0, [width, height, width, height])
    return float(x1), float(y1), float(x2), float(y2)
