"""Read the number plates in images and videos.

    python -m src.read PATH... [--json] [--draw DIR] [--min-confidence P] [--alternatives N]
                       [--search full] [--model DIR]

A PATH is an image, a folder (searched recursively), a pattern such as "photos/*.jpg", or - to read
paths from standard input, one per line. Results go to standard output as soon as they are available, in
the order of the paths: one line per plate, or with --json one object per image. A video (a file such as
clip.mp4, but not those in a folder) gives events, one for each vehicle. Progress and errors go
to standard error. An image that cannot be read does not stop the others; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import queue
import sys
import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from ..core.errors import UserError
from ..core.program import program
from . import clips

if TYPE_CHECKING:
    from ..inference.reader import Plate, PlateReader, Search

AHEAD = 1000
"""Maximum number of paths found ahead of reading."""
MOST_ALTERNATIVES = 20
"""Maximum number of alternative texts of a plate."""
INTERRUPTED, BROKEN_PIPE = 130, 141
"""Exit statuses that shells use for SIGINT and SIGPIPE."""


@dataclass(frozen=True)
class Result:
    """Result for a path: plates or an error, or both if a drawing could not be written."""

    path: str
    plates: Sequence[Plate] = ()
    error: str | None = None
    is_read: bool = False


# Paths


def find_files(arguments: Sequence[str], left_out: Path | None = None) -> Iterator[Result]:
    """Yield the files of all arguments in order; files of a folder are sorted.

    Args:
        arguments: Paths, folders or patterns as on the command line.
        left_out: Folder that is not searched.

    Yields:
        Paths to read, and errors for arguments without files.
    """
    from ..core.images import SUFFIXES

    for argument in arguments:
        if argument == "-":
            for line in sys.stdin:
                if path := line.rstrip("\r\n"):
                    yield from _files_of(path, left_out)
        # Not pathlib: it raises for overlong names and does not accept patterns that start with a slash.
        elif glob.has_magic(argument) and not os.path.exists(argument):  # noqa: PTH110
            matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207
            if "**" in argument:
                # ``**`` matches folders and their contents; at the end, it matches files of any kind.
                matches = [path for path in matches if not os.path.isdir(path)]  # noqa: PTH112
            if argument.endswith("**"):
                matches = [path for path in matches if Path(path).suffix.lower() in SUFFIXES]
            if not matches:
                yield Result(argument, error=f"{argument}: no file matches")
            for path in matches:
                yield from _files_of(path, left_out)
        else:
            yield from _files_of(argument, left_out)


def _files_of(path: str, left_out: Path | None) -> Iterator[Result]:
    """Yield the path itself, or the images of a folder."""
    from ..core.images import SUFFIXES

    if not os.path.isdir(path):  # noqa: PTH112  # as above
        yield Result(path)
        return
    failed: list[OSError] = []
    for folder, folders, files in os.walk(path, onerror=failed.append):
        folders[:] = sorted(
            name
            for name in folders
            if left_out is None or Path(folder, name).absolute() != left_out.absolute()
        )
        for name in sorted(files):
            # A leading dot marks files that systems and programs keep beside images.
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Result(str(Path(folder, name)))
    for error in failed:
        yield Result(
            str(error.filename), error=f"{error.filename}: cannot be searched: {error.strerror}"
        )


class Paths:
    """Finds files in a separate thread ahead of reading, so that their number is known.

    Args:
        found: Paths to read, and errors for arguments without files.
    """

    def __init__(self, found: Iterator[Result]) -> None:
        self.count = 0
        """Number of paths found so far."""
        self.is_complete = False
        self._queue: queue.Queue[Result | BaseException | None] = queue.Queue(AHEAD)
        threading.Thread(target=self._fill, args=(found,), daemon=True).start()

    def _fill(self, found: Iterator[Result]) -> None:
        try:
            for result in found:
                self.count += 1
                self._queue.put(result)
        except BaseException as error:
            self._queue.put(error)
        self.is_complete = True
        self._queue.put(None)

    def __iter__(self) -> Iterator[Result]:
        while (result := self._queue.get()) is not None:
            if isinstance(result, BaseException):
                raise result
            yield result


# Reading


class NotFoundError(UserError):
    """A path has nothing to read."""


def read_files(
    reader: PlateReader,
    paths: Iterable[Result],
    min_confidence: float | None = None,
    alternatives: int = 0,
    search: Search = "standard",
) -> Iterator[Result]:
    """Read all paths; yield results in the same order, as soon as they are ready."""
    # The stream handles only images, so keep the paths until their results arrive.
    taken: deque[Result] = deque()

    def sources() -> Iterator[str | NotFoundError]:
        for path in paths:
            taken.append(path)
            yield path.path if path.error is None else NotFoundError(path.error)

    for read in reader.stream(sources(), min_confidence, alternatives=alternatives, search=search):
        path = taken.popleft()
        if read.error is None:
            yield replace(path, plates=read.plates, is_read=True)
        elif isinstance(read.error, UserError):
            yield replace(path, error=str(read.error))
        else:
            reason = f"{type(read.error).__name__}: {read.error}"
            yield replace(path, error=f"{path.path}: cannot be read ({reason})")


def with_drawings(results: Iterable[Result], folder: Path) -> Iterator[Result]:
    """Write the drawing of each image that was read; a failure becomes the error of its result."""
    for result in results:
        if result.is_read:
            try:
                _write_drawing(result, folder)
            except Exception as failure:
                # OpenCV and memory shortage raise exceptions of other types.
                reason = f"{result.path}: cannot write the drawing: {failure}"
                result = replace(result, error=reason)  # noqa: PLW2901
        yield result


def _write_drawing(result: Result, folder: Path) -> None:
    """Write the image with its plates below ``folder``, under a path unique to the image."""
    import cv2

    from ..core.images import load_colour
    from ..inference.drawing import draw_plates

    path = drawing_path(result.path, folder)
    image = draw_plates(load_colour(result.path), result.plates)
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise OSError(f"{path}: cannot be encoded as JPEG")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content.tobytes())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def drawing_path(path: str, folder: Path) -> Path:
    """Return the drawing's path: the image's path, relative to here or the root, below ``folder``."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100  # a link keeps its name
    try:
        relative = absolute.relative_to(Path.cwd())
    except ValueError:
        relative = Path("root", *absolute.parts[1:])
    return folder / relative.with_name(f"{relative.name}.plates.jpg")


# Output


def as_json(result: Result) -> str:
    """Return one JSON object with ``path``, and ``plates`` or ``error``."""
    if not result.is_read:
        return json.dumps({"path": result.path, "error": result.error})
    plates = [
        {
            "plate": plate.plate,
            "canton": plate.canton,
            "number": plate.number,
            "confidence": round(plate.confidence, 4),
            "char_confidences": [round(value, 4) for value in plate.char_confidences],
            "box": [round(value, 2) for value in plate.box],
            "corners": [[round(value, 2) for value in corner] for corner in plate.corners],
            "lines": plate.lines,
            "format": plate.format,
            "reason": plate.reason,
            "colour": plate.colour,
            "colour_confidence": plate.colour_confidence and round(plate.colour_confidence, 4),
            **_alternatives(plate),
        }
        for plate in result.plates
    ]
    return json.dumps({"path": result.path, "plates": plates})


def _alternatives(plate: Plate) -> dict[str, Any]:
    """Return the alternatives as an entry of a JSON object; nothing if none were asked for."""
    if not plate.alternatives:
        return {}
    return {
        "alternatives": [
            {"plate": text, "confidence": round(chance, 6)} for text, chance in plate.alternatives
        ]
    }


_WITHOUT_TEXT = {
    "incomplete": "a plate, part of which is hidden or outside of the image",
    "not_swiss": "a plate that is not Swiss",
    "unreadable": "a plate, but no text is confident enough",
}


def as_text(result: Result) -> str:
    """Return a line for each plate, or one that says that no plate was found."""
    if not result.is_read:
        return ""
    lines = [
        f"{result.path}: {plate.canton} {plate.number} ({plate.confidence:.1%})"
        if plate.plate
        else f"{result.path}: {_WITHOUT_TEXT[plate.reason or 'unreadable']}"
        for plate in result.plates
    ]
    return "\n".join(lines or [f"{result.path}: no plate"])


def _progress(stream: TextIO) -> tqdm[Any]:
    on_terminal = stream.isatty()
    # Fast runs need no bar; a log gets a line only now and then.
    return tqdm(
        unit=" images", file=stream, delay=1.0, mininterval=0.3 if on_terminal else 10.0,
        smoothing=0.1,
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Read all requested files and return the exit status.

    Raises:
        UserError: The bundle cannot be used.
    """
    from ..inference.reader import PlateReader

    # Silence Pillow's warnings about odd files; real faults are reported as errors.
    warnings.filterwarnings("ignore", module="PIL")
    reader = PlateReader.load(options.model)
    paths = Paths(find_files(options.paths, options.draw))

    def read_images(images: Iterable[Result]) -> Iterator[Result]:
        results = read_files(
            reader, images, options.min_confidence, options.alternatives, options.search
        )
        return results if options.draw is None else with_drawings(results, options.draw)

    status = 0
    with _progress(sys.stderr) as progress:
        # A progress bar on a terminal must make room for other output.
        write = progress.write if sys.stderr.isatty() else print

        def read_clip(path: str) -> clips.Clip:
            return clips.read_clip(
                path,
                reader,
                options.min_confidence,
                options.search,
                lambda warning: write(f"warning: {warning}", file=sys.stderr),
                lambda second, length: progress.set_postfix_str(
                    f"{second:.0f} of {length:.0f} s of video" if length else ""
                ),
            )

        for result in clips.with_clips(paths, read_images, read_clip):
            if result.error is not None:
                status = 1
                write(f"error: {result.error}", file=sys.stderr)
            if isinstance(result, clips.Clip):
                text = clips.as_json(result) if options.json else clips.as_text(result)
                progress.set_postfix_str("")
            else:
                text = as_json(result) if options.json else as_text(result)
            if text:
                write(text, file=sys.stdout)
            sys.stdout.flush()
            progress.total = paths.count if paths.is_complete else None
            progress.update()
    return status


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("read"),
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n")[2],
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="an image, a video, a folder, a pattern, or - for standard input",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object per image")
    parser.add_argument(
        "--draw", type=Path, metavar="DIR", help="write images with the plates drawn on them to DIR"
    )
    parser.add_argument(
        "--min-confidence", type=_probability, metavar="P",
        help="minimum confidence of a text (default: the bundle's threshold)",
    )  # fmt: skip
    parser.add_argument(
        "--alternatives", type=_count, default=0, metavar="N",
        help="number of the most probable texts of each plate to add to the JSON, up to 20 (default: 0)",
    )  # fmt: skip
    parser.add_argument(
        "--search", choices=("standard", "full"), default="standard",
        help="full: search at full resolution too, for small plates in large photos (slower)",
    )  # fmt: skip
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="folder of the bundle (default: models)"
    )
    return parser.parse_args(arguments)


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_ALTERNATIVES:
        raise ValueError(text)
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parse(arguments)
    # File names may contain arbitrary bytes.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    try:
        try:
            return run(options)
        finally:
            sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The output is closed. Without this, Python would fail to flush it at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command as a process, which ends at once when its results are no longer wanted."""
    status = main(arguments)
    if status in {INTERRUPTED, BROKEN_PIPE}:
        # Do not wait for threads, which may be blocked on standard input.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(command())
