"""Benchmark of the promoted bundle: single scenes, batches, a large photo, many files.

    python bench/reader.py [--model models] [--scenes 256] [--seconds 2] [--json]

In the same run, the original project's two networks (plate_localizer_v3 and plate_ocr_v2) read the same
scenes with PyTorch in float32, as in the original project: localizer, crop, recognizer, decoding. They
are randomly initialised, because the time does not depend on the weights. Scenes are like the original
project's: 256x256, one plate each. The photo is a street scene of 12 megapixels, a colour JPEG on disk.
All images are drawn by the generator with the parameters of params.py, over procedural backgrounds
unless data/datasets/backgrounds exists.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent))

from generator import with_backgrounds

from src.config import Config, load_config
from src.core.errors import UserError
from src.core.machine import available_cores
from src.core.provenance import machine
from src.datasets.prepare import SceneSource, StreetMix, WholeScenes
from src.inference.bundle import MANIFEST, Bundle
from src.inference.reader import PlateReader
from src.inference.runtimes import best_runtime, installed_runtimes
from src.read.__main__ import read_files
from src.read.output import as_json
from src.read.paths import Paths, find_files

ImageArray = NDArray[np.uint8]
SCENE_SIDE, PHOTO_SIDE = 256, 3464
"""Sides of scenes and of the photograph in pixels; the photograph has 12 megapixels."""
PHOTO_QUALITY = 95


def draw(config: Config, count: int, side: int, mix: StreetMix) -> list[ImageArray]:
    """Return scenes over backgrounds that were never trained on."""
    source = SceneSource(config, 0, "bench", "val", side, 0.0, mix)
    return list(WholeScenes(source)(range(count)).images)


def coloured(grey: ImageArray) -> ImageArray:
    """Return a grey image tinted with slowly varying colours, as BGR of shape ``(H, W, 3)``."""
    tint = np.random.default_rng(0).uniform(0.85, 1.15, (12, 16, 3)).astype(np.float32)
    tint = cv2.resize(tint, grey.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(grey[..., None] * tint, 0, 255).astype(np.uint8)


def timed(call: Callable[[int], object], seconds: float, least: int = 5) -> NDArray[np.float64]:
    """Return the seconds of each call with 0, 1, 2, …, after some warm-up calls that do not count."""
    for number in range(least):
        call(number)
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < least or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - before)
    return np.array(times)


def taken(scenes: list[ImageArray], size: int, number: int) -> list[ImageArray]:
    """Return the batch of a number; batches differ until all scenes have been used."""
    return [scenes[(number * size + i) % len(scenes)] for i in range(size)]


def spread(times: NDArray[np.float64]) -> dict[str, float]:
    """Return the median and the 95th percentile in milliseconds."""
    return {
        "median_ms": 1000 * float(np.median(times)),
        "p95_ms": 1000 * float(np.percentile(times, 95)),
    }


def measure(
    reader: PlateReader,
    scenes: list[ImageArray],
    photo: Path,
    folder: Path,
    size: int,
    seconds: float,
) -> dict[str, Any]:
    """Measure one runtime.

    Args:
        reader: Plate reader with that runtime.
        scenes: Scenes of 256x256 pixels.
        photo: Path of a large JPEG.
        folder: Folder of many small files.
        size: Number of scenes per batch.
        seconds: Approximate duration of each measurement.
    """
    one = timed(lambda i: reader.read(scenes[i % len(scenes)]), seconds)
    batches = timed(lambda i: reader.read_batch(taken(scenes, size, i)), seconds)
    large = timed(lambda _: reader.read(photo), seconds)

    def read_folder(_: int) -> int:
        paths = Paths(find_files([str(folder)]))
        return sum(bool(as_json(result)) for result in read_files(reader, paths))

    files = timed(read_folder, seconds, least=2)
    return {
        "one_scene": spread(one),
        "scenes_per_second": size / float(np.median(batches)),
        "photo": spread(large),
        "files_per_second": read_folder(0) / float(np.median(files)),
        "plates_per_scene": float(np.mean([len(plates) for plates in reader.read_batch(scenes)])),
        "plates_in_photo": len(reader.read(photo)),
    }


def measure_original(
    config: Config, scenes: list[ImageArray], size: int, seconds: float
) -> dict[str, Any]:
    """Measure the original's two networks with PyTorch on the CPU."""
    import torch

    from src.evaluation.inference import localizer_maps, read_log_probs
    from src.inference.crops import recognizer_crop
    from src.inference.decoding import decode
    from src.inference.detection import best
    from src.models.registry import build_localizer, build_recognizer

    torch.set_num_threads(available_cores())
    device = torch.device("cpu")
    localizer = build_localizer("plate_localizer_v3", config).eval()
    reader = build_recognizer("plate_ocr_v2", config).eval()
    _, height, width = localizer.input_shape

    def read(images: list[ImageArray]) -> list[Any]:
        corners, _, _ = best(localizer_maps(localizer, images, device))
        scale = SCENE_SIDE / np.array([width, height])
        crops = [
            recognizer_crop(image, quad * scale, reader.rectification, reader.input_shape)
            for image, quad in zip(images, corners, strict=True)
        ]
        return decode(read_log_probs(reader, crops, device))

    one = timed(lambda i: read([scenes[i % len(scenes)]]), seconds)
    batches = timed(lambda i: read(taken(scenes, size, i)), seconds, least=2)
    return {
        "runtime": f"PyTorch {torch.__version__}, float32",
        "parameters": sum(
            weight.numel() for model in (localizer, reader) for weight in model.parameters()
        ),
        "one_scene": spread(one),
        "scenes_per_second": size / float(np.median(batches)),
    }


@contextmanager
def files(scenes: list[ImageArray], photo: ImageArray) -> Iterator[tuple[Path, Path]]:
    """Write a photograph and a folder of scenes to disk while the block runs."""
    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name) / "photo.jpg", Path(name) / "scenes"
        cv2.imwrite(str(path), coloured(photo), [cv2.IMWRITE_JPEG_QUALITY, PHOTO_QUALITY])
        folder.mkdir()
        for i, scene in enumerate(scenes):
            cv2.imwrite(str(folder / f"{i:04}.png"), scene)
        yield path, folder


def run(config: Config, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all installed runtimes, and the original's networks.

    Args:
        config: Parameters of the generator.
        options: Options of the command line.

    Raises:
        UserError: The bundle cannot be used.
    """
    stack = Bundle.load(options.model)
    scenes = draw(config, options.scenes, SCENE_SIDE, StreetMix(0.0))
    swiss = [1.0, *[0.0] * (len(config.StreetParams.KIND_WEIGHTS) - 1)]
    (photo,) = draw(
        config, 1, options.photo_side, StreetMix(1.0, (0.1, 0.3), street={"KIND_WEIGHTS": swiss})
    )
    result: dict[str, Any] = {
        "machine": machine(),
        "model": str(options.model),
        "batch": options.batch,
        "git_revision": stack.manifest.git_revision,
        "parameters": stack.manifest.localizer.parameters + stack.manifest.recognizer.parameters,
        "bundle_bytes": (stack.path / MANIFEST).stat().st_size
        + sum(map(len, stack.contents.values())),
        "default_runtime": best_runtime(stack.has_int8),
    }
    with files(scenes, photo) as (path, folder):
        result["photo_bytes"] = path.stat().st_size
        result["runtimes"] = {
            runtime: measure(
                PlateReader(stack, runtime, available_cores()),
                scenes,
                path,
                folder,
                options.batch,
                options.seconds,
            )
            for runtime in installed_runtimes(stack.has_int8)
        }
    original = result["original"] = measure_original(config, scenes, options.batch, options.seconds)
    ours = result["runtimes"][result["default_runtime"]]
    result["ratios"] = {
        "parameters": original["parameters"] / max(1, result["parameters"]),
        "one_scene": original["one_scene"]["median_ms"] / ours["one_scene"]["median_ms"],
        "scenes_per_second": ours["scenes_per_second"] / original["scenes_per_second"],
    }
    return result


def table(result: dict[str, Any]) -> str:
    """Return the figures as a readable table."""
    columns = {**result["runtimes"], "original's (PyTorch)": result["original"]}

    def row(name: str, value: Callable[[dict[str, Any]], float | None], digits: int) -> str:
        cells = [value(column) for column in columns.values()]
        texts = ["" if cell is None else f"{cell:,.{digits}f}" for cell in cells]
        return f"{name:36}" + "".join(f"{text:>18}" for text in texts)

    lines = [
        f"{result['model']} on {result['machine']}",
        f"{result['bundle_bytes']:,} bytes; the photo has {result['photo_bytes']:,} bytes",
        f"{'':36}" + "".join(f"{name:>18}" for name in columns),
        row("parameters", lambda column: column.get("parameters", result["parameters"]), 0),
    ]
    for name, title in (("one_scene", "one 256x256 scene"), ("photo", "12-megapixel JPEG to text")):
        for key, what in (("median_ms", "median ms"), ("p95_ms", "p95 ms")):
            lines.append(
                row(f"{title}, {what}", lambda column: column.get(name, {}).get(key), 2)  # noqa: B023  # called at once
            )
    for name, title in (
        ("scenes_per_second", f"scenes/s, batch size {result['batch']}"),
        ("files_per_second", "files/s with src.read"),
    ):
        lines.append(row(title, lambda column: column.get(name), 0))  # noqa: B023  # called at once
    lines.append(row("plates found in the photo", lambda column: column.get("plates_in_photo"), 0))
    ratios = ", ".join(f"{name} {value:.1f}" for name, value in result["ratios"].items())
    lines.append(f"factors by which {result['default_runtime']} outperforms the original: {ratios}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("models"), help="folder of the bundle")
    parser.add_argument("--scenes", type=int, default=256, help="number of scenes (default: 256)")
    parser.add_argument(
        "--photo-side", type=int, default=PHOTO_SIDE, help="side of the photo in pixels"
    )
    parser.add_argument("--batch", type=int, default=64, help="scenes per batch (default: 64)")
    parser.add_argument(
        "--seconds", type=float, default=2, help="approximate duration per measurement"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as folder:
            config = with_backgrounds(load_config(), Path(folder))
            result = run(config, options)
    except UserError as error:
        sys.exit(f"error: {error}")
    print(json.dumps(result, indent=2) if options.json else table(result))


if __name__ == "__main__":
    main()
