"""Types of parameters: the allowed numbers, lists and shapes, and the messages for invalid ones."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Value = TypeVar("Value", int, float)


class Section(BaseModel):
    """Class of params.py or section of params.yaml: frozen, and rejects unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def _ordered(values: list[Value]) -> list[Value]:
    if values[0] > values[1]:
        raise ValueError("a range must be [low, high] with low <= high")
    return values


def _rising(values: list[float]) -> list[float]:
    if sorted(set(values)) != values:
        raise ValueError("bin edges must be strictly increasing")
    return values


def _some_weight(values: list[float]) -> list[float]:
    if sum(values) <= 0:
        raise ValueError("at least one weight must be greater than 0")
    return values


def _no_bool(value: Any) -> Any:
    # bool is a subclass of int: EPOCHS = True would pass for 1.
    if isinstance(value, bool):
        raise ValueError("expected a number, not a boolean")
    return value


def _grey(shape: list[int]) -> list[int]:
    if shape[0] != 1:
        raise ValueError("the pipeline is greyscale: the shape must be [1, height, width]")
    return shape


def _square(size: list[int]) -> list[int]:
    if size[0] != size[1]:
        raise ValueError("scenes must be square: [side, side]")
    return size


def exactly(count: int) -> Any:
    """Return the constraint that a list has exactly this many values."""
    return Field(min_length=count, max_length=count)


# Numbers

Integer = Annotated[int, BeforeValidator(_no_bool), Field(strict=True)]
Number = Annotated[float, BeforeValidator(_no_bool)]
Count = Annotated[Integer, Field(ge=1)]
Natural = Annotated[Integer, Field(ge=0)]
Seed = Annotated[Integer, Field(ge=0, lt=2**63)]
Probability = Annotated[Number, Field(ge=0, le=1)]
Share = Annotated[Number, Field(gt=0, lt=1)]
"""Fraction strictly between 0 and 1."""
Positive = Annotated[Number, Field(gt=0)]
Weight = Annotated[Number, Field(ge=0)]
Degrees = Annotated[Number, Field(ge=0, le=60)]

# Ranges

Range = Annotated[list[Value], exactly(2), AfterValidator(_ordered)]
"""Range ``[low, high]``; both may be equal."""
PositiveRange = Range[Positive]
ProbabilityRange = Range[Probability]

# Lists

Weights = Annotated[list[Weight], AfterValidator(_some_weight)]
Edges = Annotated[list[Weight], Field(min_length=2), AfterValidator(_rising)]
ThresholdAndLimit = Annotated[list[Weight], exactly(2)]
Layers = Annotated[list[Natural], Field(min_length=1)]
Channels = Annotated[list[Count], exactly(8)]

# Sizes and shapes

Size = Annotated[list[Count], exactly(2)]
GreyShape = Annotated[list[Count], exactly(3), AfterValidator(_grey)]
SceneSize = Annotated[
    list[Annotated[Integer, Field(ge=64, le=2048)]], exactly(2), AfterValidator(_square)
]
