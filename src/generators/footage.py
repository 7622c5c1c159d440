"""Paint the frames of drawn clips, write them as video files, and the ground truth beside them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from .clips import Clip, Vehicle, body
from .degrade import noise_texture
from .painting import apply
from .plate import FRAME_BOTTOM, FRAME_SIDE, draw_plate
from .structure import structure_bank

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

_PLATE_HEIGHT = 200
"""Height in pixels of the largest texture of a plate."""
_REFERENCE = 720
"""Height of frames in pixels that lengths of ``Conditions`` refer to."""


class FootageError(UserError):
    """A clip cannot be written."""


class Footage:
    """Painter of a clip's frames.

    Args:
        clip: Contents of the clip.
    """

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._textures = [_pyramid(vehicle) for vehicle in clip.vehicles]

    def __len__(self) -> int:
        return len(self.clip)

    def __iter__(self) -> Iterator[Pixels]:
        for number in range(len(self)):
            yield self.frame(number)

    def frame(self, number: int) -> Pixels:
        """Paint a frame, ``(H, W, 3)`` BGR, uint8."""
        clip, conditions = self.clip, self.clip.conditions
        image = self._background.copy()
        time = number / clip.frame_rate
        for vehicle, textures in zip(clip.vehicles, self._textures, strict=True):
            matrix = vehicle.matrix(time, clip.size)
            if matrix is not None:
                before = vehicle.matrix(time - conditions.exposure, clip.size)
                _paint_vehicle(image, vehicle, matrix, textures, before)
        if clip.pillar is not None:
            left, right = (round(edge * clip.size[0]) for edge in clip.pillar)
            image[:, left:right] = self._pillar[:, left:right]
        lit = image.astype(np.float32) * np.float32(conditions.gain)
        if conditions.headlights:
            self._headlights(lit, time)
        return self._camera(lit, number)

    @cached_property
    def _background(self) -> Pixels:
        """A wall or a row of houses above, a road below."""
        (width, height), numbers = self.clip.size, self.clip.numbers("background")
        horizon = int(numbers.uniform(0.15, 0.3) * height)
        texture = structure_bank(1.0)[numbers.integer(0, 95)]
        wall = cv2.resize(texture, (width, horizon)).astype(np.float32)
        level, contrast = numbers.uniform(60, 190), numbers.uniform(0.1, 0.5)
        wall = (wall - wall.mean()) * contrast + level
        grain = cv2.resize(noise_texture(3, 1.0), (width, height - horizon)).astype(np.float32)
        depth = np.linspace(0, 1, height - horizon, dtype=np.float32)[:, None]
        road = numbers.uniform(70, 130) + (grain - 128) * 0.35 + depth * numbers.uniform(-25, 25)
        image = np.concatenate([wall, road])[..., None].repeat(3, axis=2)
        tint = [numbers.uniform(0.9, 1.1) for _ in range(3)]
        image = np.clip(image * np.array(tint, np.float32), 0, 255).astype(np.uint8)
        # A line along the road, and a board with words: neither is a plate.
        x1, x2 = (int(numbers.uniform(0.3, 0.7) * width) for _ in range(2))
        thick = max(height // 120, 1)
        cv2.line(image, (x1, horizon), (x2, height), (215, 215, 215), thick, cv2.LINE_AA)
        if numbers.chance(0.5):
            x, y = int(numbers.uniform(0.05, 0.7) * width), int(0.7 * horizon)
            word = "".join(chr(65 + numbers.integer(0, 25)) for _ in range(numbers.integer(3, 7)))
            size = height / 720
            cv2.rectangle(
                image,
                (x - 6, y - int(30 * size)),
                (x + int(22 * size * len(word)), y + 8),
                (235,) * 3,
                -1,
            )
            cv2.putText(
                image, word, (x, y), 0, size, (30, 30, 30), max(int(2 * size), 1), cv2.LINE_AA
            )
        return np.ascontiguousarray(image)

    @cached_property
    def _pillar(self) -> Pixels:
        width, height = self.clip.size
        numbers = self.clip.numbers("pillar")
        across = np.linspace(0, 6, width, dtype=np.float32)
        grey = numbers.uniform(60, 180) + 20 * np.sin(across + numbers.uniform(0, 6))
        return np.broadcast_to(grey.astype(np.uint8)[None, :, None], (height, width, 3)).copy()

    def _headlights(self, lit: NDArray[np.float32], time: float) -> None:
        """Add the glare of both headlights and the light that they throw on the road, in place."""
        strength = self.clip.conditions.headlights
        height = lit.shape[0]
        for vehicle in self.clip.vehicles:
            matrix = vehicle.matrix(time, self.clip.size)
            if matrix is None or vehicle.direction == "receding":
                continue
            spec = vehicle.spec
            lamps = np.array([[spec.width / 2 - 620.0, -180.0], [spec.width / 2 + 620.0, -180.0]])
            for x, y in apply(matrix[None], lamps[None])[0].tolist():
                scale = float(np.linalg.norm(matrix[:2, 0]) / abs(matrix[2, 2]))
                radius = max(scale * 90 * (1 + strength), 2.0)
                for reach, light in ((radius, 255.0), (4 * radius, 70.0 * strength)):
                    _add_spot(lit, (x, y), reach, light)
                _add_spot(lit, (x, y + height * 0.06), 5 * radius, 25.0)

    def _camera(self, lit: NDArray[np.float32], number: int) -> Pixels:
        """Apply lens, shake, rain and noise."""
        conditions, numbers = self.clip.conditions, self.clip.numbers("frame", number)
        height, width = lit.shape[:2]
        unit = height / _REFERENCE
        if conditions.streaks:
            # Drops scatter light: the contrast falls, and bright streaks cross the image.
            lit = 0.85 * lit + 12
            veil = np.zeros((height, width), np.uint8)
            for _ in range(conditions.streaks):
                x, y = int(numbers.uniform(0, width)), int(numbers.uniform(-0.1, 1) * height)
                length = numbers.uniform(0.03, 0.12) * height
                end = (int(x + length * 0.15), int(y + length))
                cv2.line(veil, (x, y), end, int(numbers.uniform(25, 90)), 1, cv2.LINE_AA)
            lit = lit + veil[..., None]
        if conditions.shake:
            shift = [(numbers.uniform() + numbers.uniform() - 1) * conditions.shake * unit * 2.4
                     for _ in range(2)]  # fmt: skip
            matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
            lit = cv2.warpAffine(lit, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        sigma = conditions.blur * unit
        if sigma >= 0.3:
            lit = cv2.GaussianBlur(lit, (0, 0), sigma)
        top, left = (numbers.integer(0, 255) for _ in range(2))
        noise = self._noise[top : top + height, left : left + width]
        lit = lit + np.float32(conditions.noise) * noise
        return np.clip(lit, 0, 255).astype(np.uint8)

    @cached_property
    def _noise(self) -> NDArray[np.float32]:
        """Normal noise, larger than a frame by 256 pixels either way."""
        width, height = self.clip.size
        shape = (height + 256, width + 256, 3)
        numbers = self.clip.numbers("noise")
        # The sum of three uniform numbers is nearly normal; its standard deviation is a half.
        total = numbers.field(shape) + numbers.field(shape) + numbers.field(shape)
        return np.asarray((total - 1.5) * 2, np.float32)


def _pyramid(vehicle: Vehicle) -> list[tuple[Pixels, Pixels]]:
    """Return the BGR texture of a plate and its alpha, each half as large as the one before."""
    image, alpha = draw_plate(vehicle.spec, _PLATE_HEIGHT, vehicle.style)
    levels = [(np.ascontiguousarray(image[..., ::-1]), alpha)]
    while levels[-1][1].shape[0] > 12:
        image, alpha = levels[-1]
        size = (image.shape[1] // 2, image.shape[0] // 2)
        levels.append(
            (cv2.resize(image, size, interpolation=cv2.INTER_AREA),
             cv2.resize(alpha, size, interpolation=cv2.INTER_AREA))
        )  # fmt: skip
    return levels


def _paint_vehicle(
    image: Pixels,
    vehicle: Vehicle,
    matrix: Floats,
    textures: list[tuple[Pixels, Pixels]],
    before: Floats | None,
) -> None:
    """Paint a vehicle into an image, in place, blurred by how it moves during the exposure."""
    outline = body(vehicle, matrix)
    height, width = image.shape[:2]
    low = np.floor(outline.min(axis=0)).astype(int) - 8
    high = np.ceil(outline.max(axis=0)).astype(int) + 8
    x1, y1 = max(low[0], 0), max(low[1], 0)
    x2, y2 = min(high[0], width), min(high[1], height)
    if x1 >= x2 or y1 >= y2:
        return
    part = image[y1:y2, x1:x2].copy()
    placed = np.array([[1, 0, -x1], [0, 1, -y1], [0, 0, 1.0]]) @ matrix
    mask = np.zeros(part.shape[:2], np.uint8)
    _fill(mask, outline - (x1, y1), (255,))
    _paint_body(part, vehicle, placed)
    _paint_plate(part, vehicle, placed, textures)
    if before is not None:
        middle = np.array([[[vehicle.spec.width / 2, vehicle.spec.height / 2]]])
        moved = (apply(matrix[None], middle) - apply(before[None], middle))[0, 0]
        part, mask = (_smeared(each, moved) for each in (part, mask))
    share = mask[..., None].astype(np.float32) / 255
    place = image[y1:y2, x1:x2]
    place[:] = np.clip(part * share + place * (1 - share) + 0.5, 0, 255).astype(np.uint8)


def _paint_body(part: Pixels, vehicle: Vehicle, matrix: Floats) -> None:
    """Paint the panels, the window, the lamps and the bumper, in the plane of the plate."""
    spec, paint = vehicle.spec, np.array(vehicle.paint)
    middle, tall = spec.width / 2, spec.height
    half = abs(body(vehicle, np.eye(3))[0, 0] - middle)

    def box(x1: float, y1: float, x2: float, y2: float, colour: Floats) -> None:
        points = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
        _fill(part, apply(matrix[None], points[None])[0], tuple(colour.clip(0, 255).tolist()))

    box(middle - half, -1.05 * half, middle + half, tall + 0.35 * half, paint)
    box(middle - 0.8 * half, -1.0 * half, middle + 0.8 * half, -0.55 * half, paint * 0.2 + 15)
    box(middle - half, -0.1 * half, middle + half, tall + 0.12 * half, paint * 0.75)
    box(middle - half, tall + 0.22 * half, middle + half, tall + 0.35 * half, paint * 0.15)
    lamp = np.array([215.0, 225, 230])
    if vehicle.direction != "approaching":
        lamp = np.array([40.0, 35, 170])
    for side in (-1, 1):
        x = middle + side * 0.78 * half
        box(x - 0.16 * half, -0.28 * half, x + 0.16 * half, -0.12 * half, lamp)
    if spec.frame:
        box(-FRAME_SIDE, -FRAME_SIDE, spec.width + FRAME_SIDE, tall + FRAME_BOTTOM, paint * 0 + 28)


def _paint_plate(
    part: Pixels, vehicle: Vehicle, matrix: Floats, textures: list[tuple[Pixels, Pixels]]
) -> None:
    spec = vehicle.spec
    scale = float(np.linalg.norm(matrix[:2, 0]) / abs(matrix[2, 2]))
    wanted = spec.height * scale
    # The smallest texture that is not enlarged: anything larger would alias.
    texture, alpha = next(
        (level for level in reversed(textures) if level[1].shape[0] >= wanted), textures[0]
    )
    fine = spec.height / alpha.shape[0]
    to_plate = np.array([[fine, 0, fine / 2], [0, fine, fine / 2], [0, 0, 1.0]])
    to_part = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1.0]]) @ matrix @ to_plate
    size = (part.shape[1], part.shape[0])
    warped = cv2.warpPerspective(texture, to_part, size, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(alpha, to_part, size)
    share = cover[..., None].astype(np.float32) / 255
    part[:] = np.clip(warped * share + part * (1 - share) + 0.5, 0, 255).astype(np.uint8)
    if vehicle.obstacle is not None:
        points = apply(matrix[None], vehicle.obstacle.points[None])[0]
        _fill(part, points, (vehicle.obstacle.grey,) * 3)


def _fill(image: Pixels, points: Floats, colour: tuple[float, ...]) -> None:
    fixed = np.round((points - 0.5).clip(-4000, 8000) * 16).astype(np.int32)
    cv2.fillPoly(image, [fixed], colour, cv2.LINE_AA, 4)


def _smeared(image: Pixels, moved: Floats) -> Pixels:
    """Return an image blurred along a motion given in pixels."""
    length = float(np.hypot(*moved))
    size = int(length) // 2 * 2 + 1
    if size < 3:
        return image
    kernel = np.zeros((size, size), np.float32)
    reach = moved / length * (size // 2)
    ends = [np.round((size // 2 + sign * reach) * 16).astype(int).tolist() for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_8, 4)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _add_spot(
    lit: NDArray[np.float32], at: tuple[float, float], radius: float, light: float
) -> None:
    """Add a soft spot of light, in place."""
    height, width = lit.shape[:2]
    x1, y1 = (max(int(value - 3 * radius), 0) for value in at)
    x2, y2 = (int(value + 3 * radius) + 1 for value in at)
    part = lit[y1 : max(min(y2, height), 0), x1 : max(min(x2, width), 0)]
    if not part.size:
        return
    rows = np.arange(y1, y1 + part.shape[0], dtype=np.float32)[:, None] - np.float32(at[1])
    columns = np.arange(x1, x1 + part.shape[1], dtype=np.float32)[None] - np.float32(at[0])
    spot = light * np.exp(-(rows**2 + columns**2) / (2 * radius**2))
    part += spot[..., None].astype(np.float32)


# Files


def write_clip(
    footage: Footage,
    path: Path,
    watched: Callable[[Iterable[Pixels]], Iterable[Pixels]] = lambda frames: frames,
) -> None:
    """Write a clip as H.264 at its constant rate factor, and its ground truth as JSON beside it.

    Args:
        footage: Frames of the clip.
        path: File to write.
        watched: Yields the frames that it is given, and may show progress.

    Raises:
        FootageError: The program ffmpeg, which encodes it, is missing or fails.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise FootageError(
            "drawn clips are encoded with ffmpeg, which is not installed: apt-get install ffmpeg"
        )
    clip = footage.clip
    width, height = clip.size
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    command = [
        program, "-y", "-v", "error", "-threads", "1", "-f", "rawvideo", "-pix_fmt", "bgr24",
        "-s", f"{width}x{height}", "-r", f"{clip.frame_rate:g}", "-i", "-",
        "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-crf", str(clip.crf),
        "-pix_fmt", "yuv420p", str(temporary),
    ]  # fmt: skip
    encoder = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert encoder.stdin is not None  # noqa: S101  # for the type checker: it is a pipe
    assert encoder.stderr is not None  # noqa: S101  # as above
    try:
        for frame in watched(footage):
            encoder.stdin.write(frame.tobytes())
        encoder.stdin.close()
    except BrokenPipeError:
        # It has ended: its message says why.
        pass
    complaint = encoder.stderr.read().decode(errors="replace").strip()
    if encoder.wait():
        temporary.unlink(missing_ok=True)
        raise FootageError(f"{path}: ffmpeg cannot encode it: {complaint}")
    truth = {"kind": clip.kind, "crf": clip.crf, "seconds": clip.seconds, "vehicles": clip.truth()}
    path.with_suffix(".json").write_text(json.dumps(truth), encoding="utf-8")
    temporary.replace(path)
