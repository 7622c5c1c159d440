"""Measure what each inference technique contributes by removing it or increasing it.

    python bench/ablations.py [--model DIR] [--data data/prepared/stack] [--json]

The stack is run on the evaluation sets; nothing is trained. docs/ablations.md has the results, and also
those of models trained without one of the training techniques.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.core.errors import UserError
from src.datasets.shards import ShardedSet
from src.inference import finder, recognizer
from src.inference.reader import PlateReader
from src.inference.runtimes import installed_runtimes

SETS = ("val", "formats", "shifted")
VARIANTS: dict[str, list[tuple[ModuleType, str, Any]]] = {
    "as shipped": [],
    "without test-time augmentation": [(recognizer, "SURE_READING", 0.0)],
    "augmentation without re-estimated corners": [(finder, "AUGMENTED_SHARES", ())],
    "augmentation with four corner estimates": [(finder, "AUGMENTED_SHARES", (0.5, 0.62, 0.74, 0.86))],
    "candidates with a score of 0.1 or higher": [(finder, "LEAST_SCORE", 0.1)],
    "no refinement pass on small plates": [
        (finder, "REFINE_SCORE", 0.0), (finder, "REFINE_WIDTH", 0.0),
    ],
    "lines as the localizer predicts": [(recognizer, "ONE_LINE", 0.5), (recognizer, "TWO_LINES", 0.5)],
}  # fmt: skip
"""Module constants that each variant changes."""


@contextmanager
def changed(changes: list[tuple[ModuleType, str, Any]]) -> Iterator[None]:
    """Change module constants while the block runs, then restore them."""
    before = [(module, name, getattr(module, name)) for module, name, _ in changes]
    try:
        for module, name, value in changes:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def measure(reader: PlateReader, data: Path) -> dict[str, float]:
    """Return the accuracy of the texts on each set, and the images per second over all sets."""
    result, count, seconds = {}, 0, 0.0
    for name in SETS:
        samples = ShardedSet(data / name)
        images = [samples.image(i) for i in range(len(samples))]
        start = time.perf_counter()
        found = reader.candidates(images)
        seconds += time.perf_counter() - start
        count += len(images)
        texts = [candidates[0].reading.text if candidates else "" for candidates in found]
        right = [text == plate for text, plate in zip(texts, samples.plates, strict=True) if plate]
        result[name] = float(np.mean(right))
    return {**result, "images_per_second": count / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", type=Path, help="bundle to use (default: the promoted one)")
    parser.add_argument("--data", type=Path, default=Path("data/prepared/stack"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    rows = {}
    reader = PlateReader.load(options.model)
    for name, changes in VARIANTS.items():
        print(f"{name} ...", file=sys.stderr)
        with changed(changes):
            rows[name] = measure(reader, options.data)
    has_int8 = any("int8" in name for name in reader.manifest.files)
    for runtime in installed_runtimes(has_int8):
        if runtime != reader.runtime:
            print(f"{runtime} ...", file=sys.stderr)
            rows[runtime] = measure(PlateReader.load(options.model, runtime), options.data)
    if options.json:
        print(json.dumps({"runtime": reader.runtime, "rows": rows}))
        return
    print(f"{'':<42}" + "".join(f"{name:>10}" for name in (*SETS, "images/s")))
    for name, row in rows.items():
        shares = "".join(f"{row[each]:>10.4f}" for each in SETS)
        print(f"{name:<42}{shares}{row['images_per_second']:>10.0f}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
