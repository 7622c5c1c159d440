"""Labels of scenes: one table for all kinds of scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.geometry import (
    BOX_COLUMNS,
    CORNER_COLUMNS,
    SEEN_COLUMNS,
    corners_to_box,
    plate_angle,
    plate_height,
)
from ..core.layout import LEGIBLE
from .obstacles import Visibility

SCENE_SIDE = 256
"""Side of the scene, in pixels, that lengths in the labels refer to."""


def make_labels(
    corners: NDArray[np.float64],
    texts: Sequence[str],
    formats: Sequence[str],
    colours: Sequence[str],
    lines: Sequence[int],
    present: NDArray[np.bool_],
    style: str,
    visible: Sequence[Visibility],
    windows: NDArray[np.float64] | None = None,
) -> pd.DataFrame:
    """Return one row of labels per scene.

    Args:
        corners: Corners of each plate, or of the place where one might be looked for, normalised to the
            scene, shape ``(n, 4, 2)``.
        texts: Texts of the plates, legible or not; "" where there is none.
        formats: Names of the plates' formats.
        colours: Names of the plates' colours.
        lines: Numbers of lines on the plates.
        present: Whether each scene has a plate, shape ``(n,)``. Without one, box and corners are NaN.
        style: Style of the scenes.
        visible: What can be seen of each plate. The column ``text`` is its text, ``covered`` the largest
            fraction of a character that is hidden, ``obstacle`` the kind of what hides it, and ``plate``
            the text that can be read: "" where ``covered`` exceeds ``LEGIBLE``.
        windows: Stored part x1, y1, x2, y2 of each scene, normalised to the scene, shape ``(n, 4)``. The
            box and the corners are normalised to it, and scenes without a plate keep theirs. Default:
            the whole scene.
    """
    heights, angles = plate_height(corners) * SCENE_SIDE, plate_angle(corners)
    if windows is None:
        corners = np.where(present[:, None, None], corners, np.nan)
    else:
        origin, size = windows[:, None, :2], windows[:, None, 2:] - windows[:, None, :2]
        corners = (corners - origin) / size
    plates = [
        text if item.covered <= LEGIBLE else "" for text, item in zip(texts, visible, strict=True)
    ]
    frame = pd.DataFrame(
        {
            "plate": plates,
            "text": list(texts),
            "covered": np.array([item.covered for item in visible], np.float32),
            "obstacle": [item.obstacle for item in visible],
            "present": present,
            "style": style,
            "format": list(formats),
            "colour": list(colours),
            "lines": list(lines),
            "digits": [max(len(text) - 2, 0) for text in plates],
            "plate_height": np.where(present, heights, np.nan).astype(np.float32),
            "angle": np.where(present, angles, np.nan).astype(np.float32),
        }
    )
    frame[BOX_COLUMNS] = corners_to_box(corners).astype(np.float32)
    frame[SEEN_COLUMNS] = np.array([item.seen for item in visible], np.float32).reshape(-1, 4)
    frame[CORNER_COLUMNS] = corners.reshape(-1, 8).astype(np.float32)
    return frame
