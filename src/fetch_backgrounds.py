"""Stage fetch_backgrounds: the pictures that scenes are composed over.

CIFAR-10 (Krizhevsky, 2009) through torchvision, from ``CIFAR10_ROOT`` or the folder
``backgrounds.cifar10_root`` of params.yaml, downloaded where it is missing and the network is there;
else procedural pictures. CIFAR-10's training pictures are for training, its test pictures for
validation and evaluation, so that no background is in both.

    python -m src.fetch_backgrounds            # the stage: writes data/datasets/backgrounds
    python -m src.fetch_backgrounds --detect   # prints what there is: cifar10 or procedural
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
"""Seconds after which a silent network counts as none."""
HOW_TO_GET = (
    "To use CIFAR-10, put its folder 'cifar-10-batches-py' (from cifar-10-python.tar.gz) into "
    "{root}, or set CIFAR10_ROOT to the folder that holds it, then run "
    "`dvc exp run -S backgrounds.source=cifar10`."
)


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
    meta: dict[str, Any] = {"source": source, "counts": {}, "sha256": {}}
    with complete_folder(config.backgrounds_folder) as folder:
        for split in ("train", "val"):
            if source == "cifar10":
                pictures = _load_cifar10(cifar10_root(config), train=split == "train")
            else:
                pictures = draw_procedural(split, PROCEDURAL_COUNTS[split])
            np.save(folder / f"{split}.npy", pictures, allow_pickle=False)
            meta["counts"][split] = len(pictures)
            meta["sha256"][split] = hashlib.sha256(pictures.data).hexdigest()
        (folder / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
    # Standard output is for what other programs read.
    print(f"{config.backgrounds_folder}: {meta['counts']} pictures from {source}", file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch or draw the backgrounds of the scenes.")
    parser.add_argument("--detect", action="store_true", help="print the source and write nothing")
    if parser.parse_args().detect:
        run_stage(lambda config: print(resolve_source(config)))
    else:
        run_stage(write_backgrounds)
