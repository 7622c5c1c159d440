"""What the layout of a plate tells beside its text: its format, and why a text is withheld (no torch)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..core.geometry import FloatArray, plate_height, plate_width
from ..core.layout import FORMATS, LAYOUT, Format
from .decoding import Reading

Reason = Literal["incomplete", "unreadable", "not_swiss"]
"""Why a plate has no text: a character is hidden, the text is too uncertain, or the plate is not Swiss."""

_SIDES: dict[Format, tuple[tuple[float, float], ...]] = {
    "front": ((300.0, 80.0), (500.0, 110.0)),
    "rear_long": ((500.0, 110.0),),
    "rear_high": ((300.0, 160.0),),
    "motorcycle": ((180.0, 140.0),),
    "moped": ((100.0, 140.0),),
}
"""Width and height of the formats in millimetres (VZV Art. 83). The second one of the front plate is the
long plate without arms that the original project draws."""
_SPREAD = 0.18
"""Standard deviation of the logarithm of a plate's aspect ratio: it is seen at an angle, and its corners
are estimated."""
_RARE = 1.0
"""How much less probable the second size of a format is, as a difference of logits."""
_LINES: dict[Format, int] = {
    "front": 1,
    "rear_long": 1,
    "rear_high": 2,
    "motorcycle": 2,
    "moped": 2,
}
_SWISS, _COMPLETE = LAYOUT.index("swiss"), LAYOUT.index("complete")
_FIRST = LAYOUT.index(FORMATS[0])


def plate_format(reading: Reading, corners: FloatArray, lines: int) -> Format | None:
    """Return the format of a plate, one of ``FORMATS``, from what the recognizer says and the sides.

    Args:
        reading: Reading of the plate.
        corners: Plate corners in pixels, shape ``(4, 2)``.
        lines: Number of text lines that it was read as, 1 or 2.

    Returns:
        The most probable format; None for a plate that is not Swiss, and where the recognizer does not
        tell formats.
    """
    if not reading.layout or reading.layout[_SWISS] < 0:
        return None
    aspect = math.log(float(plate_width(corners)) / max(float(plate_height(corners)), 1e-6))
    scores = np.array(reading.layout[_FIRST:])
    for i, name in enumerate(FORMATS):
        scores[i] += max(
            -0.5 * ((aspect - math.log(width / height)) / _SPREAD) ** 2 - _RARE * rank
            for rank, (width, height) in enumerate(_SIDES[name])
        )
        if _LINES[name] != lines:
            scores[i] = -np.inf
    return FORMATS[int(scores.argmax())]


def reason_without_text(layout: Sequence[float]) -> Reason:
    """Return why a plate has no text, from the logits of its layout."""
    if layout and layout[_SWISS] < 0:
        return "not_swiss"
    if layout and layout[_COMPLETE] < 0:
        return "incomplete"
    return "unreadable"
