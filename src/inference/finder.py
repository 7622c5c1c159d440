"""Find the plates of an image with a localizer, applied at several sizes (no torch)."""

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
"""Minimum score of a detection; less likely ones are ignored."""
MOST_PLATES = 20
"""Maximum number of plates per image."""

COARSE_FROM, COARSE_SCORE, COARSE_WIDTH = 160, 0.8, 90.0
"""Coarse pass: maximum long side of the largest level, minimum score and maximum width of a plate.

In an image whose largest level has at most this long side in pixels, the other levels are only examined
if the first one shows no certain plate: one with at least this score and at most this width.
"""

REFINE_SCORE, REFINE_WIDTH = 0.6, 32.0
"""Plates with a lower score, or narrower in pixels of their level, get a refinement pass."""
REFINE_SHARE = 56 / 84
"""Fraction of the input's side that the plate takes in the refinement pass, as in the training
images."""
REFINE_SCORE_LEAST = 0.05
"""Minimum score of a plate in the refinement pass."""
REFINE_SHIFT = 0.25
"""A plate whose centre is farther from the middle than this fraction of the side is a different one."""
AUGMENTED_SHARES = (0.56, 0.8)
"""Fractions of the input's side that a plate takes where further estimates of its corners are needed."""

Localize = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Function that maps images ``(N, H, W)`` to maps ``(N, 10, h, w)``."""


@dataclass(frozen=True, eq=False)
class _Found:
    """The P plates found in an image.

    Attributes:
        corners: Plate corners in pixels of the displayed image, shape ``(P, 4, 2)``.
        score: Probability that there is a plate, shape ``(P,)``.
        two_lines: Probability that the plate has two lines, shape ``(P,)``.
        width: Width of the plate in pixels of the level that it was found in, shape ``(P,)``.
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
    pyramids: Sequence[Pyramid],
    localize: Localize,
    localizer: LocalizerEntry,
    full: bool = False,
) -> list[Detections]:
    """Return the plates of each image, sorted by descending score.

    Corners are in pixels of the displayed image.

    Args:
        pyramids: Pyramids of the images; images of one size are processed together.
        localize: Function that runs the localizer.
        localizer: Manifest entry of the localizer.
        full: Whether to search at full resolution too.
    """
    _, height, width = localizer.input_shape
    if localizer.dense:
        size = _input_size(localizer)
        levels = [_levels(pyramid, localizer.stride, size, full) for pyramid in pyramids]
        found = _look_again(pyramids, _search(levels, localize), localize, size)
    else:
        whole = [iter([pyramid.whole((height, width))]) for pyramid in pyramids]
        found = _search(whole, localize)
    return [Detections(plates.corners, plates.score, plates.two_lines) for plates in found]


def _levels(pyramid: Pyramid, stride: int, size: int, full: bool) -> Iterator[Level]:
    """Yield the inputs that the localizer sees of an image, the largest level first."""
    yield from pyramid.levels(stride)
    if (bordered := pyramid.bordered(size)) is not None:
        yield bordered
    if full:
        yield from pyramid.tiles(stride)


def usual_sizes(localizer: LocalizerEntry) -> list[tuple[int, int]]:
    """Return the heights and widths of the localizer's most frequent inputs."""
    if not localizer.dense:
        return [localizer.input_shape[1:]]
    sides = {_input_size(localizer), *small_sides(localizer.stride)}
    return [(side, side) for side in sorted(sides)]


def _input_size(localizer: LocalizerEntry) -> int:
    """Return the side of refinement inputs: that of training, or the next that the localizer takes."""
    return -(-localizer.input_shape[1] // localizer.stride) * localizer.stride


def _search(levels: Sequence[Iterator[Level]], localize: Localize) -> list[_Found]:
    """Return the plates of images, given the levels of each, the largest first."""
    found: list[list[_Found]] = [[] for _ in levels]
    first = [next(image) for image in levels]
    _run(enumerate(first), localize, found)
    others = [
        (i, level)
        for i, image in enumerate(levels)
        if not _is_clear(first[i], found[i])
        for level in image
    ]
    _run(others, localize, found)
    return [_merged(parts) for parts in found]


def _run(jobs: Iterable[tuple[int, Level]], localize: Localize, found: list[list[_Found]]) -> None:
    """Localize plates in levels, grouped by size, and append them to those found in each image."""
    by_shape: defaultdict[tuple[int, int], list[tuple[int, Level]]] = defaultdict(list)
    for image, level in jobs:
        by_shape[level.shape].append((image, level))
    for group in by_shape.values():
        maps = localize(stacked([level for _, level in group]))
        for (image, level), plates in zip(
            group, detect(maps, LEAST_SCORE, MOST_PLATES), strict=True
        ):
            if len(plates.score):
                found[image].append(
                    _Found(
                        level.to_image(plates.corners),
                        plates.score,
                        plates.two_lines,
                        _width(plates.corners),
                    )
                )


def _is_clear(level: Level, found: Sequence[_Found]) -> bool:
    """Return whether the first level of a small image shows everything there is to see."""
    return max(level.image.shape) <= COARSE_FROM and any(
        plates.score[0] >= COARSE_SCORE and plates.width[0] <= COARSE_WIDTH for plates in found
    )


def _merged(parts: Sequence[_Found]) -> _Found:
    """Merge the plates of all levels of an image, so that each occurs once."""
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
    """Run the refinement pass on small or uncertain plates, each shown as large as in training.

    The corners are those of the refinement pass, the score is the mean of both passes.
    """
    jobs = [
        (image, int(plate))
        for image, plates in enumerate(found)
        for plate in np.flatnonzero((plates.score < REFINE_SCORE) | (plates.width < REFINE_WIDTH))
    ]
    if not jobs:
        return found
    windows = [(pyramids[image], found[image].corners[plate]) for image, plate in jobs]
    refined = _refine(windows, REFINE_SHARE, localize, size)
    for (image, plate), result in zip(jobs, refined, strict=True):
        plates = found[image]
        score = 0.0
        if result is not None:
            plates.corners[plate], score, plates.two_lines[plate] = result
        plates.score[plate] = (plates.score[plate] + score) / 2
    for image in {image for image, _ in jobs}:
        plates = found[image]
        stays = suppress(plates.corners, plates.score)
        found[image] = plates.taken(stays[plates.score[stays] >= LEAST_SCORE])
    return found


def other_corners(
    plates: Sequence[tuple[Pyramid, FloatArray]], localize: Localize, localizer: LocalizerEntry
) -> list[list[FloatArray]]:
    """Return the corners of plates as the localizer estimates them at other sizes.

    The estimates differ by as much as the localizer is uncertain.

    Args:
        plates: Pyramid of the image and corners ``(4, 2)`` in pixels of the displayed image, for each
            plate.
        localize: Function that runs the localizer.
        localizer: Manifest entry of the localizer.

    Returns:
        Estimates of each plate's corners, one for each of ``AUGMENTED_SHARES`` at which the plate is seen;
        none where the localizer takes one size only.
    """
    others: list[list[FloatArray]] = [[] for _ in plates]
    if not localizer.dense:
        return others
    for share in AUGMENTED_SHARES:
        refined = _refine(plates, share, localize, _input_size(localizer))
        for corners, result in zip(others, refined, strict=True):
            if result is not None:
                corners.append(result[0])
    return others


def _refine(
    plates: Sequence[tuple[Pyramid, FloatArray]], share: float, localize: Localize, size: int
) -> list[tuple[FloatArray, float, float] | None]:
    """Localize each plate alone in a square input, of whose side it takes the fraction ``share``.

    Returns:
        Corners, score and probability of two lines of each plate; None where no plate is seen in the
        middle.
    """
    windows = []
    for pyramid, corners in plates:
        low, high = _box(corners)
        side = max(float((high - low).max()) / share, 1.0)
        windows.append(pyramid.window((low + high) / 2, side, size))
    seen: list[tuple[FloatArray, float, float] | None] = []
    for window, result in zip(
        windows, detect(localize(stacked(windows)), REFINE_SCORE_LEAST, MOST_PLATES), strict=True
    ):
        off = np.abs(result.corners.mean(axis=1) - size / 2).max(axis=1)
        near = np.flatnonzero(off <= REFINE_SHIFT * size)
        if not len(near):
            seen.append(None)
            continue
        best = near[0]
        corners = window.to_image(result.corners[best])
        seen.append((corners, float(result.score[best]), float(result.two_lines[best])))
    return seen


def _width(corners: FloatArray) -> FloatArray:
    """Return the mean length of the upper and the lower edge: ``(P, 4, 2)`` to ``(P,)``."""
    # For one or two plates, plain numbers are faster than arrays.
    widths = [
        (hypot(x1 - x0, y1 - y0) + hypot(x2 - x3, y2 - y3)) / 2
        for (x0, y0), (x1, y1), (x2, y2), (x3, y3) in corners.tolist()
    ]
    return np.array(widths)


def _box(corners: FloatArray) -> tuple[FloatArray, FloatArray]:
    return corners.min(axis=0), corners.max(axis=0)
