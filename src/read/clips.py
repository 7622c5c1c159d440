"""Videos among the paths that are read: one result with events for each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from ..core.errors import UserError

if TYPE_CHECKING:
    from ..inference.reader import PlateReader, Search
    from ..video.events import Event
    from ..video.watcher import Progress


class AnyPath(Protocol):
    """A path to read, or an error of one without anything to read."""

    @property
    def path(self) -> str: ...
    @property
    def error(self) -> str | None: ...


Path = TypeVar("Path", bound=AnyPath)
Image = TypeVar("Image")


@dataclass(frozen=True)
class Clip:
    """Result for a video: events, or an error.

    Attributes:
        path: Path as it was found.
        events: Its events, the last revision of each, in the order in which their vehicles came.
        error: Why it could not be read.
    """

    path: str
    events: Sequence[Event] = ()
    error: str | None = None


def with_clips(
    paths: Iterable[Path],
    read_images: Callable[[Iterable[Path]], Iterator[Image]],
    read_clip: Callable[[str], Clip],
) -> Iterator[Image | Clip]:
    """Read images together and videos one by one; yield results in the order of the paths."""
    from ..video.sources import is_video

    def is_clip(path: Path) -> bool:
        return path.error is None and is_video(path.path)

    for are_clips, group in groupby(paths, is_clip):
        if are_clips:
            yield from (read_clip(path.path) for path in group)
        else:
            yield from read_images(group)


def read_clip(
    path: str,
    reader: PlateReader,
    min_confidence: float | None,
    search: Search,
    warn: Callable[[str], None],
    progress: Progress,
) -> Clip:
    """Read a video.

    Args:
        path: Path of the video.
        reader: Reader of its frames.
        min_confidence: Least probability of an event's text; None for that of drawn clips.
        search: How each frame is searched.
        warn: Takes messages about damage.
        progress: Takes how far it is.
    """
    try:
        from ..video.settings import Settings, SourceSpec
        from ..video.watcher import Watching, read_with

        settings = Settings(min_confidence=min_confidence)
        spec = SourceSpec(path, path, settings)
        watching = Watching(spec, read_with(reader, search), warn, progress=progress)
        events = {event.id: event for event in watching}
    except UserError as error:
        return Clip(path, error=str(error))
    return Clip(path, tuple(sorted(events.values(), key=lambda event: event.first)))


def as_json(clip: Clip) -> str:
    """Return one JSON object with ``path``, and ``events`` or ``error``."""
    if clip.error is not None:
        return json.dumps({"path": clip.path, "error": clip.error})
    return json.dumps({"path": clip.path, "events": msgspec.to_builtins(clip.events)})


def as_text(clip: Clip) -> str:
    """Return a line for each event, or one that says that there is none."""
    if clip.error is not None:
        return ""
    lines = [event.line() for event in clip.events]
    return "\n".join(lines or [f"{clip.path}: no plate"])
