"""Models that know the answer, and images that tell it to them.

Image ``i`` is grey ``i`` on its plate and ``OUTSIDE + i`` elsewhere. So a localizer can look up
the corners of an image by its brightest pixel, and a reader the text of a crop by its centre, or
see that the crop is beside the plate.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.config import Config, load_config
from src.core.charset import CANTONS, CHARSET
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box
from src.datasets.annotations import AnnotatedImage
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.models.base import Localizer, LocalizerTargets, Recognizer
from tests.conftest import PARAMETERS

OUTSIDE = 100
REPOSITORY = Path(__file__).parents[1]


def plate_text(i: int) -> str:
    """Another text for each ``i``, of 1 to 6 digits."""
    return CANTONS[i % 26] + str(10 ** (i % 6) + i)


def true_corners(i: int) -> NDArray[np.float64]:
    """``(4, 2)`` normalised; upright for even ``i``, else turned by 25 degrees."""
    half = np.array([[-0.3, -0.08], [0.3, -0.08], [0.3, 0.08], [-0.3, 0.08]])
    angle = np.radians(25 * (i % 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return half @ turn.T + 0.5 + 0.01 * (i % 5)


def image_of(i: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """``(H, W)`` uint8."""
    image = np.full(shape, OUTSIDE + i, np.uint8)
    points = np.round(true_corners(i) * shape[::-1]).astype(np.int32)
    return cv2.fillPoly(image, [points], i)


def make_samples(shape: tuple[int, int], indices: range) -> Shard:
    """Images and labels as the prepare stages make them."""
    rows = []
    for i in indices:
        corners = true_corners(i)
        along = (corners[1] - corners[0]) * shape[::-1]
        rows.append(
            {
                "plate": plate_text(i),
                "format": ("front", "rear_long")[i % 2],
                "style": "scene",
                "present": True,
                "lines": 1,
                **dict(zip(BOX_COLUMNS, corners_to_box(corners), strict=True)),
                **dict(zip(CORNER_COLUMNS, corners.ravel(), strict=True)),
                "plate_height": float(np.linalg.norm((corners[3] - corners[0]) * shape[::-1])),
                "angle": float(np.degrees(np.arctan2(along[1], along[0]))),
            }
        )
    return Shard([image_of(i, shape) for i in indices], pd.DataFrame(rows))


def prepared_set(folder: Path, shape: tuple[int, int], count: int) -> ShardedSet:
    """A set of ``count`` images, written and opened."""

    def make(indices: range) -> Shard:
        return make_samples(shape, indices)

    write_sets([NewSet(folder, range(count), make, {"backgrounds": "procedural"})])
    return ShardedSet(folder)


def config_below(folder: Path) -> Config:
    """The repository's parameters with all outputs below a folder."""
    places = {"out_path": str(folder / "out"), "prepared_data_path": str(folder / "prepared")}
    return load_config(PARAMETERS).model_copy(update=places)


class OracleLocalizer(Localizer):
    """Knows the corners of every image, and moves those of some.

    Args:
        shift: added to normalised x.
        shifted: which images; all where it is None.
        unseen: images in which it finds nothing.
        two_lines: images whose plate it takes for one of two lines.
    """

    dense = False
    stride = 84

    def __init__(
        self,
        shift: float = 0.0,
        shifted: set[int] | None = None,
        unseen: Collection[int] = (),
        two_lines: Collection[int] = (),
    ) -> None:
        super().__init__({}, [1, 84, 84])
        self.shift, self.shifted = shift, shifted
        self.unseen, self.two_lines = unseen, two_lines

    def forward(self, images: Tensor) -> Tensor:
        brightest = (images.amax(dim=(1, 2, 3)) * 255).round().int().tolist()
        maps = []
        for i in (value - OUTSIDE for value in brightest):
            moved = self.shifted is None or i in self.shifted
            corners = true_corners(i) + np.array([self.shift * moved, 0.0])
            logits = [-9.0 if i in self.unseen else 9.0, 9.0 if i in self.two_lines else -9.0]
            maps.append([*logits, *(corners * images.shape[:1:-1]).ravel()])
        return torch.tensor(maps, dtype=torch.float32)[..., None, None]

    def loss(self, maps: Tensor, targets: LocalizerTargets) -> Tensor:
        raise NotImplementedError


class OracleReader(Recognizer):
    """Reads what is at the centre of a crop: ``AI9`` beside a plate.

    Args:
        wrong: images whose last digit it reads as another one.
        rectification: as a reader's.
    """

    def __init__(
        self,
        wrong: set[int] | None = None,
        rectification: Literal["corners", "box"] = "corners",
    ) -> None:
        super().__init__({}, [1, 32, 128], rectification, CHARSET.blank)
        self.wrong = wrong or set()

    def forward(self, images: Tensor) -> Tensor:
        centres = (images[:, 0, 16, 64] * 255).round().int().tolist()
        logits = torch.zeros(len(centres), 32, CHARSET.num_classes)
        logits[:, :, CHARSET.blank] = 8.0
        for row, i in enumerate(centres):
            text = plate_text(i) if i < OUTSIDE else "AI9"
            if i in self.wrong:
                text = text[:-1] + str((int(text[-1]) + 1) % 9 + 1)
            for position, index in enumerate(CHARSET.encode(text)):
                logits[row, 2 + 3 * position, index] = 20.0
        return logits

    def loss(self, logits: Tensor, targets: Tensor, lengths: Tensor) -> Tensor:
        raise NotImplementedError


def files_below(folder: Path) -> set[str]:
    """Relative paths of all files, to see what a command has written."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def metrics_of(config: Config, task: str) -> dict[str, Any]:
    """What an evaluation wrote."""
    return json.loads((config.out("evaluations", task) / "metrics.json").read_text())


@dataclass
class AnnotatedImages:
    """Annotated images in memory."""

    items: list[AnnotatedImage]
    has_corners: bool = True
    has_text: bool = True

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[AnnotatedImage]:
        return iter(self.items)
