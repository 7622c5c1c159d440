"""Events: one for each vehicle, given when it has gone or after a delay, revised when its text gets better.

A vehicle that comes back within a minute, or whose track was lost on the way, continues its event: the text
is the same, and neither colour nor format contradicts.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import cv2
import msgspec
from msgspec import UNSET, UnsetType

from ..core.images import Pixels
from ..core.layout import Format
from ..inference.colour import Colour
from ..inference.layout import Reason
from .confidence import EventCalibration, event_calibration
from .settings import Settings
from .tracks import Direction, Track
from .vote import Sighting

CONTINUED = 60.0
"""Seconds without a sighting after which the same text is another event."""
_ALTERNATIVES = 3
_JPEG_QUALITY = 90


class Alternative(msgspec.Struct, frozen=True, kw_only=True):
    """A text that an event's plate may have, with its probability."""

    plate: str
    confidence: float


class Best(msgspec.Struct, frozen=True, kw_only=True):
    """The frame whose reading supports an event's text best.

    Attributes:
        time: Second of the frame.
        box: x1, y1, x2, y2 in pixels of the frame, clipped to it.
        corners: Four (x, y) in pixels of the frame, clockwise from the plate's own top left.
        image: The frame as JPEG; base64 in JSON. Unset where it was not asked for.
    """

    time: float
    box: tuple[float, float, float, float]
    corners: tuple[tuple[float, float], ...]
    image: bytes | UnsetType = UNSET


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of a watch list that an event's vehicle probably is.

    Attributes:
        plate: Text of the entry.
        label: Label of the entry.
        probability: Probability that the vehicle has this plate.
    """

    plate: str
    label: str
    probability: float


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A vehicle that a source has seen.

    Attributes:
        id: Identifier; revisions of an event share it.
        revision: 1 when the event is first given, then counted up.
        source: Name of the source.
        plate: Text, such as ZH123456; None where none is probable enough.
        canton: Canton code of the text, or None.
        number: Digits of the text, or None.
        colour: Colour of the plate's ground; None where it cannot be told.
        format: Format of the plate; None where it cannot be told.
        reason: Why there is no text; None where there is one.
        confidence: Calibrated probability that the most probable text is right, also where it is withheld.
        first, last: Second of the medium at which the vehicle was first and last seen; of a live source,
            since watching began.
        first_at, last_at: Wall clock of the same moments; unset for files.
        frames: Number of frames that were looked at and show it.
        reads: Number of these in which a text was read.
        direction: Where it drives; None where it stands, or was seen too shortly.
        alternatives: The most probable texts, the most probable first.
        best: The frame that supports the text best.
        match: Entry of the watch list that the vehicle probably is; None where it is none of them; unset
            without a watch list.
    """

    id: str
    revision: int
    source: str
    plate: str | None
    canton: str | None
    number: str | None
    colour: Colour | None
    format: Format | None
    reason: Reason | None
    confidence: float
    first: float
    last: float
    frames: int
    reads: int
    direction: Direction | None
    alternatives: tuple[Alternative, ...]
    best: Best
    first_at: datetime | UnsetType = UNSET
    last_at: datetime | UnsetType = UNSET
    match: Match | UnsetType | None = UNSET

    def line(self) -> str:
        """Return the event as a line for people."""
        what = (
            f"{self.canton} {self.number} ({self.confidence:.1%})"
            if self.plate
            else _WITHOUT_TEXT[self.reason or "unreadable"]
        )
        details = [
            f"{self.first:.1f} to {self.last:.1f} s",
            *(detail for detail in (self.direction, self.colour) if detail),
            *([f"revision {self.revision}"] if self.revision > 1 else []),
        ]
        if isinstance(self.match, Match):
            probably = f"{self.match.plate}, {self.match.probability:.1%}"
            details.append(f"on the watch list: {self.match.label} ({probably})")
        return f"{self.source}: {what}, {', '.join(details)}"


_WITHOUT_TEXT: dict[Reason, str] = {
    "incomplete": "a plate, part of which is hidden",
    "not_swiss": "a plate that is not Swiss",
    "unreadable": "a plate that cannot be read",
}


@dataclass
class _Given:
    """An event that has been given, with the track that it goes on in."""

    event: Event
    track: Track
    is_open: bool = True


def _new_id() -> str:
    return uuid.uuid4().hex


class EventBook:
    """The events of a source.

    Args:
        source: Name of the source.
        settings: Its settings.
        started: Wall clock at second 0 of a live source; None for files.
        calibration: Calibration of the events' confidence; by default the installed one.
        new_id: Maker of identifiers.
    """

    def __init__(
        self,
        source: str,
        settings: Settings,
        started: datetime | None = None,
        calibration: EventCalibration | None = None,
        new_id: Callable[[], str] = _new_id,
    ) -> None:
        self._source, self._settings, self._started = source, settings, started
        self._calibration = calibration or event_calibration()
        self._new_id = new_id
        self._given: dict[int, _Given] = {}
        """Events by the number of the open track that they go on in."""
        self._recent: list[_Given] = []
        """Events that may be continued."""

    def update(self, time: float, tracks: Sequence[Track], gone: Sequence[Track]) -> list[Event]:
        """Return what is to be given at a time.

        Args:
            time: Second of the medium.
            tracks: Open tracks.
            gone: Tracks that were closed since the last call.
        """
        events = []
        for track in gone:
            events += self._judge(track, True)
            given = self._given.pop(track.number, None)
            if given is not None and given.track is track:
                given.is_open = False
            track.vote.drop_frames()
        for track in tracks:
            if track.number in self._given or time - track.first >= self._settings.delay:
                events += self._judge(track, False)
        self._recent = [
            each for each in self._recent if each.is_open or time - each.track.last <= CONTINUED
        ]
        return events

    def _judge(self, track: Track, is_gone: bool) -> list[Event]:
        given = self._given.get(track.number)
        text, confidence = self._outcome(track)
        if given is not None and given.track is not track:
            # Another open track of the same vehicle reports for this one, unless they turn out to differ.
            if text in (None, given.event.plate):
                return []
            given = None
        if given is None:
            if text is None and not (self._settings.unread and not _is_glimpse(track)):
                return []
            given = self._continued(track, text)
            if given is None:
                return [self._give(track, text, confidence)]
            if given.track is not track:
                return []
            text, confidence = self._outcome(track)
        before = given.event
        is_better = text is not None and text != before.plate
        if is_better and before.plate is not None:
            is_better = confidence > before.confidence
        if not is_better:
            return []
        given.event = self._event(track, text, confidence, before)
        return [given.event]

    def _outcome(self, track: Track) -> tuple[str | None, float]:
        """Return the text of a track, where it is probable enough, and its probability."""
        confidence = self._calibration.probability(track.vote)
        least = self._settings.min_confidence
        if least is None:
            is_known = self._calibration.is_given(track.vote, confidence)
        else:
            is_known = confidence >= least
        return (track.vote.text if is_known else None), confidence

    def _give(self, track: Track, text: str | None, confidence: float) -> Event:
        event = self._event(track, text, confidence, None)
        self._given[track.number] = given = _Given(event, track)
        self._recent.append(given)
        return event

    def _continued(self, track: Track, text: str | None) -> _Given | None:
        """Return the event that a track continues, if there is one, with the track in it."""
        if text is None:
            return None
        for given in reversed(self._recent):
            before, vote = given.event, track.vote
            if (
                before.plate == text
                and track.first - given.track.last <= CONTINUED
                and _agree(before.colour, vote.colour)
                and _agree(before.format, vote.format)
            ):
                self._given[track.number] = given
                if not given.is_open:
                    track.absorb(given.track)
                    given.track, given.is_open = track, True
                return given
        return None

    def _event(
        self, track: Track, text: str | None, confidence: float, before: Event | None
    ) -> Event:
        vote, best = track.vote, track.vote.best
        return Event(
            id=before.id if before else self._new_id(),
            revision=before.revision + 1 if before else 1,
            source=self._source,
            plate=text,
            canton=text[:2] if text else None,
            number=text[2:] if text else None,
            colour=vote.colour,
            format=vote.format,
            reason=None if text else vote.reason,
            confidence=round(confidence, 6),
            first=round(track.first, 3),
            last=round(track.last, 3),
            frames=track.frames,
            reads=vote.reads,
            direction=track.direction,
            alternatives=_alternatives(track, confidence),
            best=self._best(best, before),
            first_at=self._clock(track.first),
            last_at=self._clock(track.last),
        )

    def _clock(self, time: float) -> datetime | UnsetType:
        return UNSET if self._started is None else self._started + timedelta(seconds=time)

    def _best(self, sighting: Sighting, before: Event | None) -> Best:
        time = round(sighting.time, 3)
        image: bytes | UnsetType = UNSET
        if sighting.frame is not None:
            image = encode(sighting.frame)
        elif before is not None and before.best.time == time:
            image = before.best.image
        x1, y1, x2, y2 = sighting.plate.box
        return Best(
            time=time,
            box=(round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2)),
            corners=tuple((round(x, 2), round(y, 2)) for x, y in sighting.plate.corners),
            image=image,
        )


def encode(frame: Pixels) -> bytes:
    """Return a frame ``(H, W, 3)`` BGR as JPEG."""
    done, content = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not done:
        raise ValueError(f"a frame of shape {frame.shape} cannot be encoded as JPEG")
    return bytes(content)


def _is_glimpse(track: Track) -> bool:
    """Whether a plate without a text was seen once only: any pattern looks like a plate now and then."""
    return track.vote.sightings < 2


def _agree(first: str | None, second: str | None) -> bool:
    return first is None or second is None or first == second


def _alternatives(track: Track, confidence: float) -> tuple[Alternative, ...]:
    """Return the most probable texts; what the first leaves of 1 goes to the others by their sums."""
    ranked = track.vote.ranked
    others = sum(total for _, total in ranked[1:])
    rest = (1 - confidence) / max(others, track.vote.sightings - ranked[0][1], 1e-9)
    return tuple(
        Alternative(plate=text, confidence=round(confidence if not rank else total * rest, 6))
        for rank, (text, total) in enumerate(ranked[:_ALTERNATIVES])
    )
