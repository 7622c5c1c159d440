"""What degrades a picture: small functions on ``(H, W)`` uint8 pictures.

Each has its range in ``DegradeParams``. The noise of one strength and grain is a bank of textures made
once: a sample takes a random cut of it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.random import Draws

Gray = NDArray[np.uint8]

NOISE_SIDE = 512
"""Side of a noise texture in pixels of a 250-pixel scene's resolution."""
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""Pillow's smoothing kernel, which its sharpness enhancement blends with."""


@lru_cache(maxsize=64)
def noise_texture(box: int, scale: float) -> Gray:
    """Uniform noise blurred by a ``box`` x ``box`` mean, seen at ``scale`` of its resolution."""
    count = NOISE_SIDE * NOISE_SIDE
    unit = Draws(box, "noise", np.arange(NOISE_SIDE)).uniform(shape=(NOISE_SIDE,))
    texture = (unit.reshape(NOISE_SIDE, count // NOISE_SIDE) * 256).astype(np.uint8)
    texture = cv2.blur(texture, (box, box), borderType=cv2.BORDER_REFLECT)
    if scale < 1:
        side = round(NOISE_SIDE * scale)
        texture = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)
    texture.setflags(write=False)
    return texture


def add_noise(picture: Gray, texture: Gray, at: tuple[float, float], weight: float) -> Gray:
    """Mix noise in: ``(1 - weight) * picture + weight * noise``, cut from ``texture`` at ``at``."""
    height, width = picture.shape
    top = int(at[0] * (texture.shape[0] - height))
    left = int(at[1] * (texture.shape[1] - width))
    cut = texture[top : top + height, left : left + width]
    return cv2.addWeighted(picture, 1 - weight, cut, weight, 0)


@lru_cache(maxsize=256)
def _sharpen_kernel(tenths: int, smooth: float) -> NDArray[np.float32]:
    factor = tenths / 10
    identity = np.zeros((3, 3), np.float32)
    identity[1, 1] = 1
    blend = smooth * _SMOOTH + (1 - smooth) * identity
    return (factor * identity + (1 - factor) * blend).astype(np.float32)


def sharpen(picture: Gray, factor: float, scale: float) -> Gray:
    """Pillow's sharpness: 0 gives the smoothed picture, 1 the picture, more sharpens it.

    Args:
        picture: at ``scale`` of the 250-pixel scene that the factor is meant for.
        factor: rounded to tenths, so that kernels are reused.
        scale: below 1 the smoothing shrinks with the picture: of what a 3x3 kernel does at full
            resolution, a picture of a third of it shows about a third.
    """
    return cv2.filter2D(picture, -1, _sharpen_kernel(round(factor * 10), min(scale, 1.0)))


def brighten(picture: Gray, factor: float) -> Gray:
    """Multiply the grey values, cut off at white."""
    return cv2.convertScaleAbs(picture, alpha=factor)


@lru_cache(maxsize=64)
def _gaussian(sigma_hundredths: int) -> NDArray[np.float32]:
    sigma = sigma_hundredths / 100
    kernel = cv2.getGaussianKernel(3 if sigma < 0.7 else 5, sigma, cv2.CV_32F)
    return np.asarray(kernel, np.float32)


def blur(picture: Gray, sigma: float) -> Gray:
    """A Gaussian blur; below a third of a pixel it would change nothing and is left out."""
    if sigma < 0.33:
        return picture
    kernel = _gaussian(round(sigma * 20) * 5)
    return cv2.sepFilter2D(picture, -1, kernel, kernel)


def autocontrast(picture: Gray) -> Gray:
    """Stretch the grey values to 0 … 255; a picture of one grey stays as it is."""
    low, high, _, _ = cv2.minMaxLoc(picture)
    if high <= low:
        return picture
    factor = 255.0 / (high - low)
    return cv2.convertScaleAbs(picture, alpha=factor, beta=-low * factor)
