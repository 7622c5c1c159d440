"""Stage export_stack: export both networks to ONNX, with everything needed to use them.

Writes out/models/stack, a bundle (src/inference/bundle.py). The exported networks are compared with the
PyTorch ones on samples of the validation sets. They are also quantized to int8; the int8 models are left
out if they lose too much. The networks then read data/prepared/stack/calibration, which determines how
likely a text is right. The plates of data/prepared/stack/incomplete with an illegible character, and
data/prepared/stack/negatives, which has no Swiss plates, determine the probability from which a text is
returned. Run it with
``dvc repro export_stack``, or ``python -m src.stack.export``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from ..core.geometry import box_iou, corners_to_box
from ..core.images import load_image
from ..core.layout import ILLEGIBLE
from ..core.machine import available_cores
from ..core.provenance import dvc_lock, git_revision, machine
from ..datasets.shards import ShardedSet
from ..evaluation.end_to_end import MATCH
from ..export import parity
from ..export.onnx import localizer_to_onnx, recognizer_to_onnx
from ..export.quantize import inputs, quantized
from ..inference import bundle
from ..inference.bundle import Bundle, Manifest
from ..inference.calibration import (
    FEATURES,
    HIDDEN_SHARE,
    Calibration,
    Threshold,
    choose_threshold,
    fit_calibration,
    reader_calibration,
)
from ..inference.colour import NONE, ColourModel, colour_features, fit_colours
from ..inference.crops import MARGINS, UPPER
from ..inference.reader import Candidate, PlateReader
from ..inference.runtimes import best_runtime
from ..models.base import Localizer, Recognizer
from ..models.registry import LOCALIZERS, RECOGNIZERS, load_localizer, load_recognizer

_BATCH = 64
_QUANTIZED_BY = 150
"""Number of images from which the int8 ranges are determined."""


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
    contents = dict(zip((bundle.LOCALIZER, bundle.RECOGNIZER), exported, strict=True))
    known_plates = ShardedSet(config.prepared("stack") / "calibration")
    manifest = describe(localizer, reader)
    print("Quantizing ...")
    int8 = quantize(manifest, *exported, known_plates)
    metrics["int8"] = parity.compare_decisions(known, *int8, "onnxruntime-int8")
    if fault := parity.loss(metrics["int8"]):
        print(f"Bundle without int8 models: {fault}.")
    else:
        contents |= zip(bundle.INT8.values(), int8, strict=True)
    folder = config.out("models", "stack")
    stack = Bundle(folder, manifest, Calibration.from_dict(manifest.calibration), contents)
    calibration, threshold, hidden = calibrate(
        PlateReader(stack, runtime, available_cores()),
        known_plates,
        ShardedSet(config.prepared("stack") / "negatives"),
        ShardedSet(config.prepared("stack") / "incomplete"),
    )
    colours = train_colours(
        PlateReader(stack, runtime, available_cores()),
        ShardedSet(config.prepared("stack") / "colours_calibration"),
    )
    manifest = msgspec.structs.replace(
        manifest,
        files={name: bundle.file_entry(content) for name, content in contents.items()},
        calibration=calibration.to_dict(),
        colours=None if colours is None else colours.to_dict(),
        threshold=max(threshold.value, hidden.value),
        metrics={
            **metrics,
            "threshold": threshold.to_dict(),
            "threshold_hidden": hidden.to_dict(),
        },
    )
    with complete_folder(folder) as partial:
        for name, content in contents.items():
            (partial / name).write_bytes(content)
        (partial / bundle.MANIFEST).write_text(bundle.manifest_text(manifest), encoding="utf-8")
    size = sum(map(len, contents.values()))
    print(f"{folder}: {size:,} bytes, threshold {manifest.threshold:.4f}")


def weights(config: Config, task: str) -> Path:
    """Return the weights file of ``localize`` or ``ocr``: the fine-tuned one, if it exists."""
    tuned, trained = (
        config.out("models", name) / "model.safetensors" for name in (f"{task}_finetuned", task)
    )
    return tuned if tuned.exists() else trained


def quantize(
    manifest: Manifest, localizer: bytes, reader: bytes, samples: ShardedSet
) -> tuple[bytes, bytes]:
    """Quantize both networks to int8, with ranges from their inputs when reading the first samples."""
    count = min(_QUANTIZED_BY, len(samples))
    images = [samples.image(i) for i in range(count)]
    found, read = inputs(localizer, reader, manifest, images)
    # An untrained localizer may find no plate, and then nothing is read.
    blank = np.zeros((1, *manifest.recognizer.input_shape[1:]), np.uint8)
    return (
        quantized(localizer, found, keep_last=True),
        quantized(reader, read or [blank], keep_last=False),
    )


def describe(localizer: Localizer, reader: Recognizer) -> Manifest:
    """Return the manifest of a bundle that has no files yet and is not calibrated."""
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
        recognizer=bundle.RecognizerEntry(
            name=_name(reader),
            input_shape=reader.input_shape,
            rectification=reader.rectification,
            margin=MARGINS[reader.rectification],
            upper=UPPER,
            parameters=_parameters(reader),
        ),
        calibration=reader_calibration(0, 0, "not fitted yet").to_dict(),
        threshold=0.0,
        metrics={},
    )


def _name(model: Localizer | Recognizer) -> str:
    """Return a model's name in the registry, which has every model that was loaded from a file."""
    modules: dict[str, object] = {name: entry.module for name, entry in LOCALIZERS.items()}
    modules |= {name: entry.module for name, entry in RECOGNIZERS.items()}
    return next(name for name, module in modules.items() if module is type(model))


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def calibrate(
    reader: PlateReader, known: ShardedSet, clutter: ShardedSet, incomplete: ShardedSet
) -> tuple[Calibration, Threshold, Threshold]:
    """Fit the probability that a text is right, and derive the thresholds from which it is returned.

    Args:
        reader: Reader of the bundle; its own calibration is not used.
        known: Annotated images with at most one plate each, some of which are hidden in part.
        clutter: Images without a Swiss plate.
        incomplete: Images of one Swiss plate each, many of which have an illegible character.

    Returns:
        The calibration, and the thresholds at which few enough images without a Swiss plate get a text,
        and few enough plates with an illegible character a wrong one. The higher one is used.
    """
    values, right = [], []
    for plate, candidates in zip(known.plates, _read(reader, known), strict=True):
        for candidate in candidates:
            values.append(candidate.features)
            # Where there is no plate, or one without a text, every text is wrong.
            right.append(candidate.reading.text == plate)
    calibration = fit_calibration(np.array(values).reshape(-1, len(FEATURES)), right)
    cluttered = [_highest(calibration, candidates) for candidates in _read(reader, clutter)]
    labels = incomplete.labels
    illegible = (labels["covered"] >= ILLEGIBLE) & (labels["text"] != "")
    hidden = [
        _highest(calibration, candidates, text)
        for candidates, text, counts in zip(
            _read(reader, incomplete), labels["text"], illegible, strict=True
        )
        if counts
    ]
    return (
        calibration,
        choose_threshold(cluttered),
        choose_threshold(hidden, allowed=HIDDEN_SHARE),
    )


def train_colours(reader: PlateReader, known: ShardedSet) -> ColourModel | None:
    """Fit the model of the plates' colours on those that the reader finds, where they are found.

    Args:
        reader: Reader of the bundle.
        known: Images in colour with one plate each.

    Returns:
        The model; None if fewer than two colours were found, as by a reader that is not trained.
    """
    values, colours = [], []
    true, names = known.corners, known.labels["colour"].tolist()
    for i, candidates in enumerate(_read(reader, known)):
        image = known.image(i)
        box = corners_to_box(true[i] * image.shape[1::-1])
        near = [
            candidate
            for candidate in candidates
            if float(box_iou(corners_to_box(candidate.corners), box)) >= MATCH
        ]
        if near:
            best = near[0]
            features = colour_features(
                load_image(image), [best.corners], [best.confidence], [best.reading]
            )
            if features is not None:
                values.append(features[0])
                colours.append(names[i] or NONE)
    return fit_colours(np.array(values), colours) if len(set(colours)) > 1 else None


def _highest(calibration: Calibration, candidates: Sequence[Candidate], plate: str = "") -> float:
    """Return the highest probability among the texts of an image, but for that of its plate."""
    return max(
        (
            float(calibration.probability(candidate.features[None])[0])
            for candidate in candidates
            if candidate.reading.text != plate
        ),
        default=0.0,
    )


def _read(reader: PlateReader, samples: ShardedSet) -> Iterator[list[Candidate]]:
    """Yield the candidates found in each image of a set."""
    with tqdm(total=len(samples), unit=" images", desc=samples.folder.name) as progress:
        for start in range(0, len(samples), _BATCH):
            batch = range(start, min(start + _BATCH, len(samples)))
            yield from reader.candidates([samples.image(i) for i in batch])
            progress.update(len(batch))


if __name__ == "__main__":
    run_stage(main)
