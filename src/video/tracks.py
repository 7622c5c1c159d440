"""Which plates of successive frames are the same vehicle's: assignment by position and text.

Plates are few in a frame and their texts differ, so a track is where a plate is expected by its last two
positions, or what reads the same. Pairs are chosen together, by the assignment with the lowest total cost
(Kuhn, 1955; SciPy's ``linear_sum_assignment``), as in SORT (Bewley et al., 2016).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UserError
from ..core.geometry import box_iou, plate_height, xyxy_to_box
from ..core.images import Pixels
from ..core.program import COMMAND
from ..inference.reader import Plate
from .vote import Sighting, Vote

try:
    from scipy.optimize import linear_sum_assignment
except ModuleNotFoundError as _error:
    raise UserError(
        f"videos need {_error.name}, which is not installed: pip install '{COMMAND}[video]'"
    ) from _error

Direction = Literal["approaching", "receding", "left", "right"]

GONE = 1.5
"""Seconds without a sighting after which a vehicle has gone: it may pass behind a pillar, and the text of a
frame or two may be too blurred to be found."""
REACH = 4.0
"""Length of the square around a plate, in widths of the plate, whose overlap tells that two positions are
one vehicle's: plates are small beside their vehicles, and move by more than their size from frame to
frame."""
LEAST_OVERLAP = 0.1
"""Intersection over union of these squares from which on two positions may be one vehicle's."""
SURE_TEXT = 0.7
"""Probability from which on two texts contradict each other, or are the same wherever they are."""
LEAST_ALIKE = 0.6
"""Similarity of two texts below which they are not misreadings of one."""
_FORBIDDEN = 1e6
_ENDS = 5
"""Number of sightings at either end of a track that its direction is told from."""
LEAST_GROWTH = 1.2
"""Factor on a plate's height that an approaching vehicle shows."""
LEAST_WAY = 1.0
"""Way to the side, in widths of the plate, of a vehicle that drives to the left or right."""


@dataclass(frozen=True)
class Position:
    """Position of a plate at a time: middle, width and height in pixels."""

    time: float
    x: float
    y: float
    width: float
    height: float

    def moved(self, before: Position, time: float) -> Position:
        """Return where the plate is expected at ``time`` by its last two positions."""
        elapsed = self.time - before.time
        # A vehicle may stop or turn: beyond a second, its way is not continued.
        share = min(time - self.time, 1.0) / elapsed if elapsed > 0 else 0.0
        growth = min(max((self.width / before.width) ** share, 0.5), 2.0)
        return Position(
            time,
            self.x + (self.x - before.x) * share,
            self.y + (self.y - before.y) * share,
            self.width * growth,
            self.height * growth,
        )

    @property
    def square(self) -> tuple[float, float, float, float]:
        """Box cx, cy, w, h of its surroundings."""
        side = REACH * max(self.width, self.height)
        return self.x, self.y, side, side


@dataclass
class Track:
    """The sightings of one vehicle.

    Attributes:
        number: Number of the track, counted from 0.
        vote: Votes of its readings.
        first: Second of its first sighting.
        last: Second until which it was there.
        frames: Number of frames that were looked at and that it is in.
    """

    number: int
    first: float
    last: float
    vote: Vote = field(default_factory=Vote)
    frames: int = 0
    _start: list[Position] = field(default_factory=list)
    _end: deque[Position] = field(default_factory=lambda: deque(maxlen=_ENDS))

    def add(self, sighting: Sighting) -> None:
        """Add a sighting."""
        position = _position(sighting)
        if len(self._start) < _ENDS:
            self._start.append(position)
        self._end.append(position)
        self.vote.add(sighting)
        self.last = sighting.time
        self.frames += 1

    def remain(self, time: float) -> None:
        """Note that nothing has moved since its last sighting."""
        self.last = time
        self.frames += 1

    def expected(self, time: float) -> Position:
        """Return where its plate is expected."""
        last = self._end[-1]
        return last.moved(self._end[-2], time) if len(self._end) > 1 else last

    def absorb(self, earlier: Track) -> None:
        """Take over an earlier track of the same vehicle."""
        self.first = min(self.first, earlier.first)
        self.last = max(self.last, earlier.last)
        self.frames += earlier.frames
        self.vote.merge(earlier.vote)
        self._start = earlier._start

    @property
    def direction(self) -> Direction | None:
        """Where the vehicle drives; None where it stands, or was seen too shortly."""
        if len(self._end) < 2:
            return None
        start, end = _middle(self._start), _middle(self._end)
        width = (start.width + end.width) / 2
        way = (end.x - start.x) / max(width, 1.0)
        growth = end.height / max(start.height, 1.0)
        grows = max(growth, 1 / growth) >= LEAST_GROWTH
        # Who passes drives several times the width of its plate before it looks much larger.
        if grows and abs(way) < 8 * abs(float(np.log(growth))):
            return "approaching" if growth > 1 else "receding"
        if abs(way) >= LEAST_WAY:
            return "right" if way > 0 else "left"
        return None


class Tracker:
    """Assigns the plates of each frame to tracks.

    Args:
        new_vote: Maker of the votes of new tracks.
    """

    def __init__(self, new_vote: Callable[[], Vote] = Vote) -> None:
        self.tracks: list[Track] = []
        """Open tracks."""
        self._new_vote = new_vote
        self._count = 0
        self._seen: set[int] = set()
        """Numbers of the tracks in the last frame that was read."""

    def update(
        self, time: float, plates: Sequence[Plate], frame: Pixels | None = None
    ) -> list[Track]:
        """Take in the plates of a frame.

        Args:
            time: Second of the frame, later than that of the frame before.
            plates: Its plates, in pixels of the whole frame.
            frame: The frame ``(H, W, 3)`` where it is wanted as the best one.

        Returns:
            Tracks whose vehicles have gone.
        """
        sightings = [Sighting(time, plate, frame) for plate in plates]
        free = set(range(len(sightings)))
        self._seen = set()
        for row, column in self._pairs(time, sightings):
            self.tracks[row].add(sightings[column])
            self._seen.add(self.tracks[row].number)
            free.discard(column)
        for column in sorted(free):
            track = Track(self._count, time, time, self._new_vote())
            track.add(sightings[column])
            self.tracks.append(track)
            self._seen.add(track.number)
            self._count += 1
        return self.expire(time)

    def remain(self, time: float) -> list[Track]:
        """Note that a frame shows what the last one that was read shows; return tracks that have gone."""
        for track in self.tracks:
            if track.number in self._seen:
                track.remain(time)
        return self.expire(time)

    def expire(self, time: float) -> list[Track]:
        """Close and return the tracks whose vehicles have gone."""
        gone = [track for track in self.tracks if time - track.last > GONE]
        self.tracks = [track for track in self.tracks if time - track.last <= GONE]
        return gone

    def close(self) -> list[Track]:
        """Close and return all tracks."""
        closed, self.tracks = self.tracks, []
        return closed

    def _pairs(self, time: float, sightings: Sequence[Sighting]) -> list[tuple[int, int]]:
        if not self.tracks or not sightings:
            return []
        expected = [track.expected(time) for track in self.tracks]
        costs = _costs(self.tracks, expected, sightings)
        rows, columns = linear_sum_assignment(costs)
        return [
            (int(row), int(column))
            for row, column in zip(rows, columns, strict=True)
            if costs[row, column] < _FORBIDDEN
        ]


def distinct(plates: Sequence[Plate]) -> list[Plate]:
    """Return plates without those whose text another one shows more surely.

    The window of a vehicle may be found as a plate too, and what is read in it is the plate's text.
    """
    kept: list[Plate] = []
    texts: set[str] = set()
    for plate in sorted(plates, key=lambda each: -each.confidence):
        if plate.plate is None or plate.plate not in texts:
            kept.append(plate)
            texts.add(plate.plate or "")
    return kept


def _costs(
    tracks: Sequence[Track], expected: Sequence[Position], sightings: Sequence[Sighting]
) -> NDArray[np.float64]:
    """Return the cost of each pair of track and sighting, shape ``(T, S)``."""
    here = np.array([_position(each).square for each in sightings])
    overlaps = box_iou(np.array([each.square for each in expected])[:, None], here[None])
    costs = np.full(overlaps.shape, _FORBIDDEN)
    for row, track in enumerate(tracks):
        for column, sighting in enumerate(sightings):
            overlap = float(overlaps[row, column])
            sure, alike = _likeness(track.vote, sighting.plate)
            if sure >= SURE_TEXT and alike < LEAST_ALIKE:
                continue
            if overlap < LEAST_OVERLAP and not (sure >= SURE_TEXT and alike == 1):
                continue
            # Of a text that is hardly known, nothing follows either way.
            costs[row, column] = (1 - overlap) + (1 - (0.5 + (alike - 0.5) * sure))
    return costs


def _likeness(vote: Vote, plate: Plate) -> tuple[float, float]:
    """Return how sure both texts are, and how alike, 0 to 1 each."""
    text = vote.text
    best = vote.surest[text].plate.confidence if text in vote.surest else 0.0
    sure = min(best, plate.confidence)
    if text == plate.text:
        return sure, 1.0
    return sure, SequenceMatcher(None, text, plate.text, autojunk=False).ratio()


def _position(sighting: Sighting) -> Position:
    x1, y1, x2, y2 = sighting.plate.box
    cx, cy, width, _ = xyxy_to_box(np.array([x1, y1, x2, y2])).tolist()
    height = float(plate_height(np.array(sighting.plate.corners)))
    return Position(sighting.time, cx, cy, max(width, 1.0), max(height, 1.0))


def _middle(positions: Sequence[Position] | deque[Position]) -> Position:
    """Return the median of positions."""
    values = np.median(
        [[each.time, each.x, each.y, each.width, each.height] for each in positions], axis=0
    )
    return Position(*values.tolist())
