"""The two models on images: what goes in and what comes out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from src.config import load_config
from src.core.charset import CHARSET
from src.core.layout import LAYOUT
from src.evaluation.inference import localizer_maps, read_log_probs
from src.models.base import ModelError
from src.models.localizers import PlateNet
from src.models.registry import build_localizer, build_recognizer
from tests.conftest import PARAMETERS

CPU = torch.device("cpu")


def images(*sizes: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    return [generator.integers(0, 256, size, dtype=np.uint8) for size in sizes]


@torch.no_grad()
def test_maps_are_those_of_the_model() -> None:
    model = PlateNet([1, 48, 64], [8] * 8).eval()
    batch = images((48, 64), (48, 64))
    maps = localizer_maps(model, batch, CPU)
    expected = model(torch.from_numpy(np.stack(batch))[:, None] / 255)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected.numpy(), rtol=1e-5)


def test_images_of_any_size_are_resized() -> None:
    model = PlateNet([1, 48, 64], [8] * 8).eval()
    small = images((48, 64))[0]
    large = small.repeat(3, axis=0).repeat(2, axis=1)
    maps = localizer_maps(model, [small, large], CPU)
    assert maps.shape == (2, 10, 6, 8)
    np.testing.assert_allclose(maps[1], maps[0], atol=1e-4)


def test_broken_weights_are_an_error() -> None:
    config = load_config(PARAMETERS)
    localizer, reader = build_localizer("plate_net", config), build_recognizer("crnn", config)
    for model in (localizer.eval(), reader.eval()):
        with torch.no_grad():
            list(model.parameters())[-1][0] = math.nan
    with pytest.raises(ModelError, match=r"PlateNet are broken.*lower LR"):
        localizer_maps(localizer, images((84, 84)), CPU)
    with pytest.raises(ModelError, match=r"CRNN are broken.*lower LR"):
        read_log_probs(reader, images((32, 128)), CPU)


def test_log_probabilities_sum_to_one_but_for_hidden_characters() -> None:
    reader = build_recognizer("crnn", load_config(PARAMETERS)).eval()
    log_probs = read_log_probs(reader, images((32, 128), (32, 128)), CPU)
    assert log_probs.shape == (2, 32, CHARSET.num_classes + len(LAYOUT))
    total = np.exp(log_probs[..., : CHARSET.num_classes]).sum(axis=-1)
    assert ((total > 0.9) & (total < 1)).all()
