"""Stage fetch_backgrounds: provide the background images of the scenes.

The backgrounds are CIFAR-10 (Krizhevsky, 2009) through torchvision, from ``CIFAR10_ROOT`` or the folder
``backgrounds.cifar10_root`` of params.yaml, downloaded if it is missing and the network is available;
otherwise procedural images. CIFAR-10's training images are used for training, its test images for
validation and evaluation, so that no background is in both.

    python -m src.fetch_backgrounds            # run the stage: write data/datasets/backgrounds
    python -m src.fetch_backgrounds --detect   # print the available source: cifar10 or procedural
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .config import Config
from .config.stage import run_stage
from .core.files import complete_folder
from .datasets.backgrounds import draw_procedural
from .datasets.shards import DatasetError

Gray = NDArray[np.uint8]

CIFAR10_FOLDER = "cifar-10-batches-py"
PROCEDURAL_COUNTS = {"train": 20000, "val": 4000}
DOWNLOAD_TIMEOUT = 20.0
"""Seconds without a response after which the network counts as unavailable."""
HOW_TO_GET = (
    "To use CIFAR-10, put its folder 'cifar-10-batches-py' (from cifar-10-python.tar.gz) into "
    "{root}, or set CIFAR10_ROOT to the folder that contains it, then run "
    "`dvc exp run -S backgrounds.source=cifar10`."
)


def cifar10_root(config: Config) -> Path:
    """Return the folder that should hold CIFAR-10."""
    return Path(os.environ.get("CIFAR10_ROOT") or config.backgrounds.cifar10_root)


def find_cifar10(root: Path) -> bool:
    """Return whether CIFAR-10 is in ``root``, downloading it if missing and available.

    Raises:
        DatasetError: CIFAR-10 exists but is damaged.
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
    """Load one split of CIFAR-10 as ``(n, 32, 32)`` grey images, with its checksums verified."""
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(root=str(root), train=train, download=False).data
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{root / CIFAR10_FOLDER}: CIFAR-10 is damaged or incomplete (its checksums do not match). "
            "Delete that folder and run the stage again, or put an intact copy there."
        ) from error
    return np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in data])


def resolve_source(config: Config) -> str:
    """Return ``cifar10`` or ``procedural``, as the setting and this machine allow.

    Raises:
        DatasetError: CIFAR-10 is required but unavailable, or it is damaged.
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
        f"warning: CIFAR-10 not found; drawing procedural backgrounds instead. "
        f"{HOW_TO_GET.format(root=root)}",
        file=sys.stderr,
    )
    return "procedural"


def write_backgrounds(config: Config) -> None:
    """Write ``train.npy``, ``val.npy`` and ``meta.json``; the folder appears once complete."""
    source = resolve_source(config)
    meta: dict[str, Any] = {"source": source, "counts": {}, "sha256": {}}
    with complete_folder(config.backgrounds_folder) as folder:
        for split in ("train", "val"):
            if source == "cifar10":
                images = _load_cifar10(cifar10_root(config), train=split == "train")
            else:
                images = draw_procedural(split, PROCEDURAL_COUNTS[split])
            np.save(folder / f"{split}.npy", images, allow_pickle=False)
            meta["counts"][split] = len(images)
            meta["sha256"][split] = hashlib.sha256(images.data).hexdigest()
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    # Standard output is reserved for what other programs read.
    print(f"{config.backgrounds_folder}: {meta['counts']} images from {source}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch or draw the backgrounds of the scenes.")
    parser.add_argument(
        "--detect", action="store_true", help="print the available source; write nothing"
    )
    if parser.parse_args().detect:
        run_stage(lambda config: print(resolve_source(config)))
    else:
        run_stage(write_backgrounds)
