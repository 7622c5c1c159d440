"""Write results atomically: to a temporary name first, then renamed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import StageError


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder to write into, which replaces ``folder`` once all is written.

    Raises:
        StageError: The disk is full, or the folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        raise StageError(
            f"{folder}: cannot be written: {error.strerror or error}. Free some disk space (`dvc gc -w` "
            "deletes unused cache), or change the paths in params.yaml."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """Write a ``(H, W)`` grey or ``(H, W, 3)`` BGR image as a PNG.

    Raises:
        OSError: The file cannot be written; OpenCV alone would only return ``False``.
    """
    done, content = cv2.imencode(".png", image)
    if not done:
        raise OSError(f"{path}: cannot be encoded as PNG")
    path.write_bytes(content.tobytes())
