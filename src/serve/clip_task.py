"""What the server asks of a process that reads a clip, and what that answers."""

from __future__ import annotations

from typing import Any

import msgspec

DECODER = {
    # Formats of videos alone: what FFmpeg takes for a play list would make it open other files and hosts.
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "protocol_whitelist;file|format_whitelist;"
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,mjpeg,jpeg_pipe,flv,asf,ogg,h264,hevc,m4v",
    "OPENCV_FFMPEG_THREADS": "1",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "OPENCV_LOG_LEVEL": "SILENT",
}
"""Variables of the environment of the process, which OpenCV and FFmpeg heed."""


class ClipTask(msgspec.Struct, frozen=True, kw_only=True):
    """What the process is asked for.

    Attributes:
        path: Path of the clip.
        name: File name given by the sender; the source of the events.
        model: Folder of the bundle; None for the promoted one.
        max_seconds: Maximum length of a clip.
        max_pixels: Maximum number of pixels of a frame.
        max_side: Maximum width and height of a frame.
        images: Whether events have their best frame.
        unread: Whether plates without a text give events.
    """

    path: str
    name: str
    model: str | None
    max_seconds: float
    max_pixels: int
    max_side: int
    images: bool = False
    unread: bool = False


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The clip is refused; fields as those of ``RefusedError``."""

    status: int
    code: str
    message: str
    limit: str | None


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The clip is a video, with its stated length in seconds and the size of its frames in pixels."""

    seconds: float | None
    width: int
    height: int


class Reached(msgspec.Struct, frozen=True, kw_only=True, tag="reached"):
    """The clip has been read up to a second."""

    second: float


class Seen(msgspec.Struct, frozen=True, kw_only=True, tag="seen"):
    """An event, or a further revision of it."""

    event: dict[str, Any]


class Damaged(msgspec.Struct, frozen=True, kw_only=True, tag="damaged"):
    """What is wrong with the clip, though it is read."""

    text: str


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag="finished"):
    """The clip has been read up to its end, with the number of frames that were looked at, and the bundle."""

    second: float
    frames: int
    model: str


Message = Refusal | Opened | Reached | Seen | Damaged | Finished
