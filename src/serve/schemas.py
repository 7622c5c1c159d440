"""Schemas of feedback and of responses, as shown in /docs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..inference.reader import Plate
from .engine import Answer


class _Schema(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorContent(_Schema):
    """Why something was refused."""

    code: str
    """A word for programs."""
    message: str
    """A sentence for people."""
    limit: str | None = None
    """The setting of the server that says what is allowed."""


class ErrorAnswer(_Schema):
    """Of a request that was refused as a whole."""

    error: ErrorContent


class BestPlate(_Schema):
    """The plate with the highest confidence in an image; nulls where no text is likely enough."""

    plate: str | None = Field(examples=["ZH123456"])
    canton: str | None = Field(examples=["ZH"])
    number: str | None = Field(examples=["123456"])
    confidence: float | None = Field(examples=[0.998])
    """Calibrated probability that the text is right."""

    @classmethod
    def of(cls, plates: Sequence[Plate]) -> BestPlate:
        """Return the schema of the first plate with a text, or of nulls if there is none."""
        for plate in plates:
            if plate.plate is not None:
                return cls(
                    plate=plate.plate,
                    canton=plate.canton,
                    number=plate.number,
                    confidence=round(plate.confidence, 4),
                )
        return cls(plate=None, canton=None, number=None, confidence=None)


class FoundPlate(_Schema):
    """A plate of an image; without a text where none is likely enough, as of a foreign plate."""

    plate: str | None
    canton: str | None
    number: str | None
    confidence: float
    """Calibrated probability that the text is right."""
    char_confidences: list[float]
    """Of the canton and of each digit."""
    box: tuple[float, float, float, float]
    """x1, y1, x2, y2 in pixels of the displayed image."""
    corners: list[tuple[float, float]]
    """Four of x, y, clockwise from the plate's own top left."""
    lines: int
    """1 or 2."""

    @classmethod
    def of(cls, plate: Plate) -> FoundPlate:
        x1, y1, x2, y2 = (round(value, 2) for value in plate.box)
        return cls(
            plate=plate.plate,
            canton=plate.canton,
            number=plate.number,
            confidence=round(plate.confidence, 4),
            char_confidences=[round(value, 4) for value in plate.char_confidences],
            box=(x1, y1, x2, y2),
            corners=[(round(x, 2), round(y, 2)) for x, y in plate.corners],
            lines=plate.lines,
        )


class Timings(_Schema):
    """Milliseconds."""

    queue_ms: float
    """Time that the image waited."""
    compute_ms: float
    """Time to decode and read the batch that it was in."""


class Result(_Schema):
    """Of one image: plates, or why it could not be read."""

    name: str
    """Of the file, as it was sent."""
    id: str | None = None
    """Id to give feedback with; only where the image is kept."""
    plates: list[FoundPlate] | None = None
    """Sorted by descending confidence; none is an empty list."""
    width: int | None = None
    """Of the displayed image, in pixels."""
    height: int | None = None
    timings: Timings | None = None
    error: ErrorContent | None = None

    @classmethod
    def of(cls, name: str, answer: Answer, entry: str | None) -> Result:
        result = cls(
            name=name,
            plates=[FoundPlate.of(plate) for plate in answer.plates],
            width=answer.width,
            height=answer.height,
            timings=Timings(
                queue_ms=round(answer.queue_ms, 2), compute_ms=round(answer.compute_ms, 2)
            ),
        )
        if entry is not None:
            # Fields that are not set are left out of the response.
            result.id = entry
        return result


class Results(_Schema):
    """In the order of the files."""

    results: list[Result]
    model: str
    """Version of the bundle that they were read with."""


Verdict = Literal["right", "wrong", "missed"]


class GivenFeedback(_Schema):
    """What a user says of a plate, or of the image where `plate` is null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    id: str = Field(max_length=64)
    """Of the image, from the answer of /v1/read."""
    plate: int | None = Field(None, ge=0, le=100_000)
    """Its place among the plates of that answer; the first is 0."""
    verdict: Verdict
    """Whether the plate was read right or wrong. Of the image: whether a plate was missed, or none
    (right)."""
    text: str | None = Field(None, max_length=32, examples=["ZH123456"])
    """The correct one, if it is known."""
    corners: list[tuple[float, float]] | None = Field(None, min_length=4, max_length=4)
    """The correct ones: four of x, y in pixels of the displayed image, clockwise from the plate's own
    top left."""
    lines: Literal[1, 2] | None = None
    """Of the plate."""


class StoredFeedback(_Schema):
    """Feedback as it was stored."""

    id: str
    """Of the image."""
    plate: int | None
    verdict: Verdict
    text: str | None
    """As it is spelled everywhere, such as ZH123456."""
    corners: list[tuple[float, float]] | None
    lines: int | None
    created: datetime
