"""Videos with their plates covered, along the whole way of each vehicle.

A video is decoded twice: first all plates are found, then they are covered. So a plate is covered in frames
before and after those in which it was found, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import UserError
from ..core.geometry import FloatArray
from ..core.images import Pixels
from ..core.program import COMMAND
from ..inference.reader import Plate
from ..video.sources import SourceError, start_of_video
from ..video.tracks import Tracker
from ..video.vote import Sighting, Vote
from .covering import Method, cover

try:
    import av
except ModuleNotFoundError as _error:
    raise UserError(
        f"videos need {_error.name}, which is not installed: pip install '{COMMAND}[video]'"
    ) from _error

RATE = 12.5
"""Frames a second that are searched; between them, the way of a plate is continued."""
BEYOND = 0.6
"""Seconds before the first and after the last frame that a plate was found in, in which it is covered too."""
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Formats that are written as they are, by suffix; other videos are written as MP4."""
_CODEC = "libx264"
_OPTIONS = {"crf": "20", "preset": "veryfast"}

Read = Callable[[Pixels], Sequence[Plate]]
"""Returns the plates of a frame ``(H, W, 3)`` BGR."""


@dataclass
class Way(Vote):
    """The sightings of one plate, as times and corners."""

    times: list[float] = field(default_factory=list)
    corners: list[FloatArray] = field(default_factory=list)

    def add(self, sighting: Sighting) -> None:
        """Add a sighting."""
        super().add(sighting)
        self.times.append(sighting.time)
        self.corners.append(np.array(sighting.plate.corners, np.float64))

    def at(self, time: float) -> list[FloatArray]:
        """Return where the plate may be at a time, each ``(4, 2)``; nothing where it is not expected.

        A sighting may be of something else beside the plate, so its neighbours are also connected without it.
        """
        times = self.times
        if not times[0] - BEYOND <= time <= times[-1] + BEYOND:
            return []
        if len(times) == 1:
            return [self.corners[0]]
        # Beyond its ends, a way goes on as it went there.
        i = int(np.clip(np.searchsorted(times, time), 1, len(times) - 1))
        pairs = [(i - 1, i), (i - 2, i), (i - 1, i + 1)]
        return [
            self._between(*pair, time) for pair in pairs if pair[0] >= 0 and pair[1] < len(times)
        ]

    def _between(self, first: int, second: int, time: float) -> FloatArray:
        """Return the corners at a time on the straight way from one sighting to another."""
        start, end = self.times[first], self.times[second]
        share = (time - start) / max(end - start, 1e-6)
        share = float(np.clip(share, -_AHEAD, 1 + _AHEAD))
        return np.asarray((1 - share) * self.corners[first] + share * self.corners[second])


_AHEAD = 4.0
"""Number of steps between two sightings by which a way is continued beyond its ends."""


def blurred_video(
    path: str,
    target: Path,
    read: Read,
    method: Method,
    keep_metadata: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> int:
    """Write a video with its plates covered, as H.264; sound and subtitles are copied.

    Args:
        path: Path of the video.
        target: Path of the new file, which is written in place.
        read: Reads a frame.
        method: How plates are covered.
        keep_metadata: Whether title, date and place are kept.
        progress: Takes the share that is done, 0 to 1.

    Returns:
        Number of plates, each counted once while it is seen.

    Raises:
        SourceError: The file cannot be decoded, or has no video.
    """
    start_of_video(path)
    try:
        ways = list(find_ways(path, read, lambda share: progress(0.7 * share)))
        _write(path, target, ways, method, keep_metadata, lambda share: progress(0.7 + 0.3 * share))
    except av.FFmpegError as error:
        raise SourceError(f"{path}: cannot be decoded as a video ({error.strerror})") from error
    return len(ways)


def _frames(container: Any, path: str) -> Iterator[tuple[float, Any, Pixels]]:
    """Yield the second, the frame and the pixels (upright BGR) of each frame of a video."""
    if not container.streams.video:
        raise SourceError(f"{path}: has no video")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    for frame in container.decode(stream):
        time = float(frame.pts * frame.time_base) if frame.pts is not None else 0.0
        image = np.rot90(frame.to_ndarray(format="bgr24"), round(frame.rotation / 90) % 4)
        yield time, frame, np.ascontiguousarray(image)


def _duration(container: Any) -> float:
    return container.duration / av.time_base if container.duration else 0.0


def find_ways(
    path: str, read: Read, progress: Callable[[float], None] = lambda _: None
) -> Iterator[Way]:
    """Yield the way of each plate of a video, once it has gone."""
    tracker, due = Tracker(Way), -np.inf
    with av.open(path) as container:
        length = _duration(container)
        for time, _, image in _frames(container, path):
            if time < due:
                continue
            due = (time if due == -np.inf else due) + 1 / RATE
            yield from _of(tracker.update(time, read(image)))
            progress(min(time / length, 1.0) if length else 0.0)
    yield from _of(tracker.close())


def _of(tracks: Sequence[Any]) -> Iterator[Way]:
    for track in tracks:
        yield track.vote


def _write(
    path: str,
    target: Path,
    ways: Sequence[Way],
    method: Method,
    keep_metadata: bool,
    progress: Callable[[float], None],
) -> None:
    kind = CONTAINERS.get(target.suffix.lower(), "mp4")
    with av.open(path) as source, av.open(path) as others, av.open(str(target), "w", kind) as out:
        length = _duration(source)
        if keep_metadata:
            out.metadata.update(source.metadata)
        copied = {
            stream.index: out.add_stream_from_template(stream)
            for stream in (*others.streams.audio, *others.streams.subtitles)
        }
        packets = _packets(others, copied)
        waiting = next(packets, None)
        video: Any = None
        for time, frame, image in _frames(source, path):
            if video is None:
                rate = source.streams.video[0].average_rate or Fraction(25)
                video = out.add_stream(_CODEC, rate=rate, options=_OPTIONS)
                video.height, video.width = (side - side % 2 for side in image.shape[:2])
                video.pix_fmt = "yuv420p"
                video.time_base = frame.time_base
            cover(image, (at for way in ways for at in way.at(time)), method)
            new = av.VideoFrame.from_ndarray(image[: video.height, : video.width], format="bgr24")
            new.pts, new.time_base = frame.pts, frame.time_base
            out.mux(video.encode(new))
            while waiting is not None and waiting[0] <= time:
                out.mux(waiting[1])
                waiting = next(packets, None)
            progress(min(time / length, 1.0) if length else 0.0)
        if video is None:
            raise SourceError(f"{path}: has no frame that can be decoded")
        out.mux(video.encode())
        while waiting is not None:
            out.mux(waiting[1])
            waiting = next(packets, None)


def _packets(container: Any, copied: dict[int, Any]) -> Iterator[tuple[float, Any]]:
    """Yield the second and the packet of sound and subtitles, for the streams that they are copied to."""
    if not copied:
        return
    for packet in container.demux([container.streams[index] for index in copied]):
        if packet.dts is None:
            continue
        time = float(packet.dts * packet.time_base)
        packet.stream = copied[packet.stream.index]
        yield time, packet
