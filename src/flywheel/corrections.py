"""Corrections by a person: a text that follows the plate grammar, and the corners of a plate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.charset import CHARSET
from ..core.spelling import without_separators
from .errors import CorrectionError

Corners = tuple[tuple[float, float], ...]
"""Four corners x, y in pixels of the displayed image, clockwise from the plate's own top left."""


@dataclass(frozen=True)
class Correction:
    """A correction of a plate by a person; None where nothing is corrected.

    Attributes:
        text: Canton and number, such as ZH123456.
        corners: Corners of the plate.
        lines: Number of lines of the plate, 1 or 2.
    """

    text: str | None = None
    corners: Corners | None = None
    lines: int | None = None

    def __bool__(self) -> bool:
        return (self.text, self.corners, self.lines) != (None, None, None)

    def checked(self, width: int, height: int) -> Correction:
        """Validate the correction and return it with its text in canonical spelling.

        Args:
            width: Width of the displayed image in pixels.
            height: Height of the displayed image in pixels.

        Raises:
            CorrectionError: The text violates the plate grammar, a plate cannot have these corners, or
                the number of lines is neither 1 nor 2.
        """
        if self.lines not in (None, 1, 2):
            raise CorrectionError(f"lines must be 1 or 2, got {self.lines}")
        if self.corners is not None:
            _check_corners(self.corners, width, height)
        text = None if self.text is None else spelled(self.text)
        return Correction(text, self.corners, self.lines)


def spelled(text: str) -> str:
    """Return a text in upper case without separators: ``zh 123·456`` becomes ``ZH123456``.

    Raises:
        CorrectionError: The text violates the plate grammar.
    """
    spelling = without_separators(text)
    try:
        CHARSET.encode(spelling)
    except ValueError as error:
        raise CorrectionError(str(error)) from None
    return spelling


def _check_corners(corners: Corners, width: int, height: int) -> None:
    if len(corners) != 4 or any(len(corner) != 2 for corner in corners):
        raise CorrectionError("corners must be four pairs of x and y")
    # The edge of the image may cut off a plate, but the plate cannot be far outside.
    if not all(-width <= x <= 2 * width and -height <= y <= 2 * height for x, y in corners):
        raise CorrectionError(f"the corners are far outside the image of {width} x {height} pixels")
    turns = [
        _turn(corners[i], corners[(i + 1) % 4], corners[(i + 2) % 4]) for i in range(len(corners))
    ]
    if not all(turn > 0 and math.isfinite(turn) for turn in turns):
        raise CorrectionError(
            "the corners do not form a plate: they must run clockwise from its own top left, and none "
            "may lie within the others"
        )


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    """Return a positive number where the path from a through b to c turns clockwise (y points down)."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
