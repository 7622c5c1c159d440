"""Images that show too little are flagged, and others are not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from src.quality.measures import blur
from tests.quality.sets import checked, noise, samples_of, with_images

CHECKS = ("dark", "light", "blurry", "low_information", "odd_size", "odd_aspect_ratio")


def flagged(check: str, image: np.ndarray, number: int = 3) -> list[int]:
    samples = with_images(samples_of(25), {number: image})
    samples.labels.loc[number, ["height", "width"]] = image.shape
    finding = checked(check, samples)
    assert finding.checked == 25
    return finding.flagged.tolist()


@pytest.mark.parametrize(
    ("check", "image"),
    [
        ("dark", noise(3) // 8),
        ("light", 255 - noise(3) // 32),
        (
            "blurry",
            cv2.GaussianBlur(np.kron(noise(3)[20:26, 20:26], np.ones((8, 8), np.uint8)), (0, 0), 5),
        ),
        ("low_information", np.full((48, 48), 90, np.uint8)),
        ("odd_size", np.tile(noise(3), (6, 6))),
        ("odd_aspect_ratio", np.tile(noise(3), (1, 8))),
    ],
)
def test_what_is_wrong_is_flagged(check: str, image: np.ndarray) -> None:
    assert flagged(check, image) == [3]


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_usual_is_not(check: str) -> None:
    assert flagged(check, noise(3)) == []


def test_a_reason_is_a_measure() -> None:
    samples = with_images(samples_of(25), {3: noise(3) // 8})
    finding = checked("dark", samples)
    assert finding.scores is not None
    assert finding.scores.why(3).startswith("brightness 0.0")


def test_sizes_of_a_handful_are_not_compared() -> None:
    assert checked("odd_size", samples_of(5)).warning == "5 samples; 20 are needed"


def test_blur_is_told_whatever_the_contrast() -> None:
    blocks = np.kron(noise(5)[20:26, 20:26], np.ones((8, 8), np.uint8))
    soft = cv2.GaussianBlur(blocks, (0, 0), 4)
    faint = (blocks // 4 + 90).astype(np.uint8)
    assert blur(blocks) < 0.5 < blur(soft)
    assert blur(faint) == pytest.approx(blur(blocks), abs=0.05)
