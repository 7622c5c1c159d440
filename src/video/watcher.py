"""One source from frames to events, and several sources at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ..core.images import Pixels
from ..inference.reader import Plate, PlateReader, Search
from .confidence import EventCalibration
from .events import Event, EventBook
from .live import LiveSource
from .motion import MotionGate
from .settings import Settings, SourceSpec, polygon
from .sources import (
    Frame,
    FrameFolder,
    Report,
    SourceError,
    VideoFile,
    VideoSource,
    is_url,
)
from .tracks import Track, Tracker, distinct
from .vote import ALTERNATIVES, Vote

ReadFrame = Callable[[Frame], Sequence[Plate]]
"""Returns the plates of a frame, in its pixels."""


@dataclass
class Counts:
    """What was done with a source's frames.

    Attributes:
        frames: Number of frames that were looked at.
        read: Number of these that were read, as something moved.
        dropped: Number of frames that were due, and that the machine was too slow to look at.
        reconnections: Number of times that a live source was connected anew.
        events: Number of events, revisions not counted.
    """

    frames: int = 0
    read: int = 0
    dropped: int = 0
    reconnections: int = 0
    events: int = 0


class Watcher:
    """Makes events of the frames of one source.

    Args:
        name: Name of the source.
        read: Reads a frame.
        settings: What is asked of the source.
        started: Wall clock at second 0 of a live source; None for files.
        calibration: Calibration of the events' confidence; by default the installed one.
        new_vote: Maker of the votes of tracks.
    """

    def __init__(
        self,
        name: str,
        read: ReadFrame,
        settings: Settings,
        started: datetime | None = None,
        calibration: EventCalibration | None = None,
        new_vote: Callable[[], Vote] = Vote,
    ) -> None:
        self.counts = Counts()
        self._read, self._settings = read, settings
        self._gate, self._tracker = MotionGate(), Tracker(new_vote)
        self._book = EventBook(name, settings, started, calibration)
        self._regions = [polygon(region) for region in settings.regions]
        self._time = 0.0

    def feed(self, frame: Frame) -> list[Event]:
        """Take in the next frame; return the events that are to be given now.

        Raises:
            SourceError: No region lies in the frame.
        """
        self._time = frame.time
        self.counts.frames += 1
        part, offset = self._part(frame.image)
        if not self._gate.opens(part):
            gone = self._tracker.remain(frame.time)
        else:
            self.counts.read += 1
            plates = [_shifted(plate, offset) for plate in self._read(Frame(frame.time, part))]
            plates = distinct([plate for plate in plates if self._counts(plate)])
            kept = frame.image if self._settings.images else None
            gone = self._tracker.update(frame.time, plates, kept)
        return self._update(gone)

    def wait(self, time: float) -> list[Event]:
        """Note that there is no frame; return the events of vehicles that have gone meanwhile."""
        self._time = max(time, self._time)
        return self._update(self._tracker.expire(self._time))

    def finish(self) -> list[Event]:
        """Return the events of the vehicles that are still there."""
        return self._update(self._tracker.close())

    def _update(self, gone: Sequence[Track]) -> list[Event]:
        events = self._book.update(self._time, self._tracker.tracks, gone)
        self.counts.events += sum(event.revision == 1 for event in events)
        return events

    def _part(self, image: Pixels) -> tuple[Pixels, tuple[int, int]]:
        """Return the part of a frame around its regions, and its top left corner."""
        if not self._regions:
            return image, (0, 0)
        points = np.concatenate(self._regions)
        x1, y1 = np.maximum(np.floor(points.min(axis=0)), 0).astype(int).tolist()
        x2, y2 = np.ceil(points.max(axis=0)).astype(int).tolist()
        part = image[y1 : max(y2, 0), x1 : max(x2, 0)]
        if not part.size:
            height, width = image.shape[:2]
            raise SourceError(f"no region lies in its frames of {width} x {height} pixels")
        return np.ascontiguousarray(part), (x1, y1)

    def _counts(self, plate: Plate) -> bool:
        """Return whether a plate is large enough and in a region."""
        x1, y1, x2, y2 = plate.box
        if x2 - x1 < self._settings.min_width:
            return False
        middle = ((x1 + x2) / 2, (y1 + y2) / 2)
        return not self._regions or any(_is_inside(each, middle) for each in self._regions)


def _is_inside(region: NDArray[np.float32], point: tuple[float, float]) -> bool:
    return float(cv2.pointPolygonTest(region, point, False)) >= 0


def _shifted(plate: Plate, offset: tuple[int, int]) -> Plate:
    """Return a plate that was read in a part of a frame in pixels of the frame."""
    x, y = offset
    if not x and not y:
        return plate
    x1, y1, x2, y2 = plate.box
    return replace(
        plate,
        box=(x1 + x, y1 + y, x2 + x, y2 + y),
        corners=tuple((left + x, top + y) for left, top in plate.corners),
    )


def read_with(reader: PlateReader, search: Search = "standard") -> ReadFrame:
    """Return a function that reads frames with a reader, as the vote needs them."""

    def read(frame: Frame) -> Sequence[Plate]:
        return reader.read(
            cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), alternatives=ALTERNATIVES, search=search
        )

    return read


def open_source(spec: SourceSpec, report: Report) -> VideoSource:
    """Open a source of any kind.

    Args:
        spec: The source.
        report: Takes messages about it.

    Raises:
        SourceError: It does not exist or cannot be read; a live source reports that instead, and goes on
            trying.
    """
    if is_url(spec.location) or spec.location.startswith("/dev/"):
        return LiveSource(spec.location, report)
    if Path(spec.location).is_dir():
        return FrameFolder(spec.location, spec.settings.frame_rate, report)
    return VideoFile(spec.location, spec.settings.frame_rate, report)


Progress = Callable[[float, float | None], None]
"""Takes the second that was reached, and the length where it is known."""


class Watching:
    """The events of one source, as they come.

    Args:
        spec: The source.
        read: Reads a frame.
        report: Takes messages about the source.
        stop: Ends it; the vehicles that are still there then give their events.
        progress: Takes how far it is.
    """

    def __init__(
        self,
        spec: SourceSpec,
        read: ReadFrame,
        report: Report,
        stop: threading.Event | None = None,
        progress: Progress = lambda second, length: None,
    ) -> None:
        self.spec = spec
        self.counts = Counts()
        self._read, self._report, self._progress = read, report, progress
        self._stop = stop or threading.Event()

    def __iter__(self) -> Iterator[Event]:
        """Yield its events.

        Raises:
            SourceError: The source cannot be read.
        """
        source = open_source(self.spec, self._report)
        started = datetime.now(UTC) if source.is_live else None
        begin = time.monotonic()
        watcher = Watcher(self.spec.name, self._read, self.spec.settings, started)
        self.counts = watcher.counts
        for frame in source.frames(self.spec.settings.fps, self._stop):
            if frame is None:
                yield from watcher.wait(time.monotonic() - begin)
            else:
                yield from watcher.feed(frame)
                self._progress(frame.time, source.duration)
            watcher.counts.dropped = source.dropped
        if isinstance(source, LiveSource):
            watcher.counts.reconnections = source.reconnections
        yield from watcher.finish()


@dataclass(frozen=True)
class Message:
    """What is to be said about a source.

    Attributes:
        source: Name of the source.
        text: For people.
        is_error: Whether the source has ended with it.
    """

    source: str
    text: str
    is_error: bool = False


_WAITING = 1000
"""Number of events that may wait to be taken."""


def watch(
    specs: Sequence[SourceSpec],
    read: ReadFrame,
    stop: threading.Event,
    progress: Callable[[str, float, float | None], None] = lambda name, second, length: None,
) -> Iterator[Event | Message]:
    """Watch several sources at once, each in a thread of its own.

    An error of one source does not end the others.

    Args:
        specs: Sources with different names.
        read: Reads a frame; sources call it at the same time.
        stop: Ends all; the vehicles that are still there then give their events.
        progress: Takes the name of a source, the second that it has reached, and its length if known. It is
            called from the sources' threads.

    Yields:
        Events and messages as they come.
    """
    results: queue.Queue[Event | Message | None] = queue.Queue(_WAITING)

    def run(spec: SourceSpec) -> None:
        def report(text: str) -> None:
            results.put(Message(spec.name, text))

        watching = Watching(
            spec, read, report, stop, lambda second, length: progress(spec.name, second, length)
        )
        try:
            for event in watching:
                results.put(event)
        except SourceError as error:
            results.put(Message(spec.name, str(error), True))
        except Exception as error:
            # A fault of this program must not end the other sources.
            results.put(Message(spec.name, f"{type(error).__name__}: {error}", True))
        report(_summary(watching.counts))
        results.put(None)

    threads = [threading.Thread(target=run, args=(spec,), daemon=True) for spec in specs]
    for thread in threads:
        thread.start()
    left = len(threads)
    while left:
        result = results.get()
        if result is None:
            left -= 1
        else:
            yield result


def _summary(counts: Counts) -> str:
    parts = [
        f"events: {counts.events}",
        f"frames: {counts.frames}, of which read: {counts.read}",
        f"dropped: {counts.dropped}",
    ]
    if counts.reconnections:
        parts.append(f"reconnections: {counts.reconnections}")
    return ", ".join(parts)
