"""The reader's prepared set as a torch dataset of whole batches, cropped with jitter.

The set holds crops with a margin at the scene's own resolution; a reader sees the plate as the
localizer would hand it over: a little off, now and then cut for the wrong number of lines, and in any
light. How much so depends on (seed, epoch, sample) alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..config.training import TrainOCRParams
from ..core.charset import CHARSET
from ..core.geometry import FloatArray, Rectification, plate_axes
from ..core.random import Draws
from ..inference.crops import crop_quad, cut
from .batches import BatchIndices
from .shards import DatasetError, ShardedSet

CORNER_ERRORS = Path(__file__).with_name("corner_errors.csv")
"""How far the localizer's corners are off: a row a plate, in plate sizes along the plate's own axes
(src/core/geometry.py: plate_axes). ``python -m src.localize.evaluate --write-errors`` measures them."""
CORNER_ERROR_COLUMNS = [f"d{axis}{corner}" for corner in range(4) for axis in "xy"]


class OCRBatch(NamedTuple):
    """Crops ``(N, h, w)`` uint8, classes ``(N, 8)`` int64 padded with the blank, lengths ``(N,)``."""

    images: Tensor
    targets: Tensor
    lengths: Tensor


class OCRDataset(Dataset[OCRBatch]):
    """Crops as a reader sees them, and their texts; where there is none, the target is empty.

    Args:
        folder: of the prepared set.
        rectification: of the reader.
        input_shape: of the reader, (1, height, width).
        params: how far crops are off.
        fixed: every epoch the same crops, for validation: off as in training, as the localizer's
            are, but comparable from one validation to the next, and in the light that they are in.

    Raises:
        DatasetError: the set is missing or damaged, or holds a text that is no plate's; or there is
            no table of the localizer's errors.
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
        self._lines = self.samples.lines
        self._corner_errors = read_corner_errors(CORNER_ERRORS)
        try:
            targets, lengths = encode_texts(self.samples.plates)
        except ValueError as error:
            raise DatasetError(
                f"{folder}: {error}. Make the set again with `dvc repro -f prepare_ocr`."
            ) from error
        self._targets, self._lengths = torch.from_numpy(targets), torch.from_numpy(lengths)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, picked: BatchIndices) -> OCRBatch:
        """A whole batch; crops of a fixed set do not depend on the epoch."""
        epoch = "validation" if self._fixed else picked.epoch
        draws = Draws(self._params.SEED, f"jitter-{epoch}", self._numbers[picked.samples])
        images = [self.samples.image(int(i)) for i in picked.samples]
        sizes = np.array([[image.shape[1], image.shape[0]] for image in images])
        corners = self.samples.corners[picked.samples] * sizes[:, None]
        quads = jitter_quads(corners, self._rectification, self._params, self._corner_errors, draws)
        lines = self._lines[picked.samples]
        # A reader of the upright box is shown no lines: there is nothing to get wrong.
        wrong = draws.chance(self._params.LINES_ERROR) & (self._rectification == "corners")
        lines = np.where(wrong, 3 - lines, lines)
        crops = [
            cut(image, quad, self._rectification, self._input_shape, count)
            for image, quad, count in zip(images, quads, lines.tolist(), strict=True)
        ]
        if not self._fixed:
            crops = jitter_light(crops, self._params, draws)
        targets, lengths = self._targets[picked.samples], self._lengths[picked.samples]
        # Halves of a line, or two lines in one, are nothing to read: whoever is not sure of the
        # number of lines has both read, and believes the surer.
        targets[wrong], lengths[wrong] = CHARSET.blank, 0
        return OCRBatch(torch.from_numpy(np.stack(crops)), targets, lengths)


def encode_texts(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The classes of texts, ``(n, 8)`` padded with the blank, and their lengths ``(n,)``.

    An empty text stands for nothing to read; its length is 0.

    Raises:
        ValueError: a text is no plate's.
    """
    encoded = [CHARSET.encode(text) if text else [] for text in texts]
    targets = np.full((len(encoded), CHARSET.max_length), CHARSET.blank, dtype=np.int64)
    for row, classes in zip(targets, encoded, strict=True):
        row[: len(classes)] = classes
    return targets, np.array([len(classes) for classes in encoded], dtype=np.int64)


def read_corner_errors(path: Path) -> NDArray[np.float64]:
    """``(n, 4, 2)`` errors of a localizer's corners, in plate sizes along the plates' own axes.

    Raises:
        DatasetError: the table is missing or is another one.
    """
    try:
        table = pd.read_csv(path)
        errors = table[CORNER_ERROR_COLUMNS].to_numpy(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{path}: the table of the localizer's errors is missing or damaged: {error}. It is in "
            f"git: `git restore {path.name}` in its folder."
        ) from error
    if not len(errors) or not np.isfinite(errors).all():
        raise DatasetError(f"{path}: the table of the localizer's errors is empty, or has gaps")
    return errors.reshape(-1, 4, 2)


# The corners' order in a plate seen in a mirror: as it is, left for right, upside down, both.
_MIRRORED = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [2, 3, 0, 1]])


def jitter_quads(
    corners: FloatArray,
    rectification: Rectification,
    params: TrainOCRParams,
    errors: FloatArray,
    draws: Draws,
) -> FloatArray:
    """The quadrilaterals that crops are cut by, a little off.

    Args:
        corners: ``(n, 4, 2)`` in pixels.
        rectification: of the reader.
        params: by how much: CORNER_JITTER times the errors, or BOX_JITTER and BOX_SKEW.
        errors: ``(m, 4, 2)`` of the localizer, in plate sizes. Each sample takes one plate's, whose
            corners are off together, or its mirror image or opposite: eight times as many.
        draws: of the n samples.

    Returns:
        ``(n, 4, 2)`` in pixels.
    """
    quads = np.stack([crop_quad(quad, rectification) for quad in corners])
    if rectification == "corners":
        off = errors[draws.integers(0, len(errors) - 1)]
        across, down, opposite = draws.uniform(shape=(3,)).T < 0.5
        off = np.take_along_axis(off, _MIRRORED[across + 2 * down][..., None], axis=1)
        signs = np.where(np.stack([across, down], axis=1) ^ opposite[:, None], -1, 1)
        return quads + (params.CORNER_JITTER * signs[:, None] * off) @ plate_axes(quads)
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


_LEVELS = np.linspace(0, 1, 256)


def jitter_light(
    crops: list[NDArray[np.uint8]], params: TrainOCRParams, draws: Draws
) -> list[NDArray[np.uint8]]:
    """Crops ``(h, w)`` in another light and a little blurred: a new epoch brings new pictures.

    Contrast is only taken away, so that nothing is clipped that a camera would have kept.

    Args:
        crops: one a sample.
        params: by how much: TONE_JITTER, BLUR_JITTER.
        draws: of the samples.
    """
    tone = params.TONE_JITTER
    gamma = np.exp(draws.uniform(-tone, tone))[:, None]
    contrast = draws.uniform(1 - tone, 1)[:, None]
    offset = draws.uniform()[:, None] * (1 - contrast)
    curves = np.round(255 * (offset + contrast * _LEVELS**gamma)).astype(np.uint8)
    blurs = params.BLUR_JITTER * draws.uniform()
    return [
        cv2.LUT(cv2.GaussianBlur(crop, (0, 0), sigma) if sigma > _LEAST_BLUR else crop, curve)
        for crop, curve, sigma in zip(crops, curves, blurs.tolist(), strict=True)
    ]


_LEAST_BLUR = 0.25
"""Sigma in pixels; less changes nothing."""
