"""Stage export_stack: both networks as ONNX, with what is needed to use them.

Writes out/models/stack, a bundle (src/inference/bundle.py). The exported networks are compared with
PyTorch's on samples of the validation sets, and made once more as int8, which are left out where those
lose too much. Then they read data/prepared/stack/calibration, from which follows how likely a text is
right, and data/prepared/stack/negatives, where there is no Swiss plate, from which follows the probability
that a text is given from. Run it with ``dvc repro export_stack``, or ``python -m src.stack.export``.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from tqdm import tqdm

from ..config import Config
from ..config.stage import run_stage
from ..core.errors import StageError
from ..core.files import complete_folder
from ..core.machine import available_cores
from ..core.provenance import dvc_lock, git_revision, machine
from ..datasets.shards import ShardedSet
from ..export import parity
from ..export.onnx import localizer_to_onnx, recognizer_to_onnx
from ..export.quantize import inputs, quantized
from ..inference import bundle
from ..inference.bundle import Bundle, Manifest
from ..inference.calibration import (
    FEATURES,
    Calibration,
    Threshold,
    choose_threshold,
    fit_calibration,
    reader_calibration,
)
from ..inference.crops import MARGINS
from ..inference.reader import Candidate, PlateReader
from ..inference.runtimes import best_runtime
from ..models.base import Localizer, Recognizer
from ..models.registry import LOCALIZERS, RECOGNIZERS, load_localizer, load_recognizer

_BATCH = 64
_QUANTIZED_BY = 150
"""Pictures that ranges for int8 are taken of."""


def main(config: Config) -> None:
    localizer = load_localizer(weights(config, "localize"))
    reader = load_recognizer(weights(config, "ocr"))
    exported = localizer_to_onnx(localizer), recognizer_to_onnx(reader)
    known = parity.reference(
        localizer,
        reader,
        ShardedSet(config.prepared("localize") / "val"),
        ShardedSet(config.prepared("ocr") / "val"),
    )
    metrics: dict[str, Any] = {"differences": parity.compare_exactly(known, *exported)}
    if (runtime := best_runtime()) != "onnxruntime":
        metrics["faster"] = parity.compare_decisions(known, *exported, runtime)
        if fault := parity.loss(metrics["faster"]):
            raise StageError(fault)
    contents = dict(zip((bundle.LOCALIZER, bundle.READER), exported, strict=True))
    known_plates = ShardedSet(config.prepared("stack") / "calibration")
    manifest = describe(localizer, reader)
    print("Quantizing ...")
    int8 = quantize(manifest, *exported, known_plates)
    metrics["int8"] = parity.compare_decisions(known, *int8, "onnxruntime-int8")
    if fault := parity.loss(metrics["int8"]):
        print(f"No int8 models: {fault}.")
    else:
        contents |= zip(bundle.INT8.values(), int8, strict=True)
    folder = config.out("models", "stack")
    stack = Bundle(folder, manifest, Calibration.from_dict(manifest.calibration), contents)
    calibration, threshold = calibrate(
        PlateReader(stack, runtime, available_cores()),
        known_plates,
        ShardedSet(config.prepared("stack") / "negatives"),
    )
    manifest = msgspec.structs.replace(
        manifest,
        files={name: bundle.file_entry(content) for name, content in contents.items()},
        calibration=calibration.to_dict(),
        threshold=threshold.value,
        metrics={**metrics, "threshold": threshold.to_dict()},
    )
    with complete_folder(folder) as partial:
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        (partial / bundle.MANIFEST).write_text(bundle.manifest_text(manifest), encoding="utf-8")
    size = sum(map(len, contents.values()))
    print(f"{folder}: {size:,} bytes, threshold {threshold.value:.4f}")


def weights(config: Config, task: str) -> Path:
    """File of the weights of ``localize`` or ``ocr``: the fine-tuned ones, where there are some."""
    tuned, trained = (
        config.out("models", name) / "model.safetensors" for name in (f"{task}_finetuned", task)
    )
    return tuned if tuned.exists() else trained


def quantize(
    manifest: Manifest, localizer: bytes, reader: bytes, samples: ShardedSet
) -> tuple[bytes, bytes]:
    """Both networks as int8, for what they are given when the first samples are read."""
    count = min(_QUANTIZED_BY, len(samples))
    pictures = [samples.image(i) for i in range(count)]
    found, read = inputs(localizer, reader, manifest, pictures)
    # Without a plate that is found nothing is read: an untrained localizer.
    blank = np.zeros((1, *manifest.reader.input_shape[1:]), np.uint8)
    return (
        quantized(localizer, found, keep_last=True),
        quantized(reader, read or [blank], keep_last=False),
    )


def describe(localizer: Localizer, reader: Recognizer) -> Manifest:
    """The manifest of what has no files yet, and is not calibrated."""
    graphics = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Manifest(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        git_revision=git_revision(),
        dvc_lock=dvc_lock(),
        hardware={"export_stack": machine(graphics)},
        files={},
        charset=bundle.charset_entry(),
        localizer=bundle.LocalizerEntry(
            name=_name(localizer),
            input_shape=localizer.input_shape,
            dense=localizer.dense,
            stride=localizer.stride,
            parameters=_parameters(localizer),
        ),
        reader=bundle.RecognizerEntry(
            name=_name(reader),
            input_shape=reader.input_shape,
            rectification=reader.rectification,
            margin=MARGINS[reader.rectification],
            parameters=_parameters(reader),
        ),
        calibration=reader_calibration(0, 0, "not fitted yet").to_dict(),
        threshold=0.0,
        metrics={},
    )


def _name(model: Localizer | Recognizer) -> str:
    """In the registry; a model that was loaded from a file is there."""
    modules: dict[str, object] = {name: entry.module for name, entry in LOCALIZERS.items()}
    modules |= {name: entry.module for name, entry in RECOGNIZERS.items()}
    return next(name for name, module in modules.items() if module is type(model))


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def calibrate(
    reader: PlateReader, known: ShardedSet, clutter: ShardedSet
) -> tuple[Calibration, Threshold]:
    """How likely a text is right, and from which probability on it is given.

    Args:
        reader: of the bundle; its own calibration does not matter.
        known: pictures whose plates are known, one each at most.
        clutter: pictures without a Swiss plate.
    """
    values, right = [], []
    for plate, candidates in zip(known.plates, _read(reader, known), strict=True):
        for candidate in candidates:
            values.append(candidate.features)
            # On no plate, or on one without a text, every text is wrong.
            right.append(candidate.reading.text == plate)
    calibration = fit_calibration(np.array(values).reshape(-1, len(FEATURES)), right)
    highest = [
        max(
            (calibration.probability(candidate.features[None])[0] for candidate in candidates),
            default=0.0,
        )
        for candidates in _read(reader, clutter)
    ]
    return calibration, choose_threshold(highest)


def _read(reader: PlateReader, samples: ShardedSet) -> Iterator[list[Candidate]]:
    """What was found in each picture of a set."""
    with tqdm(total=len(samples), unit=" pictures", desc=samples.folder.name) as progress:
        for start in range(0, len(samples), _BATCH):
            batch = range(start, min(start + _BATCH, len(samples)))
            yield from reader.candidates([samples.image(i) for i in batch])
            progress.update(len(batch))


if __name__ == "__main__":
    run_stage(main)
