"""A validation set of other make, looked at for final figures only.

What a network has learnt from drawings may be the drawing's own habits. So these pictures are made by
code that shares nothing with the generator of the training sets but the characters, the formats' sizes
and the random numbers: another typeface, arms and layout (src/generators/holdout/plate.py), and a real
pinhole camera before vehicles and walls (src/generators/holdout/street.py).

Shares: of pictures without a plate, with one and with two: COUNT_WEIGHTS; of the surroundings:
STYLE_WEIGHTS; of formats, colours and numbers of digits: src/generators/holdout/plate.py. A plate's box
is 50 to 400 pixels wide, all widths being equally likely by their logarithm, where its height leaves
room; it is seen from up to 40 degrees beside, from 15 below to 30 above, and turned by up to 10.
Blur grows with the characters: a plate that nobody could read would measure nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...core.geometry import (
    BOX_COLUMNS,
    CORNER_COLUMNS,
    corners_to_box,
    edge_lengths,
    plate_angle,
    plate_height,
)
from ...core.random import Draws, SampleDraws, draws_of
from . import street
from .plate import Plate, draw_plate_of, paint_plate
from .street import Camera, Canvas

WIDTH, HEIGHT = 640, 480
COUNT_WEIGHTS = (0.06, 0.88, 0.06)
"""No plate, one, two."""
STYLE_WEIGHTS = {"vehicle": 0.7, "wall": 0.15, "clouds": 0.15}
WIDTHS = (50.0, 400.0)
"""Of a plate's box in pixels."""
YAW, PITCH, ROLL = (-40.0, 40.0), (-15.0, 30.0), (-10.0, 10.0)
"""Degrees from which a plate is seen: from the side, from above, and turned about the line of sight."""
LARGEST = 0.85
"""No box is higher than this share of the picture."""

_ZOOM = 2
"""Pictures are painted this many times larger and averaged."""
_EDGE = 6.0
"""Pixels kept free between a plate's box and the picture's edge."""
_STREAM = "locked"
_NOISE_ROOM = 256
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""
_HANGING_OUT = 14.0
"""A plate stands this many millimetres before what it is fixed to."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Placed:
    """A plate before its camera.

    Attributes:
        plate: what it is.
        camera: in pixels of the picture as it is painted.
        corners: ``(4, 2)`` in pixels of the picture as it is given.
    """

    plate: Plate
    camera: Camera
    corners: Floats

    @property
    def cap(self) -> float:
        """Height of a capital in pixels, about."""
        return (
            float(plate_height(self.corners))
            * self.plate.format.cap_height
            / self.plate.format.height
        )


class HoldoutScenes:
    """The pictures of a seed, by their numbers.

    Args:
        seed: of the set.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def make(self, indices: Iterable[int]) -> tuple[list[NDArray[np.uint8]], pd.DataFrame]:
        """Paint pictures.

        Returns:
            ``(480, 640)`` uint8 pictures, and a row of labels for each: those of the other sets, with
            ``present``, ``style`` "locked" and ``others``, a JSON list of the labels of further plates
            ("" where there are none). Lengths are pixels of the picture.
        """
        pictures, rows = [], []
        for index in indices:
            picture, placed = _make(draws_of(self.seed, _STREAM, index))
            labels = [_label(item) for item in placed] or [_label(None)]
            others = json.dumps(labels[1:]) if labels[1:] else ""
            rows.append({**labels[0], "others": others})
            pictures.append(picture)
        frame = pd.DataFrame(rows)
        floats = frame.select_dtypes("float").columns
        return pictures, frame.astype(dict.fromkeys(floats, np.float32))


def _label(placed: _Placed | None) -> dict[str, Any]:
    if placed is None:
        numbers = [*BOX_COLUMNS, *CORNER_COLUMNS, "plate_height", "angle"]
        return {
            "plate": "",
            "format": "",
            "colour": "",
            "lines": 1,
            "digits": 0,
            **dict.fromkeys(numbers, float("nan")),
            "present": False,
            "style": "locked",
        }
    plate, corners = placed.plate, placed.corners
    normalised = corners / [WIDTH, HEIGHT]
    return {
        "plate": plate.text,
        "format": plate.format.name,
        "colour": plate.colour,
        "lines": plate.format.lines,
        "digits": len(plate.digits) if plate.text else 0,
        **dict(zip(BOX_COLUMNS, corners_to_box(normalised).tolist(), strict=True)),
        **dict(zip(CORNER_COLUMNS, normalised.ravel().tolist(), strict=True)),
        "plate_height": float(plate_height(corners)),
        "angle": float(plate_angle(corners)),
        "present": True,
        "style": "locked",
    }


def _place(draws: SampleDraws, plate: Plate, left: float, right: float) -> _Placed:
    """Put a plate before a camera, its box between two normalised x coordinates."""
    turn = street.rotation(draws.uniform(*YAW), draws.uniform(*PITCH), draws.uniform(*ROLL))
    focal = _ZOOM * WIDTH * draws.uniform(0.9, 2.4)
    low, high = np.log(WIDTHS)
    width = min(float(np.exp(draws.uniform(low, high))), (right - left) * WIDTH - 2 * _EDGE)
    size = (plate.format.width, plate.format.height)
    centre = np.array([_ZOOM * WIDTH / 2, _ZOOM * HEIGHT / 2])
    share = np.array([draws.uniform(), draws.uniform()])
    corners = np.zeros((4, 2))
    target = centre
    # Twice: the box's height, and so its place, is known when its width is.
    for _ in range(2):
        camera = street.aim(turn, size, _ZOOM * width, target, focal, centre)
        corners = camera.project(street.plane_corners(size)) / _ZOOM
        tall = corners[:, 1].max() - corners[:, 1].min()
        if tall > LARGEST * HEIGHT:
            width *= LARGEST * HEIGHT / tall
            tall = LARGEST * HEIGHT
        free = np.array([(right - left) * WIDTH - width, HEIGHT - tall]) - 2 * _EDGE
        first = np.array([left * WIDTH + width / 2, tall / 2]) + _EDGE
        target = _ZOOM * (first + share * free.clip(0))
    camera = street.aim(turn, size, _ZOOM * width, target, focal, centre)
    corners = camera.project(street.plane_corners(size)) / _ZOOM
    return _Placed(plate, camera, corners)


def _make(draws: SampleDraws) -> tuple[NDArray[np.uint8], list[_Placed]]:
    count = draws.index(COUNT_WEIGHTS)
    halves = ((0.0, 1.0),) if count < 2 else ((0.0, 0.5), (0.5, 1.0))
    # Where there is no plate there still is what one would hang on.
    places = [_place(draws, draw_plate_of(draws), *half) for half in halves]
    style = list(STYLE_WEIGHTS)[draws.index(list(STYLE_WEIGHTS.values()))]
    canvas = Canvas(np.empty((_ZOOM * HEIGHT, _ZOOM * WIDTH, 3), np.uint8))
    _paint_surroundings(canvas, draws, style, places)
    night = draws.chance(0.08)
    if night:
        # The plate throws the light back, all else does not.
        canvas.picture[:] = cv2.convertScaleAbs(canvas.picture, alpha=draws.uniform(0.12, 0.4))
    placed = places if count else []
    for item in placed:
        _paste_plate(canvas, draws, item)
    small = cv2.resize(canvas.picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    lit = _light(small, draws, placed, night)
    cap = min((item.cap for item in placed), default=12.0)
    return _expose(lit, draws, cap), placed


def _paint_surroundings(
    canvas: Canvas, draws: SampleDraws, style: str, places: list[_Placed]
) -> None:
    if style == "clouds":
        street.paint_clouds(canvas, draws)
        return
    if style == "wall":
        street.paint_distance(canvas, draws)
        street.paint_wall(canvas, places[0].camera, draws)
        return
    street.paint_distance(canvas, draws)
    for item in sorted(places, key=lambda item: -item.camera.position[2]):
        size = (item.plate.format.width, item.plate.format.height)
        small = item.plate.format.width < 200
        if small and draws.chance(0.8):
            street.paint_motorcycle(canvas, item.camera, draws, size)
        else:
            street.paint_car(canvas, item.camera, draws, size)


def _paste_plate(canvas: Canvas, draws: SampleDraws, item: _Placed) -> None:
    plate, camera = item.plate, item.camera
    x1, y1, x2, y2 = plate.outline
    middle = np.array([plate.format.width / 2, plate.format.height / 2, 0.0])
    corners = np.array([[x1, y1, 0], [x2, y1, 0], [x2, y2, 0], [x1, y2, 0]]) - middle
    # Its shadow on what it hangs on.
    shift = np.array([draws.uniform(-12, 12), draws.uniform(2, 16), _HANGING_OUT])
    dark = np.zeros((8, 8, 3), np.uint8)
    canvas.paste(camera, dark, np.full((8, 8), draws.integer(60, 180), np.uint8), corners + shift)
    seen = camera.project(street.plane_corners((plate.format.width, plate.format.height)))
    edges = edge_lengths(seen)
    # As fine as its finest edge: where it is turned away, warping averages too little otherwise.
    longest = np.array([edges[[0, 2]].max(), edges[[1, 3]].max()])
    scale = float((longest / [plate.format.width, plate.format.height]).max())
    face, alpha = paint_plate(plate, scale, draws)
    canvas.paste(camera, face, alpha, corners)


def _light(
    picture: NDArray[np.uint8], draws: SampleDraws, placed: list[_Placed], night: bool
) -> NDArray[np.float32]:
    """Gradients, shadows and glare on ``(H, W, 3)`` colours, then ``(H, W)`` grey, 255 being white."""
    # From -0.5 to 0.5 across the picture.
    x = ((np.arange(WIDTH, dtype=np.float32) + 0.5) / WIDTH - 0.5)[None, :]
    y = ((np.arange(HEIGHT, dtype=np.float32) + 0.5) / HEIGHT - 0.5)[:, None]
    turn, slope = draws.uniform(0, 2 * np.pi), draws.uniform(0, 0.5)
    field = 1 + slope * (np.cos(turn) * x + np.sin(turn) * y)
    field = field * (1 - draws.uniform(0, 0.8) * (x * x + y * y))
    if not night and draws.chance(0.35):
        field *= _shadow(draws, placed, x, y)
    tint = np.array([draws.uniform(0.92, 1.08), 1.0, draws.uniform(0.9, 1.1)], np.float32)
    grey = picture.reshape(-1, 3).astype(np.float32) @ (_GREY * tint)
    lit = grey.reshape(HEIGHT, WIDTH) * field
    # The camera exposes for the middle of the picture, and not always well.
    wanted = draws.uniform(35, 80) if night else draws.uniform(80, 150)
    lit *= min(wanted / max(float(lit[HEIGHT // 4 : -HEIGHT // 4].mean()), 1.0), 2.2)
    if draws.chance(0.08):
        spot = np.array([draws.uniform(-0.5, 0.5), draws.uniform(-0.5, 0.5)])
        reach = draws.uniform(0.05, 0.25)
        distance = ((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / reach**2
        lit += draws.uniform(40, 160) * np.exp(-distance)
    # Backlight and mist.
    veil = draws.uniform(0, 40) if draws.chance(0.3) else 0.0
    return np.asarray(lit * (1 - veil / 255) + veil, np.float32)


def _shadow(
    draws: SampleDraws, placed: list[_Placed], x: NDArray[np.floating], y: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Factor of a shadow with one straight edge, which often runs through a plate.

    ``x`` and ``y`` are places in the picture, ``(1, W)`` and ``(H, 1)`` from -0.5 to 0.5.
    """
    turn = draws.uniform(0, 2 * np.pi)
    through = np.array([draws.uniform(-0.4, 0.4), draws.uniform(-0.4, 0.4)])
    if placed and draws.chance(0.5):
        corners = placed[0].corners / [WIDTH, HEIGHT] - 0.5
        beside = np.array([draws.uniform(-0.5, 0.5), draws.uniform(-0.5, 0.5)])
        through = corners.mean(axis=0) + beside * np.ptp(corners, axis=0)
    distance = np.cos(turn) * (x - through[0]) + np.sin(turn) * (y - through[1])
    soft = np.clip(distance / draws.uniform(0.004, 0.05) + 0.5, 0, 1)
    return np.asarray(1 - draws.uniform(0.25, 0.6) * soft, np.float32)


def _expose(lit: NDArray[np.float32], draws: SampleDraws, cap: float) -> NDArray[np.uint8]:
    """What the camera makes of light: blur, noise, clipping, JPEG. ``cap`` is a capital's height."""
    kind = draws.index((0.45, 0.35, 0.2))
    strength = draws.uniform()
    if kind == 0:
        lit = cv2.GaussianBlur(lit, (0, 0), 0.3 + 0.04 * cap * strength**2)
    elif kind == 1:
        lit = cv2.filter2D(lit, -1, _disc(0.4 + min(0.075 * cap, 3.0) * strength))
    else:
        lit = cv2.filter2D(
            lit, -1, _streak(1.0 + min(0.16 * cap, 8.0) * strength, draws.uniform(0, np.pi))
        )
    read, shot = draws.uniform(0.3, 4.0), draws.uniform(0.0, 0.25)
    sigma = np.sqrt(read**2 + shot * lit.clip(0))
    row, column = draws.integer(0, _NOISE_ROOM), draws.integer(0, _NOISE_ROOM)
    noise = _noise()[row : row + HEIGHT, column : column + WIDTH]
    noisy = np.clip(lit + noise * sigma, 0, 255).astype(np.uint8)
    quality = draws.integer(35, 95)
    done, content = cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV cannot encode JPEG")
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_GRAYSCALE), np.uint8)


@cache
def _noise() -> NDArray[np.float32]:
    """Normal noise that all pictures take their cut of: drawing it anew takes longer than all else."""
    shape = (HEIGHT + _NOISE_ROOM, WIDTH + _NOISE_ROOM)
    return Draws(0, f"{_STREAM} noise", [0]).normal(shape)[0].astype(np.float32)


def _disc(radius: float) -> NDArray[np.float32]:
    """Kernel of a lens out of focus."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _streak(length: float, turn: float) -> NDArray[np.float32]:
    """Kernel of a camera that moved."""
    reach = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * np.cos(turn) + y * np.sin(turn))
    across = np.abs(y * np.cos(turn) - x * np.sin(turn))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)
