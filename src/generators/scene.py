"""Synthetic scenes: a plate on a background, degraded, with exact labels.

``draw_scenes`` draws a block of samples at once: all random numbers and all geometry, vectorised. Then
``SceneRenderer`` paints one sample at a time at the requested resolution: the 84 pixels of a localizer,
a whole scene of 256, or only the window around the plate.

The ranges are those of the original project, so that results are comparable; lengths in ``SceneParams``
are in pixels of its 250-pixel scene. Positions here are normalised to the scene's side.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..config.plates import PlateParams
from ..config.scenes import DegradeParams, SceneParams
from ..core.charset import CANTONS, MAX_DIGITS
from ..core.geometry import edge_lengths
from ..core.random import Draws
from . import degrade
from .atlas import Atlas
from .labels import make_labels
from .obstacles import Covers, draw_covers, paint_obstacle
from .painting import (
    apply,
    ground_greys,
    matmul,
    outline_corners,
    paste,
    plate_corners,
    plate_texture,
    round_outline,
    stack_matrices,
    warp_in_steps,
)
from .plate import ARMY, ARMY_COLOUR, COLOURS, PlateSpec, colour_shares
from .structure import TEXTURES, structure_bank

ORIGINAL_SCENE = 250.0
"""Side of the original project's scene, the unit of the lengths in SceneParams."""
ORIGINAL_PLATE = 235.0
"""Length of the original project's plate at scale 1."""
ORIGINAL_CAP = ORIGINAL_PLATE / 500 * 77
"""Cap height, in pixels, of the plate image that the original project scales down."""
EDGE_LINE = 2.1
"""Width of the black line around the plates of the original project, in millimetres."""
LARGEST_BOX = 0.95
"""Maximum side of a plate's box as a fraction of the scene; larger plates are shrunk to it."""

STYLE = "scene"

Gray = NDArray[np.uint8]
Floats = NDArray[np.float64]

ARMY_INDEX = next(i for i, colour in enumerate(COLOURS) if colour.name == ARMY_COLOUR)


@dataclass(frozen=True)
class SceneBlock:
    """Contents of a block of ``n`` scenes, before any pixel is drawn.

    Attributes:
        plates: Specification of each plate.
        variants: Glyph variant of the atlas for each scene, shape ``(n,)``.
        matrices: Homographies from the plate's millimetres to coordinates normalised to the scene, nine
            numbers each.
        steps: The same homographies in four steps: rotation, scaling, shear along x, shear along y;
            shape ``(n, 4, 3, 3)``.
        finest: Largest scale of each plate, as a fraction of the scene per millimetre.
        corners: Corners of the plates, normalised to the scene, shape ``(n, 4, 2)``.
        outlines: Outlines of the pasted regions (the plate with round corners, or its frame), normalised
            to the scene, shape ``(n, p, 2)``.
        backgrounds: Index of each scene's background image, shape ``(n,)``.
        background_matrices: Homographies of the background's rotation, flips and perspective at 32x32,
            shape ``(n, 3, 3)``.
        crops: x, y and side of the crop of each background, shape ``(n, 3)``.
        covers: Obstacles in front of the plates.
        circles: Clutter of each scene: x, y and radius of circles, normalised to the scene, and a grey.
        rectangles: Clutter of each scene: left, top, width and height of rectangles, normalised to the
            scene, and a grey.
        numbers: Further random numbers by name, shape ``(n,)`` each.
    """

    plates: list[PlateSpec]
    variants: list[int]
    matrices: list[list[float]]
    steps: Floats
    finest: list[float]
    corners: Floats
    outlines: NDArray[np.float32]
    backgrounds: list[int]
    background_matrices: Floats
    crops: list[list[int]]
    covers: Covers
    circles: list[list[list[float]]]
    rectangles: list[list[list[float]]]
    numbers: dict[str, list[float]]

    def __len__(self) -> int:
        return len(self.plates)

    def labels(self, windows: Floats | None = None) -> pd.DataFrame:
        """Return one row of labels per scene.

        Args:
            windows: Stored part x1, y1, x2, y2 of each scene, normalised to the scene, shape ``(n, 4)``.
                The box and the corners are normalised to it. Default: the whole scene.
        """
        plates = self.plates
        return make_labels(
            self.corners,
            [plate.readable for plate in plates],
            [plate.format.name for plate in plates],
            [plate.colour for plate in plates],
            [plate.lines for plate in plates],
            np.ones(len(plates), np.bool_),
            STYLE,
            self.covers.visible(windows),
            windows,
        )


def _draw_colours(params: PlateParams, formats: list[int], draws: Draws) -> list[int]:
    """Draw a colour for each plate, among those that its format occurs in."""
    share = draws.uniform()
    cumulative = np.cumsum(colour_shares(params.COLOUR_WEIGHTS), axis=1)
    cumulative /= cumulative[:, -1:]
    return (share[:, None] >= cumulative[formats]).sum(axis=1).tolist()


def draw_plates(params: PlateParams, draws: Draws) -> list[PlateSpec]:
    """Draw a plate for each sample."""
    formats = draws.choice(params.FORMAT_WEIGHTS).tolist()
    colours = _draw_colours(params, formats, draws)
    cantons = draws.integers(0, len(CANTONS) - 1).tolist()
    counts = (draws.choice(params.DIGIT_WEIGHTS) + 1).tolist()
    # The first digit is not 0, so that all numbers with the same count of digits are equally likely.
    first = draws.integers(1, 9).tolist()
    others = draws.integers(0, 9, (MAX_DIGITS - 1,)).tolist()
    spacing = draws.within(params.SPACING).tolist()
    shields = draws.within(params.SHIELD_HEIGHT).tolist()
    gaps = draws.chance(params.GROUP_GAP_PROBABILITY).tolist()
    frames = draws.chance(params.FRAME_PROBABILITY).tolist()
    screws = draws.chance(params.SCREW_PROBABILITY).tolist()
    edges = (draws.chance(params.EDGE_PROBABILITY) * EDGE_LINE).tolist()
    plates = []
    for i, count in enumerate(counts):
        number = str(first[i]) + "".join(map(str, others[i][: count - 1]))
        letters = ARMY if colours[i] == ARMY_INDEX else CANTONS[cantons[i]]
        plates.append(
            PlateSpec(
                letters + number,
                formats[i],
                colours[i],
                spacing[i],
                shields[i],
                gaps[i],
                frames[i],
                screws[i],
                edge=edges[i],
            )
        )
    return plates


def _place_plates(plates: list[PlateSpec], params: SceneParams, draws: Draws) -> Floats:
    """Draw the poses of plates, as homographies in four steps.

    Returns:
        Homographies from millimetres of each plate to coordinates normalised to the scene, shape
        ``(n, 4, 3, 3)``. The steps are rotation, scaling, shear along x, and shear along y with
        placement.
    """
    n = len(plates)
    width = np.array([plate.width for plate in plates])
    height = np.array([plate.height for plate in plates])
    scale = draws.within(params.PLATE_SCALE) * ORIGINAL_PLATE / ORIGINAL_SCENE / width
    stretch = draws.within(params.PLATE_STRETCH)
    limit = np.radians(params.PLATE_ROTATION)
    turn = draws.uniform(-limit, limit)
    shears = np.tan(np.radians(draws.uniform(-params.PLATE_SHEAR, params.PLATE_SHEAR, (2,))))
    tilt = draws.uniform(-params.PLATE_PERSPECTIVE, params.PLATE_PERSPECTIVE, (2,))
    shift = draws.uniform(-0.5, 0.5, (2,)) * params.PLATE_SHIFT
    cos, sin = np.cos(turn), np.sin(turn)
    # Applied from right to left: centre, perspective, rotation, scaling, shear along x, then along y.
    centre = stack_matrices([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]], n)
    tilted = stack_matrices([[1, 0, 0], [0, 1, 0], [tilt[:, 0] / width, tilt[:, 1] / width, 1]], n)
    turned = stack_matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], n)
    sized = stack_matrices([[scale, 0, 0], [0, scale * stretch, 0], [0, 0, 1]], n)
    along_x = stack_matrices([[1, shears[:, 0], 0], [0, 1, 0], [0, 0, 1]], n)
    along_y = stack_matrices([[1, 0, 0], [shears[:, 1], 1, 0], [0, 0, 1]], n)
    first = turned @ tilted @ centre
    matrices = along_y @ along_x @ sized @ first
    # Keep the drawing inside the scene: shrink a box that is too large, then shift it.
    drawn = apply(matrices, outline_corners(plates))
    low, high = drawn.min(axis=1), drawn.max(axis=1)
    shrink = np.minimum(1.0, LARGEST_BOX / (high - low).max(axis=1))
    size = (high - low) * shrink[:, None]
    target = 0.5 + shift * (1 - size)
    origin = target - (low + high) / 2 * shrink[:, None]
    moved = stack_matrices([[shrink, 0, origin[:, 0]], [0, shrink, origin[:, 1]], [0, 0, 1]], n)
    return np.stack([first, sized, along_x, moved @ along_y], axis=1)


def _turn_backgrounds(params: SceneParams, draws: Draws) -> Floats:
    """Draw the rotation, flips and perspective of the backgrounds.

    Returns:
        Homographies of 32x32 images onto themselves, shape ``(n, 3, 3)``.
    """
    n = len(draws)
    limit = np.radians(params.BACKGROUND_ROTATION)
    turn = draws.uniform(-limit, limit)
    cos, sin = np.cos(turn), np.sin(turn)
    flip = np.where(draws.uniform(shape=(2,)) < 0.5, -1.0, 1.0)
    seen = draws.chance(params.BACKGROUND_PERSPECTIVE_PROBABILITY)
    most = params.BACKGROUND_PERSPECTIVE
    tilt = draws.uniform(-most, most, (2,)) * seen[:, None] / 16
    centre = stack_matrices([[1, 0, -15.5], [0, 1, -15.5], [0, 0, 1]], n)
    flips = stack_matrices([[flip[:, 0], 0, 0], [0, flip[:, 1], 0], [0, 0, 1]], n)
    tilted = stack_matrices([[1, 0, 0], [0, 1, 0], [tilt[:, 0], tilt[:, 1], 1]], n)
    turned = stack_matrices([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], n)
    return np.linalg.inv(centre) @ tilted @ turned @ flips @ centre


def _draw_clutter(
    params: SceneParams, draws: Draws
) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
    some = draws.chance(params.CLUTTER_PROBABILITY)
    kinds = []
    for most, largest, columns in (
        (params.CLUTTER_CIRCLES, params.CLUTTER_CIRCLE_RADIUS, 1),
        (params.CLUTTER_RECTANGLES, params.CLUTTER_RECTANGLE_SIDE, 2),
    ):
        counts = (draws.integers(0, most) * some).tolist()
        places = draws.uniform(0, 1, (most, 2))
        sizes = draws.uniform(1, largest, (most, columns)) / ORIGINAL_SCENE
        greys = draws.integers(0, 255, (most, 1))
        shapes = np.concatenate([places, sizes, greys], axis=2)
        kinds.append([shapes[i, :count].tolist() for i, count in enumerate(counts)])
    return kinds[0], kinds[1]


def draw_scenes(
    draws: Draws,
    plate: PlateParams,
    scene: SceneParams,
    degraded: DegradeParams,
    structure_probability: float,
    backgrounds: int,
    atlas: Atlas,
    textures: range = range(TEXTURES),
    obstacles: float = 0.0,
) -> SceneBlock:
    """Draw all random numbers and the geometry of a block of scenes.

    Args:
        draws: Random generator of the samples.
        plate: Ranges of the plates.
        scene: Ranges of the composition.
        degraded: Ranges of the degradations.
        structure_probability: Share of backgrounds with sharp structure.
        backgrounds: Number of background images.
        atlas: Atlas with the glyph variants.
        textures: Indices of the textures of the structure bank that may be used.
        obstacles: Share of plates with an obstacle in front of them.
    """
    plates = draw_plates(plate, draws)
    steps = _place_plates(plates, scene, draws)
    matrices = steps[:, 3] @ steps[:, 2] @ steps[:, 1] @ steps[:, 0]
    width = np.array([spec.width for spec in plates])
    height = np.array([spec.height for spec in plates])
    corners = apply(matrices, plate_corners(plates))
    finest = (edge_lengths(corners) / np.stack([width, height, width, height], axis=1)).max(axis=1)
    crop = draws.integers(scene.BACKGROUND_CROP[0], scene.BACKGROUND_CROP[1])
    corner = np.floor(draws.uniform(shape=(2,)) * (33 - crop[:, None]))
    outlines = np.stack([round_outline(spec.outline) for spec in plates])
    circles, panels = _draw_clutter(scene, draws)
    grain = draws.integers(degraded.NOISE_BLUR[0] // 2, (degraded.NOISE_BLUR[1] - 1) // 2) * 2 + 1
    numbers = {
        "noise_box": grain,
        "noise_weight": draws.within(degraded.NOISE_WEIGHT),
        "noise_top": draws.uniform(),
        "noise_left": draws.uniform(),
        "sharpness": draws.within(degraded.SHARPNESS),
        "brightness": draws.within(degraded.BRIGHTNESS),
        "blur": draws.within(degraded.BLUR_SIGMA),
        "autocontrast": draws.chance(degraded.AUTOCONTRAST_PROBABILITY),
        "aliased": draws.chance(scene.ALIASED_PROBABILITY),
        "warps": draws.integers(0, 7),
        "structure": draws.chance(structure_probability),
        "structure_index": draws.integers(textures[0], textures[-1]),
        "structure_top": draws.uniform(),
        "structure_left": draws.uniform(),
        "structure_weight": draws.within(scene.STRUCTURE_WEIGHT),
        "ground": draws.within(plate.GROUND),
    }
    variants = np.floor(draws.uniform(0, plate.GLYPH_VARIANTS)).astype(int).tolist()
    backdrops = np.floor(draws.uniform(0, backgrounds)).astype(int).tolist()
    turned = _turn_backgrounds(scene, draws)
    grounds = ground_greys(plates, numbers["ground"])
    return SceneBlock(
        plates=plates,
        variants=variants,
        matrices=matrices.reshape(-1, 9).tolist(),
        steps=steps,
        finest=finest.tolist(),
        corners=corners,
        outlines=apply(matrices, outlines).astype(np.float32),
        backgrounds=backdrops,
        background_matrices=turned,
        crops=np.column_stack([corner, crop]).astype(int).tolist(),
        covers=draw_covers(atlas, plates, variants, grounds, matrices, corners, obstacles, draws),
        circles=circles,
        rectangles=panels,
        numbers={name: values.tolist() for name, values in numbers.items()},
    )


@dataclass(frozen=True)
class SceneRenderer:
    """Renderer of the scenes of a block.

    Args:
        atlas: Atlas with the glyph variants.
        backgrounds: Background images, uint8, shape ``(b, 32, 32)``.
        side: Side of the whole scene in pixels.
    """

    atlas: Atlas
    backgrounds: Gray
    side: int

    @property
    def _detail(self) -> float:
        """Resolution as a fraction of the original's scene, at most 1: above it no detail is added."""
        return min(self.side / ORIGINAL_SCENE, 1.0)

    def render(
        self, block: SceneBlock, i: int, window: tuple[int, int, int, int] | None = None
    ) -> Gray:
        """Paint sample ``i`` of a block.

        Args:
            block: Block of scenes.
            i: Position of the sample in the block.
            window: Part of the scene to paint, x1, y1, x2, y2 in pixels. Default: the whole scene.

        Returns:
            Grey image, uint8, shape ``(y2 - y1, x2 - x1)``.
        """
        x1, y1, x2, y2 = window or (0, 0, self.side, self.side)
        # Make the whole background and crop it: enlarging 32 pixels is cheaper than warping a window.
        image = self._background(block, i)[y1:y2, x1:x2]
        image = np.ascontiguousarray(image)
        self._paste(block, i, image, x1, y1)
        if (obstacle := block.covers.obstacles[i]) is not None:
            to_pixels = np.diag([self.side, self.side, 1.0]) @ block.covers.matrices[i]
            paint_obstacle(image, obstacle, to_pixels, (x1, y1))
        return self._degrade(block, i, image)

    def _background(self, block: SceneBlock, i: int) -> Gray:
        side = self.side
        # Warp at 32x32 without interpolation, as the original does: black corners with hard steps stay.
        turned = cv2.warpPerspective(
            self.backgrounds[block.backgrounds[i]],
            block.background_matrices[i],
            (32, 32),
            flags=cv2.INTER_NEAREST,
        )
        x, y, crop = block.crops[i]
        image = cv2.resize(turned[y : y + crop, x : x + crop], (side, side))
        numbers = block.numbers
        if numbers["structure"][i]:
            texture = structure_bank(self._detail)[int(numbers["structure_index"][i])]
            if texture.shape[0] < side:
                # Scenes larger than 384 pixels are rare, so not worth a bank of their own.
                texture = cv2.resize(texture, (side + 1, side + 1))
            weight = numbers["structure_weight"][i]
            at = (numbers["structure_top"][i], numbers["structure_left"][i])
            image = degrade.add_noise(image, texture, at, weight)
        for cx, cy, radius, grey in block.circles[i]:
            cv2.circle(image, (round(cx * side), round(cy * side)), round(radius * side), grey, -1)
        for left, top, width, height, grey in block.rectangles[i]:
            start = (round(left * side), round(top * side))
            end = (round((left + width) * side), round((top + height) * side))
            cv2.rectangle(image, start, end, grey, -1)
        return image

    def _paste(self, block: SceneBlock, i: int, image: Gray, left: int, top: int) -> None:
        spec, side = block.plates[i], self.side
        cap = spec.cap_height
        # Below about 180 pixels the original's aliasing has been averaged away.
        aliased = bool(block.numbers["aliased"][i]) and self._detail > 0.7
        cap_pixels = ORIGINAL_CAP if aliased else block.finest[i] * side * cap
        tiles = self.atlas.tiles(block.variants[i], cap_pixels)
        texture, (origin_x, origin_y) = plate_texture(spec, tiles, block.numbers["ground"][i])
        # Pixel centres lie at half-integers here, but at integers in OpenCV.
        outline = block.outlines[i] * side
        outline -= (left + 0.5, top + 0.5)
        # From texture pixels to millimetres, to normalised scene coordinates, to pixels of the image.
        fine = cap / tiles.cap_pixels
        to_plate = (fine, 0, fine / 2 + origin_x, 0, fine, fine / 2 + origin_y, 0, 0, 1)
        to_image = (side, 0, -left - 0.5, 0, side, -top - 0.5, 0, 0, 1)
        if aliased:
            texture, matrix = self._torn(block, i, texture, to_plate, to_image)
        else:
            matrix = matmul(to_image, matmul(block.matrices[i], to_plate))
        paste(image, texture, matrix, outline, aliased)

    def _torn(
        self,
        block: SceneBlock,
        i: int,
        texture: Gray,
        to_plate: tuple[float, ...],
        to_image: tuple[float, ...],
    ) -> tuple[Gray, list[float]]:
        """Warp the texture to the nearest pixel up to three times.

        Returns:
            The warped texture, and the matrix of the last warp, which remains to be applied.
        """
        before, after = np.array(to_plate).reshape(3, 3), np.array(to_image).reshape(3, 3)
        fine = before[0, 0]
        turn, size, along_x, along_y = block.steps[i]
        # Between steps, lengths are in pixels: of the texture before scaling, of the scene after it.
        texels, pixels = np.diag([1 / fine, 1 / fine, 1]), np.diag([self.side, self.side, 1.0])
        steps = [
            texels @ turn @ before,
            pixels @ size @ np.linalg.inv(texels),
            pixels @ along_x @ np.linalg.inv(pixels),
            after @ along_y @ np.linalg.inv(pixels),
        ]
        joined = steps[:1]
        for bit, step in enumerate(steps[1:]):
            if int(block.numbers["warps"][i]) >> bit & 1:
                joined.append(step)
            else:
                joined[-1] = step @ joined[-1]
        texture, matrix = warp_in_steps(texture, joined)
        return texture, matrix.ravel().tolist()

    def _degrade(self, block: SceneBlock, i: int, image: Gray) -> Gray:
        numbers, detail = block.numbers, self._detail
        texture = degrade.noise_texture(int(numbers["noise_box"][i]), detail)
        if texture.shape[0] < max(image.shape):
            texture = cv2.resize(texture, (max(image.shape) + 1,) * 2)
        at = (numbers["noise_top"][i], numbers["noise_left"][i])
        image = degrade.add_noise(image, texture, at, numbers["noise_weight"][i])
        image = degrade.sharpen(image, numbers["sharpness"][i], detail)
        image = degrade.brighten(image, numbers["brightness"][i])
        image = degrade.blur(image, numbers["blur"][i])
        if numbers["autocontrast"][i]:
            image = degrade.autocontrast(image)
        return image
