"""Each degradation does what its name says, and nothing at its neutral value."""

from __future__ import annotations

import numpy as np
import pytest

from src.core.random import Draws
from src.generators import degrade


@pytest.fixture
def image() -> np.ndarray:
    return Draws(5, "image", np.arange(64)).integers(40, 200, (80,)).astype(np.uint8)


def test_noise_of_no_weight_changes_nothing(image: np.ndarray) -> None:
    texture = degrade.noise_texture(3, 1.0)
    assert (degrade.add_noise(image, texture, (0.3, 0.9), 0.0) == image).all()


def test_noise_mixes_in_by_its_weight(image: np.ndarray) -> None:
    texture = degrade.noise_texture(1, 1.0)
    mixed = degrade.add_noise(image, texture, (0.0, 0.0), 0.25)
    expected = 0.75 * image + 0.25 * texture[:64, :80]
    assert np.abs(mixed - expected).max() <= 0.51


@pytest.mark.parametrize("box", [3, 9, 19])
def test_noise_is_blurred_by_its_box(box: int) -> None:
    # A mean of box^2 independent values has 1/box of their standard deviation.
    assert degrade.noise_texture(box, 1.0).std() == pytest.approx(256 / 12**0.5 / box, rel=0.15)


def test_noise_of_a_smaller_scene_is_the_same_seen_from_afar() -> None:
    near, far = degrade.noise_texture(9, 1.0), degrade.noise_texture(9, 0.336)
    assert far.shape[0] == round(degrade.NOISE_SIDE * 0.336)
    assert near.std() * 0.6 < far.std() < near.std()


def test_sharpness_one_changes_nothing(image: np.ndarray) -> None:
    assert (degrade.sharpen(image, 1.0, 1.0) == image).all()


def test_sharpness_zero_smooths_and_two_sharpens(image: np.ndarray) -> None:
    smooth, sharp = degrade.sharpen(image, 0.0, 1.0), degrade.sharpen(image, 2.0, 1.0)
    assert smooth.std() < image.std() < sharp.std()


def test_sharpening_is_weaker_where_the_image_is_smaller(image: np.ndarray) -> None:
    full, third = degrade.sharpen(image, 3.0, 1.0), degrade.sharpen(image, 3.0, 0.33)
    assert image.std() < third.std() < full.std()


def test_brighten_multiplies_and_cuts_off(image: np.ndarray) -> None:
    assert (degrade.brighten(image, 1.0) == image).all()
    assert (degrade.brighten(image, 1.5) == np.round(image * 1.5).clip(max=255)).all()


def test_blur_smooths_with_its_sigma(image: np.ndarray) -> None:
    assert degrade.blur(image, 0.2) is image
    assert image.std() > degrade.blur(image, 0.5).std() > degrade.blur(image, 0.9).std()


def test_autocontrast_spans_all_greys(image: np.ndarray) -> None:
    stretched = degrade.autocontrast(image)
    assert (stretched.min(), stretched.max()) == (0, 255)
    order = np.argsort(image.ravel(), kind="stable")
    assert (np.diff(stretched.ravel()[order].astype(int)) >= 0).all()


def test_autocontrast_leaves_one_grey_alone() -> None:
    flat = np.full((8, 8), 77, np.uint8)
    assert (degrade.autocontrast(flat) == 77).all()
