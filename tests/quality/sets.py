"""Small sets to check, and networks that know the answer or are wrong where they are told to be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from src.config import Config, load_config
from src.core.charset import CANTONS, CHARSET
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, box_to_corners
from src.quality.base import Evidence, Finding
from src.quality.networks import Find, Found, Networks, Read
from src.quality.opinions import ZOOMS
from src.quality.samples import FloatArray, ImageArray, Samples
from src.quality.suite import checks_of
from tests.conftest import PARAMETERS

CONFIG = load_config(PARAMETERS)
SIDE = 48
BOX = (0.5, 0.5, 0.5, 0.2)


def text_of(i: int) -> str:
    """Another text for each ``i``, of five digits."""
    return f"{CANTONS[i % 26]}{10_000 + 7 * i}"


def noise(i: int) -> ImageArray:
    """An image like no other: two bands whose greys are its number, noise between them, and a white spot
    in the middle that shows how far it was moved.
    """
    image = np.random.default_rng(i).integers(40, 220, (SIDE, SIDE)).astype(np.uint8)
    image[:, : SIDE // 4], image[:, -SIDE // 4 :] = i % 200, i // 200
    image[SIDE // 2 - 1 : SIDE // 2 + 2, SIDE // 2 - 1 : SIDE // 2 + 2] = 255
    return image


def number_of(image: ImageArray) -> int:
    """Which image it is, also if it was moved or zoomed a little."""
    return int(image[4, 4]) + 200 * int(image[4, -4])


def moved_by(image: ImageArray) -> FloatArray:
    """``(2,)`` how far it was moved, as shares of its sides."""
    y, x = np.nonzero(image >= 250)
    if not len(x):
        return np.zeros(2)
    return np.array([x.mean() - SIDE // 2, y.mean() - SIDE // 2]) / SIDE


def zoomed_by(image: ImageArray) -> float:
    """How much it was zoomed: by the width of the noise."""
    width = int((image.std(axis=0) > 3).sum())
    return min((1.0, *ZOOMS), key=lambda zoom: abs(zoom * SIDE / 2 - width))


def samples_of(count: int, **columns: Any) -> Samples:
    """A set of scenes of noise with a plate in the middle; columns of its labels may be given."""
    labels = pd.DataFrame(
        {
            "sample": np.arange(count),
            "image": np.arange(count),
            "plate": [text_of(i) for i in range(count)],
            "present": True,
            "lines": 1,
            "format": "front",
            "colour": "white",
            "style": "street",
            **dict(zip(BOX_COLUMNS, BOX, strict=True)),
            **dict(zip(CORNER_COLUMNS, box_to_corners(np.array(BOX)).ravel(), strict=True)),
            "width": SIDE,
            "height": SIDE,
            "plate_height": 25.0,
            "angle": 0.0,
            "problem": "",
        }
    ).assign(**columns)
    return Samples("val", labels, noise, Path("set"), True, False, count)


def with_images(samples: Samples, changed: dict[int, ImageArray]) -> Samples:
    """The same with other images of some numbers."""

    def load(number: int) -> ImageArray:
        return changed[number] if number in changed else samples.load(number)

    return replace(samples, load=load)


def with_params(config: Config, **values: Any) -> Config:
    """Parameters with other values of QualityParams."""
    return config.model_copy(
        update={"QualityParams": config.QualityParams.model_copy(update=values)}
    )


def evidence_of(
    samples: Samples,
    unseen: bool = True,
    against: Evidence | None = None,
    params: dict[str, Any] | None = None,
    **networks: Any,
) -> Evidence:
    """All of a set, looked at by networks where they are given, with some other parameters."""
    config = with_params(CONFIG, **(params or {}))
    return Evidence(samples, samples, Networks(**networks), config, unseen, against)


def checked(name: str, what: Samples | Evidence, **limits: float) -> Finding:
    """A check of the suite, with another threshold or limit where they are given."""
    check = next(check for check in checks_of(CONFIG) if check.name == name)
    evidence = evidence_of(what) if isinstance(what, Samples) else what
    return replace(check, **limits)(evidence)


def finder(
    shifts: dict[int, float],
    unsure: Collection[int] = (),
    score: float = 0.95,
    empty: Collection[int] = (),
) -> Find:
    """Finds the plate in the middle, shifted in some images by shares of its width.

    Args:
        shifts: by number of the image.
        unsure: images in which it finds the plate elsewhere at each look.
        score: of all it finds.
        empty: images in which it finds next to nothing.
    """
    looks = np.random.default_rng(3)

    def find(images: Sequence[ImageArray], near: FloatArray) -> Found:
        corners = np.empty((len(images), 4, 2))
        scores = [0.01 if number_of(image) in empty else score for image in images]
        for row, image in enumerate(images):
            number = number_of(image)
            move = shifts.get(number, 0.0)
            if number in unsure:
                move = float(looks.normal(0, 0.3)) + 0.2
            zoom = zoomed_by(image)
            corners[row] = box_to_corners(np.array(BOX) * [1, 1, zoom, zoom]) + moved_by(image)
            corners[row, :, 0] += zoom * move * BOX[2]
        return Found(corners, np.array(scores), np.ones(len(images), dtype=int))

    return find


def reader(texts: Callable[[int], str], sure: Callable[[int], float] = lambda _: 0.99) -> Read:
    """Reads a text for each image, each character with a probability.

    Args:
        texts: by number of the image; an empty one is nothing to read.
        sure: probability of each character, by number of the image.
    """

    def read(
        images: Sequence[ImageArray], corners: FloatArray, lines: Sequence[int], dropout: bool
    ) -> FloatArray:
        chances = np.full((len(images), 20, CHARSET.num_classes), 1e-6)
        chances[..., CHARSET.blank] = 1.0
        for row, image in enumerate(images):
            number = number_of(image)
            text = texts(number)
            for place, index in enumerate(CHARSET.encode(text) if text else []):
                chances[row, 2 * place] = (1 - sure(number)) / CHARSET.num_classes
                chances[row, 2 * place, index] = sure(number)
        return np.log(chances / chances.sum(axis=2, keepdims=True)).astype(np.float32)

    return read
