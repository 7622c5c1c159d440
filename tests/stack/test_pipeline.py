"""The stack: pixels, sizes, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from src.decoding import Reading
from src.models.base import LocalizerOutput, ModelError
from src.stack.pipeline import Stack
from tests.standins import OracleLocalizer, OracleReader, picture_of, plate_text, true_corners

SHAPES = [(256, 256), (84, 84), (300, 400), (50, 90), (1000, 600)]


def test_pictures_of_any_size_are_read_in_their_own_pixels() -> None:
    pictures = [picture_of(i, shape) for i, shape in enumerate(SHAPES)]
    results = Stack(OracleLocalizer(), OracleReader()).read_batch(pictures)
    for i, (result, (height, width)) in enumerate(zip(results, SHAPES, strict=True)):
        corners = true_corners(i) * [width, height]
        np.testing.assert_allclose(result.corners, corners, atol=1e-3)
        np.testing.assert_allclose(
            result.box, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-3
        )
        assert result.reading.text == plate_text(i)
        assert result.score == 1
        assert isinstance(result.reading, Reading)


def test_the_batch_size_changes_nothing() -> None:
    pictures = [picture_of(i, SHAPES[i % 5]) for i in range(11)]
    once = Stack(OracleLocalizer(), OracleReader()).read_batch(pictures)
    bit_by_bit = Stack(OracleLocalizer(), OracleReader(), batch_size=3).read_batch(pictures)
    assert [result.reading for result in once] == [result.reading for result in bit_by_bit]
    assert [result.box for result in once] == [result.box for result in bit_by_bit]


def test_no_pictures_give_no_results() -> None:
    assert Stack(OracleLocalizer(), OracleReader()).read_batch([]) == []


def test_boxes_stay_within_the_picture() -> None:
    result = Stack(OracleLocalizer(shift=0.4), OracleReader()).read_batch(
        [picture_of(0, (80, 100))]
    )
    assert result[0].box[2] == 100
    assert result[0].corners[:, 0].max() > 100


@pytest.mark.parametrize("rectification", ["corners", "box"])
def test_corners_without_area_are_still_read(rectification: str) -> None:
    class Point(OracleLocalizer):
        def forward(self, images: torch.Tensor) -> LocalizerOutput:
            return LocalizerOutput(torch.full((len(images), 4, 2), 0.5), torch.zeros(len(images)))

    stack = Stack(Point(), OracleReader(rectification=rectification))
    result = stack.read_batch([picture_of(0, (80, 100))])[0]
    assert result.box == (50, 40, 50, 40)
    assert result.reading.text


def test_broken_weights_are_named() -> None:
    class Broken(OracleReader):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * torch.nan

    with pytest.raises(ModelError, match=r"Broken.*no numbers"):
        Stack(OracleLocalizer(), Broken()).read_batch([picture_of(0, (80, 100))])


def test_no_gradients_are_kept() -> None:
    flags = []
    reader = OracleReader()
    reader.register_forward_hook(lambda *_: flags.append(torch.is_inference_mode_enabled()))
    Stack(OracleLocalizer(), reader).read_batch([picture_of(0, (80, 100))])
    assert flags == [True]
