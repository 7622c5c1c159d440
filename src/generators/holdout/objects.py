"""Objects in front of the plates of the held-out test set, and which characters they hide.

Unlike the obstacles of the training sets, they are solid: posts, tow bars, straps, hands and heaps of snow
stand in front of the plate, at their own distance from it, and are painted in perspective. How much of a
character is hidden is measured in the finished image, at the points where its ink is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ...core.random import SampleDraws
from .plate import Mark, Plate
from .street import Camera, Canvas

Floats = NDArray[np.float64]
Painter = Callable[[Canvas], None]

_TRIES = 20
_MOST = 0.75
"""Maximum fraction of the plate that is hidden."""
_LEAST = 0.02
"""Minimum fraction of the plate that is hidden; otherwise the object is not in front of it."""
_POINTS = 12
"""Maximum number of points of a character's ink along its longer side."""


def hidden(
    mask: NDArray[np.uint8], camera: Camera, plate: Plate, marks: Sequence[Mark]
) -> list[float]:
    """Return the fraction of each character's ink that a mask of the image covers, or that lies outside.

    Args:
        mask: Mask of the painted image, shape ``(H, W)``, above 127 where something is in front.
        camera: Camera of the plate.
        plate: Plate.
        marks: Characters of the plate: their ink, and their boxes in millimetres.
    """
    middle = np.array([plate.format.width / 2, plate.format.height / 2])
    shares = []
    for ink, (x1, y1, x2, y2) in marks:
        step = max(1, max(ink.shape) // _POINTS)
        rows, columns = np.nonzero(ink[::step, ::step] > 127)
        x = x1 + (columns * step + 0.5) / ink.shape[1] * (x2 - x1)
        y = y1 + (rows * step + 0.5) / ink.shape[0] * (y2 - y1)
        points = np.column_stack([np.column_stack([x, y]) - middle, np.zeros(len(x))])
        places = np.floor(camera.project(points)).astype(int)
        inside = ((places >= 0) & (places < mask.shape[::-1])).all(axis=1)
        covered = np.ones(len(places), bool)
        covered[inside] = mask[places[inside, 1], places[inside, 0]] > 127
        shares.append(float(covered.mean()) if len(covered) else 1.0)
    return shares


def place_object(
    canvas: Canvas,
    camera: Camera,
    plate: Plate,
    marks: Sequence[Mark],
    wanted: Callable[[float], bool],
    draws: SampleDraws,
) -> float:
    """Paint an object in front of a plate, which hides as much as wanted.

    Args:
        canvas: Image to paint into.
        camera: Camera of the plate.
        plate: Plate.
        marks: Characters of the plate.
        wanted: Whether the largest hidden fraction of a character is as it should be.
        draws: Random generator of the scene.

    Returns:
        Largest hidden fraction of a character; 0 if no object was found, and none is painted.
    """
    height, width = canvas.image.shape[:2]
    size = np.array([plate.format.width, plate.format.height])
    whole = (np.full((20, 40), 255, np.uint8), (0.0, 0.0, float(size[0]), float(size[1])))
    for _ in range(_TRIES):
        paint = draws.pick((_post, _strap, _hand, _snow, _tow_bar))(camera, size, draws)
        mask = Canvas(np.zeros((height, width, 3), np.uint8))
        paint(mask)
        solid = np.where(mask.image.max(axis=2) > 0, 255, 0).astype(np.uint8)
        shares = hidden(solid, camera, plate, marks)
        if hidden(solid, camera, plate, [whole])[0] < _LEAST:
            continue
        if wanted(max(shares)) and np.mean([share > 0.5 for share in shares]) <= _MOST:
            paint(canvas)
            return max(shares)
    return 0.0


def _tone(draws: SampleDraws) -> tuple[float, float, float]:
    grey = draws.uniform(12, 230)
    return grey * draws.uniform(0.85, 1.15), grey, grey * draws.uniform(0.85, 1.15)


def _solid(outline: Floats, depth: float) -> Floats:
    return np.column_stack([outline, np.full(len(outline), -depth)])


def _post(camera: Camera, size: Floats, draws: SampleDraws) -> Painter:
    """Return a painter of a post or a bollard: a cylinder lit from one side."""
    colour = np.array(_tone(draws))
    depth, lean = draws.uniform(20, 120), draws.uniform(-0.12, 0.12) * size[1]
    half, x = draws.uniform(0.03, 0.35) * size[0], draws.uniform(-0.75, 0.75) * size[0]
    top = -draws.uniform(0.1, 2.5) * size[1] if draws.chance(0.6) else -4 * size[1]
    lit = draws.uniform(-1, 1)

    def paint(canvas: Canvas) -> None:
        edges = x + half * np.sin(np.linspace(-np.pi / 2, np.pi / 2, 10))
        for left, right in pairwise(edges.tolist()):
            turn = ((left + right) / 2 - x) / half
            shade = colour * (0.55 + 0.45 * np.sqrt(max(1 - (turn - lit) ** 2 / 4, 0.0))) + 1
            strip = np.array(
                [[left + lean, top], [right + lean + 0.5, top], [right - lean + 0.5, 4 * size[1]],
                 [left - lean, 4 * size[1]]]
            )  # fmt: skip
            canvas.fill(camera, _solid(strip, depth), tuple(shade.tolist()))

    return paint


def _strap(camera: Camera, size: Floats, draws: SampleDraws) -> Painter:
    """Return a painter of a strap, a rope or a cable across the plate at any angle."""
    colour = _tone(draws)
    middle = np.array([draws.uniform(-0.5, 0.5), draws.uniform(-0.5, 0.5)]) * size
    turn, half = draws.uniform(0, np.pi), draws.uniform(0.03, 0.22) * size[1]
    along = np.array([np.cos(turn), np.sin(turn)]) * 3 * size[0]
    across = np.array([-np.sin(turn), np.cos(turn)]) * half
    outline = np.array(
        [middle - along - across, middle + along - across, middle + along + across,
         middle - along + across]
    )  # fmt: skip
    depth = draws.uniform(5, 40)
    return lambda canvas: canvas.fill(camera, _solid(outline, depth), colour)


def _hand(camera: Camera, size: Floats, draws: SampleDraws) -> Painter:
    """Return a painter of a hand or a glove: a palm with four fingers."""
    colour = np.array(_tone(draws)) + 1
    unit = draws.uniform(0.2, 0.5) * min(float(size[1]), 120.0)
    middle = np.array([draws.uniform(-0.6, 0.6), draws.uniform(-0.7, 0.7)]) * size
    turn, depth = draws.uniform(0, 2 * np.pi), draws.uniform(5, 60)
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    parts = [((0.0, 0.0), (0.55, 0.6))] + [
        ((-0.42 + 0.28 * i, -0.9), (0.13, 0.5)) for i in range(4)
    ]

    def paint(canvas: Canvas) -> None:
        for (x, y), (wide, tall) in parts:
            oval = np.column_stack([x + wide * np.cos(circle), y + tall * np.sin(circle)]) * unit
            shade = colour * (1.0 if wide > 0.3 else 0.9)
            canvas.fill(camera, _solid(oval @ rotation + middle, depth), tuple(shade.tolist()))

    return paint


def _snow(camera: Camera, size: Floats, draws: SampleDraws) -> Painter:
    """Return a painter of a heap of snow or mud that lies on the plate's lower or upper edge."""
    grey = draws.uniform(190, 250) if draws.chance(0.7) else draws.uniform(40, 110)
    upper = draws.chance(0.4)
    left, right = sorted((draws.uniform(-0.7, 0.7), draws.uniform(-0.7, 0.7)))
    reach = draws.uniform(0.1, 0.9) * size[1]
    lumps = [
        (left + (right - left) * i / 8, draws.uniform(0.5, 1.0), draws.uniform(0.85, 1.0))
        for i in range(9)
    ]
    circle = np.linspace(0, 2 * np.pi, 18, endpoint=False)

    def paint(canvas: Canvas) -> None:
        for x, tall, shade in lumps:
            radius = reach * tall
            y = (-size[1] / 2 if upper else size[1] / 2) / 1.0
            oval = np.column_stack(
                [
                    x * size[0] + max(radius, size[0] / 10) * np.cos(circle),
                    y + radius * np.sin(circle),
                ]
            )
            canvas.fill(camera, _solid(oval, 4.0), (grey * shade,) * 3)

    return paint


def _tow_bar(camera: Camera, size: Floats, draws: SampleDraws) -> Painter:
    """Return a painter of a tow bar: a neck from below with a ball on it."""
    colour = np.array(_tone(draws)) + 1
    x, depth = draws.uniform(-0.55, 0.55) * size[0], draws.uniform(60, 250)
    radius = draws.uniform(16, 32)
    y = draws.uniform(-0.4, 0.6) * size[1]
    circle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    neck = np.array(
        [[x - 0.6 * radius, y], [x + 0.6 * radius, y], [x + 0.8 * radius, y + 3 * size[1]],
         [x - 0.8 * radius, y + 3 * size[1]]]
    )  # fmt: skip

    def paint(canvas: Canvas) -> None:
        canvas.fill(camera, _solid(neck, depth), tuple((colour * 0.7).tolist()))
        for share, light in ((1.0, 0.75), (0.7, 0.95), (0.3, 1.2)):
            ball = np.column_stack(
                [x + radius * share * np.cos(circle), y + radius * share * np.sin(circle)]
            )
            canvas.fill(camera, _solid(ball, depth), tuple((colour * light).tolist()))

    return paint
