"""Which kind a source is, and the frames of video files and of folders of frames.

OpenCV's FFmpeg decodes: it comes with the package, and is faster than the bindings of FFmpeg that are.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import cv2

from ..core.errors import UserError
from ..core.images import SUFFIXES, ImageError, Pixels, load_colour

VIDEO_SUFFIXES = frozenset(
    {
        ".mp4",
        ".mkv",
        ".avi",
        ".mov",
        ".m4v",
        ".webm",
        ".mjpeg",
        ".mjpg",
        ".ts",
        ".mpg",
        ".mpeg",
        ".3gp",
    }
)
"""File suffixes of videos. The format of a file is detected from its content."""

# FFmpeg writes what it thinks of a file to standard error; what matters is reported by these classes.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_EARLY = 1e-3
"""Seconds by which a frame may be earlier than it is due: time stamps are rounded."""
_JPEG = b"\xff\xd8"
"""How raw MJPEG begins: it is one JPEG after the other."""
_NO_VIDEO = "cannot be read as a video; use MP4, MKV, AVI, MJPEG or another format of FFmpeg"
_START = 256
"""Number of bytes that tell text from a video."""
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
"""What is in the header of every video format, and in no text."""
_USUAL_RATE = 25.0
"""Frames a second of a file that does not state them."""
_MISSING = 2.0
"""Seconds that a file may end before its stated length."""

Report = Callable[[str], None]
"""Takes a message for people."""


class SourceError(UserError):
    """A source cannot be read; the message says why."""


class EndingError(SourceError):
    """What should be a live source ends: connecting again would show the same once more."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a source.

    Attributes:
        time: Second of the medium; of a live source, since watching began.
        image: Pixels, ``(H, W, 3)`` BGR, uint8.
    """

    time: float
    image: Pixels


class VideoSource(Protocol):
    """Anything that gives frames."""

    is_live: bool
    """Whether its frames come by themselves, whether or not they are taken."""
    duration: float | None
    """Length in seconds, where it is known."""
    dropped: int
    """Number of frames that were due, and that the machine was too slow to take."""

    def frames(self, fps: float, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield frames by time until the source ends or ``stop`` is set.

        Yields:
            Frames, at most ``fps`` a second; None where a live source has had none for a while.

        Raises:
            SourceError: The source cannot be read.
        """
        ...


class VideoFile:
    """A video file.

    Args:
        path: Path of the file.
        raw_rate: Frames a second of raw MJPEG, which holds no time.
        report: Takes messages about damage.

    Raises:
        SourceError: The file does not exist or is no video.
    """

    is_live = False
    dropped = 0

    def __init__(self, path: str, raw_rate: float = 25.0, report: Report = lambda _: None) -> None:
        start = start_of_video(path)
        self._path, self._report = path, report
        self._capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise SourceError(f"{path}: {_NO_VIDEO}")
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        """Width and height of its frames in pixels, as stated."""
        self._is_raw = start.startswith(_JPEG)
        self._rate = raw_rate if self._is_raw else self._capture.get(cv2.CAP_PROP_FPS)
        if not 0 < self._rate <= 1000:
            self._rate = _USUAL_RATE
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.duration: float | None = count / self._rate if count > 0 else None

    def frames(self, fps: float, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield the first frame at or after each moment that is due."""
        due, time, number = 0.0, 0.0, 0
        try:
            while not stop.is_set() and self._capture.grab():
                time = self._time(number, time)
                number += 1
                if time < due - _EARLY:
                    continue
                done, image = self._capture.retrieve()
                if done:
                    yield Frame(time, image)
                due = _next_due(time, fps)
        finally:
            self._capture.release()
        if not number:
            raise SourceError(f"{self._path}: has no frame that can be decoded")
        if self.duration is not None and not stop.is_set() and time < self.duration - _MISSING:
            self._report(
                f"{self._path}: ends at {time:.1f} s of {self.duration:.1f} s: it is truncated or damaged"
            )

    def _time(self, number: int, before: float) -> float:
        """Return the second of the frame that was grabbed; some formats have no time stamps."""
        if self._is_raw:
            return number / self._rate
        stamp = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if number == 0:
            return max(float(stamp), 0.0)
        return float(stamp) if stamp > before else before + 1 / self._rate


class FrameFolder:
    """A folder of frames: images in the order of their names, numbers within them compared as numbers.

    Args:
        path: Path of the folder.
        rate: Frames a second that they were taken with.
        report: Takes messages about images that cannot be read.

    Raises:
        SourceError: There is no image in the folder.
    """

    is_live = False
    dropped = 0

    def __init__(self, path: str, rate: float, report: Report = lambda _: None) -> None:
        self._files = sorted(
            (
                file
                for file in Path(path).iterdir()
                if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
            ),
            key=lambda file: _natural(file.name),
        )
        if not self._files:
            raise SourceError(f"{path}: has no images; a folder of frames holds JPEG or PNG files")
        self._rate, self._report = rate, report
        self.duration: float | None = len(self._files) / rate

    def frames(self, fps: float, stop: threading.Event) -> Iterator[Frame | None]:
        """Yield the first frame at or after each moment that is due."""
        due = 0.0
        for number, file in enumerate(self._files):
            time = number / self._rate
            if stop.is_set():
                return
            if time < due - _EARLY:
                continue
            due = _next_due(time, fps)
            try:
                image = load_colour(file)
            except ImageError as error:
                self._report(str(error))
                continue
            yield Frame(time, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def start_of_video(path: str) -> bytes:
    """Return the first bytes of a video file.

    Raises:
        SourceError: There is no such file, or it is text. What FFmpeg takes for a play list would make it
            open other files and hosts.
    """
    try:
        with Path(path).open("rb") as file:
            start = file.read(_START)
    except FileNotFoundError:
        raise SourceError(f"{path}: there is no such file") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not start:
        raise SourceError(f"{path}: is empty")
    if not _BINARY.search(start):
        raise SourceError(f"{path}: {_NO_VIDEO}. It is text: of a play list, name its videos")
    return start


def _next_due(time: float, fps: float) -> float:
    """Return the next moment of a grid of ``fps`` moments a second, so that the mean rate is right."""
    return (int(time * fps + _EARLY) + 1) / fps


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key for which frame2 is before frame10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def is_url(location: str) -> bool:
    """Return whether a location is that of a stream or of a server."""
    return re.match(r"^(rtsps?|https?|rtmp|udp|tcp)://", location, re.IGNORECASE) is not None


def is_video(path: str) -> bool:
    """Return whether a path has the suffix of a video file."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def without_credentials(location: str) -> str:
    """Return a location for messages and names: a URL without user name, password and query."""
    if not is_url(location):
        return location
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
