"""Backgrounds: the 32x32 grey images that scenes are composed over.

The stage fetch_backgrounds (src/fetch_backgrounds.py) writes them. Training backgrounds appear in no
other set.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..core.random import Draws
from .shards import DatasetError

Gray = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Backgrounds:
    """Prepared backgrounds.

    Attributes:
        images: Grey images, shape ``(n, 32, 32)``, uint8.
        source: Origin of the images, ``cifar10`` or ``procedural``.
    """

    images: Gray
    source: str


def load_backgrounds(folder: Path, split: str) -> Backgrounds:
    """Open the backgrounds that the stage wrote, memory-mapped.

    Args:
        folder: Output folder of the stage.
        split: Name of the split, ``train`` or ``val``; no image is in both.

    Raises:
        DatasetError: If the folder or one of its files is missing or damaged.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        images = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        if images.shape[1:] != (32, 32):
            raise ValueError(f"{split}.npy has the shape {images.shape}")
        if hashlib.sha256(images).hexdigest() != meta["sha256"][split]:
            raise ValueError(f"{split}.npy does not match the SHA-256 in meta.json")
        return Backgrounds(images, meta["source"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{folder}: the backgrounds are missing or damaged: {error}. Recreate them with "
            "`dvc repro -f fetch_backgrounds`."
        ) from error


def draw_procedural(split: str, count: int) -> Gray:
    """Generate images with the statistics of small photos, shape ``(count, 32, 32)``, uint8.

    Each image consists of multi-scale noise, covered by objects of all sizes that occlude each other
    (the dead leaves model; Lee, Mumford, Huang: Occlusion models for natural images, 2001), each with
    its own lighting.

    Args:
        split: Name of the split; it selects the random stream, so that two splits share no image.
        count: Number of images.
    """
    images = np.empty((count, 32, 32), np.uint8)
    draws = Draws(0, f"backgrounds-{split}", np.arange(count))
    noise = [draws.normal(shape=(cells, cells)).astype(np.float32) for cells in _NOISE_CELLS]
    roughness = draws.uniform(0.4, 1.0).tolist()
    leaves = draws.uniform(shape=(_LEAVES, 9))
    # From few objects to many, skewed towards few.
    counts = np.floor((_LEAVES + 1) * draws.uniform() ** 1.5).astype(int).tolist()
    tilts = (draws.normal(shape=(2,)) * 25).astype(np.float32)
    blurs = draws.uniform(0.1, 0.7).tolist()
    means = (120 + 32 * draws.normal()).tolist()
    deviations = draws.uniform(20.0, 80.0).tolist()
    ramp = np.linspace(-1, 1, _FINE, dtype=np.float32)
    for i in tqdm(range(count), desc=f"procedural backgrounds, {split}", unit=" images"):
        canvas = tilts[i, 0] * ramp[None, :] + tilts[i, 1] * ramp[:, None]
        texture = np.zeros((_FINE, _FINE), np.float32)
        for octave, each in enumerate(noise):
            grown = cv2.resize(each[i], (_FINE, _FINE), interpolation=cv2.INTER_CUBIC)
            texture += grown * roughness[i] ** octave
        canvas += 30 * texture
        for leaf in leaves[i, : counts[i]]:
            _drop(canvas, texture, ramp, leaf)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 2 * blurs[i])
        small = cv2.resize(canvas, (32, 32), interpolation=cv2.INTER_AREA)
        small = (small - small.mean()) / max(float(small.std()), 1.0)
        images[i] = np.clip(means[i] + deviations[i] * small, 0, 255).astype(np.uint8)
    return images


_FINE = 64
"""Side in pixels at which procedural images are drawn."""
_NOISE_CELLS = (3, 5, 9, 17, 33)
"""Grid points per side for each octave of noise."""
_LEAVES = 48


def _drop(canvas: Floats, texture: Floats, ramp: Floats, leaf: NDArray[np.float64]) -> None:
    """Cover part of a canvas with an ellipse, rectangle, bar or half plane that has its own lighting."""
    x, y, size, long, turn, grey, shade, rough, kind = leaf.tolist()
    # The number of objects falls with the cube of their size, as they are at all distances.
    radius = _FINE / 20 / np.sqrt(1 - size * (1 - (1 / 12) ** 2))
    axes = (radius * (1 + 2 * long), radius)
    centre, angle = (1.2 * _FINE * x - 0.1 * _FINE, 1.2 * _FINE * y - 0.1 * _FINE), 180 * turn
    mask = np.zeros(canvas.shape, np.uint8)
    if kind < 0.5:
        cv2.ellipse(mask, (centre, (2 * axes[0], 2 * axes[1]), angle), 1, -1)
    else:
        if kind > 0.97:
            axes = (2.0 * _FINE, 2.0 * _FINE)
        elif kind > 0.8:
            axes = (radius * (2 + 8 * long), 1.0 + radius / 4)
        corners = cv2.boxPoints((centre, (2 * axes[0], 2 * axes[1]), angle))
        cv2.fillConvexPoly(mask, np.round(corners).astype(np.int32), 1)
    light = 220 * (grey - 0.5) + 80 * (shade - 0.5) * ramp[:, None] + 40 * rough * texture
    np.copyto(canvas, light.astype(np.float32), where=mask.astype(bool))
