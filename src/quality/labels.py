"""Labels that break a rule and so cannot be right, whatever the image shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.charset import CHARSET
from ..core.geometry import box_to_xyxy, corners_to_box
from ..generators.plate import ARMY_COLOUR, FORMATS
from .base import Evidence, NotCheckedError, Scores
from .samples import FloatArray

LEAST_SIDE = 2.0
"""Minimum side of a box in pixels; a plate cannot be smaller."""
LEAST_VISIBLE = 0.25
"""Minimum fraction of a box inside the image; the edge of the image may cut off the rest of a plate."""
FOREIGN = ("foreign", "sign", "nothing")
"""Formats in prepared sets that are not Swiss plates."""
_LINES = {plate.name: plate.lines for plate in FORMATS}


def _rule(broken: Sequence[str]) -> Scores:
    """Score 1 where a reason is given, and 0 where the reason is empty because the rule holds."""
    values = np.array([float(bool(reason)) for reason in broken])
    return Scores(values, lambda row: broken[row])


def unusable(evidence: Evidence) -> Scores:
    """Flag samples that cannot be used.

    Only rows of annotation files can be unusable. The other checks leave them out.
    """
    return _rule(evidence.whole.labels["problem"].tolist())


def grammar(evidence: Evidence) -> Scores:
    """Flag texts that no plate can have."""
    if not evidence.whole.has_text:
        raise NotCheckedError("the set has no texts")
    texts = evidence.whole.labels["plate"].tolist()
    wrong = [bool(text) and not CHARSET.is_valid(text) for text in texts]
    return _rule(
        [
            f"{text!r} is not a valid plate text" * broken
            for text, broken in zip(texts, wrong, strict=True)
        ]
    )


def box(evidence: Evidence) -> Scores:
    """Flag boxes that are too thin or lie outside of the image."""
    samples = evidence.whole
    boxes, sizes = samples.boxes, samples.sizes
    edges = box_to_xyxy(boxes)
    inside = (edges[:, 2:].clip(0, 1) - edges[:, :2].clip(0, 1)).clip(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        visible = (inside / boxes[:, 2:]).prod(axis=1)
    usable = samples.labels["present"].to_numpy(bool) & (samples.labels["problem"] == "").to_numpy()
    thin = usable & ~((boxes[:, 2:] * sizes).min(axis=1) >= LEAST_SIDE)
    outside = usable & ~(visible >= LEAST_VISIBLE)
    reasons = [f"the box is thinner than {LEAST_SIDE:g} pixels", "the box lies outside the image"]
    return _rule(np.select([thin, outside], reasons, "").tolist())


def corners(evidence: Evidence) -> Scores:
    """Score corners by the distance between their upright box and the given box.

    The distance is a fraction of the longer side of the given box. It is infinite if the corners do not
    run clockwise around a convex quadrilateral.
    """
    samples = evidence.whole
    quads, boxes = samples.corners, samples.boxes
    known = ~np.isnan(quads).any(axis=(1, 2)) & samples.labels["present"].to_numpy(bool)
    if not known.any():
        raise NotCheckedError("the set has no corners")
    pixels = np.tile(samples.sizes, 2)
    apart = np.abs(box_to_xyxy(corners_to_box(quads)) - box_to_xyxy(boxes)) * pixels
    side = (boxes[:, 2:] * samples.sizes).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(known, apart.max(axis=1) / side, np.nan)
    twisted = known & ~_clockwise(quads * samples.sizes[:, None])
    values[twisted] = np.inf

    def why(row: int) -> str:
        if twisted[row]:
            return "the corners are not in clockwise order around a plate"
        return f"box and corners differ by {values[row]:.0%} of the longer side"

    return Scores(values, why)


def _clockwise(quads: FloatArray) -> np.ndarray:
    """Return whether corners run clockwise around a convex quadrilateral, shape ``(n,)``.

    Args:
        quads: Corners, shape ``(n, 4, 2)``, with y pointing down.
    """
    edges = np.roll(quads, -1, axis=1) - quads
    after = np.roll(edges, -1, axis=1)
    turns = edges[..., 0] * after[..., 1] - edges[..., 1] * after[..., 0]
    return np.asarray((turns > 0).all(axis=1))


def format_of_plate(evidence: Evidence) -> Scores:
    """Flag labels whose format contradicts the text, the number of lines or the presence of a plate."""
    labels = evidence.whole.labels
    if not any(labels["format"]) and labels["present"].all():
        raise NotCheckedError("the set has no formats")
    columns = [labels[name].tolist() for name in ("plate", "format", "colour", "lines", "present")]
    return _rule([_contradiction(*values) for values in zip(*columns, strict=True)])


def _contradiction(plate: str, name: str, colour: str, lines: int, present: bool) -> str:
    if plate and not present:
        return f"text {plate}, but the label says that there is no plate"
    if plate and name in FOREIGN:
        return f"text {plate}, but the label gives the format {name}"
    if plate and colour == ARMY_COLOUR:
        return f"text {plate} on an army plate, which has no canton"
    if present and lines and lines != _LINES.get(name, lines):
        return f"format {name} has {_LINES[name]} lines, but the label says {lines}"
    if present and name == "nothing":
        return "labelled as a plate, but the format says that there is none"
    return ""
