"""Registry of the models by name, with functions to save and load them.

A model file is a safetensors file whose metadata holds the model's kind, its name, and the arguments
that build it, so that a later change of params.py cannot break an old file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..config import Config
from .base import Localizer, ModelError, Recognizer
from .localizers import PlateLocalizerV3, PlateNet
from .recognizers import CRNN, PlateOCRV2

Model = TypeVar("Model", Localizer, Recognizer)


@dataclass(frozen=True)
class Entry(Generic[Model]):
    """Registry entry of a model: its class, and how its arguments follow from the parameters.

    The input size is one of the arguments, so that models need not share it.
    """

    module: Callable[..., Model]
    arguments: Callable[[Config], dict[str, Any]]

    def __call__(self, config: Config) -> Model:
        return self.module(**self.arguments(config))


LOCALIZERS: dict[str, Entry[Localizer]] = {
    "plate_net": Entry(
        PlateNet,
        lambda config: {
            "input_shape": config.LocalizeParams.IMG_SHAPE,
            "channels": config.LocalizeModelParams.PLATE_NET_CHANNELS,
        },
    ),
    "plate_localizer_v3": Entry(
        PlateLocalizerV3,
        lambda config: {
            "input_shape": config.LocalizeParams.IMG_SHAPE,
            "layers": config.LocalizeModelParams.CONV_LAYERS,
            "pooling": config.LocalizeModelParams.AVGPOOL_SIZE,
            "hidden": config.LocalizeModelParams.HIDDEN_LAYERS,
            "dropout": config.LocalizeModelParams.DROPOUT,
        },
    ),
}

RECOGNIZERS: dict[str, Entry[Recognizer]] = {
    "crnn": Entry(
        CRNN,
        lambda config: {
            "input_shape": config.OCRModelParams.CRNN_IMG_SHAPE,
            "channels": config.OCRModelParams.CRNN_CHANNELS,
            "hidden_size": config.OCRModelParams.CRNN_HIDDEN_SIZE,
            "layers": config.OCRModelParams.CRNN_NUM_LAYERS,
            "dropout": config.OCRModelParams.CRNN_DROPOUT,
            "num_classes": config.OCRParams.GRU_NUM_CLASSES,
        },
    ),
    "plate_ocr_v2": Entry(
        PlateOCRV2,
        lambda config: {
            "input_shape": config.OCRParams.IMG_SHAPE,
            "layers": config.OCRModelParams.CONV_LAYERS,
            "pooling": config.OCRModelParams.GRU_AVGPOOL_SIZE,
            "hidden_size": config.OCRModelParams.GRU_HIDDEN_SIZE,
            "gru_layers": config.OCRModelParams.GRU_NUM_LAYERS,
            "dropout": config.OCRModelParams.GRU_DROPOUT,
            "num_classes": config.OCRParams.GRU_NUM_CLASSES,
        },
    ),
}


def build_localizer(name: str, config: Config) -> Localizer:
    """Build the localizer ``name`` with newly initialised weights.

    Raises:
        ModelError: If the name is unknown, or the model cannot be built with its parameters.
    """
    return _entry(LOCALIZERS, name, "params.yaml: models.localizer")(config)


def build_recognizer(name: str, config: Config) -> Recognizer:
    """Build the recognizer ``name`` with newly initialised weights.

    Raises:
        ModelError: If the name is unknown, or the model cannot be built with its parameters.
    """
    return _entry(RECOGNIZERS, name, "params.yaml: models.recognizer")(config)


def _entry(entries: Mapping[str, Entry[Model]], name: str, where: str) -> Entry[Model]:
    if name not in entries:
        raise ModelError(
            f"{where}: unknown model {name!r}; known models: {', '.join(sorted(entries))}"
        )
    return entries[name]


def save_model(model: Localizer | Recognizer, path: Path) -> None:
    """Write a model to a file, which appears only once it is complete.

    Raises:
        ModelError: If the model's class is not registered, or the file cannot be written.
    """
    kind, entries = _kind_of(model)
    names = [name for name, entry in entries.items() if entry.module is type(model)]
    if not names:
        raise ModelError(f"{type(model).__name__} is not in src/models/registry.py")
    metadata = {
        "kind": kind,
        "name": names[0],
        "parameters": json.dumps(model.parameters_of_class),
    }
    # Made contiguous, as safetensors requires it and training uses channels-last.
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # safetensors' own writer creates files that only their owner can read.
        temporary.write_bytes(_in_order(save(state, metadata)))
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot write the model: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


_LENGTH = 8
"""Bytes at the beginning of a safetensors file that hold the length of its header, a JSON object."""


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with its metadata sorted by name.

    safetensors orders them by chance, and DVC would take two files of the same model for different ones.
    """
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    # As safetensors writes it, so that the length with its padding stays the same.
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return content[:_LENGTH] + text.ljust(end - _LENGTH) + content[end:]


def _kind_of(model: Localizer | Recognizer) -> tuple[str, Mapping[str, Entry[Any]]]:
    return (
        ("localizer", LOCALIZERS) if isinstance(model, Localizer) else ("recognizer", RECOGNIZERS)
    )


def load_localizer(path: Path) -> Localizer:
    """Load a localizer from a file, in evaluation mode.

    Raises:
        ModelError: If the file is missing or damaged, or does not hold such a model.
    """
    return _load(path, "localizer", LOCALIZERS, "train_localize")


def load_recognizer(path: Path) -> Recognizer:
    """Load a recognizer from a file, in evaluation mode.

    Raises:
        ModelError: If the file is missing or damaged, or does not hold such a model.
    """
    return _load(path, "recognizer", RECOGNIZERS, "train_ocr")


def _load(path: Path, kind: str, entries: Mapping[str, Entry[Model]], stage: str) -> Model:
    remedy = f"Train it with `dvc repro {stage}`."
    if not path.is_file():
        raise ModelError(f"{path}: the model does not exist. {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: the model is damaged: {error}. {remedy}") from error
    if metadata.get("kind") != kind:
        raise ModelError(
            f"{path} holds {metadata.get('kind', 'an unknown model')}"
            f" {metadata.get('name', '')}, not a {kind}. {remedy}"
        )
    entry = _entry(entries, metadata.get("name", ""), str(path))
    try:
        model = entry.module(**json.loads(metadata["parameters"]))
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{path}: the weights do not match the model {metadata['name']}: {error}. {remedy}"
        ) from error
    return model.eval()
