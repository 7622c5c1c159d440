"""What a person says is right: a text that obeys the grammar, and corners of a plate."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..core.charset import CHARSET
from .errors import CorrectionError

Corners = tuple[tuple[float, float], ...]
"""Four of x, y in pixels of the displayed picture, clockwise from the plate's own top left."""

_BETWEEN = re.compile(r"[\s.·•*'’_-]+")
"""What people write between the parts of a plate."""


@dataclass(frozen=True)
class Correction:
    """What is right, where a person says so.

    Attributes:
        text: a canton and its number, such as ZH123456.
        corners: of the plate.
        lines: 1 or 2.
    """

    text: str | None = None
    corners: Corners | None = None
    lines: int | None = None

    def __bool__(self) -> bool:
        return (self.text, self.corners, self.lines) != (None, None, None)

    def checked(self, width: int, height: int) -> Correction:
        """The same, its text as it is spelled everywhere.

        Args:
            width: of the displayed picture, in pixels.
            height: likewise.

        Raises:
            CorrectionError: the text breaks the grammar, or the corners are none of a plate.
        """
        if self.lines not in (None, 1, 2):
            raise CorrectionError(f"a plate has 1 or 2 lines, not {self.lines}")
        if self.corners is not None:
            _check_corners(self.corners, width, height)
        text = None if self.text is None else spelled(self.text)
        return Correction(text, self.corners, self.lines)


def spelled(text: str) -> str:
    """A text without what stands between its parts: ``zh 123·456`` is ZH123456.

    Raises:
        CorrectionError: it breaks the grammar.
    """
    spelling = _BETWEEN.sub("", text).upper()
    try:
        CHARSET.encode(spelling)
    except ValueError as error:
        raise CorrectionError(str(error)) from None
    return spelling


def _check_corners(corners: Corners, width: int, height: int) -> None:
    if len(corners) != 4 or any(len(corner) != 2 for corner in corners):
        raise CorrectionError("corners are four of x, y")
    # A plate may be cut off by the picture's edge, but it is not somewhere else.
    if not all(-width <= x <= 2 * width and -height <= y <= 2 * height for x, y in corners):
        raise CorrectionError(f"the corners are far outside of a picture of {width} x {height}")
    turns = [
        _turn(corners[i], corners[(i + 1) % 4], corners[(i + 2) % 4]) for i in range(len(corners))
    ]
    if not all(turn > 0 and math.isfinite(turn) for turn in turns):
        raise CorrectionError(
            "the corners are no plate: they run clockwise from its own top left, and none lies within "
            "the others"
        )


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    """Above zero where the way from a through b to c turns clockwise (y runs down)."""
    return (b[0] - a[0]) * (c[1] - b[1]) - (b[1] - a[1]) * (c[0] - b[0])
