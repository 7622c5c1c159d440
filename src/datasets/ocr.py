"""The recognizer's prepared set as a PyTorch dataset that builds whole batches of jittered crops.

The set holds crops with a margin at the scene's own resolution. The recognizer sees the plate as the
localizer would deliver it: slightly off, sometimes cut for the wrong number of lines, and in varying
light. The jitter depends only on (seed, epoch, sample).
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
from ..core.charset import CANTONS, CHARSET, DIGITS, HIDDEN
from ..core.geometry import SEEN_COLUMNS, FloatArray, Rectification, plate_axes
from ..core.layout import FORMAT_OF, FORMATS, ILLEGIBLE
from ..core.random import Draws
from ..inference.crops import crop_quad, cut, is_tall
from .batches import BatchIndices
from .shards import DatasetError, ShardedSet

CORNER_ERRORS = Path(__file__).with_name("corner_errors.csv")
"""Table of the localizer's corner errors, with one row per plate.

The unit is plate sizes along the plate's own axes (src/core/geometry.py: plate_axes). Measured by
``python -m src.localize.evaluate --write-errors``."""
CORNER_ERROR_COLUMNS = [f"d{axis}{corner}" for corner in range(4) for axis in "xy"]


class OCRBatch(NamedTuple):
    """A batch of crops and their texts.

    Attributes:
        images: Crops, shape ``(N, h, w)``, uint8.
        targets: Classes of the texts, shape ``(N, 8)``, int64, padded with the blank.
        lengths: Lengths of the texts, shape ``(N,)``.
        complete: 1 where every character can be read, 0 where one is hidden, NaN where that is unknown
            or there is no text, shape ``(N,)``, float32.
        swiss: 1 for Swiss plates, 0 for others and for no plate, NaN where that is unknown, shape
            ``(N,)``, float32.
        formats: Index into ``FORMATS`` (src/core/layout.py), -1 where there is none, shape ``(N,)``, int64.
    """

    images: Tensor
    targets: Tensor
    lengths: Tensor
    complete: Tensor
    swiss: Tensor
    formats: Tensor


class OCRDataset(Dataset[OCRBatch]):
    """Dataset of crops as the recognizer sees them, with their texts.

    The target of a crop without text is empty. Characters that are hidden have a class of their own.

    Args:
        folder: Folder of the prepared set.
        rectification: Rectification of the recognizer.
        input_shape: Input shape of the recognizer, (1, height, width).
        params: Training parameters, which set the amount of jitter.
        fixed: If True, return the same crops in every epoch, for validation. Their corners are jittered
            as in training, since the localizer's are off too, but validations stay comparable; the light
            is left as it is.

    Raises:
        DatasetError: If the set is missing or damaged or holds an invalid plate text, or if the table of
            the localizer's errors is missing.
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
            targets, lengths = encode_texts(seen_texts(self.samples.labels))
        except ValueError as error:
            raise DatasetError(
                f"{folder}: {error}. Recreate the set with `dvc repro -f prepare_ocr`."
            ) from error
        self._targets, self._lengths = torch.from_numpy(targets), torch.from_numpy(lengths)
        self._complete, self._swiss, self._formats = layout_targets(self.samples.labels)
        self._seen = seen_parts(self.samples.labels)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, picked: BatchIndices) -> OCRBatch:
        """Return a whole batch; the crops of a fixed set do not depend on the epoch."""
        epoch = "validation" if self._fixed else picked.epoch
        draws = Draws(self._params.SEED, f"jitter-{epoch}", self._numbers[picked.samples])
        images = [self.samples.image(int(i)) for i in picked.samples]
        sizes = np.array([[image.shape[1], image.shape[0]] for image in images])
        corners = self.samples.corners[picked.samples] * sizes[:, None]
        corners = snap(corners, self._snapped(picked.samples, draws))
        quads = jitter_quads(corners, self._rectification, self._params, self._corner_errors, draws)
        lines = self._lines[picked.samples]
        # A recognizer of the upright box ignores the number of lines: there is nothing to get wrong.
        wrong = draws.chance(self._params.LINES_ERROR) & (self._rectification == "corners")
        lines = np.where(wrong, 3 - lines, lines)
        closer = draws.chance(_CLOSER_SHARE) & (lines == 2) & is_tall(quads)
        crops = [
            cut(image, quad, self._rectification, self._input_shape, count, closer=near)
            for image, quad, count, near in zip(
                images, quads, lines.tolist(), closer.tolist(), strict=True
            )
        ]
        if not self._fixed:
            crops = jitter_light(crops, self._params, draws)
        targets, lengths = self._targets[picked.samples], self._lengths[picked.samples]
        # Half a line, or two lines squeezed into one, has no text to read: when the number of lines is
        # uncertain, inference reads both layouts and keeps the more confident one.
        targets[wrong], lengths[wrong] = CHARSET.blank, 0
        complete = np.where(wrong, np.nan, self._complete[picked.samples]).astype(np.float32)
        formats = np.where(wrong, -1, self._formats[picked.samples])
        return OCRBatch(
            torch.from_numpy(np.stack(crops)),
            targets,
            lengths,
            torch.from_numpy(complete),
            torch.from_numpy(self._swiss[picked.samples]),
            torch.from_numpy(formats),
        )

    def _snapped(self, samples: NDArray[np.intp], draws: Draws) -> NDArray[np.float64]:
        """Return the part of each plate that it is cropped by, relative to it, shape ``(n, 4)``.

        It is the whole plate, what can be seen of it, or something between them, as localizers find it.
        """
        weight = draws.chance(self._params.SNAP_PROBABILITY) * np.minimum(2 * draws.uniform(), 1)
        seen = self._seen[samples]
        return seen * weight[:, None] + _ALL * (1 - weight[:, None])


def layout_targets(
    labels: pd.DataFrame,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Return the targets ``complete``, ``swiss`` and ``formats`` of ``OCRBatch``, shape ``(n,)`` each.

    Args:
        labels: Labels of a prepared set. Sets of real images tell less: no ``text`` and no ``covered``.
    """
    plates = labels["plate"].to_numpy()
    texts = labels.get("text", labels["plate"]).to_numpy()
    covered = labels["covered"].to_numpy() if "covered" in labels else np.zeros(len(labels))
    complete = np.where(
        plates != "", 1.0, np.where((texts != "") & (covered >= ILLEGIBLE), 0.0, np.nan)
    )
    names = labels["format"].map(FORMAT_OF)
    formats = names.map({name: i for i, name in enumerate(FORMATS)}).fillna(-1).to_numpy()
    kinds = labels["format"].to_numpy()
    swiss = np.where(formats >= 0, 1.0, np.where(kinds == "", np.nan, 0.0))
    return complete.astype(np.float32), swiss.astype(np.float32), formats.astype(np.int64)


def seen_parts(labels: pd.DataFrame) -> NDArray[np.float64]:
    """Return the part of each plate that can be seen, x1, y1, x2, y2 relative to it, shape ``(n, 4)``.

    Where next to nothing can be seen, it is the whole plate.
    """
    if SEEN_COLUMNS[0] not in labels:
        return np.tile(_ALL, (len(labels), 1))
    seen = labels[SEEN_COLUMNS].to_numpy(np.float64)
    is_large = ((seen[:, 2:] - seen[:, :2]) >= _LEAST_SEEN).all(axis=1)
    return np.where(is_large[:, None], seen, _ALL)


_CLOSER_SHARE = 0.5
"""Share of the tall plates of two lines that are cut closer, as inference cuts them too."""
_ALL = np.array([0.0, 0.0, 1.0, 1.0])
_LEAST_SEEN = 0.2
"""Minimum part of a plate's width and height to which its corners are snapped."""


def snap(corners: FloatArray, seen: FloatArray) -> FloatArray:
    """Return the corners of the visible part of plates.

    A localizer often takes the end of what it sees for the end of the plate.

    Args:
        corners: Corners of plates in any unit, shape ``(n, 4, 2)``.
        seen: Visible part of each, x1, y1, x2, y2 relative to the plate, shape ``(n, 4)``.

    Returns:
        Corners in the same unit, shape ``(n, 4, 2)``.
    """
    u, v = seen[:, [0, 2, 2, 0], None], seen[:, [1, 1, 3, 3], None]
    top = (1 - u) * corners[:, [0]] + u * corners[:, [1]]
    bottom = (1 - u) * corners[:, [3]] + u * corners[:, [2]]
    return (1 - v) * top + v * bottom


def seen_texts(labels: pd.DataFrame) -> list[str]:
    """Return what can be read of each plate, with ``HIDDEN`` for what cannot; real images tell less."""
    return [str(text) for text in labels.get("seen_text", labels["plate"])]


def encode_texts(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Encode texts as classes, shape ``(n, 8)``, padded with the blank, and lengths, shape ``(n,)``.

    An empty text means that there is nothing to read; its length is 0. Texts may have ``HIDDEN`` in place
    of some characters.

    Raises:
        ValueError: If a text is not a valid plate text.
    """
    encoded = [
        _encode_seen(text) if HIDDEN in text else CHARSET.encode(text) if text else []
        for text in texts
    ]
    targets = np.full((len(encoded), CHARSET.max_length), CHARSET.blank, dtype=np.int64)
    for row, classes in zip(targets, encoded, strict=True):
        row[: len(classes)] = classes
    return targets, np.array([len(classes) for classes in encoded], dtype=np.int64)


def _encode_seen(text: str) -> list[int]:
    classes = {token: i for i, token in enumerate(CHARSET.tokens)} | {HIDDEN: CHARSET.hidden}
    parts = [text[:2], *text[2:]] if text[:2] in CANTONS else list(text)
    try:
        return [classes[part] for part in parts]
    except KeyError:
        raise ValueError(
            f"{text!r} is not the text of a plate: expected a canton or {HIDDEN}, then digits {DIGITS[0]} "
            f"to {DIGITS[-1]} or {HIDDEN}"
        ) from None


def read_corner_errors(path: Path) -> NDArray[np.float64]:
    """Read the corner errors of a localizer, shape ``(n, 4, 2)``.

    They are in plate sizes along the plates' own axes.

    Raises:
        DatasetError: If the table is missing or invalid.
    """
    try:
        table = pd.read_csv(path)
        errors = table[CORNER_ERROR_COLUMNS].to_numpy(np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(
            f"{path}: the table of the localizer's errors is missing or damaged: {error}. Restore "
            f"it with `git restore {path.name}` in its folder."
        ) from error
    if not len(errors) or not np.isfinite(errors).all():
        raise DatasetError(
            f"{path}: the table of the localizer's errors is empty or has missing values"
        )
    return errors.reshape(-1, 4, 2)


# Corner order of a mirrored plate: unchanged, left-right, upside down, both.
_MIRRORED = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [3, 2, 1, 0], [2, 3, 0, 1]])


def jitter_quads(
    corners: FloatArray,
    rectification: Rectification,
    params: TrainOCRParams,
    errors: FloatArray,
    draws: Draws,
) -> FloatArray:
    """Return jittered quadrilaterals to cut crops by.

    Args:
        corners: Plate corners in pixels, shape ``(n, 4, 2)``.
        rectification: Rectification of the recognizer.
        params: Amount of jitter: CORNER_JITTER times the errors, or BOX_JITTER and BOX_SKEW.
        errors: Corner errors of the localizer in plate sizes, shape ``(m, 4, 2)``. Each sample takes the
            errors of one plate, as a plate's corners are off together, possibly mirrored or negated,
            which makes eight times as many.
        draws: Random generator for the n samples.

    Returns:
        Quadrilaterals in pixels, shape ``(n, 4, 2)``.
    """
    quads = np.stack([crop_quad(quad, rectification) for quad in corners])
    if rectification == "corners":
        off = errors[draws.integers(0, len(errors) - 1)]
        across, down, opposite = draws.uniform(shape=(3,)).T < 0.5
        off = np.take_along_axis(off, _MIRRORED[across + 2 * down][..., None], axis=1)
        signs = np.where(np.stack([across, down], axis=1) ^ opposite[:, None], -1, 1)
        return quads + (params.CORNER_JITTER * signs[:, None] * off) @ plate_axes(quads)
    low, high = quads[:, 0], quads[:, 2]
    # Moving two opposite edges by half the jitter each changes a side by the full jitter.
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
    """Randomly change the tone of crops and blur them slightly, so that every epoch differs.

    Contrast is only reduced, so that nothing is clipped that a camera would have kept.

    Args:
        crops: Crops of shape ``(h, w)``, one per sample.
        params: Amount of jitter: TONE_JITTER and BLUR_JITTER.
        draws: Random generator for the samples.
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
"""Minimum sigma in pixels; a smaller blur has no effect."""
