"""What a search varies: the ranges of parameters, by task and model.

They are parameters of the training stage and of the model whose best values the validation set of the stage
can tell. Others it cannot: of the augmentation and of what is drawn it has as much itself, more channels are
better there and slower everywhere, and more epochs are better but not comparable. BATCH_SIZE belongs to both
networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ..config import PARAMS_FILE, Config
from ..core.errors import UserError

DIGITS = 3
"""Significant digits of the values that are tried."""


class SpaceError(UserError):
    """A range contains values that a parameter may not have."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``.

    ``low`` is at least 0.0001 if it is not 0: DVC cannot edit numbers that Python spells with an exponent.

    Attributes:
        low: Least value.
        high: Greatest value.
        log: Whether values are drawn uniformly by their logarithm.
    """

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> list[Any]:
        """Values that must be allowed for all others to be."""
        return [self.low, self.high]


@dataclass(frozen=True)
class Choice:
    """Some values, all equally likely."""

    values: tuple[float, ...]

    @property
    def ends(self) -> list[Any]:
        """Values that must be allowed for all others to be."""
        return list(self.values)


Space = Mapping[str, Range | Choice]
"""Ranges by the names of parameters, such as ``TrainOCRParams.LR``."""


def _training(name: str, lr: Range) -> Space:
    return {
        f"{name}.LR": lr,
        f"{name}.WEIGHT_DECAY": Range(0.001, 0.1, log=True),
        f"{name}.WARMUP": Range(0.02, 0.3),
        f"{name}.EMA_DECAY": Choice((0.98, 0.99, 0.995, 0.998)),
    }


_LOCALIZE = _training("TrainLocalizeParams", Range(0.0005, 0.02, log=True))
_OCR = _training("TrainOCRParams", Range(0.0005, 0.02, log=True))
SPACES: Mapping[str, Mapping[str, Space]] = {
    "localize": {
        "plate_net": _LOCALIZE,
        "plate_localizer_v3": {**_LOCALIZE, "LocalizeModelParams.DROPOUT": Range(0.0, 0.6)},
    },
    "ocr": {
        "crnn": {
            **_OCR,
            "OCRModelParams.CRNN_HIDDEN_SIZE": Choice((64, 96, 128)),
            "OCRModelParams.CRNN_DROPOUT": Range(0.0, 0.4),
        },
        "plate_ocr_v2": {**_OCR, "OCRModelParams.GRU_DROPOUT": Range(0.0, 0.7)},
    },
}
"""Spaces by task and by the model's name in src/models/registry.py."""


def space_of(config: Config, task: str) -> Space:
    """Return the space of a task for the model of params.yaml.

    Raises:
        SpaceError: A range does not fit src/config.
    """
    models = {"localize": config.models.localizer, "ocr": config.models.recognizer}
    space = SPACES[task][models[task]]
    for name, values in space.items():
        for value in values.ends:
            try:
                with_values(config, {name: value})
            except (ValidationError, KeyError) as error:
                raise SpaceError(
                    f"src/search/spaces.py: {name}: {value} is not allowed: {error}"
                ) from error
    return space


def values_now(config: Config, space: Space) -> dict[str, Any]:
    """Return the values that the parameters of a space have in params.py."""
    found = {}
    for name in space:
        section, _, parameter = name.partition(".")
        found[name] = getattr(getattr(config, section), parameter)
    return found


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the parameters with other values, by their names.

    Raises:
        ValidationError: A value is not allowed.
        KeyError: There is no such parameter.
    """
    changed = config.model_dump()
    for name, value in values.items():
        section, _, parameter = name.partition(".")
        if parameter not in changed[section]:
            raise KeyError(name)
        changed[section][parameter] = value
    return Config.model_validate(changed)


def rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return drawn values as they are trained with and printed: numbers of three significant digits."""
    return {
        name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
        for name, value in values.items()
    }


def experiment(values: Mapping[str, Any]) -> str:
    """Return the command that runs the pipeline with these values."""
    return " ".join(["dvc exp run", *_options(values)])


def _options(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        yield f"-S '{PARAMS_FILE}:{name}={value!r}'"
