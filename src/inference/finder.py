"""Where the plates of a picture are: a localizer, looking at several sizes of it (no torch)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray

from ..core.geometry import FloatArray
from .bundle import LocalizerEntry
from .detection import Detections, detect, suppress
from .pyramid import Level, Pyramid, small_sides, stacked

LEAST_SCORE = 0.2
"""What the localizer thinks less likely is not looked at."""
MOST_PLATES = 20
"""Plates of a picture, at most."""

COARSE_FROM, COARSE_SCORE, COARSE_WIDTH = 160, 0.8, 90.0
"""Of a picture whose largest level has at most so many pixels on its long side, the others are looked
at only where the first one shows no plate for sure: one of that score, and of at most that width."""

REFINE_SCORE, REFINE_WIDTH = 0.6, 32.0
"""A plate of a lower score, or narrower in its level, gets a second look."""
REFINE_SHARE = 56 / 84
"""How much of the second look's side the plate takes, as in the pictures of training."""
REFINE_SCORE_LEAST = 0.05
"""A second look sees a plate from this score on."""
REFINE_SHIFT = 0.25
"""A plate whose centre is farther from the middle than this share of the side is another one."""
OTHER_SHARES = (0.56, 0.8)
"""How much of a look's side the plate takes where its corners are wanted once more."""

Localize = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""``(N, H, W)`` pictures to maps ``(N, 10, h, w)``."""


@dataclass(frozen=True, eq=False)
class _Found:
    """The P plates of a picture.

    Attributes:
        corners: ``(P, 4, 2)`` in pixels of the displayed picture.
        score: ``(P,)`` probability that there is a plate.
        two_lines: ``(P,)`` probability that it has two lines.
        width: ``(P,)`` of the plate in pixels of the level that it was found in.
    """

    corners: FloatArray
    score: FloatArray
    two_lines: FloatArray
    width: FloatArray

    def taken(self, which: NDArray[np.intp]) -> _Found:
        return _Found(
            self.corners[which], self.score[which], self.two_lines[which], self.width[which]
        )


def find_plates(
    pyramids: Sequence[Pyramid], localize: Localize, localizer: LocalizerEntry
) -> list[Detections]:
    """The plates of pictures, best first, their corners in pixels of the displayed pictures.

    Args:
        pyramids: of the pictures; those of one size are looked at together.
        localize: runs the localizer.
        localizer: what it is.
    """
    _, height, width = localizer.input_shape
    if localizer.dense:
        levels = [pyramid.levels(localizer.stride) for pyramid in pyramids]
        found = _look_again(pyramids, _search(levels, localize), localize, _look_size(localizer))
    else:
        whole = [iter([pyramid.whole((height, width))]) for pyramid in pyramids]
        found = _search(whole, localize)
    return [Detections(plates.corners, plates.score, plates.two_lines) for plates in found]


def usual_sizes(localizer: LocalizerEntry) -> list[tuple[int, int]]:
    """Heights and widths of what the localizer is most often given."""
    if not localizer.dense:
        return [localizer.input_shape[1:]]
    sides = {_look_size(localizer), *small_sides(localizer.stride)}
    return [(side, side) for side in sorted(sides)]


def _look_size(localizer: LocalizerEntry) -> int:
    """The side of a second look: that of training, or the next that the localizer takes."""
    return -(-localizer.input_shape[1] // localizer.stride) * localizer.stride


def _search(levels: Sequence[Iterator[Level]], localize: Localize) -> list[_Found]:
    """The plates of pictures of which the levels are given, the largest first."""
    found: list[list[_Found]] = [[] for _ in levels]
    first = [next(picture) for picture in levels]
    _run(enumerate(first), localize, found)
    others = [
        (i, level)
        for i, picture in enumerate(levels)
        if not _is_clear(first[i], found[i])
        for level in picture
    ]
    _run(others, localize, found)
    return [_merged(parts) for parts in found]


def _run(jobs: Iterable[tuple[int, Level]], localize: Localize, found: list[list[_Found]]) -> None:
    """Look at levels of pictures, by size, and add what is there to what was found in the picture."""
    by_shape: defaultdict[tuple[int, int], list[tuple[int, Level]]] = defaultdict(list)
    for picture, level in jobs:
        by_shape[level.shape].append((picture, level))
    for group in by_shape.values():
        maps = localize(stacked([level for _, level in group]))
        for (picture, level), plates in zip(
            group, detect(maps, LEAST_SCORE, MOST_PLATES), strict=True
        ):
            if len(plates.score):
                found[picture].append(
                    _Found(
                        level.to_picture(plates.corners),
                        plates.score,
                        plates.two_lines,
                        _width(plates.corners),
                    )
                )


def _is_clear(level: Level, found: Sequence[_Found]) -> bool:
    """Whether a small picture's first level shows all that there is to see."""
    return max(level.image.shape) <= COARSE_FROM and any(
        plates.score[0] >= COARSE_SCORE and plates.width[0] <= COARSE_WIDTH for plates in found
    )


def _merged(parts: Sequence[_Found]) -> _Found:
    """The plates of all levels of a picture, each once."""
    if not parts:
        return _Found(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0), np.zeros(0))
    plates = parts[0]
    if len(parts) > 1:
        plates = _Found(
            np.concatenate([part.corners for part in parts]),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.two_lines for part in parts]),
            np.concatenate([part.width for part in parts]),
        )
    if len(plates.score) == 1:
        return plates
    return plates.taken(suppress(plates.corners, plates.score)[:MOST_PLATES])


def _look_again(
    pyramids: Sequence[Pyramid], found: list[_Found], localize: Localize, size: int
) -> list[_Found]:
    """Look at plates that are small or not sure once more, each as large as in training.

    The corners are those of the second look, the score the mean of both.
    """
    jobs = [
        (picture, int(plate))
        for picture, plates in enumerate(found)
        for plate in np.flatnonzero((plates.score < REFINE_SCORE) | (plates.width < REFINE_WIDTH))
    ]
    if not jobs:
        return found
    windows = [(pyramids[picture], found[picture].corners[plate]) for picture, plate in jobs]
    looks = _refine(windows, REFINE_SHARE, localize, size)
    for (picture, plate), look in zip(jobs, looks, strict=True):
        plates = found[picture]
        score = 0.0
        if look is not None:
            plates.corners[plate], score, plates.two_lines[plate] = look
        plates.score[plate] = (plates.score[plate] + score) / 2
    for picture in {picture for picture, _ in jobs}:
        plates = found[picture]
        stays = suppress(plates.corners, plates.score)
        found[picture] = plates.taken(stays[plates.score[stays] >= LEAST_SCORE])
    return found


def other_corners(
    plates: Sequence[tuple[Pyramid, FloatArray]], localize: Localize, localizer: LocalizerEntry
) -> list[list[FloatArray]]:
    """Corners of plates as the localizer sees them at other sizes; they differ by what it is unsure of.

    Args:
        plates: the picture and ``(4, 2)`` corners of each, in pixels of the displayed picture.
        localize: runs the localizer.
        localizer: what it is.

    Returns:
        For each plate as many as see it: at most one for each of OTHER_SHARES, none where the
        localizer takes one size alone.
    """
    others: list[list[FloatArray]] = [[] for _ in plates]
    if not localizer.dense:
        return others
    for share in OTHER_SHARES:
        looks = _refine(plates, share, localize, _look_size(localizer))
        for corners, look in zip(others, looks, strict=True):
            if look is not None:
                corners.append(look[0])
    return others


def _refine(
    plates: Sequence[tuple[Pyramid, FloatArray]], share: float, localize: Localize, size: int
) -> list[tuple[FloatArray, float, float] | None]:
    """Each plate alone, taking a share of a square input.

    Returns:
        Its corners, score and probability of two lines; None where no plate is seen in the middle.
    """
    windows = []
    for pyramid, corners in plates:
        low, high = _box(corners)
        side = max(float((high - low).max()) / share, 1.0)
        windows.append(pyramid.window((low + high) / 2, side, size))
    seen: list[tuple[FloatArray, float, float] | None] = []
    for window, look in zip(
        windows, detect(localize(stacked(windows)), REFINE_SCORE_LEAST, MOST_PLATES), strict=True
    ):
        off = np.abs(look.corners.mean(axis=1) - size / 2).max(axis=1)
        near = np.flatnonzero(off <= REFINE_SHIFT * size)
        if not len(near):
            seen.append(None)
            continue
        best = near[0]
        corners = window.to_picture(look.corners[best])
        seen.append((corners, float(look.score[best]), float(look.two_lines[best])))
    return seen


def _width(corners: FloatArray) -> FloatArray:
    """Mean length of the upper and the lower edge: ``(P, 4, 2)`` to ``(P,)``."""
    # Of a plate or two, plain numbers are faster than arrays.
    widths = [
        (hypot(x1 - x0, y1 - y0) + hypot(x2 - x3, y2 - y3)) / 2
        for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in corners.tolist()
    ]
    return np.array(widths)


def _box(corners: FloatArray) -> tuple[FloatArray, FloatArray]:
    return corners.min(axis=0), corners.max(axis=0)
