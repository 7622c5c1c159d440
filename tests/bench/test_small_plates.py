"""What bench/small_plates.py counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.benches import load


@dataclass
class Found:
    box: tuple[float, float, float, float]
    score: float = 0.9


class Reader:
    """Finds a plate where there is one, and another one beside it at full resolution."""

    def read(self, image: Any, search: str) -> list[Found]:
        if image.shape == (300, 400):
            return [Found((0, 0, 9, 3))] if search == "full" and image[0, 0] < 20 else []
        plates = [Found((10, 10, 50, 20)), Found((90, 90, 99, 93), 0.1)]
        return [*plates, Found((200, 200, 240, 210))] if search == "full" else plates


def test_found_plates_and_others_are_counted() -> None:
    small_plates = load("small_plates")
    drawn = [
        (np.zeros((400, 600), np.uint8), np.array(box))
        for box in ([11.0, 10, 51, 20], [300.0, 10, 340, 20])
    ]
    result = small_plates.measure(Reader(), "standard", drawn)
    assert result["found"] == 0.5
    assert result["other_boxes"] == 1
    assert result["noise_images_with_a_box"] == 0
    result = small_plates.measure(Reader(), "full", drawn)
    assert result["other_boxes"] == 3
    expected = sum(small_plates.noise(i)[0, 0] < 20 for i in range(small_plates.NOISE_IMAGES))
    assert result["noise_images_with_a_box"] == expected > 0


def test_noise_is_the_same_again() -> None:
    small_plates = load("small_plates")
    assert np.array_equal(small_plates.noise(4), small_plates.noise(4))
    assert not np.array_equal(small_plates.noise(4), small_plates.noise(6))
