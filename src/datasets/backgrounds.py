"""Stage fetch_backgrounds: the 32x32 grey pictures that scenes are composed over.

CIFAR-10 (Krizhevsky, 2009) through torchvision, from ``CIFAR10_ROOT`` or the folder
``backgrounds.cifar10_root`` of params.yaml, downloaded where it is missing and the network is there;
else procedural pictures drawn here. CIFAR-10's training pictures are for training, its test pictures
for validation and evaluation, so that no background is in both.

    python -m src.datasets.backgrounds            # the stage: writes data/datasets/backgrounds
    python -m src.datasets.backgrounds --detect   # prints what there is: cifar10 or procedural
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from src.config import Config
from src.datasets.shards import DatasetError
from src.generators.draws import Draws

Gray = NDArray[np.uint8]

CIFAR10_FOLDER = "cifar-10-batches-py"
PROCEDURAL_COUNTS = {"train": 20000, "val": 4000}
DOWNLOAD_TIMEOUT = 20.0
"""Seconds after which a silent network counts as none."""
HOW_TO_GET = (
    "To use CIFAR-10, put its folder 'cifar-10-batches-py' (from cifar-10-python.tar.gz) into "
    "{root}, or set CIFAR10_ROOT to the folder that holds it, then run "
    "`dvc exp run -S backgrounds.source=cifar10`."
)


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
        if len(pictures) != meta["counts"][split] or pictures.shape[1:] != (32, 32):
            raise ValueError(f"{split}.npy has the shape {pictures.shape}")
        return Backgrounds(pictures, meta["source"])
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{folder}: the backgrounds are missing or damaged: {error}. Make them again with "
            "`dvc repro -f fetch_backgrounds`."
        ) from error


def cifar10_root(config: Config) -> Path:
    """The folder that should hold CIFAR-10."""
    return Path(os.environ.get("CIFAR10_ROOT") or config.backgrounds.cifar10_root)


def find_cifar10(root: Path) -> bool:
    """Whether CIFAR-10 is in ``root``, after a download if it was missing and could be had.

    Raises:
        DatasetError: it is there but damaged.
    """
    if (root / CIFAR10_FOLDER).is_dir():
        _load_cifar10(root, train=False)
        return True
    # torchvision takes seconds to import.
    from torchvision.datasets import CIFAR10

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        CIFAR10(root=str(root), download=True)
    except (OSError, RuntimeError) as error:
        print(f"CIFAR-10 cannot be downloaded to {root}: {error}", file=sys.stderr)
        return False
    finally:
        socket.setdefaulttimeout(before)
    return True


def _load_cifar10(root: Path, train: bool) -> Gray:
    """``(n, 32, 32)`` grey pictures of one half of CIFAR-10, its checksums verified."""
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root=str(root), train=train, download=False).data
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{root / CIFAR10_FOLDER}: CIFAR-10 is damaged or incomplete (its checksums do not fit). "
            "Delete that folder and run the stage again, or put an intact copy there."
        ) from error
    return np.stack([cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in data])


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


def resolve_source(config: Config) -> str:
    """``cifar10`` or ``procedural``: what the setting and this machine allow.

    Raises:
        DatasetError: CIFAR-10 is demanded but not to be had, or it is damaged.
    """
    if config.backgrounds.source == "procedural":
        return "procedural"
    root = cifar10_root(config)
    if find_cifar10(root):
        return "cifar10"
    if config.backgrounds.source == "cifar10":
        raise DatasetError(
            f"{root / CIFAR10_FOLDER}: no such folder. {HOW_TO_GET.format(root=root)}"
        )
    print(
        f"warning: no CIFAR-10 here: procedural backgrounds are drawn instead. "
        f"{HOW_TO_GET.format(root=root)}",
        file=sys.stderr,
    )
    return "procedural"


def write_backgrounds(config: Config) -> None:
    """Write ``train.npy``, ``val.npy`` and ``meta.json``; the folder appears when it is complete."""
    source = resolve_source(config)
    folder = config.backgrounds_folder
    makers: dict[str, Callable[[str], Gray]] = {
        "cifar10": lambda split: _load_cifar10(cifar10_root(config), train=split == "train"),
        "procedural": lambda split: draw_procedural(split, PROCEDURAL_COUNTS[split]),
    }
    temporary = folder.with_name(f".{folder.name}.partial")
    meta: dict[str, Any] = {"source": source, "counts": {}, "sha256": {}}
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for split in ("train", "val"):
            pictures = makers[source](split)
            np.save(temporary / f"{split}.npy", pictures, allow_pickle=False)
            meta["counts"][split] = len(pictures)
            meta["sha256"][split] = hashlib.sha256(pictures.tobytes()).hexdigest()
        (temporary / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise DatasetError(f"{folder}: cannot write the backgrounds: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{folder}: {meta['counts']} pictures from {source}")


if __name__ == "__main__":
    from src.utils.stage import run_stage

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--detect", action="store_true", help="print the source and write nothing")
    if parser.parse_args().detect:
        run_stage(lambda config: print(resolve_source(config)))
    else:
        run_stage(write_backgrounds)
