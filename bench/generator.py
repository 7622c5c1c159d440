"""Benchmark of the generator on one core: samples per second, and the share of each step.

    python bench/generator.py [--samples 50000] [--json]

A fixed kernel (OpenCV's bicubic resize of a 250x250 colour image to 84x84) is timed in the same run, so
that results from different machines can be compared. The rates include drawing glyphs at their first use
and making the textures. The default parameters of params.py are measured, over procedural backgrounds
unless data/datasets/backgrounds exists.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.config import Config, ConfigError, load_config
from src.core.random import Draws
from src.datasets.backgrounds import load_backgrounds
from src.datasets.prepare import SceneSource, StreetMix
from src.datasets.shards import DatasetError
from src.fetch_backgrounds import write_backgrounds
from src.generators import scene, structure
from src.generators.scene import SceneRenderer
from src.generators.street import StreetRenderer
from src.localize.prepare import ZoomedScenes
from src.ocr.prepare import PlateWindows

SHARD = 2000
STEPS = {
    "draw": (SceneSource, "parts"),
    "scenes": (SceneRenderer, "render"),
    "streets": (StreetRenderer, "render"),
}
"""Timed functions by step: all random numbers and geometry, then the painting of the original's scenes
and of street scenes."""


def calibrate(repeats: int = 3000) -> float:
    """Return how many bicubic resizes of a 250x250 colour image to 84x84 run per second."""
    numbers = Draws(0, "calibration", np.arange(250)).integers(0, 255, (750,))
    image = numbers.astype(np.uint8).reshape(250, 250, 3)
    start = time.perf_counter()
    for _ in range(repeats):
        cv2.resize(image, (84, 84), interpolation=cv2.INTER_CUBIC)
    return repeats / (time.perf_counter() - start)


@contextmanager
def timed_steps(spent: dict[str, float]) -> Iterator[None]:
    """Add up the seconds spent in each step while the block runs."""

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            spent[name] += time.perf_counter() - start
            return result

        return call

    originals = {name: getattr(owner, attribute) for name, (owner, attribute) in STEPS.items()}
    for name, (owner, attribute) in STEPS.items():
        setattr(owner, attribute, timed(name, originals[name]))
    try:
        yield
    finally:
        for name, (owner, attribute) in STEPS.items():
            setattr(owner, attribute, originals[name])


def measure(config: Config, task: str, samples: int) -> dict[str, Any]:
    """Return the rate of one task, and the fraction of the time that each step takes.

    Args:
        config: Parameters of the generator.
        task: Task to generate samples for: ``localize`` or ``ocr``.
        samples: Number of samples to generate, in shards as in the stage.
    """
    cv2.setNumThreads(1)
    params = config.PrepareLocalizeParams if task == "localize" else config.PrepareOCRParams
    side = (
        config.LocalizeParams.IMG_SHAPE[1]
        if task == "localize"
        else config.PrepareOCRParams.IMG_SIZE[0]
    )
    start = time.perf_counter()
    street = StreetMix(
        params.STREET_SHARE, (params.STREET_WIDTH[0], params.STREET_WIDTH[1]), task == "ocr"
    )
    source = SceneSource(
        config, params.SEED, task, "train", side, params.STRUCTURE_PROBABILITY, street
    )
    structure.structure_bank(min(side / scene.ORIGINAL_SCENE, 1.0))
    made = time.perf_counter() - start
    make = (
        ZoomedScenes(source)
        if task == "localize"
        else PlateWindows(source, config.PrepareOCRParams.MARGIN, config.PrepareOCRParams.CUT_SHARE)
    )
    start = time.perf_counter()
    for first in range(0, samples, SHARD):
        make(range(first, min(first + SHARD, samples)))
    total = time.perf_counter() - start
    # The steps are timed in a separate pass, so that the timers do not lower the rate.
    spent = dict.fromkeys(STEPS, 0.0)
    start = time.perf_counter()
    with timed_steps(spent):
        make(range(SHARD))
    pass_seconds = time.perf_counter() - start
    spent["rest"] = pass_seconds - sum(spent.values())
    return {
        "samples": samples,
        "per_second": samples / (total + made),
        "per_second_warm": samples / total,
        "setup_seconds": made,
        "step_share": {name: seconds / pass_seconds for name, seconds in spent.items()},
    }


def with_backgrounds(config: Config, folder: Path) -> Config:
    """Return the parameters, with backgrounds drawn into ``folder`` where there are none."""
    try:
        load_backgrounds(config.backgrounds_folder, "train")
    except DatasetError:
        section = config.backgrounds.model_copy(update={"source": "procedural"})
        config = config.model_copy(update={"dataset_path": str(folder), "backgrounds": section})
        write_backgrounds(config)
    return config


def run(config: Config, samples: int) -> dict[str, Any]:
    """Measure both tasks between two timings of the calibration kernel."""
    before = calibrate()
    result: dict[str, Any] = {
        "backgrounds": load_backgrounds(config.backgrounds_folder, "train").source,
        "opencv": cv2.__version__,
    }
    for task in ("localize", "ocr"):
        # A new process for each task, so that the cost of everything that is made only once is counted.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            result[task] = pool.submit(measure, config, task, samples).result()
    rate = result["calibration_per_second"] = (before + calibrate()) / 2
    for task in ("localize", "ocr"):
        result[task]["per_calibration"] = result[task]["per_second"] / rate
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--samples", type=int, default=50000, help="samples per task (default: 50000)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object instead of a table"
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        config = load_config()
    except ConfigError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as folder:
        result = run(with_backgrounds(config, Path(folder)), arguments.samples)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    rate = result["calibration_per_second"]
    print(f"calibration kernel: {rate:,.0f} /s; backgrounds: {result['backgrounds']}")
    for task in ("localize", "ocr"):
        row = result[task]
        print(
            f"{task:9s} {row['per_second']:8,.0f} samples/s on one core "
            f"({row['per_calibration']:.3f} of the kernel's rate), set-up {row['setup_seconds']:.2f} s"
        )
        shares = ", ".join(f"{name} {share:.0%}" for name, share in row["step_share"].items())
        print(f"          {shares}")


if __name__ == "__main__":
    main()
