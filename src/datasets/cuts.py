"""Windows of scenes around their plates, some of which end within the plate, and what can be read there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core.charset import HIDDEN
from ..core.layout import ILLEGIBLE, LEGIBLE
from ..core.random import Draws
from ..generators.obstacles import Visibility
from ..generators.scene import SceneBlock
from ..generators.street import StreetBlock
from .prepare import SceneSource
from .shards import Shard

_EDGE_WEIGHTS = (0.25, 0.12, 0.5, 0.13)
"""Weights of the window's edge that lies within the plate: left, upper, right, lower."""
_TRIES = 6
"""Maximum number of places for that edge, until a character is cut, or none, as wanted."""
_BARE = 0.15
"""Maximum distance of that edge from the plate's end where no character is to be cut, relative to the
plate's box."""
_MOST = 0.7
"""Maximum distance where one is: of a plate that is hidden further, no localizer could tell the place."""
_LEAST_SIDE = 6
"""Minimum side of a window in pixels."""


Block = SceneBlock | StreetBlock


def draw_windows(
    source: SceneSource,
    indices: range,
    windows_of: Callable[[Block], NDArray[np.int64]],
    cut_share: float,
) -> Shard:
    """Draw windows of scenes, some of which end within their plates.

    Args:
        source: Source of the scenes; only the window of each is rendered.
        indices: Numbers of the samples.
        windows_of: Function that returns the windows x1, y1, x2, y2 of a block's n scenes in pixels, shape
            ``(n, 4)``.
        cut_share: Share of the windows that end within their plate's box, as in ``cut_windows``.

    Returns:
        Images, and labels with a column ``seen_text`` behind the others: ``text`` with ``HIDDEN`` for each
        run of characters that cannot be read.
    """
    side = source.side
    images: list[NDArray[np.uint8]] = [np.empty(0, np.uint8)] * len(indices)
    tables = []
    for positions, part in source.parts(indices):
        numbers = np.asarray(indices)[positions]
        draws = Draws(source.seed, f"{source.stream}-cut", numbers)
        windows = cut_windows(part.block, windows_of(part.block), side, cut_share, draws)
        for i, (position, window) in enumerate(zip(positions, windows.tolist(), strict=True)):
            images[position] = part.render(i, tuple(window))
        labels = part.block.labels(windows / side)
        labels["seen_text"] = _seen_texts(part.block, labels, windows / side)
        tables.append(labels.set_index(positions))
    return Shard(images, pd.concat(tables).sort_index().reset_index(drop=True))


def _seen_texts(block: Block, labels: pd.DataFrame, windows: NDArray[np.float64]) -> list[str]:
    return [
        seen_text(text, block.covers.visibility(i, windows[i].tolist())) if is_hidden else text
        for i, (text, is_hidden) in enumerate(
            zip(labels["text"], labels["covered"] > LEGIBLE, strict=True)
        )
    ]


def seen_text(text: str, visible: Visibility) -> str:
    """Return the text of a plate with ``HIDDEN`` for each run of characters that cannot be read.

    A canton is one character: it can be read if both of its letters can.
    """
    if not text:
        return text
    first, second, *digits = visible.characters
    seen = ""
    for part, share in zip([text[:2], *text[2:]], [max(first, second), *digits], strict=True):
        if share <= LEGIBLE:
            seen += part
        elif not seen.endswith(HIDDEN):
            seen += HIDDEN
    return seen


def cut_windows(
    block: Block,
    windows: NDArray[np.int64],
    side: int,
    share: float,
    draws: Draws,
) -> NDArray[np.int64]:
    """Let some windows of scenes end within their plates; half of them cut a character.

    Args:
        block: Scenes.
        windows: Windows x1, y1, x2, y2 of the n scenes in pixels, shape ``(n, 4)``.
        side: Side of the scenes in pixels.
        share: Share of the windows that end within their plate's box, among those without an obstacle.
        draws: Random generator of the samples.

    Returns:
        Windows in pixels, shape ``(n, 4)``.
    """
    windows = windows.copy()
    cut, hides = draws.chance(share), draws.chance(0.5)
    edges, places = draws.choice(_EDGE_WEIGHTS), draws.uniform(shape=(_TRIES,))
    for i in np.flatnonzero(cut).tolist():
        if block.covers.obstacles[i] is not None:
            continue
        corners, edge = block.corners[i], int(edges[i])
        low, high = corners[:, edge % 2].min(), corners[:, edge % 2].max()
        for place in places[i].tolist():
            # Without a character cut, the edge is near the plate's end.
            reach = place * (_MOST if hides[i] else _BARE) * (high - low)
            window = windows[i].copy()
            window[edge] = round(float(low + reach if edge < 2 else high - reach) * side)
            if (window[2:] - window[:2]).min() < _LEAST_SIDE:
                continue
            covered = block.covers.visibility(i, (window / side).tolist()).covered
            if covered >= ILLEGIBLE if hides[i] else covered <= LEGIBLE:
                windows[i] = window
                break
    return windows
