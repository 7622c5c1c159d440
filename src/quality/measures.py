"""Image statistics: brightness, contrast, sharpness, entropy, size and aspect ratio.

The statistics and their scores are those of CleanVision, except for blur. CleanVision measures the
strength of edges, so it mistakes images with little contrast for blurred ones and finds few of the
blurred ones (bench/quality.py counts them). CleanVision's scores are inverted here: higher is worse, as
in all checks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image

from .samples import ImageArray, Samples

LONGEST = 256
"""Longer side in pixels to which larger images are shrunk before they are measured."""
_SCORES: dict[str, dict[str, float]] = {
    "dark": {},
    "light": {},
    "low_information": {"normalizing_factor": 0.1},
    "odd_size": {"iqr_factor": 3.0},
    "odd_aspect_ratio": {},
}
"""CleanVision's names, with the constants it uses by default to turn measures into scores."""


_SAYS = {
    "dark": "brightness {brightness:.2f} of 1",
    "light": "brightness {brightness:.2f} of 1",
    "blurry": "blur {blurry:.2f} of 1",
    "low_information": "entropy {entropy:.2f} bits per pixel",
    "odd_size": "size differs from that of the other images",
    "odd_aspect_ratio": "one side is much longer than the other",
}


def explanation(name: str, row: pd.Series) -> str:
    """Return an explanation of the score called ``name`` in a row of ``measure``."""
    return _SAYS[name].format_map(row)


def measure(samples: Samples) -> pd.DataFrame:
    """Measure the image of each sample.

    Returns:
        Table with one row per sample: brightness and contrast (mean and standard deviation of the grey
        values, 0 to 1), entropy, and the scores ``blurry`` and those of ``_SCORES``, where higher is
        worse.
    """
    properties, sizes = _properties(), samples.sizes
    rows = []
    for row in range(len(samples)):
        pixels = _shrunk(samples.image(row))
        image = Image.fromarray(pixels)
        values: dict[str, Any] = {"contrast": float(pixels.std()) / 255, "blurry": blur(pixels)}
        for item in properties.values():
            values |= item.calculate(image)
        # The size is that of the original image, not of the shrunk one.
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
    # CleanVision imports Matplotlib, which takes a second, so import it only where it is needed.
    from cleanvision.issue_managers import image_property as properties

    return {
        "dark": properties.BrightnessProperty("dark"),
        "light": properties.BrightnessProperty("light"),
        "low_information": properties.EntropyProperty(),
        "odd_size": properties.SizeProperty(),
        "odd_aspect_ratio": properties.AspectRatioProperty(),
    }


_BOX = 9
"""Kernel size, in pixels, of the box blur that an image is compared with."""


def blur(image: ImageArray) -> float:
    """Return how little an image changes when it is blurred, from 0 (sharp) to 1.

    The measure does not depend on contrast. It is that of Crété-Roffet et al. (The blur effect, SPIE
    2007).
    """
    grey = image.astype(np.float32)
    worst = 0.0
    for axis, size in ((0, (1, _BOX)), (1, (_BOX, 1))):
        before = np.abs(np.diff(grey, axis=axis))
        after = np.abs(np.diff(cv2.blur(grey, size), axis=axis))
        lost = np.maximum(before - after, 0).sum()
        worst = max(worst, float(1 - lost / max(before.sum(), 1e-6)))
    return worst


def moved(image: ImageArray, dx: float, dy: float, zoom: float = 1.0) -> ImageArray:
    """Return an image zoomed from its upper left corner, then shifted, at the same size.

    The pixels at the edge are replicated into the area that the shift uncovers.

    Args:
        image: Image, shape ``(H, W)``.
        dx: Shift to the right in pixels.
        dy: Shift down in pixels.
        zoom: Zoom factor.
    """
    matrix = np.array([[zoom, 0, dx], [0, zoom, dy]], dtype=np.float64)
    size = image.shape[::-1]
    return np.asarray(
        cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _shrunk(image: ImageArray) -> ImageArray:
    scale = LONGEST / max(image.shape)
    if scale >= 1:
        return np.ascontiguousarray(image)
    return np.asarray(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8
    )
