"""Plates that were read, and tiny videos that the stand-in bundle of tests/bundles.py reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from src.inference.reader import Plate
from tests.bundles import draw_plate

Pixels = NDArray[np.uint8]
SIZE = (320, 240)
"""Width and height of the frames."""


def plate(
    text: str = "ZH123456",
    at: tuple[float, float] = (100, 100),
    width: float = 60,
    confidence: float = 0.9,
    others: Sequence[tuple[str, float]] = (),
    **changes: Any,
) -> Plate:
    """A plate whose middle is at a place, a quarter as high as wide."""
    x, y = at
    x1, y1, x2, y2 = x - width / 2, y - width / 8, x + width / 2, y + width / 8
    is_read = confidence >= 0.5
    values: dict[str, Any] = {
        "plate": text if is_read else None,
        "canton": text[:2] if is_read else None,
        "number": text[2:] if is_read else None,
        "confidence": confidence,
        "char_confidences": (confidence,) * (len(text) - 1),
        "box": (x1, y1, x2, y2),
        "corners": ((x1, y1), (x2, y1), (x2, y2), (x1, y2)),
        "lines": 1,
        "score": 0.9,
        "text": text,
        "reason": None if is_read else "unreadable",
        "alternatives": ((text, confidence), *others),
    }
    return Plate(**{**values, **changes})


def empty() -> Pixels:
    """A frame without a plate, ``(H, W, 3)``."""
    return np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)


def frame_with(*plates: tuple[str, int, int, int]) -> Pixels:
    """A frame with plates: text, left, top and width in pixels."""
    grey = np.full((SIZE[1], SIZE[0]), 120, np.uint8)
    for text, left, top, width in plates:
        draw_plate(grey, text, (left, top, left + width, top + width // 4))
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def passing(text: str, frames: int = 20, top: int = 100, before: int = 5) -> list[Pixels]:
    """Frames in which a plate drives from left to right, with empty ones before and after."""
    gone = [empty()] * before
    way = [frame_with((text, 5 + 200 * i // frames, top, 96)) for i in range(frames)]
    return gone + way + gone


def write_video(
    path: Path, frames: Iterable[Pixels], rate: float = 10.0, codec: str = "mp4v"
) -> Path:
    """Write a video file."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, SIZE)
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path
