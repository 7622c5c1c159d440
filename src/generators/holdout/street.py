"""Surroundings of the held-out test set: a pinhole camera and the objects in front of it.

Vehicles, walls and streets are flat shapes in space, given in millimetres around a plate's centre (x to
the right, y down, z away from the camera), which the camera projects into the image. They need not be
beautiful: they put edges, lamps, grilles, letters and gradients where a photo has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...core.random import SampleDraws
from .clouds import clouds
from .plate import small_text

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]

_FAR = 9000.0
"""Projected points are clipped to this many pixels, as OpenCV's fixed-point coordinates are limited."""
_PAINTS: tuple[Colour, ...] = (
    (232, 233, 235), (196, 199, 203), (150, 154, 160), (96, 100, 106), (40, 42, 46), (24, 26, 30),
    (146, 22, 28), (24, 52, 116), (58, 104, 156), (34, 78, 56), (120, 96, 70), (222, 190, 60),
    (206, 92, 36), (238, 238, 234), (60, 62, 66),
)  # fmt: skip
_BADGES = ("TDI", "4x4", "320 d", "GT", "V 70", "Combi", "1.6", "SPORT", "E 220", "quadra", "Y12",
           "hybrid", "A 180", "S 60", "SG 9", "BE 2")  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks at a plate.

    Attributes:
        rotation: Rotation from the plate's axes to the camera's, shape ``(3, 3)``.
        position: Position of the plate's centre in the camera's axes, in millimetres, shape ``(3,)``.
        focal: Focal length in pixels.
        centre: Centre of the image in pixels, shape ``(2,)``.
    """

    rotation: Floats
    position: Floats
    focal: float
    centre: Floats

    def project(self, points: Floats) -> Floats:
        """Project points in space to pixels.

        Args:
            points: Points in millimetres around the plate's centre, shape ``(n, 3)``.

        Returns:
            Pixel coordinates, shape ``(n, 2)``; the image starts at 0, the edge of its first pixel.
        """
        seen = points @ self.rotation.T + self.position
        # The lower limit puts points beside or behind the camera far outside the image.
        depth = np.maximum(seen[:, 2:], 0.08 * self.position[2])
        return seen[:, :2] / depth * self.focal + self.centre

    @property
    def homography(self) -> Floats:
        """Homography from the plane of the plate (x, y, 1) to the image, shape ``(3, 3)``."""
        columns = np.stack([self.rotation[:, 0], self.rotation[:, 1], self.position], axis=1)
        return np.array(
            [[self.focal, 0, self.centre[0]], [0, self.focal, self.centre[1]], [0, 0, 1]]
        ) @ columns  # fmt: skip


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Return the rotation about the vertical, then the horizontal, then the line of sight.

    With a positive pitch a plate is seen from above: its upper edge is nearer.

    Args:
        yaw: Angle about the vertical axis in degrees.
        pitch: Angle about the horizontal axis in degrees.
        roll: Angle about the line of sight in degrees.

    Returns:
        Rotation matrix, shape ``(3, 3)``.
    """
    a, b, c = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_x @ about_y)


def aim(
    turn: Floats,
    size: tuple[float, float],
    width: float,
    target: Floats,
    focal: float,
    centre: Floats,
) -> Camera:
    """Return the camera for which a plate's box is ``width`` pixels wide and centred at ``target``.

    Args:
        turn: Rotation of the plate, shape ``(3, 3)``.
        size: Width and height of the plate in millimetres.
        width: Width of the plate's box in pixels.
        target: Centre of the plate's box in pixels, shape ``(2,)``.
        focal: Focal length in pixels.
        centre: Centre of the image in pixels, shape ``(2,)``.
    """
    corners = plane_corners(size)
    camera = Camera(turn, np.array([0, 0, focal * size[0] / width]), focal, centre)
    for _ in range(6):
        seen = camera.project(corners)
        low, high = seen.min(axis=0), seen.max(axis=0)
        depth = camera.position[2] * (high[0] - low[0]) / width
        # The target is the centre of the box, not of the plate.
        missing = target - (low + high) / 2
        ray = camera.position[:2] / camera.position[2] + missing / focal
        camera = Camera(turn, np.array([*(ray * depth), depth]), focal, centre)
    return camera


def plane_corners(size: tuple[float, float]) -> Floats:
    """Return the corners of a rectangle around the origin, clockwise from its top left, ``(4, 3)``."""
    x, y = size[0] / 2, size[1] / 2
    return np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]])


class Canvas:
    """An RGB image that shapes are painted on.

    Args:
        image: RGB image, uint8, shape ``(H, W, 3)``, painted in place.
    """

    def __init__(self, image: NDArray[np.uint8]) -> None:
        self.image = image

    def fill(
        self, camera: Camera, points: Floats, top: Colour, bottom: Colour | None = None
    ) -> None:
        """Fill a shape with a colour, or with a gradient from top to bottom.

        Args:
            camera: Camera that projects the shape.
            points: Outline of the shape in millimetres, shape ``(n, 3)``.
            top: Colour, or the gradient's colour at the top.
            bottom: Colour of the gradient at the bottom. None fills the shape with ``top``.
        """
        seen = camera.project(points).clip(-_FAR, _FAR)
        height, width = self.image.shape[:2]
        low = np.floor(seen.min(axis=0)).astype(int).clip(0)
        high = np.minimum(np.ceil(seen.max(axis=0)).astype(int), [width, height])
        if (high <= low).any():
            return
        part = self.image[low[1] : high[1], low[0] : high[0]]
        fixed = [np.round((seen - low - 0.5) * 8).astype(np.int32)]
        if bottom is None:
            cv2.fillPoly(part, fixed, _whole(top), cv2.LINE_8, 3)
            return
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, fixed, 255, cv2.LINE_8, 3)
        first, last = seen[:, 1].min(), seen[:, 1].max()
        share = (np.arange(low[1], high[1]) + 0.5 - first) / max(last - first, 1e-6)
        rows = np.array(top) + share[:, None] * (np.array(bottom) - np.array(top))
        shades = np.empty_like(part)
        shades[:] = rows.clip(0, 255).astype(np.uint8)[:, None]
        cv2.copyTo(shades, mask, part)

    def line(self, camera: Camera, points: Floats, colour: Colour, width: float) -> None:
        """Draw an open line with a width in millimetres."""
        seen = camera.project(points).clip(-_FAR, _FAR)
        pixels = max(1, round(width * camera.focal / camera.position[2]))
        fixed = [np.round((seen - 0.5) * 8).astype(np.int32)]
        cv2.polylines(self.image, fixed, False, _whole(colour), pixels, cv2.LINE_AA, 3)

    def write(
        self, camera: Camera, text: str, at: Sequence[float], height: float, colour: Colour
    ) -> None:
        """Write a line of text ``height`` millimetres high, with its top left at ``at``."""
        ink = small_text(text)
        wide = height * ink.shape[1] / ink.shape[0]
        middle = np.add(at, (wide / 2, height / 2, 0))
        corners = plane_corners((wide, height)) + middle
        self.paste(camera, np.full((*ink.shape, 3), _whole(colour), np.uint8), ink, corners)

    def paste(
        self, camera: Camera, face: NDArray[np.uint8], alpha: NDArray[np.uint8], corners: Floats
    ) -> None:
        """Paste a flat image in perspective.

        Args:
            camera: Camera that projects the image.
            face: RGB image, shape ``(h, w, 3)``.
            alpha: Coverage of the image, shape ``(h, w)``.
            corners: Corners of the image in millimetres, shape ``(4, 3)``.
        """
        seen = camera.project(corners).clip(-_FAR, _FAR)
        height, width = self.image.shape[:2]
        low = np.floor(seen.min(axis=0)).astype(int).clip(0)
        high = np.minimum(np.ceil(seen.max(axis=0)).astype(int), [width, height])
        if (high <= low).any():
            return
        tall, wide = alpha.shape
        source = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32) - np.float32(
            0.5
        )
        matrix = cv2.getPerspectiveTransform(source, (seen - low - 0.5).astype(np.float32))
        size = tuple((high - low).tolist())
        # Replicate the border, so that nothing from outside the face mixes into its edge.
        colour = cv2.warpPerspective(face, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpPerspective(alpha, matrix, size)[..., None].astype(np.float32) / 255
        part = self.image[low[1] : high[1], low[0] : high[0]]
        part[:] = np.round(part + share * (colour.astype(np.float32) - part)).astype(np.uint8)


def _whole(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(min(max(value, 0), 255)) for value in colour)
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255.0, value * factor) for value in colour)
    return red, green, blue


def _flat(points: Sequence[tuple[float, float]] | Floats, depth: float) -> Floats:
    """Extend points ``(n, 2)`` to ``(n, 3)`` at one depth."""
    flat = np.asarray(points, float)
    return np.column_stack([flat, np.full(len(flat), depth)])


def _box(x: float, y: float, width: float, height: float, radius: float, depth: float) -> Floats:
    """Return the outline of a box with round corners, centred at (x, y)."""
    radius = min(radius, width / 2, height / 2)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False) + np.pi / 24
    round_part = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius
    inner = np.sign(round_part) * [width / 2 - radius, height / 2 - radius]
    return _flat(round_part + inner + [x, y], depth)


def _oval(x: float, y: float, width: float, height: float, depth: float) -> Floats:
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return _flat(np.stack([np.cos(turn) * width / 2 + x, np.sin(turn) * height / 2 + y], 1), depth)


def _mirrored(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Complete the right half of an outline, given from top to bottom, by its mirror image."""
    return [*points, *((-x, y) for x, y in reversed(points))]


def paint_distance(canvas: Canvas, draws: SampleDraws) -> None:
    """Paint the background of all vehicles: sky, houses or hedges, and the road."""
    height, width = canvas.image.shape[:2]
    # The background is far away: painting it at half size makes its edges soft.
    height, width = height // 2, width // 2
    horizon = round(height * draws.uniform(0.15, 0.5))
    sky = np.array(draws.pick(((206, 216, 228), (168, 188, 214), (188, 190, 192), (140, 144, 150))))
    road = np.array([1.0, 0.985, 0.96]) * draws.uniform(60, 170)
    rows = np.empty((height, 3), np.float32)
    rows[:horizon] = sky * np.linspace(1.05, 0.9, horizon)[:, None]
    rows[horizon:] = road * np.linspace(0.8, 1.15, height - horizon)[:, None]
    behind = np.empty((height, width, 3), np.float32)
    behind[:] = rows[:, None]
    for _ in range(draws.integer(1, 4)):
        _paint_house(behind, draws, horizon)
    rough = clouds(draws, (height // 2, width // 2), 7) + 0.3 * draws.field(
        (height // 2, width // 2)
    )
    rough = cv2.resize(rough - rough.mean(), (width, height), interpolation=cv2.INTER_LINEAR)
    behind += (rough * draws.uniform(20, 70))[..., None]
    _spread(canvas, behind)


def _spread(canvas: Canvas, image: NDArray[np.float32]) -> None:
    """Enlarge an image to the whole canvas."""
    size = canvas.image.shape[1::-1]
    whole = image.clip(0, 255).astype(np.uint8)
    cv2.resize(whole, size, dst=canvas.image, interpolation=cv2.INTER_LINEAR)


def _paint_house(behind: NDArray[np.float32], draws: SampleDraws, horizon: int) -> None:
    """Paint a house with windows, or a hedge, that ends at the horizon."""
    width = behind.shape[1]
    x, wide = draws.uniform(-0.2, 0.9) * width, draws.uniform(0.2, 0.9) * width
    top = horizon * draws.uniform(-0.2, 0.8)
    tones = ((150, 140, 126), (96, 104, 84), (186, 180, 170), (70, 84, 60), (110, 92, 84))
    tone = np.array(draws.pick(tones)) * draws.uniform(0.6, 1.2)
    behind[round(max(top, 0)) : horizon, round(max(x, 0)) : round(max(x + wide, 0))] = tone
    pitch = draws.uniform(20, 65)
    if not draws.chance(0.6):
        return
    for column in np.arange(x + pitch / 2, x + wide - pitch / 2, pitch):
        for row in np.arange(top + pitch / 3, horizon - pitch / 2, pitch):
            at = slice(round(max(row, 0)), round(max(row + pitch * 0.5, 0)))
            behind[at, round(max(column, 0)) : round(max(column + pitch * 0.4, 0))] = tone * 0.45


def paint_clouds(canvas: Canvas, draws: SampleDraws) -> None:
    """Paint smooth noise with abstract patches and stripes, without any object."""
    height, width = canvas.image.shape[:2]
    share = clouds(draws, (height // 4, width // 4), 7)
    first, second = (np.array(draws.pick(_PAINTS)) * draws.uniform(0.7, 1.2) for _ in range(2))
    _spread(canvas, (first + share[..., None] * (second - first)).astype(np.float32))
    for _ in range(draws.integer(0, 12)):
        middle = np.array([draws.uniform(0, width), draws.uniform(0, height)])
        turn, long = draws.uniform(0, np.pi), draws.uniform(0.05, 0.9) * width
        along = np.array([np.cos(turn), np.sin(turn)]) * long / 2
        across = np.array([-np.sin(turn), np.cos(turn)]) * draws.uniform(4, 90)
        shape = np.array([middle - along - across, middle + along - across,
                          middle + along + across, middle - along + across])  # fmt: skip
        tone = _whole(_shade(draws.pick(_PAINTS), draws.uniform(0.6, 1.2)))
        cv2.fillPoly(canvas.image, [np.round(shape).astype(np.int32)], tone)


def paint_wall(canvas: Canvas, camera: Camera, draws: SampleDraws) -> None:
    """Paint a wall of planks, tiles or sheet metal, parallel to the plate and just behind it."""
    height, width = canvas.image.shape[:2]
    tone = np.array(draws.pick(_PAINTS), float)
    share = clouds(draws, (height // 4, width // 4), 7) - 0.5
    fade = np.linspace(1.15, 0.8, height // 4)[:, None, None]
    _spread(canvas, (tone * fade + share[..., None] * draws.uniform(10, 60)).astype(np.float32))
    dark = _shade((float(tone[0]), float(tone[1]), float(tone[2])), 0.45)
    pitch, wide = draws.uniform(60, 320), draws.uniform(3, 14)
    upright, crossed = draws.chance(0.5), draws.chance(0.4)
    start, reach = draws.uniform(0, pitch), 30 * pitch
    for at in np.arange(-reach + start, reach, pitch):
        for vertical in (upright, not upright) if crossed else (upright,):
            ends = [(at, -reach), (at, reach)] if vertical else [(-reach, at), (reach, at)]
            canvas.line(camera, _flat(ends, 20), dark, wide)


def paint_car(
    canvas: Canvas, camera: Camera, draws: SampleDraws, plate: tuple[float, float]
) -> None:
    """Paint the front or the rear of a car around a plate, whose size is given in millimetres."""
    paint = draws.pick(_PAINTS)
    front = draws.chance(0.5 if plate[1] < 100 else 0.15)
    half, roof = draws.uniform(780, 910), -draws.uniform(700, 1050)
    belt, floor = roof * draws.uniform(0.5, 0.62), draws.uniform(160, 380)
    lean = draws.uniform(0.66, 0.86)
    shadow = _flat([(-half * 1.1, floor + 60), (half * 1.1, floor + 60), (half, floor + 210),
                    (-half, floor + 210)], 700)  # fmt: skip
    canvas.fill(camera, shadow, (26, 26, 28), (60, 60, 60))
    for side in (-1, 1):
        tyre = _box(side * half * 0.86, floor + 50, 210, 330, 60, 250)
        canvas.fill(camera, tyre, (22, 22, 24), (36, 36, 36))
    cabin = _mirrored(
        [(half * lean * 0.9, roof), (half * lean, roof + 50), (half * 0.97, belt + 160)]
    )
    canvas.fill(camera, _flat(cabin, 330), _shade(paint, 1.15), _shade(paint, 0.85))
    glass = _mirrored([(half * lean * 0.86, roof + 70), (half * 0.84, belt + 20)])
    sky = draws.uniform(50, 190)
    canvas.fill(camera, _flat(glass, 320), (sky, sky * 1.05, sky * 1.12), (22, 24, 28))
    body = _mirrored([(half * 0.9, belt - 30), (half, belt + 60), (half, floor - 60),
                      (half * 0.94, floor + 20)])  # fmt: skip
    canvas.fill(camera, _flat(body, 180), _shade(paint, 1.2), _shade(paint, 0.8))
    crease = draws.uniform(0.35, 0.8) * belt
    upper = _mirrored([(half * 0.97, belt + 70), (half, crease)])
    canvas.fill(camera, _flat(upper, 175), _shade(paint, 1.3), _shade(paint, 0.95))
    canvas.line(camera, _flat([(-half, crease), (half, crease)], 170), _shade(paint, 0.5), 7)
    bumper = plate[1] * draws.uniform(0.7, 1.0) if draws.chance(0.5) else -plate[1] * 0.8
    lower = _mirrored([(half, bumper), (half, floor - 40), (half * 0.92, floor + 30)])
    canvas.fill(camera, _flat(lower, 150), _shade(paint, 1.1), _shade(paint, 0.6))
    canvas.line(camera, _flat([(-half, bumper), (half, bumper)], 145), _shade(paint, 0.4), 9)
    sill = draws.uniform(0.5, 0.9)
    plastic = _mirrored([(half * 0.9, floor * sill), (half * 0.86, floor + 30)])
    canvas.fill(camera, _flat(plastic, 140), (44, 44, 46), (26, 26, 28))
    _paint_lamps(canvas, camera, draws, half, belt, front)
    if front:
        _paint_grille(canvas, camera, draws, half, belt, plate, floor)
    else:
        _paint_tail(canvas, camera, draws, half, belt, plate)
    if draws.chance(0.55):
        room = draws.uniform(1.1, 1.5)
        hollow = _box(0, 0, plate[0] * room + 40, plate[1] * 1.3 + 40, 30, 60)
        tone = draws.uniform(0.45, 0.9)
        canvas.fill(camera, hollow, _shade(paint, tone * 0.7), _shade(paint, tone * 1.1))


def _paint_lamps(
    canvas: Canvas, camera: Camera, draws: SampleDraws, half: float, belt: float, front: bool
) -> None:
    height, wide = draws.uniform(100, 260), draws.uniform(200, 400)
    y, slope = belt + 90 + height / 2, draws.uniform(-60, 60)
    red, white = (170, 22, 26), (226, 228, 232)
    for side in (-1, 1):
        outer, inner = side * half * 0.98, side * (half * 0.98 - wide)
        shape = [(outer, y - height / 2), (inner, y - height / 2 + slope), (inner, y + height / 2),
                 (outer, y + height / 2 + slope / 2)]  # fmt: skip
        if front:
            canvas.fill(camera, _flat(shape, 130), (200, 204, 210), (90, 94, 100))
            for share in (0.3, 0.68):
                x = outer + (inner - outer) * share
                canvas.fill(camera, _oval(x, y, height * 0.7, height * 0.7, 120), (70, 74, 80))
                canvas.fill(camera, _oval(x, y, height * 0.5, height * 0.5, 118), white, (150,) * 3)
        else:
            canvas.fill(camera, _flat(shape, 130), _shade(red, 1.2), _shade(red, 0.6))
            x = outer + (inner - outer) * 0.6
            part = _box(x, y + height * 0.15, wide * 0.3, height * 0.3, 20, 125)
            canvas.fill(camera, part, draws.pick((white, (216, 120, 30), (236, 60, 50))))


def _paint_grille(
    canvas: Canvas, camera: Camera, draws: SampleDraws, half: float, belt: float, plate: tuple[float, float],
    floor: float,
) -> None:  # fmt: skip
    top, low = belt + 120, -plate[1] / 2 - 50
    if low - top > 60:
        wide, middle = half * draws.uniform(0.7, 1.2), (top + low) / 2
        canvas.fill(camera, _box(0, middle, wide, low - top, 50, 120), (20, 20, 22), (36, 36, 38))
        pitch, tone = draws.uniform(22, 70), draws.uniform(40, 210)
        upright = draws.chance(0.4)
        span = wide if upright else low - top
        for at in np.arange(-span / 2 + pitch, span / 2 - pitch / 2, pitch):
            ends = ([(at, top + 15), (at, low - 15)] if upright
                    else [(-wide / 2 + 20, middle + at), (wide / 2 - 20, middle + at)])  # fmt: skip
            canvas.line(camera, _flat(ends, 115), (tone, tone, tone * 1.02), pitch * 0.3)
        size = draws.uniform(80, 150)
        canvas.fill(camera, _oval(0, middle, size, size, 100), (222, 224, 228), (120, 122, 128))
        canvas.fill(camera, _oval(0, middle, size * 0.75, size * 0.75, 98), (36, 40, 60))
    low = plate[1] / 2 + 40
    if floor - low > 60:
        wide = half * draws.uniform(0.9, 1.5)
        middle, tall = (low + floor) / 2, (floor - low) * 0.8
        canvas.fill(camera, _box(0, middle, wide, tall, 40, 120), (18, 18, 20), (32, 32, 34))
        for at in np.arange(-wide / 2, wide / 2, draws.uniform(30, 80)):
            ends = [(at, middle - tall / 2), (at + 20, middle + tall / 2)]
            canvas.line(camera, _flat(ends, 115), (52, 52, 54), 8)


def _paint_tail(
    canvas: Canvas,
    camera: Camera,
    draws: SampleDraws,
    half: float,
    belt: float,
    plate: tuple[float, float],
) -> None:
    y = -plate[1] / 2 - draws.uniform(50, 110)
    chrome = draws.uniform(90, 230)
    handle = _box(0, y, plate[0] * draws.uniform(1.1, 1.8), 34, 12, 90)
    canvas.fill(camera, handle, (chrome,) * 3, (chrome * 0.4,) * 3)
    tone = draws.pick(((214, 216, 220), (40, 40, 44), (200, 30, 30)))
    for side in (-1, 1):
        if draws.chance(0.7):
            x = side * half * draws.uniform(0.42, 0.55) - 90
            canvas.write(
                camera, draws.pick(_BADGES), (x, belt + 110, 100), draws.uniform(36, 62), tone
            )
    size = draws.uniform(70, 120)
    canvas.fill(camera, _oval(0, belt + 130, size, size, 100), (226, 228, 232), (130, 132, 140))
    canvas.fill(camera, _oval(0, belt + 130, size * 0.7, size * 0.7, 98), (40, 44, 66))
    if draws.chance(0.2):
        x, y = (
            draws.pick((-1, 1)) * (plate[0] / 2 + draws.uniform(110, 220)),
            draws.uniform(-60, 60),
        )
        canvas.fill(camera, _oval(x, y, 150, 96, 90), (20, 20, 20))
        canvas.fill(camera, _oval(x, y, 138, 84, 89), (240, 240, 238))
        canvas.write(camera, "CH", (x - 46, y - 30, 88), 60, (16, 16, 16))


def paint_motorcycle(
    canvas: Canvas, camera: Camera, draws: SampleDraws, plate: tuple[float, float]
) -> None:
    """Paint the rear of a motorcycle around a plate: mudguard, lamp, indicators and tyre."""
    paint, (wide, tall) = draws.pick(_PAINTS), plate
    tyre = _box(0, tall / 2 + 130, draws.uniform(90, 190), 620, 80, 300)
    canvas.fill(camera, tyre, (34, 34, 36), (18, 18, 18))
    for at in np.arange(-150, 420, 55):
        canvas.line(
            camera, _flat([(-60, tall / 2 + at), (60, tall / 2 + at + 25)], 299), (48, 48, 50), 9
        )
    seat = _mirrored([(draws.uniform(60, 130), -tall / 2 - 420), (draws.uniform(110, 190), -tall / 2 - 200),
                      (draws.uniform(50, 100), -tall / 2 - 60)])  # fmt: skip
    canvas.fill(camera, _flat(seat, 120), _shade(paint, 1.25), _shade(paint, 0.6))
    guard = _mirrored([(wide * 0.42, -tall / 2 - 90), (wide * 0.5, 0), (wide * 0.4, tall / 2 + 90)])
    canvas.fill(camera, _flat(guard, 30), (58, 58, 60), (28, 28, 30))
    red = (176, 24, 28)
    lamp = _box(0, -tall / 2 - 120, draws.uniform(90, 200), draws.uniform(50, 100), 24, 60)
    canvas.fill(camera, lamp, _shade(red, 1.3), _shade(red, 0.6))
    for side in (-1, 1):
        x = side * (wide / 2 + draws.uniform(60, 140))
        canvas.line(camera, _flat([(0, -tall / 2 - 90), (x, -tall / 2 - 90)], 70), (40, 40, 42), 22)
        canvas.fill(camera, _oval(x, -tall / 2 - 90, 80, 62, 60), (226, 128, 30), (140, 70, 20))
        if draws.chance(0.5):
            pipe = (side * (wide / 2 + 120), tall / 2 + 40)
            canvas.fill(camera, _oval(*pipe, 110, 110, 200), (150,) * 3, (50,) * 3)
            canvas.fill(camera, _oval(*pipe, 70, 70, 190), (14,) * 3)
