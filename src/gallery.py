"""Contact sheets of generated images: plates, scenes with boxes and corners, OCR crops; or a clip.

python -m src.gallery [--out gallery]     (`make gallery`)
python -m src.gallery --clip street.mp4 [--vehicles 6] [--seed 0]

A clip shows vehicles that drive past a camera one after the other, and its ground truth is written beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .config import Config
from .config.stage import run_stage
from .core.charset import CANTONS
from .core.files import write_image
from .core.geometry import rectify
from .core.program import program
from .core.random import Draws
from .datasets.backgrounds import draw_procedural, load_backgrounds
from .datasets.shards import DatasetError
from .generators.atlas import Atlas
from .generators.footage import Footage, write_clip
from .generators.glyphs import FAMILIES, GlyphStyle
from .generators.plate import COLOURS, FORMATS, PlateSpec, draw_plate
from .generators.scene import SceneRenderer, draw_scenes
from .generators.traffic import draw_traffic

ImageArray = NDArray[np.uint8]
PAPER = 128


def sheet(images: Sequence[ImageArray], columns: int, gap: int = 6) -> ImageArray:
    """Arrange ``(h, w, 3)`` images on one sheet, in cells of the size of the largest."""
    height = max(image.shape[0] for image in images) + gap
    width = max(image.shape[1] for image in images) + gap
    rows = -(-len(images) // columns)
    canvas = np.full((rows * height + gap, columns * width + gap, 3), PAPER, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * height, gap + i % columns * width
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _plate(spec: PlateSpec, height: int, style: GlyphStyle) -> ImageArray:
    image, alpha = draw_plate(spec, height, style)
    image[alpha < 128] = PAPER
    return cv2.cvtColor(image, cv2.COLOR_RGB2BGR)


def canton_plates() -> ImageArray:
    """Draw plates of all cantons, alternating front and rear, with 1 to 6 digits."""
    digits = "2749386150"
    plates = []
    for i, canton in enumerate(CANTONS):
        number = (digits[i % 9 :] + digits)[: i % 6 + 1].lstrip("0") or "5"
        plates.append(_plate(PlateSpec(canton + number, 2 - i % 2), 76, GlyphStyle()))
    return sheet(plates, 4)


def format_plates() -> ImageArray:
    """Draw every format with every glyph family, in the colours that occur."""
    plates = []
    for index in range(len(FORMATS)):
        for i, text in enumerate(("ZH7", "BE12345", "GE654321", "VS1234567")):
            spec = PlateSpec(text, index, (index + 2 * i) % len(COLOURS), group_gap=i == 1)
            plates.append(_plate(spec, 110, GlyphStyle(FAMILIES[i % len(FAMILIES)])))
    return sheet(plates, 4)


def _all_formats(config: Config) -> Config:
    """Return the parameters with every format, colour, length and family, frames and screws."""
    plate = config.PlateParams
    weights = {
        name: [1.0] * len(getattr(plate, name))
        for name in ("FORMAT_WEIGHTS", "COLOUR_WEIGHTS", "DIGIT_WEIGHTS", "FAMILY_WEIGHTS")
    }
    half = {"FRAME_PROBABILITY": 0.5, "SCREW_PROBABILITY": 0.5}
    return config.model_copy(update={"PlateParams": plate.model_copy(update=weights | half)})


def _scenes(
    config: Config, backgrounds: ImageArray, side: int, count: int
) -> tuple[list[ImageArray], ...]:
    seed = config.PrepareOCRParams.SEED
    atlas = Atlas(config.PlateParams, seed)
    block = draw_scenes(
        Draws(seed, "gallery", np.arange(count)),
        config.PlateParams,
        config.SceneParams,
        config.DegradeParams,
        config.PrepareOCRParams.STRUCTURE_PROBABILITY,
        len(backgrounds),
        atlas,
    )
    renderer = SceneRenderer(atlas, backgrounds, side)
    zoom = 3 if side < 128 else 1
    scenes, crops = [], []
    for i in range(count):
        grey = renderer.render(block, i)
        corners = block.corners[i] * side
        image = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_NEAREST)
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        points = np.round((corners * zoom - 0.5) * 16).astype(np.int32)
        low, high = points.min(axis=0), points.max(axis=0)
        cv2.rectangle(image, low.tolist(), high.tolist(), (220, 160, 60), 1, cv2.LINE_AA, 4)
        cv2.polylines(image, [points], True, (80, 200, 80), 1, cv2.LINE_AA, 4)
        # Mark the plate's own top left, which shows its orientation.
        cv2.circle(image, points[0].tolist(), 3 * 16, (60, 60, 230), -1, cv2.LINE_AA, 4)
        scenes.append(image)
        crop = rectify(grey, corners, (64, 256), margin=0.06)
        crop = cv2.copyMakeBorder(crop, 0, 20, 0, 0, cv2.BORDER_CONSTANT, value=255)
        cv2.putText(
            crop, block.plates[i].text, (4, 79), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0, 1, cv2.LINE_AA
        )
        crops.append(cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR))
    return scenes, crops


def main(config: Config, out: Path) -> None:
    """Write the sheets as PNG files to ``out``."""
    try:
        backgrounds = load_backgrounds(config.backgrounds_folder, "val").images
    except DatasetError as error:
        print(f"{error}\nUsing procedural backgrounds for the gallery instead.")
        backgrounds = draw_procedural("val", 500)
    out.mkdir(parents=True, exist_ok=True)
    scenes, crops = _scenes(config, backgrounds, config.PrepareOCRParams.IMG_SIZE[0], 30)
    formats, _ = _scenes(_all_formats(config), backgrounds, 256, 30)
    small, _ = _scenes(config, backgrounds, config.LocalizeParams.IMG_SHAPE[1], 30)
    sheets = {
        "plates_cantons": canton_plates(),
        "plates_formats": format_plates(),
        "scenes": sheet(scenes, 6),
        "scenes_formats": sheet(formats, 6),
        "scenes_localize": sheet(small, 6),
        "crops_ocr": sheet(crops, 5),
    }
    for name, image in sheets.items():
        write_image(out / f"{name}.png", image)
        print(out / f"{name}.png")


def draw_street(config: Config, path: Path, vehicles: int, seed: int) -> None:
    """Write a clip of vehicles that drive past a camera, and its ground truth.

    Raises:
        FootageError: The clip cannot be encoded.
    """
    params = config.StreetPlateParams
    footage = Footage(draw_traffic(params, Atlas(params, 0), seed, vehicles))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_clip(footage, path, lambda frames: tqdm(frames, unit=" frames", total=len(footage)))
    print(path)


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("use 1 to 100")
    return count


def command(arguments: list[str] | None = None) -> None:
    """Run the command.

    Raises:
        SystemExit: A user-fixable error occurred; its message is printed.
    """
    parser = argparse.ArgumentParser(
        prog=program("gallery"), description=__doc__.split("\n\n", maxsplit=1)[0]
    )
    parser.add_argument("--out", type=Path, default=Path("gallery"), help="output folder")
    parser.add_argument(
        "--clip", type=Path, metavar="FILE", help="draw a clip instead (MP4); needs ffmpeg"
    )
    parser.add_argument(
        "--vehicles", type=_count, default=6, metavar="N", help="vehicles in the clip (default: 6)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed of the clip (default: 0)"
    )
    options = parser.parse_args(arguments)
    if options.clip is None:
        run_stage(partial(main, out=options.out))
    else:
        run_stage(
            partial(draw_street, path=options.clip, vehicles=options.vehicles, seed=options.seed)
        )


if __name__ == "__main__":
    command()
