"""Results as JSON or text, and a standard output that holds whole lines only."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..inference.reader import Plate


@dataclass(frozen=True)
class Result:
    """Result for a path: plates or an error, or both if a drawing could not be written.

    Attributes:
        path: Path as it was found.
        plates: Its plates, sorted by descending confidence.
        error: Why it could not be read, or its drawing not be written.
        is_read: Whether it was read.
        warnings: What is wrong with the file, though it was read.
    """

    path: str
    plates: Sequence[Plate] = ()
    error: str | None = None
    is_read: bool = False
    warnings: tuple[str, ...] = ()


def as_json(result: Result) -> str:
    """Return one JSON object with the fields of ``as_fields``."""
    return json.dumps(as_fields(result))


def as_fields(result: Result) -> dict[str, Any]:
    """Return ``path``, ``plates`` or ``error``, and ``warnings`` if any."""
    if not result.is_read:
        return {"path": result.path, "error": result.error}
    plates = [
        {
            "plate": plate.plate,
            "canton": plate.canton,
            "number": plate.number,
            "confidence": round(plate.confidence, 4),
            "char_confidences": [round(value, 4) for value in plate.char_confidences],
            "box": [round(value, 2) for value in plate.box],
            "corners": [[round(value, 2) for value in corner] for corner in plate.corners],
            "lines": plate.lines,
            "format": plate.format,
            "reason": plate.reason,
            "colour": plate.colour,
            "colour_confidence": plate.colour_confidence and round(plate.colour_confidence, 4),
            **_alternatives(plate),
        }
        for plate in result.plates
    ]
    warnings = {"warnings": result.warnings} if result.warnings else {}
    return {"path": result.path, "plates": plates} | warnings


def _alternatives(plate: Plate) -> dict[str, Any]:
    """Return the alternatives as an entry of a JSON object; nothing if none were asked for."""
    if not plate.alternatives:
        return {}
    return {
        "alternatives": [
            {"plate": text, "confidence": round(chance, 6)} for text, chance in plate.alternatives
        ]
    }


_WITHOUT_TEXT = {
    "incomplete": "a plate, part of which is hidden or outside of the image",
    "not_swiss": "a plate that is not Swiss",
    "unreadable": "a plate, but no text is confident enough",
}


def as_text(result: Result) -> str:
    """Return a line for each plate, or one that says that no plate was found."""
    if not result.is_read:
        return ""
    lines = [
        f"{result.path}: {plate.canton} {plate.number} ({plate.confidence:.1%})"
        if plate.plate
        else f"{result.path}: {_WITHOUT_TEXT[plate.reason or 'unreadable']}"
        for plate in result.plates
    ]
    return "\n".join(lines or [f"{result.path}: no plate"])


# Signals


class StoppedError(BaseException):
    """A signal asks the command to end.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into a ``StoppedError``, though never within a line of the output.

    A second signal ends the command wherever it is: the output may be a pipe that nobody reads.
    """

    def __init__(self) -> None:
        self._is_held = False
        self._number: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals until the end of the block; in another thread than the main one, leave them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What is ignored stays so, as SIGHUP under nohup.
        numbers = [
            getattr(signal, name)
            for name in ("SIGINT", "SIGTERM", "SIGHUP")
            if hasattr(signal, name)
            and signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN
        ]
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        is_second = self._number is not None
        self._number = number
        if is_second or not self._is_held:
            raise StoppedError(number)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the first signal back until the end of the block.

        Raises:
            StoppedError: A signal arrived meanwhile.
        """
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._number is not None:
            raise StoppedError(self._number)
