"""Backgrounds: the 32x32 grey pictures that scenes are composed over.

The stage fetch_backgrounds (src/fetch_backgrounds.py) writes them. Those of training are in no other
set.
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

from src.datasets.shards import DatasetError
from src.generators.draws import Draws

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Backgrounds:
    """Prepared backgrounds.

    Attributes:
        pictures: ``(n, 32, 32)`` uint8.
        source: cifar10 or procedural.
    """

    pictures: Gray
    source: str


def load_backgrounds(folder: Path, split: str) -> Backgrounds:
    """Open what the stage wrote, mapped into memory.

    Args:
        folder: the stage's output.
        split: ``train`` or ``val``; no picture is in both.

    Raises:
        DatasetError: the folder or a file of it is missing or damaged.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text())
        pictures = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
        if pictures.shape[1:] != (32, 32):
            raise ValueError(f"{split}.npy has the shape {pictures.shape}")
        if hashlib.sha256(pictures).hexdigest() != meta["sha256"][split]:
            raise ValueError(f"{split}.npy has another sha256 than meta.json says")
        return Backgrounds(pictures, meta["source"])
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{folder}: the backgrounds are missing or damaged: {error}. Make them again with "
            "`dvc repro -f fetch_backgrounds`."
        ) from error


def draw_procedural(split: str, count: int) -> Gray:
    """``(count, 32, 32)`` pictures of gradients, textures and shapes.

    Args:
        split: names the stream of random numbers, so that two splits share no picture.
        count: how many.
    """
    pictures = np.empty((count, 32, 32), np.uint8)
    draws = Draws(0, f"backgrounds-{split}", np.arange(count))
    coarse = draws.integers(0, 255, (81,)).astype(np.uint8).reshape(-1, 9, 9)
    fine = draws.integers(0, 255, (16 * 16,)).astype(np.uint8).reshape(-1, 16, 16)
    cells = draws.integers(2, 9).tolist()
    weights = draws.uniform(0.0, 0.4).tolist()
    shapes = draws.uniform(-4, 36, (4, 6)).tolist()
    counts = draws.integers(0, 4).tolist()
    contrast = draws.uniform(0.3, 1.0).tolist()
    for i in tqdm(range(count), desc=f"procedural backgrounds, {split}", unit=" pictures"):
        smooth = cv2.resize(coarse[i, : cells[i], : cells[i]], (32, 32))
        rough = cv2.resize(fine[i], (32, 32), interpolation=cv2.INTER_CUBIC)
        picture = cv2.addWeighted(smooth, 1 - weights[i], rough, weights[i], 0)
        for x, y, u, v, turn, grey in shapes[i][: counts[i]]:
            axes = (max(round(abs(u) / 3), 1), max(round(abs(v) / 3), 1))
            shade = min(max(round((grey + 4) * 6.4), 0), 255)
            cv2.ellipse(picture, (round(x), round(y)), axes, turn * 9, 0, 360, shade, -1)
        low = 255 * (1 - contrast[i]) / 2
        pictures[i] = cv2.convertScaleAbs(picture, alpha=contrast[i], beta=low)
    return pictures
