"""Measures of pictures: brightness, contrast, sharpness, entropy, size and shape.

What is measured, and how scores are made of it, is CleanVision's, but for blur: its measure is of how strong
edges are, so that it takes pictures of little contrast for blurred ones and finds few of those that are
(bench/quality.py counts). CleanVision's scores are turned round here: higher is worse, as in all checks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from .samples import Picture, Samples

LONGEST = 256
"""Larger pictures are shrunk to this side before they are measured."""
_SCORES: dict[str, dict[str, float]] = {
    "dark": {},
    "light": {},
    "low_information": {"normalizing_factor": 0.1},
    "odd_size": {"iqr_factor": 3.0},
    "odd_aspect_ratio": {},
}
"""CleanVision's names, and the constants that it makes scores of measures with by default."""


_SAYS = {
    "dark": "brightness {brightness:.2f} of 1",
    "light": "brightness {brightness:.2f} of 1",
    "blurry": "blur {blurry:.2f} of 1",
    "low_information": "entropy {entropy:.2f} bits a pixel",
    "odd_size": "size unlike the others'",
    "odd_aspect_ratio": "one side is much longer than the other",
}


def explanation(name: str, row: pd.Series) -> str:
    """Why a row of ``measure`` has its score of that name."""
    return _SAYS[name].format_map(row)


def measure(samples: Samples) -> pd.DataFrame:
    """Measure the picture of each sample.

    Returns:
        a row a sample: brightness and contrast (mean and standard deviation of the grey values, 0 to
        1), entropy, and the scores, higher is worse: blurry, and those of ``_SCORES``.
    """
    properties, sizes = _properties(), samples.sizes
    rows = []
    for row in range(len(samples)):
        picture = _shrunk(samples.image(row))
        image = Image.fromarray(picture)
        values: dict[str, Any] = {"contrast": float(picture.std()) / 255, "blurry": blur(picture)}
        for item in properties.values():
            values |= item.calculate(image)
        # Of the picture as it is, whatever it was shrunk to.
        values["size"] = float(np.sqrt(sizes[row].prod()))
        rows.append(values)
    raw = pd.DataFrame(rows)
    table = raw[["brightness", "contrast", "entropy", "blurry"]].copy()
    for name, constants in _SCORES.items():
        scores = properties[name].get_scores(raw, name, **constants)
        table[name] = 1 - scores.iloc[:, 0].to_numpy(np.float64)
    return table


@cache
def _properties() -> dict[str, Any]:
    # It imports Matplotlib: a second that only those pay who measure.
    from cleanvision.issue_managers import image_property as properties

    return {
        "dark": properties.BrightnessProperty("dark"),
        "light": properties.BrightnessProperty("light"),
        "low_information": properties.EntropyProperty(),
        "odd_size": properties.SizeProperty(),
        "odd_aspect_ratio": properties.AspectRatioProperty(),
    }


_BOX = 9
"""Pixels of the blur that a picture is compared with."""


def blur(picture: Picture) -> float:
    """How little a picture changes when it is blurred, from 0 (sharp) to 1, whatever its contrast.

    The measure of Crété-Roffet et al. (The blur effect, SPIE 2007).
    """
    grey = picture.astype(np.float32)
    worst = 0.0
    for axis, size in ((0, (1, _BOX)), (1, (_BOX, 1))):
        before = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        lost = np.maximum(before - after, 0).sum()
        worst = max(worst, float(1 - lost / max(before.sum(), 1e-6)))
    return worst


def moved(picture: Picture, dx: float, dy: float, zoom: float = 1.0) -> Picture:
    """A picture of the same size, zoomed from its upper left corner, then moved; its edge goes on."""
    matrix = np.array([[zoom, 0, dx], [0, zoom, dy]], dtype=np.float64)
    size = picture.shape[::-1]
    return np.asarray(
        cv2.warpAffine(picture, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _shrunk(picture: Picture) -> Picture:
    scale = LONGEST / max(picture.shape)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    return np.asarray(
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
