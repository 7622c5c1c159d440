"""The labels of scenes: one table for all kinds of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box, plate_angle, plate_height

SCENE_SIDE = 256
"""Lengths among the labels are pixels of a scene of this side."""


def make_labels(
    corners: NDArray[np.float64],
    texts: Sequence[str],
    formats: Sequence[str],
    colours: Sequence[str],
    lines: Sequence[int],
    present: NDArray[np.bool_],
    style: str,
    windows: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """One row of labels a scene.

    Args:
        corners: ``(n, 4, 2)`` of each plate, or of the place where one might be looked for, in shares
            of the scene.
        texts: of the plates; nothing where there is none to read.
        formats, colours, lines: of the plates.
        present: ``(n,)`` whether there is a plate; what is not has neither box nor corners.
        style: of the scenes.
        windows: ``(n, 4)`` x1, y1, x2, y2 of the part that is stored, shares of the scene; the box and
            the corners are normalised to it, and places without a plate keep theirs. By default the
            whole scene.
    """
    heights, angles = plate_height(corners) * SCENE_SIDE, plate_angle(corners)
    if windows is None:
        corners = np.where(present[:, None, None], corners, np.nan)
    else:
        origin, size = windows[:, None, :2], windows[:, None, 2:] - windows[:, None, :2]
        corners = (corners - origin) / size
    frame = pd.DataFrame(
        {
            "plate": list(texts),
            "present": present,
            "style": style,
            "format": list(formats),
            "colour": list(colours),
            "lines": list(lines),
            "digits": [max(len(text) - 2, 0) for text in texts],
            "plate_height": np.where(present, heights, np.nan).astype(np.float32),
            "angle": np.where(present, angles, np.nan).astype(np.float32),
        }
    )
    frame[BOX_COLUMNS] = corners_to_box(corners).astype(np.float32)
    frame[CORNER_COLUMNS] = corners.reshape(-1, 8).astype(np.float32)
    return frame
