"""Draw plates and the texts that were read on images (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from ..core.images import Pixels

READ, UNREAD = (46, 160, 67), (240, 140, 20)
"""RGB colours of plates with and without a text."""
_BRIGHT = (255, 255, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_HEIGHT = 22
"""Height of the font's capitals at scale 1, in pixels."""


class Drawn(Protocol):
    """Properties of a plate that are drawn; src/inference/reader.py describes them."""

    @property
    def plate(self) -> str | None: ...
    @property
    def confidence(self) -> float: ...
    @property
    def corners(self) -> tuple[tuple[float, float], ...]: ...


def draw_plates(image: Pixels, plates: Sequence[Drawn]) -> Pixels:
    """Return a copy of an ``(H, W, 3)`` RGB image with outlined plates and their texts beside them."""
    image = np.ascontiguousarray(image).copy()
    size = max(image.shape[:2])
    thickness = max(1, round(size / 500))
    # Drawn by ascending confidence, so that the best one is on top.
    for plate in reversed(plates):
        colour = UNREAD if plate.plate is None else READ
        # OpenCV has pixel centres at integers, and is given sixteenths of pixels.
        points = np.round((np.array(plate.corners) - 0.5) * 16).astype(np.int32)
        cv2.polylines(image, [points], True, colour, thickness, cv2.LINE_AA, 4)
        text = f"{plate.plate or 'no text'} {plate.confidence:.0%}"
        _label(image, text, np.array(plate.corners), colour, max(0.4, size / 1000))
    return image


def _label(
    image: Pixels, text: str, corners: np.ndarray, colour: tuple[int, int, int], scale: float
) -> None:
    """Write a text above a plate, or below it if there is no room, or as near as the edge allows."""
    height, width = image.shape[:2]
    thickness = max(1, round(2 * scale))
    text_width = cv2.getTextSize(text, _FONT, scale, thickness)[0][0]
    gap = round(8 * scale)
    tall = round(_FONT_HEIGHT * scale) + 2 * gap
    low, high = corners.min(axis=0), corners.max(axis=0)
    left = int(np.clip(low[0], 0, max(0, width - text_width - 2 * gap)))
    top = low[1] - tall - gap if low[1] - tall - gap >= 0 else high[1] + gap
    top = int(np.clip(top, 0, max(0, height - tall)))
    cv2.rectangle(image, (left, top), (left + text_width + 2 * gap, top + tall), colour, cv2.FILLED)
    place = (left + gap, top + tall - gap)
    cv2.putText(image, text, place, _FONT, scale, _BRIGHT, thickness, cv2.LINE_AA)
