"""Image degradations: small functions on uint8 images of shape ``(H, W)``.

The range of each is in ``DegradeParams``. The noise texture of each grain size and scale is made once; a
sample takes a random crop of it.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.random import Draws

Gray = NDArray[np.uint8]

NOISE_SIDE = 512
"""Side of a noise texture in pixels, at the resolution of a 250-pixel scene."""
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
"""Pillow's smoothing kernel, which its sharpness enhancement blends with."""


@lru_cache(maxsize=64)
def noise_texture(box: int, scale: float) -> Gray:
    """Return uniform noise, blurred by a ``box`` x ``box`` mean, at ``scale`` times its resolution."""
    count = NOISE_SIDE * NOISE_SIDE
    unit = Draws(box, "noise", np.arange(NOISE_SIDE)).uniform(shape=(NOISE_SIDE,))
    texture = (unit.reshape(NOISE_SIDE, count // NOISE_SIDE) * 256).astype(np.uint8)
    texture = cv2.blur(texture, (box, box), borderType=cv2.BORDER_REFLECT)
    if scale < 1:
        side = round(NOISE_SIDE * scale)
        texture = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)
    texture.setflags(write=False)
    return texture


def add_noise(image: Gray, texture: Gray, at: tuple[float, float], weight: float) -> Gray:
    """Blend noise into an image: ``(1 - weight) * image + weight * noise``.

    Args:
        image: Grey image, uint8, shape ``(H, W)``.
        texture: Noise texture, at least as large as the image.
        at: Vertical and horizontal position of the noise crop in the texture, each from 0 to 1.
        weight: Weight of the noise.
    """
    height, width = image.shape
    top = int(at[0] * (texture.shape[0] - height))
    left = int(at[1] * (texture.shape[1] - width))
    cut = texture[top : top + height, left : left + width]
    return cv2.addWeighted(image, 1 - weight, cut, weight, 0)


@lru_cache(maxsize=256)
def _sharpen_kernel(tenths: int, smooth: float) -> NDArray[np.float32]:
    factor = tenths / 10
    identity = np.zeros((3, 3), np.float32)
    identity[1, 1] = 1
    blend = smooth * _SMOOTH + (1 - smooth) * identity
    return (factor * identity + (1 - factor) * blend).astype(np.float32)


def sharpen(image: Gray, factor: float, scale: float) -> Gray:
    """Apply Pillow's sharpness enhancement: 0 smooths, 1 leaves the image as it is, more sharpens it.

    Args:
        image: Grey image, uint8, shape ``(H, W)``, at ``scale`` times the resolution of the 250-pixel
            scene that the factor is meant for.
        factor: Sharpness factor, rounded to tenths so that kernels are reused.
        scale: Resolution of the image relative to the 250-pixel scene. Below 1 the smoothing weakens
            with it: an image at a third of the full resolution shows about a third of what a 3x3 kernel
            does at full resolution.
    """
    return cv2.filter2D(image, -1, _sharpen_kernel(round(factor * 10), min(scale, 1.0)))


def brighten(image: Gray, factor: float) -> Gray:
    """Multiply the grey values by ``factor``, clipping at white."""
    return cv2.convertScaleAbs(image, alpha=factor)


@lru_cache(maxsize=64)
def _gaussian(sigma_hundredths: int) -> NDArray[np.float32]:
    sigma = sigma_hundredths / 100
    kernel = cv2.getGaussianKernel(3 if sigma < 0.7 else 5, sigma, cv2.CV_32F)
    return np.asarray(kernel, np.float32)


def blur(image: Gray, sigma: float) -> Gray:
    """Apply a Gaussian blur, skipped below a third of a pixel, where it would change nothing."""
    if sigma < 0.33:
        return image
    kernel = _gaussian(round(sigma * 20) * 5)
    return cv2.sepFilter2D(image, -1, kernel, kernel)


def autocontrast(image: Gray) -> Gray:
    """Stretch the grey values to the range 0 to 255; an image of a single grey is returned unchanged."""
    low, high, _, _ = cv2.minMaxLoc(image)
    if high <= low:
        return image
    factor = 255.0 / (high - low)
    return cv2.convertScaleAbs(image, alpha=factor, beta=-low * factor)
