"""The process that reads one uploaded clip: ``python -m src.serve.clip_process``.

A process of its own, because FFmpeg decodes what anybody may send: what makes it crash, hang or take too much
memory ends this process, not the server. It has the lowest priority and one thread, so that images are read
meanwhile. The first line of standard input is its task; messages go to standard output, a JSON object a line.
It first opens the clip, so that what is no video is refused at once; it goes on when it gets another byte,
and ends when standard input is closed.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import msgspec

from ..inference.reader import PlateReader
from ..video.events import Event
from ..video.settings import Settings
from ..video.sources import Frame, SourceError, VideoFile
from ..video.watcher import Watcher, read_with
from .bundles import bundle_version
from .clip_task import ClipTask, Damaged, Finished, Message, Opened, Reached, Refusal, Seen
from .refusals import RefusedError

NICENESS = 10
"""Niceness while the clip is opened: that of the threads that read images."""
_LOWEST = 19
_NEXT_JPEG = b"\xff\xd9\xff\xd8"
"""End of a JPEG and start of the next one, as in raw MJPEG."""


def say(message: Message) -> None:
    """Send a message to the server."""
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


def read(task: ClipTask, allowed: threading.Event) -> None:
    """Open a clip, wait until it may be read, and read it.

    Args:
        task: The clip.
        allowed: Set when it may be read.

    Raises:
        RefusedError: The clip is no video, or exceeds a limit.
    """
    source = _opened(task)
    # An event is given when its vehicle has gone, not before: then its end is known.
    settings = Settings(images=task.images, unread=task.unread, delay=task.max_seconds)
    frames = source.frames(settings.fps, threading.Event())
    first = _first(frames)
    height, width = first.image.shape[:2]
    say(Opened(seconds=source.duration, width=width, height=height))
    allowed.wait()
    os.nice(_LOWEST - NICENESS)
    reader = PlateReader.load(task.model and Path(task.model), threads=1)
    watcher = Watcher(task.name, read_with(reader), settings)
    second = 0.0
    for frame in _from(first, frames):
        if frame.time > task.max_seconds:
            raise _too_long(task)
        _give(watcher.feed(frame))
        if int(frame.time) > int(second):
            say(Reached(second=frame.time))
        second = frame.time
    _give(watcher.finish())
    version = bundle_version(reader.manifest)
    say(Finished(second=second, frames=watcher.counts.frames, model=version))


def _opened(task: ClipTask) -> VideoFile:
    if _is_single_jpeg(Path(task.path)):
        raise _unsupported("is a single image; send it to /v1/read")
    try:
        source = VideoFile(task.path, report=lambda text: say(Damaged(text=_own(text, task))))
    except SourceError as error:
        raise _unsupported(_own(str(error), task)) from error
    width, height = source.size
    if width * height > task.max_pixels or max(width, height) > task.max_side:
        limit = "max_pixels" if width * height > task.max_pixels else "max_side"
        raise RefusedError(
            413, "frames_too_large", f"the clip: has frames of {width} x {height} pixels", limit
        )
    if source.duration is not None and source.duration > task.max_seconds:
        raise _too_long(task)
    return source


def _first(frames: Iterator[Frame | None]) -> Frame:
    try:
        first = next(frames, None)
    except SourceError:
        first = None
    if first is None:
        raise RefusedError(422, "damaged_clip", "the clip: has no frame that can be decoded")
    return first


def _from(first: Frame, others: Iterable[Frame | None]) -> Iterator[Frame]:
    yield first
    for frame in others:
        if frame is not None:
            yield frame


def _is_single_jpeg(path: Path) -> bool:
    """Return whether a file begins as a JPEG, and is not raw MJPEG."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content[:2] == _NEXT_JPEG[2:] and content.find(_NEXT_JPEG) < 0


def _unsupported(reason: str) -> RefusedError:
    return RefusedError(415, "unsupported_format", f"the clip: {reason}", "formats")


def _too_long(task: ClipTask) -> RefusedError:
    return RefusedError(
        413,
        "clip_too_long",
        f"the clip: is longer than {task.max_seconds:g} seconds",
        "max_clip_s",
    )


def _own(text: str, task: ClipTask) -> str:
    """Return a message without the path of the clip, which its sender does not know."""
    return text.removeprefix(f"{task.path}: ")


def _give(events: Iterable[Event]) -> None:
    for event in events:
        say(Seen(event=msgspec.to_builtins(event)))


def _listen(allowed: threading.Event) -> None:
    """Allow reading at the first byte of standard input, and end the process with the server."""
    while os.read(0, 1):
        allowed.set()
    os._exit(1)


def _be_killed_first() -> None:
    """Ask the kernel to end this process, and not the server, where memory runs out."""
    # Not every system has it, nor lets it be written.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="utf-8")


def main() -> None:
    """Read the clip of the task."""
    # Not an argument, which every user of the machine could see.
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=ClipTask)
    os.nice(NICENESS)
    _be_killed_first()
    cv2.setNumThreads(1)
    allowed = threading.Event()
    threading.Thread(target=_listen, args=(allowed,), daemon=True).start()
    try:
        read(task, allowed)
    except RefusedError as error:
        say(Refusal(status=error.status, code=error.code, message=error.message, limit=error.limit))
    sys.stdout.flush()
    # FFmpeg's and ONNX Runtime's threads need not be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
