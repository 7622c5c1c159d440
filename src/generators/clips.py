"""Vehicles that drive past a camera: what a drawn clip shows, where, when, and what can be read of it.

``draw_clip`` draws the contents of a clip from its seed and number alone; ``Footage``
(src/generators/footage.py) paints its frames. A camera at rest sees plates that move on straight lines in
space at their own, possibly changing, speed. The ground truth follows from the geometry: a plate is clear
in a frame where it lies inside the image with nothing in front of it and its characters are at least
``CLEAR_CAP`` pixels tall.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from ..config.plates import StreetPlateParams
from ..core.geometry import plate_height
from ..core.layout import FORMAT_OF
from ..core.random import Draws, SampleDraws, draws_of
from .atlas import Atlas
from .glyphs import FAMILIES, GlyphStyle
from .obstacles import RASTER_CAP, Obstacle, draw_obstacle
from .painting import apply, ground_greys, plate_corners
from .plate import PlateSpec
from .scene import draw_plates

Floats = NDArray[np.float64]
Direction = Literal["approaching", "receding", "left", "right"]
Kind = Literal[
    "approach",
    "recede",
    "passing",
    "stop_and_go",
    "two",
    "behind_pillar",
    "covered",
    "night",
    "rain",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Kinds of clips. A clip's number decides its kind, so that all are equally frequent."""

CLEAR_CAP = 10.0
"""Cap height in pixels from which on a plate counts as readable."""
CLEAR_SECONDS = 0.25
"""Time for which a plate must be clear to be expected in the events; one that is clear for a shorter time
may be read or not."""
CRFS, CRF_WEIGHTS = (23, 28, 33, 38), (1, 3, 1, 1)
"""Constant rate factors that clips are compressed with, from good to poor cameras, and how frequent each is:
28 is the one that figures are stated for."""

_CANDIDATES = 12
"""Number of plates that a clip's plates are chosen from."""
_EMPTY = (0.4, 1.2)
"""Range of the seconds without any vehicle at either end of a clip."""
_PANEL = 900.0
"""Half of the width of a vehicle's body in millimetres, whose middle is that of the plate."""


@dataclass(frozen=True)
class Motion:
    """Motion of a plate on a straight line in space.

    Attributes:
        start, end: Position in the image (x, y), normalised to the image's height, and cap height in
            units of the image's height, at the start and at the end.
        begin: Second at which it starts.
        duration: Seconds that it takes without a stop.
        stop: Fraction of the way at which it stops; None if it does not.
        pause: Seconds that it stands.
    """

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    begin: float
    duration: float
    stop: float | None = None
    pause: float = 0.0

    @property
    def finish(self) -> float:
        return self.begin + self.duration + self.pause

    def progress(self, time: float) -> float:
        """Return the fraction of the way that is covered; below 0 or above 1 there is no vehicle."""
        share = (time - self.begin) / self.duration
        if self.stop is None:
            return share
        wait = self.pause / self.duration
        if share <= 0 or share >= 1 + wait:
            return share if share <= 0 else share - wait
        # It brakes before its stop and accelerates after it: no acceleration is infinite.
        before, after = self.stop, 1 - self.stop
        if share < before:
            part = share / before
            return before * (1 - (1 - part) ** 1.8)
        if share < before + wait:
            return before
        part = (share - before - wait) / after
        return before + after * part**1.8

    def at(self, progress: float) -> tuple[float, float, float]:
        """Return x, y and cap height in units of the image's height."""
        # Depth is linear in time, and size is its inverse.
        near, far = 1 / self.end[2], 1 / self.start[2]
        depth = far + (near - far) * progress
        point = []
        for first, last in zip(self.start[:2], self.end[:2], strict=True):
            point.append((first * far + (last * near - first * far) * progress) / depth)
        return point[0], point[1], 1 / depth


@dataclass(frozen=True)
class Vehicle:
    """A vehicle with its plate.

    Attributes:
        spec: Plate.
        style: Style of its characters.
        motion: Motion of the plate's middle.
        angles: Yaw, pitch and roll of the plate in radians.
        direction: Where it drives.
        obstacle: What is fixed in front of its plate; None for nothing.
        hides: Whether that hides a character.
        paint: BGR colour of its body.
    """

    spec: PlateSpec
    style: GlyphStyle
    motion: Motion
    angles: tuple[float, float, float]
    direction: Direction
    obstacle: Obstacle | None
    hides: bool
    paint: tuple[float, float, float]

    @property
    def text(self) -> str:
        """Text that can be read: "" for army and diplomatic plates, and where a character is hidden."""
        return "" if self.hides else self.spec.readable

    def matrix(self, time: float, size: tuple[int, int]) -> Floats | None:
        """Return the homography from the plate's millimetres to pixels; None if there is no vehicle.

        Args:
            time: Second of the clip.
            size: Width and height of the frame in pixels.
        """
        progress = self.motion.progress(time)
        if not 0 <= progress <= 1:
            return None
        width, height = size
        x, y, cap = self.motion.at(progress)
        scale = cap * height / self.spec.cap_height
        focal = _FOCAL * height
        depth = focal / scale
        yaw, pitch, roll = self.angles
        turn = _rotation(yaw, pitch, roll)
        middle = np.array([self.spec.width / 2, self.spec.height / 2])
        place = depth * np.array([(x * height - width / 2) / focal, (y - 0.5) * height / focal, 1])
        plane = np.column_stack([turn[:, 0], turn[:, 1], place - turn[:, :2] @ middle])
        camera = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
        return np.asarray(camera @ plane)


_FOCAL = 2.6
"""Focal length in units of the image's height, of a camera that looks at a lane or an entrance."""


@dataclass(frozen=True)
class Conditions:
    """Light, weather and camera of a clip.

    Attributes:
        gain: Factor on the brightness of everything.
        noise: Standard deviation of the noise, of 255.
        blur: Sigma of the lens in pixels of a frame 720 pixels high.
        exposure: Exposure in seconds, which blurs what moves.
        headlights: Strength of the headlights' glare, 0 to 1; only of vehicles that approach.
        streaks: Number of streaks of rain in a frame.
        shake: Standard deviation of the camera's shake in pixels of a frame 720 pixels high.
    """

    gain: float = 1.0
    noise: float = 2.0
    blur: float = 0.5
    exposure: float = 0.001
    headlights: float = 0.0
    streaks: int = 0
    shake: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A plate in a frame.

    Attributes:
        corners: Corners in pixels, shape ``(4, 2)``, clockwise from the plate's own top left.
        cap: Cap height in pixels.
        is_clear: Whether all of it can be read (see the module).
    """

    corners: Floats
    cap: float
    is_clear: bool


@dataclass(frozen=True)
class Clip:
    """Contents of a clip.

    Attributes:
        seed: Random seed.
        index: Number of the clip.
        kind: Kind of the clip.
        size: Width and height in pixels.
        frame_rate: Frames a second.
        seconds: Length.
        crf: Constant rate factor that it is meant to be compressed with.
        vehicles: Vehicles in the order in which they are painted, the farthest first.
        conditions: Light, weather and camera.
        pillar: Left and right edge of a pillar in front of everything, as fractions of the width.
    """

    seed: int
    index: int
    kind: Kind
    size: tuple[int, int]
    frame_rate: float
    seconds: float
    crf: int
    vehicles: tuple[Vehicle, ...]
    conditions: Conditions
    pillar: tuple[float, float] | None = None

    def __len__(self) -> int:
        return int(self.seconds * self.frame_rate)

    def numbers(self, purpose: str, frame: int = 0) -> SampleDraws:
        """Return a random generator for a purpose and a frame of this clip."""
        return draws_of(self.seed, f"clip {purpose} {self.index}", frame)

    def seen(self, frame: int) -> list[Seen | None]:
        """Return how each plate looks in a frame; None for a vehicle that is not there."""
        time = frame / self.frame_rate
        matrices = [vehicle.matrix(time, self.size) for vehicle in self.vehicles]
        result: list[Seen | None] = []
        for i, (vehicle, matrix) in enumerate(zip(self.vehicles, matrices, strict=True)):
            if matrix is None:
                result.append(None)
                continue
            corners = apply(matrix[None], plate_corners([vehicle.spec]))[0]
            cap = float(plate_height(corners)) / vehicle.spec.height * vehicle.spec.cap_height
            low, high = corners.min(axis=0), corners.max(axis=0)
            if (high < 0).any() or (low > self.size).any():
                result.append(None)
                continue
            inside = bool((low >= 0).all() and (high <= self.size).all())
            # Painted later means nearer: its body may hide this plate.
            nearer = [
                body(other, other_matrix)
                for other, other_matrix in zip(
                    self.vehicles[i + 1 :], matrices[i + 1 :], strict=True
                )
                if other_matrix is not None
            ]
            is_free = not any(_overlap(corners, outline) for outline in nearer)
            if self.pillar is not None:
                left, right = (edge * self.size[0] for edge in self.pillar)
                is_free = is_free and (high[0] < left or low[0] > right)
            clear = inside and is_free and cap >= CLEAR_CAP and bool(vehicle.text)
            result.append(Seen(corners, cap, clear))
        return result

    @cached_property
    def clear_frames(self) -> list[list[int]]:
        """Numbers of the frames in which each vehicle's plate is clear."""
        frames: list[list[int]] = [[] for _ in self.vehicles]
        for number in range(len(self)):
            for each, seen in zip(frames, self.seen(number), strict=True):
                if seen is not None and seen.is_clear:
                    each.append(number)
        return frames

    def truth(self) -> list[dict[str, object]]:
        """Return the ground truth of each vehicle as plain values.

        ``expected`` is True where an event with the text must come, False where none with any text may
        come, and None where the plate is clear so shortly that both are right. ``clear`` has the seconds
        at which the plate is first and last clear.
        """
        rows: list[dict[str, object]] = []
        for vehicle, frames in zip(self.vehicles, self.clear_frames, strict=True):
            long_enough = len(frames) >= CLEAR_SECONDS * self.frame_rate
            rows.append(
                {
                    "text": vehicle.text,
                    "written": vehicle.spec.text,
                    "format": FORMAT_OF[vehicle.spec.format.name],
                    "colour": vehicle.spec.colour,
                    "direction": vehicle.direction,
                    "expected": True if long_enough else (None if vehicle.text else False),
                    "begin": round(vehicle.motion.begin, 3),
                    "end": round(vehicle.motion.finish, 3),
                    "clear": [round(frames[at] / self.frame_rate, 3) for at in (0, -1)]
                    if frames
                    else None,
                }
            )
        return rows


def frame_size(height: int) -> tuple[int, int]:
    """Return width and height in pixels of frames of 16:9; H.264 needs an even width."""
    return round(height * 16 / 9) // 2 * 2, height


def draw_clip(
    params: StreetPlateParams,
    atlas: Atlas,
    seed: int,
    index: int,
    size: tuple[int, int] = (1280, 720),
    frame_rate: float = 25.0,
) -> Clip:
    """Draw the contents of a clip.

    Args:
        params: Ranges of the plates.
        atlas: Glyphs, on which the ink that obstacles cover is measured.
        seed: Random seed.
        index: Number of the clip; it decides the kind.
        size: Width and height in pixels.
        frame_rate: Frames a second.
    """
    kind = KINDS[index % len(KINDS)]
    numbers = draws_of(seed, "clip", index)
    specs = draw_plates(
        params, Draws(seed, "clip plates", np.arange(_CANDIDATES) + index * _CANDIDATES)
    )
    begin = numbers.uniform(*_EMPTY)
    aspect = size[0] / size[1]
    motions = _motions(kind, begin, aspect, numbers)
    vehicles = tuple(
        _vehicle(specs, params, atlas, motion, direction, kind == "covered", numbers)
        for motion, direction in motions
    )
    pillar = None
    if kind == "behind_pillar":
        left = numbers.uniform(0.3, 0.6)
        pillar = (left, left + numbers.uniform(0.05, 0.16))
    end = max(motion.finish for motion, _ in motions) + numbers.uniform(*_EMPTY)
    crf = CRFS[numbers.index(CRF_WEIGHTS)]
    conditions = _conditions(kind, numbers)
    return Clip(
        seed, index, kind, size, frame_rate, end, crf, vehicles, conditions, pillar
    )  # fmt: skip


def body(vehicle: Vehicle, matrix: Floats) -> Floats:
    """Return the outline of a vehicle's body in pixels, shape ``(4, 2)``."""
    middle = vehicle.spec.width / 2
    half = _half_width(vehicle.spec)
    top, bottom = -1.05 * half, vehicle.spec.height + 0.35 * half
    box = np.array(
        [
            [middle - half, top],
            [middle + half, top],
            [middle + half, bottom],
            [middle - half, bottom],
        ]
    )
    return apply(matrix[None], box[None])[0]


def _half_width(spec: PlateSpec) -> float:
    return _PANEL if spec.format.name not in ("motorcycle", "moped") else 0.4 * _PANEL


def _overlap(first: Floats, second: Floats) -> bool:
    area, _ = cv2.intersectConvexConvex(
        cv2.convexHull(first.astype(np.float32)), cv2.convexHull(second.astype(np.float32))
    )
    return float(area) > 1.0


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    turn_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    turn_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(turn_z @ turn_x @ turn_y)


def _motions(
    kind: Kind, begin: float, aspect: float, numbers: SampleDraws
) -> list[tuple[Motion, Direction]]:
    """Return the motions of a clip's vehicles, the farthest first."""
    if kind == "two":
        if numbers.chance(0.5):
            # One in either lane: they meet.
            left = _along("approaching", begin, (0.08, 0.4), aspect, numbers)
            later = begin + numbers.uniform(0, 1.5)
            right = _along("receding", later, (0.6, 0.92), aspect, numbers)
            return [left, right]
        far = _across(begin, (0.25, 0.45), (0.017, 0.024), aspect, numbers)
        near = _across(begin + numbers.uniform(0, 0.8), (0.6, 0.8), (0.024, 0.036), aspect, numbers)
        return [far, near]
    if kind in ("passing", "behind_pillar"):
        return [_across(begin, (0.35, 0.75), (0.018, 0.036), aspect, numbers)]
    direction: Direction = "receding" if kind == "recede" else "approaching"
    if kind in ("covered", "rain"):
        direction = numbers.pick(("approaching", "receding"))
    motion, _ = _along(direction, begin, (0.2, 0.8), aspect, numbers)
    if kind == "stop_and_go":
        stop, pause = numbers.uniform(0.45, 0.75), numbers.uniform(1.0, 3.0)
        motion = replace(motion, stop=stop, pause=pause, duration=1.3 * motion.duration)
    return [(motion, direction)]


def _along(
    direction: Direction,
    begin: float,
    lane: tuple[float, float],
    aspect: float,
    numbers: SampleDraws,
) -> tuple[Motion, Direction]:
    """Return a motion towards the camera or away from it, within a lane given in image widths."""
    middle = (lane[0] + lane[1]) / 2
    far_x = aspect * (0.5 * middle + 0.5 * numbers.uniform(*lane))
    near_x = aspect * numbers.uniform(*lane)
    far = (far_x, numbers.uniform(0.28, 0.42), numbers.uniform(0.006, 0.009))
    near = (near_x, numbers.uniform(0.85, 1.15), numbers.uniform(0.028, 0.05))
    seconds = numbers.uniform(2.2, 5.5)
    if direction == "approaching":
        return Motion(far, near, begin, seconds), direction
    return Motion(near, far, begin, seconds), direction


def _across(
    begin: float,
    rows: tuple[float, float],
    caps: tuple[float, float],
    aspect: float,
    numbers: SampleDraws,
) -> tuple[Motion, Direction]:
    """Return a motion from one side of the image to the other."""
    cap = numbers.uniform(*caps)
    first_y = numbers.uniform(*rows)
    last_y = first_y + numbers.uniform(-0.05, 0.05)
    start = (-0.12 * aspect, first_y, cap * numbers.uniform(0.9, 1.1))
    end = (1.12 * aspect, last_y, cap * numbers.uniform(0.9, 1.1))
    seconds = numbers.uniform(1.1, 3.2)
    if numbers.chance(0.5):
        return Motion(start, end, begin, seconds), "right"
    return Motion(end, start, begin, seconds), "left"


def _vehicle(
    specs: list[PlateSpec],
    params: StreetPlateParams,
    atlas: Atlas,
    motion: Motion,
    direction: Direction,
    covered: bool,
    numbers: SampleDraws,
) -> Vehicle:
    spec = _taken(specs, direction)
    # Passing vehicles are seen at an angle, the others nearly from the front.
    side = 0.0 if direction in ("approaching", "receding") else numbers.pick((-1.0, 1.0))
    yaw = side * numbers.uniform(0.15, 0.5) + numbers.uniform(-0.12, 0.12)
    pitch, roll = numbers.uniform(-0.05, 0.3), numbers.uniform(-0.05, 0.05)
    style = GlyphStyle(
        FAMILIES[numbers.index(params.FAMILY_WEIGHTS)],
        width=numbers.uniform(0.95, 1.05),
        foot=numbers.chance(params.FOOT_PROBABILITY),
    )
    obstacle, hides = None, False
    if covered:
        hides = numbers.chance(0.6)
        tiles = atlas.tiles(numbers.integer(0, len(atlas) - 1), RASTER_CAP)
        ground = ground_greys([spec], [1.0])[0]
        obstacle = draw_obstacle(spec, tiles, ground, hides, numbers)
        hides = hides and obstacle is not None
    grey = numbers.uniform(20, 230)
    tint = [numbers.uniform(0.6, 1.4) if numbers.chance(0.4) else 1.0 for _ in range(3)]
    paint = (grey * tint[0], grey * tint[1], grey * tint[2])
    return Vehicle(spec, style, motion, (yaw, pitch, roll), direction, obstacle, hides, paint)


def _taken(specs: list[PlateSpec], direction: Direction) -> PlateSpec:
    """Take a plate out of a list, one of the front for a vehicle that approaches, else of the rear."""
    for i, spec in enumerate(specs):
        is_front = spec.format.name.startswith("front")
        if direction in ("left", "right") or is_front == (direction == "approaching"):
            return specs.pop(i)
    return specs.pop()


def _conditions(kind: Kind, numbers: SampleDraws) -> Conditions:
    shake = numbers.uniform(0.1, 0.6) if numbers.chance(0.2) else 0.0
    day = Conditions(
        gain=numbers.uniform(0.6, 1.05),
        noise=numbers.uniform(1, 5),
        blur=numbers.uniform(0.3, 0.9),
        exposure=numbers.uniform(0.0005, 0.003),
        shake=shake,
    )
    if kind == "night":
        return replace(
            day,
            gain=numbers.uniform(0.14, 0.35),
            noise=numbers.uniform(3, 8),
            exposure=numbers.uniform(0.003, 0.006),
            headlights=numbers.uniform(0.4, 1.0),
        )
    if kind == "rain":
        return replace(
            day,
            gain=numbers.uniform(0.45, 0.8),
            blur=day.blur + 0.2,
            streaks=numbers.integer(40, 160),
        )
    return day
