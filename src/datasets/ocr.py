"""The reader's prepared set as a torch dataset of whole batches, cropped with jitter.

The set holds crops with a margin at the scene's own resolution; a reader sees the plate as the
localizer would hand it over, a little off. How far off depends on (seed, epoch, sample) alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from src.charset import CHARSET
from src.config import TrainOCRParams
from src.datasets.batches import Picked
from src.datasets.crops import crop_quad, cut
from src.datasets.shards import DatasetError, ShardedSet
from src.generators.draws import Draws
from src.geometry import FloatArray, Rectification


class OCRBatch(NamedTuple):
    """Crops ``(N, h, w)`` uint8, classes ``(N, 8)`` int64 padded with the blank, lengths ``(N,)``."""

    images: Tensor
    targets: Tensor
    lengths: Tensor


class OCRDataset(Dataset[OCRBatch]):
    """Crops as a reader sees them, and their texts.

    Args:
        folder: of the prepared set.
        rectification: of the reader.
        input_shape: of the reader, (1, height, width).
        params: how far crops are off.
        fixed: every epoch the same crops, for validation: off as in training, as the localizer's
            are, but comparable from one validation to the next.

    Raises:
        DatasetError: the set is missing or damaged, or holds a text that is no plate's.
    """

    def __init__(
        self,
        folder: Path,
        rectification: Rectification,
        input_shape: tuple[int, int, int],
        params: TrainOCRParams,
        fixed: bool = False,
    ) -> None:
        self.samples = ShardedSet(folder)
        self._rectification, self._input_shape = rectification, input_shape
        self._params, self._fixed = params, fixed
        self._numbers = self.samples.labels["index"].to_numpy(np.int64)
        try:
            targets, lengths = encode_texts(self.samples.plates)
        except ValueError as error:
            raise DatasetError(
                f"{folder}: {error}. Make the set again with `dvc repro -f prepare_ocr`."
            ) from error
        self._targets, self._lengths = torch.from_numpy(targets), torch.from_numpy(lengths)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, picked: Picked) -> OCRBatch:
        """A whole batch; crops of a fixed set do not depend on the epoch."""
        epoch = "validation" if self._fixed else picked.epoch
        draws = Draws(self._params.SEED, f"jitter-{epoch}", self._numbers[picked.samples])
        images = [self.samples.image(int(i)) for i in picked.samples]
        sizes = np.array([[image.shape[1], image.shape[0]] for image in images])
        corners = self.samples.corners[picked.samples] * sizes[:, None]
        quads = jitter_quads(corners, self._rectification, self._params, draws)
        crops = np.stack(
            [
                cut(image, quad, self._rectification, self._input_shape)
                for image, quad in zip(images, quads, strict=True)
            ]
        )
        return OCRBatch(
            torch.from_numpy(crops), self._targets[picked.samples], self._lengths[picked.samples]
        )


def encode_texts(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The classes of texts, ``(n, 8)`` padded with the blank, and their lengths ``(n,)``.

    Raises:
        ValueError: a text is no plate's.
    """
    encoded = [CHARSET.encode(text) for text in texts]
    targets = np.full((len(encoded), CHARSET.max_length), CHARSET.blank, dtype=np.int64)
    for row, classes in zip(targets, encoded, strict=True):
        row[: len(classes)] = classes
    return targets, np.array([len(classes) for classes in encoded], dtype=np.int64)


def jitter_quads(
    corners: FloatArray, rectification: Rectification, params: TrainOCRParams, draws: Draws
) -> FloatArray:
    """The quadrilaterals that crops are cut by, a little off.

    Args:
        corners: ``(n, 4, 2)`` in pixels.
        rectification: of the reader.
        params: by how much: CORNER_JITTER, or BOX_JITTER and BOX_SKEW.
        draws: of the n samples.

    Returns:
        ``(n, 4, 2)`` in pixels.
    """
    quads = np.stack([crop_quad(quad, rectification) for quad in corners])
    if rectification == "corners":
        sides = np.linalg.norm(quads[:, [3, 2]] - quads[:, [0, 1]], axis=-1).mean(axis=1)
        # A localizer is off as a whole as much as at each corner: half of the variance each.
        off = (draws.normal((1, 2)) + draws.normal((4, 2))) * np.sqrt(0.5)
        return quads + off * params.CORNER_JITTER * sides[:, None, None]
    low, high = quads[:, 0], quads[:, 2]
    # Two opposite edges that move by half of the jitter change a side by all of it.
    moves = draws.uniform(-params.BOX_JITTER / 2, params.BOX_JITTER / 2, (2, 2))
    low, high = low + moves[:, 0] * (high - low), high + moves[:, 1] * (high - low)
    centre, half = (low + high) / 2, (high - low) / 2
    spokes = half[:, None] * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    angle = np.radians(draws.uniform(-params.BOX_SKEW, params.BOX_SKEW))
    cosine, sine = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cosine, sine], -1), np.stack([-sine, cosine], -1)], -2)
    return centre[:, None] + spokes @ turn
