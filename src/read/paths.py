"""Find the image files that the command's arguments name: files, folders and patterns."""

from __future__ import annotations

import glob
import os
import queue
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..core.images import SUFFIXES

AHEAD = 1000
"""Maximum number of paths found ahead of reading."""
NAMED = 20
"""Maximum number of paths that a summary names; it counts the others."""


@dataclass(frozen=True)
class Found:
    """A path to read, or an error of a path without images."""

    path: str
    error: str | None = None


@dataclass
class Names:
    """The number of some paths, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        """Count a path."""
        self.count += 1
        if self.count <= NAMED:
            self.first.append(path)

    def __str__(self) -> str:
        more = f" and {self.count - NAMED} more" if self.count > NAMED else ""
        return f"{', '.join(self.first)}{more}"


@dataclass
class LeftOut:
    """What is in the searched folders and not read.

    Attributes:
        files: Files that are no images by their names.
        links: Links to folders that are searched anyway, as in a loop.
    """

    files: Names = field(default_factory=Names)
    links: Names = field(default_factory=Names)

    def lines(self) -> Iterator[str]:
        """Yield a sentence for each kind."""
        for names, one, several in (
            (
                self.files,
                "file was not read, as its name is not that of an image",
                "files were not read, as their names are not those of images",
            ),
            (
                self.links,
                "link was not followed, as its folder is searched anyway",
                "links were not followed, as their folders are searched anyway",
            ),
        ):
            if names.count:
                yield f"{names.count} {one if names.count == 1 else several}: {names}"


def find_files(
    arguments: Sequence[str], skipped: Path | None = None, left_out: LeftOut | None = None
) -> Iterator[Found]:
    """Yield the files of all arguments in order; files of a folder are sorted.

    Args:
        arguments: Paths, folders or patterns as on the command line.
        skipped: Folder that is not searched.
        left_out: Where to count what is in folders and not read.

    Yields:
        Paths to read, and errors for arguments without files.
    """
    left_out = LeftOut() if left_out is None else left_out
    for argument in arguments:
        if argument == "-":
            for line in sys.stdin:
                if path := line.rstrip("\r\n"):
                    yield from _files_of(path, skipped, left_out)
        # Not pathlib: it raises for overlong names and does not accept patterns that start with a slash.
        elif glob.has_magic(argument) and not os.path.exists(argument):  # noqa: PTH110
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
            if "**" in argument:
                # ``**`` matches folders and their contents; at the end, it matches files of any kind.
                matches = [path for path in matches if not os.path.isdir(path)]  # noqa: PTH112
            if argument.endswith("**"):
                matches = [path for path in matches if _is_image(path)]
            if not matches:
                yield Found(argument, error=f"{argument}: no file matches")
            for path in matches:
                yield from _files_of(path, skipped, left_out)
        else:
            yield from _files_of(argument, skipped, left_out)


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122  # a hundred thousand times


def _files_of(path: str, skipped: Path | None, left_out: LeftOut) -> Iterator[Found]:
    """Yield the path itself, or the images of a folder."""
    if not os.path.isdir(path):  # noqa: PTH112  # as above
        yield Found(path)
        return
    images = 0
    before = left_out.files.count
    failed: dict[str, OSError] = {}
    for image in _walk(path, skipped, left_out, failed):
        images += 1
        yield Found(image)
    for folder, error in failed.items():
        yield Found(folder, error=f"{folder}: cannot be searched: {error.strerror}")
    if not images and not failed:
        others = left_out.files.count - before
        has = {0: "", 1: "; it has 1 other file"}.get(others, f"; it has {others} other files")
        yield Found(path, error=f"{path}: has no images{has}")


def _walk(
    path: str, skipped: Path | None, left_out: LeftOut, failed: dict[str, OSError]
) -> Iterator[str]:
    """Yield the images of a folder and of those below it, each folder once; keep why one cannot be searched.

    Links to folders are followed after all else, so that what is in the folder itself keeps its own path.
    """
    searched: set[tuple[int, int]] = set()
    absent = None if skipped is None else skipped.absolute()
    links: deque[str] = deque()
    folders = [path]
    is_followed = False
    while folders or links:
        # The last one is next: a folder is followed by those below it, and these by the folders beside it.
        is_followed |= not folders
        folder = folders.pop() if folders else links.popleft()
        try:
            status = os.stat(folder)  # noqa: PTH116
            identity = (status.st_dev, status.st_ino)
            if is_followed and identity in searched:
                left_out.links.add(folder)
                continue
            searched.add(identity)
            names, below, to_folders = _entries(folder)
        except OSError as error:
            failed[folder] = error
            continue
        links += to_folders
        folders += [
            each for each in reversed(below) if absent is None or Path(each).absolute() != absent
        ]
        for name in names:
            file = os.path.join(folder, name)  # noqa: PTH118
            # A leading dot marks files that systems and programs keep beside images.
            if _is_image(name) and not name.startswith("."):
                yield file
            else:
                left_out.files.add(file)


def _entries(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Return the sorted names of a folder's files, and the paths of its folders and of links to folders."""
    files, folders, links = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112
                links.append(entry.path)
            else:
                files.append(entry.name)
    return sorted(files), sorted(folders), sorted(links)


class Paths:
    """Finds files in a separate thread ahead of reading, so that their number is known.

    Args:
        found: Paths to read, and errors for arguments without files.
    """

    def __init__(self, found: Iterator[Found]) -> None:
        self.count = 0
        """Number of paths found so far."""
        self.is_complete = False
        self._queue: queue.Queue[Found | BaseException | None] = queue.Queue(AHEAD)
        threading.Thread(target=self._fill, args=(found,), daemon=True).start()

    def _fill(self, found: Iterator[Found]) -> None:
        try:
            for path in found:
                self.count += 1
                self._queue.put(path)
        except BaseException as error:
            self._queue.put(error)
        self.is_complete = True
        self._queue.put(None)

    def __iter__(self) -> Iterator[Found]:
        while (found := self._queue.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
