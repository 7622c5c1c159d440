"""Scenes of the held-out test set, from an independent generator, evaluated for final figures only.

A network trained on synthetic images may learn the habits of their generator. These images are
therefore made by code that shares nothing with the generator of the training sets except the characters,
the format sizes and the random numbers: it has another typeface, other arms and another layout
(src/generators/holdout/plate.py), and a real pinhole camera in front of vehicles and walls
(src/generators/holdout/street.py).

``COUNT_WEIGHTS`` sets the shares of images with no, one and two plates, ``STYLE_WEIGHTS`` those of the
surroundings, and src/generators/holdout/plate.py those of formats, colours and numbers of digits. A
plate's box is 50 to 400 pixels wide, uniformly distributed on a log scale, where its height leaves room.
It is seen from up to 40 degrees to the side, from 15 degrees below to 30 degrees above, and rotated by
up to 10 degrees. Blur scales with the size of the characters: a plate that nobody could read would
measure nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
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
from ...core.layout import ILLEGIBLE, LEGIBLE
from ...core.random import Draws, SampleDraws, draws_of
from . import street
from .objects import hidden, place_object
from .plate import Mark, Plate, draw_plate_of, paint_plate
from .street import Camera, Canvas

WIDTH, HEIGHT = 640, 480
COUNT_WEIGHTS = (0.06, 0.88, 0.06)
"""Weights of images with no, one and two plates."""
STYLE_WEIGHTS = {"vehicle": 0.7, "wall": 0.15, "clouds": 0.15}
WIDTHS = (50.0, 400.0)
"""Range of the width of a plate's box in pixels."""
YAW, PITCH, ROLL = (-40.0, 40.0), (-15.0, 30.0), (-10.0, 10.0)
"""Viewing angles in degrees: from the side, from above, and about the line of sight."""
LARGEST = 0.85
"""Maximum height of a box, as a fraction of the image height."""

_ZOOM = 2
"""Supersampling factor: images are painted this many times larger, then averaged."""
_CUT_SHARE = 0.3
"""Share of the occluded scenes in which the edge of the image is what hides a part of the plate."""
_LEAST_WINDOW = 40
"""Minimum side of such an image in pixels."""
_EDGE = 6.0
"""Margin in pixels between a plate's box and the edge of the image."""
_STREAM = "locked"
_NOISE_ROOM = 256
_GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue (ITU-R BT.601)."""
_HANGING_OUT = 14.0
"""Distance in millimetres between a plate and the surface it is fixed to."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Placed:
    """A plate placed in front of its camera.

    Attributes:
        plate: Plate to paint.
        camera: Camera, in pixels of the supersampled image that is painted.
        corners: Corners of the plate in pixels of the final image, shape ``(4, 2)``.
    """

    plate: Plate
    camera: Camera
    corners: Floats

    @property
    def cap(self) -> float:
        """Approximate cap height in pixels of the final image."""
        return (
            float(plate_height(self.corners))
            * self.plate.format.cap_height
            / self.plate.format.height
        )


class HoldoutScenes:
    """Generator of the held-out images of one random seed, by index.

    Args:
        seed: Random seed of the set.
        occluded: Whether these are the scenes, with one Swiss plate each, in which something may hide the
            plate: an object in front of it, or the edge of the image.
        objects: Whether that is there; without it, the scenes are otherwise the same.
    """

    def __init__(self, seed: int, *, occluded: bool = False, objects: bool = True) -> None:
        self.seed, self.occluded, self.objects = seed, occluded, objects

    def make(self, indices: Iterable[int]) -> tuple[list[NDArray[np.uint8]], pd.DataFrame]:
        """Paint the images of the given indices.

        Args:
            indices: Indices of the images within the set.

        Returns:
            Images, uint8, shape ``(480, 640)``, and a table with one row of labels per image. Its
            columns are those of the other sets (``text`` and ``covered`` among them), with ``present``,
            ``style`` "holdout" and ``others``, a JSON list of the labels of further plates ("" where there
            are none). Lengths are in pixels of the image.
        """
        images, rows = [], []
        for index in indices:
            if self.occluded:
                draws = draws_of(self.seed, f"{_STREAM} occluded", index)
                image, label = _make_occluded(draws, self.objects)
                rows.append({**label, "others": ""})
                images.append(image)
                continue
            image, placed = _make(draws_of(self.seed, _STREAM, index))
            labels = [_label(item) for item in placed] or [_label(None)]
            others = json.dumps(labels[1:]) if labels[1:] else ""
            rows.append({**labels[0], "others": others})
            images.append(image)
        frame = pd.DataFrame(rows)
        floats = frame.select_dtypes("float").columns
        return images, frame.astype(dict.fromkeys(floats, np.float32))


def _label(placed: _Placed | None) -> dict[str, Any]:
    if placed is None:
        numbers = [*BOX_COLUMNS, *CORNER_COLUMNS, "plate_height", "angle"]
        return {
            "plate": "",
            "text": "",
            "covered": 0.0,
            "obstacle": "",
            "format": "",
            "colour": "",
            "lines": 1,
            "digits": 0,
            **dict.fromkeys(numbers, float("nan")),
            "present": False,
            "style": "holdout",
        }
    plate, corners = placed.plate, placed.corners
    normalised = corners / [WIDTH, HEIGHT]
    return {
        "plate": plate.text,
        "text": plate.text,
        "covered": 0.0,
        "obstacle": "",
        "format": plate.format.name,
        "colour": plate.colour,
        "lines": plate.format.lines,
        "digits": len(plate.digits) if plate.text else 0,
        **dict(zip(BOX_COLUMNS, corners_to_box(normalised).tolist(), strict=True)),
        **dict(zip(CORNER_COLUMNS, normalised.ravel().tolist(), strict=True)),
        "plate_height": float(plate_height(corners)),
        "angle": float(plate_angle(corners)),
        "present": True,
        "style": "holdout",
    }


def _place(draws: SampleDraws, plate: Plate, left: float, right: float) -> _Placed:
    """Place a plate in front of a camera, its box between two normalised x coordinates."""
    turn = street.rotation(draws.uniform(*YAW), draws.uniform(*PITCH), draws.uniform(*ROLL))
    focal = _ZOOM * WIDTH * draws.uniform(0.9, 2.4)
    low, high = np.log(WIDTHS)
    width = min(float(np.exp(draws.uniform(low, high))), (right - left) * WIDTH - 2 * _EDGE)
    size = (plate.format.width, plate.format.height)
    centre = np.array([_ZOOM * WIDTH / 2, _ZOOM * HEIGHT / 2])
    share = np.array([draws.uniform(), draws.uniform()])
    corners = np.zeros((4, 2))
    target = centre
    # Two passes: the box's height, and hence its position, is known only once its width is.
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
    # An image without a plate still shows what a plate would be fixed to.
    places = [_place(draws, draw_plate_of(draws), *half) for half in halves]
    style = list(STYLE_WEIGHTS)[draws.index(list(STYLE_WEIGHTS.values()))]
    canvas = Canvas(np.empty((_ZOOM * HEIGHT, _ZOOM * WIDTH, 3), np.uint8))
    _paint_surroundings(canvas, draws, style, places)
    night = draws.chance(0.08)
    if night:
        # The plate reflects the light; everything else does not.
        canvas.image[:] = cv2.convertScaleAbs(canvas.image, alpha=draws.uniform(0.12, 0.4))
    placed = places if count else []
    for item in placed:
        _paste_plate(canvas, draws, item)
    small = cv2.resize(canvas.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    lit = _light(small, draws, placed, night)
    cap = min((item.cap for item in placed), default=12.0)
    return _expose(lit, draws, cap), placed


def _make_occluded(draws: SampleDraws, objects: bool) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """Paint a scene with one Swiss plate, something of which may be hidden; return it and its labels."""
    plate = draw_plate_of(draws)
    while not plate.text:
        plate = draw_plate_of(draws)
    placed = _place(draws, plate, 0.0, 1.0)
    canvas = Canvas(np.empty((_ZOOM * HEIGHT, _ZOOM * WIDTH, 3), np.uint8))
    _paint_surroundings(canvas, draws, "vehicle" if draws.chance(0.8) else "wall", [placed])
    marks = _paste_plate(canvas, draws, placed)
    # What hides the plate has numbers of its own, so that the scene is the same without it.
    others = draws_of(draws.integer(0, 2**31 - 1), f"{_STREAM} objects", 0)
    hides, cut = others.chance(0.5), others.chance(_CUT_SHARE)

    def wanted(share: float) -> bool:
        return share >= ILLEGIBLE if hides else share <= LEGIBLE

    window, covered = (0, 0, WIDTH, HEIGHT), 0.0
    if objects and cut:
        window, covered = _cut(placed, marks, wanted, others)
    elif objects:
        covered = place_object(canvas, placed.camera, plate, marks, wanted, others)
    small = cv2.resize(canvas.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    image = _expose(_light(small, draws, [placed], False), draws, placed.cap)
    x1, y1, x2, y2 = window
    shift, size = np.array([x1, y1]), np.array([x2 - x1, y2 - y1])
    label = _label(placed)
    normalised = (placed.corners - shift) / size
    label |= dict(zip(BOX_COLUMNS, corners_to_box(normalised).tolist(), strict=True))
    label |= dict(zip(CORNER_COLUMNS, normalised.ravel().tolist(), strict=True))
    kind = "" if not objects else "image edge" if cut else "object"
    label |= {
        "obstacle": kind,
        "covered": covered,
        "plate": plate.text if covered <= LEGIBLE else "",
    }
    return np.ascontiguousarray(image[y1:y2, x1:x2]), label


def _cut(
    placed: _Placed, marks: list[Mark], wanted: Callable[[float], bool], draws: SampleDraws
) -> tuple[tuple[int, int, int, int], float]:
    """Return the window of an image that ends within its plate, and how much of a character it hides."""
    low, high = placed.corners.min(axis=0), placed.corners.max(axis=0)
    for _ in range(12):
        edge = draws.index((0.3, 0.1, 0.5, 0.1))
        place = low[edge % 2] + draws.uniform(0.02, 0.98) * (high - low)[edge % 2]
        window = [0, 0, WIDTH, HEIGHT]
        window[edge] = round(float(place))
        if min(window[2] - window[0], window[3] - window[1]) < _LEAST_WINDOW:
            continue
        mask = np.full((_ZOOM * HEIGHT, _ZOOM * WIDTH), 255, np.uint8)
        x1, y1, x2, y2 = (_ZOOM * value for value in window)
        mask[y1:y2, x1:x2] = 0
        share = max(hidden(mask, placed.camera, placed.plate, marks))
        if wanted(share):
            return (window[0], window[1], window[2], window[3]), share
    return (0, 0, WIDTH, HEIGHT), 0.0


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


def _paste_plate(canvas: Canvas, draws: SampleDraws, item: _Placed) -> list[Mark]:
    """Paint a plate, and return its characters."""
    plate, camera = item.plate, item.camera
    x1, y1, x2, y2 = plate.outline
    middle = np.array([plate.format.width / 2, plate.format.height / 2, 0.0])
    corners = np.array([[x1, y1, 0], [x2, y1, 0], [x2, y2, 0], [x1, y2, 0]]) - middle
    # The plate's shadow on the surface it is fixed to.
    shift = np.array([draws.uniform(-12, 12), draws.uniform(2, 16), _HANGING_OUT])
    dark = np.zeros((8, 8, 3), np.uint8)
    canvas.paste(camera, dark, np.full((8, 8), draws.integer(60, 180), np.uint8), corners + shift)
    seen = camera.project(street.plane_corners((plate.format.width, plate.format.height)))
    edges = edge_lengths(seen)
    # As fine as the finest edge, no finer: else warping averages too little where it is turned away.
    longest = np.array([edges[[0, 2]].max(), edges[[1, 3]].max()])
    scale = float((longest / [plate.format.width, plate.format.height]).max())
    face, alpha, marks = paint_plate(plate, scale, draws)
    canvas.paste(camera, face, alpha, corners)
    return marks


def _light(
    image: NDArray[np.uint8], draws: SampleDraws, placed: list[_Placed], night: bool
) -> NDArray[np.float32]:
    """Convert colours to grey, and add gradients, shadows, glare and mist.

    Args:
        image: RGB image, shape ``(H, W, 3)``.
        draws: Random generator of the scene.
        placed: Plates in the image.
        night: Whether it is a night scene.

    Returns:
        Grey image, shape ``(H, W)``, where 255 is white; values may exceed it.
    """
    # Coordinates from -0.5 to 0.5 across the image.
    x = ((np.arange(WIDTH, dtype=np.float32) + 0.5) / WIDTH - 0.5)[None, :]
    y = ((np.arange(HEIGHT, dtype=np.float32) + 0.5) / HEIGHT - 0.5)[:, None]
    turn, slope = draws.uniform(0, 2 * np.pi), draws.uniform(0, 0.5)
    field = 1 + slope * (np.cos(turn) * x + np.sin(turn) * y)
    field = field * (1 - draws.uniform(0, 0.8) * (x * x + y * y))
    if not night and draws.chance(0.35):
        field *= _shadow(draws, placed, x, y)
    tint = np.array([draws.uniform(0.92, 1.08), 1.0, draws.uniform(0.9, 1.1)], np.float32)
    grey = image.reshape(-1, 3).astype(np.float32) @ (_GREY * tint)
    lit = grey.reshape(HEIGHT, WIDTH) * field
    # The camera exposes for the middle of the image, and not always well.
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
    """Return the brightness factor of a shadow whose straight edge often runs through a plate.

    Args:
        draws: Random generator of the scene.
        placed: Plates in the image.
        x: Horizontal coordinates from -0.5 to 0.5, shape ``(1, W)``.
        y: Vertical coordinates from -0.5 to 0.5, shape ``(H, 1)``.
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
    """Simulate the camera: blur, noise, clipping and JPEG.

    Args:
        lit: Grey image, shape ``(H, W)``, where 255 is white.
        draws: Random generator of the scene.
        cap: Cap height in pixels, which the strength of the blur scales with.
    """
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
    """Return the normal noise that all images take a crop of.

    Drawing new noise for every image would take longer than everything else.
    """
    shape = (HEIGHT + _NOISE_ROOM, WIDTH + _NOISE_ROOM)
    return Draws(0, f"{_STREAM} noise", [0]).normal(shape)[0].astype(np.float32)


def _disc(radius: float) -> NDArray[np.float32]:
    """Return the blur kernel of a lens out of focus."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    kernel = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)


def _streak(length: float, turn: float) -> NDArray[np.float32]:
    """Return the motion blur kernel of a camera that moved."""
    reach = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * np.cos(turn) + y * np.sin(turn))
    across = np.abs(y * np.cos(turn) - x * np.sin(turn))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return (kernel / kernel.sum()).astype(np.float32)
