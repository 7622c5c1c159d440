"""Writing results so that nothing is half-written: to a temporary name first, then renamed."""

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
    """A folder to write into; it takes the place of ``folder`` when all is written.

    Raises:
        StageError: the disk is full, or the folder cannot be written.
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
            f"{folder}: cannot be written: {error.strerror or error}. Free some space (`dvc gc -w` "
            "drops unused cache), or point the paths in params.yaml elsewhere."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write ``(H, W)`` or ``(H, W, 3)`` BGR as a PNG.

    Raises:
        OSError: it cannot be written; OpenCV alone would only say so.
    """
    done, content = cv2.imencode(".png", picture)
    if not done:
        raise OSError(f"{path}: cannot be encoded as PNG")
    path.write_bytes(content.tobytes())
