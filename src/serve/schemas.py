"""Schemas of feedback and of responses, as shown in /docs."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel

from ..core.layout import Format
from ..inference.colour import Colour
from ..inference.layout import Reason
from ..inference.reader import Plate
from .engine import Answer

Direction = Literal["approaching", "receding", "left", "right"]
"""As src/video/tracks.py has it, which needs SciPy."""


class _Schema(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class ErrorContent(_Schema):
    """Reason why a request or an image was refused."""

    code: str
    """Error code for programs."""
    message: str
    """Error message for people."""
    limit: str | None = None
    """Name of the server setting whose limit was exceeded."""


class ErrorAnswer(_Schema):
    """Response to a request that was refused as a whole."""

    error: ErrorContent


class BestPlate(_Schema):
    """Most confident plate in an image; all fields are null if no text is confident enough."""

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
    """Plate in an image; its text is null if not confident enough, such as for a foreign plate."""

    plate: str | None
    canton: str | None
    number: str | None
    confidence: float
    """Calibrated probability that the text is right."""
    char_confidences: list[float]
    """Confidences of the canton and of each digit."""
    box: tuple[float, float, float, float]
    """Bounding box x1, y1, x2, y2 in pixels of the displayed image."""
    corners: list[tuple[float, float]]
    """Four corners x, y in pixels of the displayed image, clockwise from the plate's own top left."""
    lines: int
    """Number of text lines, 1 or 2."""
    format: Format | None
    """Format of the plate; null for a plate that is not Swiss."""
    reason: Reason | None
    """Reason why there is no text: part of the plate is hidden, the text is too uncertain, or the plate is
    not Swiss; null where there is a text."""
    colour: Colour | None
    """Colour of the plate's ground; null where none can be told, as in a grey image."""
    colour_confidence: float | None
    """Calibrated probability of the colour; null without one."""

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
            format=plate.format,
            reason=plate.reason,
            colour=plate.colour,
            colour_confidence=plate.colour_confidence and round(plate.colour_confidence, 4),
        )


class Timings(_Schema):
    """Processing times in milliseconds."""

    queue_ms: float
    """Time that the image waited in the queue."""
    compute_ms: float
    """Time to decode and read the batch that contained the image."""


class Result(_Schema):
    """Result for one image: its plates, or the reason why it could not be read."""

    name: str
    """Name of the file as it was sent."""
    id: str | None = None
    """Id of the image for feedback; present only if the image is stored."""
    plates: list[FoundPlate] | None = None
    """Plates sorted by descending confidence; empty if no plate was found."""
    width: int | None = None
    """Width of the displayed image in pixels."""
    height: int | None = None
    """Height of the displayed image in pixels."""
    timings: Timings | None = None
    warnings: list[str] | None = None
    """What is wrong with the file, though it was read, such as a missing end; present only if there is."""
    preview: str | None = None
    """The image as a JPEG in Base64, its longer side at most 1600 pixels; present only if asked for."""
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
        if answer.warnings:
            result.warnings = [*answer.warnings]
        if answer.preview is not None:
            result.preview = b64encode(answer.preview).decode()
        return result


class Results(_Schema):
    """Results in the order of the files."""

    results: list[Result]
    model: str
    """Version of the bundle that read the images."""


class EventAlternative(_Schema):
    """A text that an event's plate may have."""

    plate: str
    confidence: float


class BestFrame(_Schema):
    """The frame whose reading supports an event's text best."""

    time: float
    """Second of the frame."""
    box: tuple[float, float, float, float]
    """Bounding box x1, y1, x2, y2 in pixels of the frame."""
    corners: list[tuple[float, float]]
    """Four corners x, y in pixels of the frame, clockwise from the plate's own top left."""
    image: str | None = None
    """The frame as a JPEG in Base64; only in lines of events, and only if asked for."""


class ClipEvent(_Schema):
    """A vehicle in a clip; the fields are those of events of cameras."""

    id: str
    """Identifier; revisions of an event share it."""
    revision: int
    """1 when the event is first given, then counted up."""
    source: str
    """Name of the file as it was sent."""
    plate: str | None
    canton: str | None
    number: str | None
    colour: Colour | None
    format: Format | None
    reason: Reason | None
    """Reason why there is no text; null where there is one."""
    confidence: float
    """Calibrated probability that the most probable text is right."""
    first: float
    """Second at which the vehicle was first seen."""
    last: float
    """Second at which it was last seen."""
    frames: int
    """Number of frames that were looked at and show it."""
    reads: int
    """Number of these in which a text was read."""
    direction: Direction | None
    """Where it drives; null where it stands, or was seen too shortly."""
    alternatives: list[EventAlternative]
    """The most probable texts, the most probable first."""
    best: BestFrame


class ClipWaiting(_Schema):
    """Other clips are read before this one."""

    type: Literal["waiting"]


class ClipProgress(_Schema):
    """How far a clip is read."""

    type: Literal["progress"]
    second: float
    """Second that was reached."""
    seconds: float | None
    """Length of the clip, as it states it."""


class ClipSeen(_Schema):
    """An event, or a further revision of it."""

    type: Literal["event"]
    event: ClipEvent


class ClipResult(_Schema):
    """The last line: what was seen in the clip."""

    type: Literal["result"]
    name: str
    """Name of the file as it was sent."""
    seconds: float
    """Second of the last frame that was looked at."""
    width: int
    """Width of its frames in pixels."""
    height: int
    """Height of its frames in pixels."""
    frames: int
    """Number of frames that were looked at."""
    events: list[ClipEvent]
    """The last revision of each event, without its image, in the order in which the vehicles came."""
    warnings: list[str]
    """What is wrong with the file, though it was read."""
    model: str
    """Version of the bundle that read the clip."""


class ClipError(_Schema):
    """The last line, if reading the clip has failed."""

    type: Literal["error"]
    error: ErrorContent


class ClipLine(RootModel[ClipWaiting | ClipProgress | ClipSeen | ClipResult | ClipError]):
    """One line of the response."""


Verdict = Literal["right", "wrong", "missed"]


class GivenFeedback(_Schema):
    """Feedback from a user on a plate, or on the whole image if `plate` is null."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    id: str = Field(max_length=64)
    """Id of the image, from the response of /v1/read."""
    plate: int | None = Field(None, ge=0, le=100_000)
    """Index of the plate in that response, starting at 0."""
    verdict: Verdict
    """For a plate: whether it was read right or wrong. For the image: whether a plate was missed, or
    none was (right)."""
    text: str | None = Field(None, max_length=32, examples=["ZH123456"])
    """Correct text, if known."""
    corners: list[tuple[float, float]] | None = Field(None, min_length=4, max_length=4)
    """Correct corners, if known: four corners x, y in pixels of the displayed image, clockwise from the
    plate's own top left."""
    lines: Literal[1, 2] | None = None
    """Correct number of text lines, if known."""


class StoredFeedback(_Schema):
    """Feedback as it was stored."""

    id: str
    """Id of the image."""
    plate: int | None
    verdict: Verdict
    text: str | None
    """Correct text in canonical spelling, such as ZH123456."""
    corners: list[tuple[float, float]] | None
    lines: int | None
    created: datetime
