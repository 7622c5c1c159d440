"""Read the number plates in images and videos.

    python -m src.read PATH... [--json] [--draw DIR] [--min-confidence P] [--alternatives N]
                       [--search full] [--model DIR]
    python -m src.read PATH... --out DEST [--engine ray] [--cluster HOST:PORT] [--part-size N] …

A PATH is an image, a folder (searched recursively), a pattern such as "photos/*.jpg", or - to read
paths from standard input, one per line. Results go to standard output as soon as they are available, in
the order of the paths: one line per plate, or with --json one object per image. A video (a file such as
clip.mp4, but not those in a folder) gives events, one for each vehicle. Progress and errors go to standard
error. An image that cannot be read does not stop the others; the exit status is then 1, as it is for a
folder without images. Links to folders are followed.

With --out, results go into Parquet files below DEST (src/read/parts.py), on this machine or on a Ray
cluster. PATH and DEST may then be URLs: s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from ..core.errors import UserError
from ..core.program import program
from . import clips
from .arguments import add_paths, add_search_and_model
from .output import Result, Signals, StoppedError, as_json, as_text

if TYPE_CHECKING:
    from ..inference.reader import PlateReader, Search
    from .paths import Found

MOST_ALTERNATIVES = 20
"""Maximum number of alternative texts of a plate."""
PART_SIZE = 500
"""Number of images per file of results, by default: half a minute's work of a core."""
BROKEN_PIPE = 141
"""Exit status that shells use for SIGPIPE."""
SIGNALLED = 128
"""Exit status that shells use for a signal, without the signal's number."""


# Reading


class NotFoundError(UserError):
    """A path has nothing to read."""


def read_files(
    reader: PlateReader,
    paths: Iterable[Found],
    min_confidence: float | None = None,
    alternatives: int = 0,
    search: Search = "standard",
) -> Iterator[Result]:
    """Read all paths; yield results in the same order, as soon as they are ready."""
    # The stream handles only images, so keep the paths until their results arrive.
    taken: deque[Found] = deque()

    def sources() -> Iterator[str | NotFoundError]:
        for path in paths:
            taken.append(path)
            yield path.path if path.error is None else NotFoundError(path.error)

    for read in reader.stream(sources(), min_confidence, alternatives=alternatives, search=search):
        path = taken.popleft().path
        if read.error is None:
            yield Result(path, read.plates, is_read=True, warnings=read.warnings)
        elif isinstance(read.error, UserError):
            yield Result(path, error=str(read.error))
        else:
            reason = f"{type(read.error).__name__}: {read.error}"
            yield Result(path, error=f"{path}: cannot be read ({reason})")


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


def _progress(stream: TextIO) -> tqdm[Any]:
    on_terminal = stream.isatty()
    # Fast runs need no bar; a log gets a line only now and then.
    return tqdm(
        unit=" images", file=stream, delay=1.0, mininterval=0.3 if on_terminal else 10.0,
        smoothing=0.1,
    )  # fmt: skip


class OutputError(UserError):
    """Results cannot be written to standard output."""


def _write_line(text: str, progress: tqdm[Any]) -> None:
    """Write a line at once to standard output.

    Raises:
        BrokenPipeError: Nobody reads the output.
        OutputError: It cannot be written, as on a full disk.
    """
    try:
        # A progress bar on a terminal must make room for other output.
        if sys.stderr.isatty():
            progress.write(text, file=sys.stdout)
        else:
            sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise OutputError(f"the results cannot be written: {error.strerror}") from error


def run(options: argparse.Namespace, signals: Signals) -> int:
    """Read all requested files and return the exit status.

    Raises:
        UserError: The bundle cannot be used, or the results cannot be written.
        StoppedError: A signal asks to end.
    """
    from ..inference.reader import PlateReader
    from .paths import LeftOut, Paths, find_files

    # Silence Pillow's warnings about odd files; real faults are reported as errors.
    warnings.filterwarnings("ignore", module="PIL")
    reader = PlateReader.load(options.model)
    left_out = LeftOut()
    paths = Paths(find_files(options.paths, options.draw, left_out))

    def read_images(images: Iterable[Found]) -> Iterator[Result]:
        results = read_files(
            reader, images, options.min_confidence, options.alternatives, options.search
        )
        return results if options.draw is None else with_drawings(results, options.draw)

    status = 0
    with _progress(sys.stderr) as progress:
        say = progress.write if sys.stderr.isatty() else print

        def read_clip(path: str) -> clips.Clip:
            return clips.read_clip(
                path,
                reader,
                options.min_confidence,
                options.search,
                lambda warning: say(f"warning: {warning}", file=sys.stderr),
                lambda second, length: progress.set_postfix_str(
                    f"{second:.0f} of {length:.0f} s of video" if length else ""
                ),
            )

        for result in clips.with_clips(paths, read_images, read_clip):
            if result.error is not None:
                status = 1
                say(f"error: {result.error}", file=sys.stderr)
            if isinstance(result, clips.Clip):
                text = clips.as_json(result) if options.json else clips.as_text(result)
                progress.set_postfix_str("")
            else:
                for warning in result.warnings:
                    say(f"warning: {warning}", file=sys.stderr)
                text = as_json(result) if options.json else as_text(result)
            if text:
                with signals.held():
                    _write_line(text, progress)
            progress.total = paths.count if paths.is_complete else None
            progress.update()
        for line in left_out.lines():
            say(f"warning: {line}", file=sys.stderr)
    return status


def run_parts(options: argparse.Namespace) -> int:
    """Read all requested images into the folder of ``--out`` and return the exit status.

    Raises:
        UserError: The bundle, the folder or the cluster cannot be used.
    """
    from ..core.machine import available_cores
    from ..engine.ray_cluster import RayEngine
    from ..engine.tasks import Engine, LocalEngine
    from ..inference.bundle import Bundle
    from .parts import Settings, read_parts

    engine: Engine = LocalEngine(available_cores())
    if options.engine == "ray":
        engine = RayEngine(options.cluster)
    counts = read_parts(
        list(_with_lines(options.paths)),
        options.out,
        options.part_size,
        Settings(
            min_confidence=options.min_confidence,
            alternatives=options.alternatives,
            search=options.search,
        ),
        Bundle.load(options.model),
        engine,
    )
    print(
        f"{counts.images} images are in {options.out}; {counts.errors} of them could not be read.",
        file=sys.stderr,
    )
    return int(counts.errors > 0)


def _with_lines(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths, and the lines of standard input for -."""
    for path in paths:
        if path == "-":
            yield from filter(None, (line.rstrip("\r\n") for line in sys.stdin))
        else:
            yield path


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("read"),
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n")[2],
    )
    add_paths(parser)
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
    add_search_and_model(parser)
    group = parser.add_argument_group("many images, into files")
    group.add_argument(
        "--out", metavar="DEST",
        help="folder, s3://… or gs://… for Parquet files with the fields of --json; what is there already is "
        "not read again",
    )  # fmt: skip
    group.add_argument(
        "--part-size", type=_positive, metavar="N",
        help=f"number of images per file (default: {PART_SIZE})",
    )  # fmt: skip
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="ray: on a Ray cluster (default: local)",
    )  # fmt: skip
    group.add_argument(
        "--cluster", metavar="HOST:PORT",
        help="head of the cluster (default: auto, that of RAY_ADDRESS or on this machine)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    _check_combination(parser, options)
    options.part_size = options.part_size or PART_SIZE
    options.cluster = options.cluster or "auto"
    return options


def _check_combination(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with a message where options exclude or need each other."""
    if options.out is None:
        if options.engine == "ray" or options.part_size or options.cluster:
            parser.error("--engine ray, --cluster and --part-size need --out DEST")
    elif options.json or options.draw:
        parser.error("--out cannot be combined with --json and --draw")
    if options.cluster and options.engine == "local":
        parser.error("--cluster needs --engine ray")


def _positive(text: str) -> int:
    with suppress(ValueError):
        if (value := int(text)) > 0:
            return value
    raise argparse.ArgumentTypeError(f"must be a whole number from 1, not {text!r}")


def _probability(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (value := float(text)) <= 1:
            return value
    raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")


def _count(text: str) -> int:
    with suppress(ValueError):
        if 0 <= (value := int(text)) <= MOST_ALTERNATIVES:
            return value
    raise argparse.ArgumentTypeError(
        f"must be a whole number from 0 to {MOST_ALTERNATIVES}, not {text!r}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parse(arguments)
    # Where standard error is closed, print() would write to standard output.
    sys.stdout, sys.stderr = (
        open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: PTH123, SIM115
        for stream in (sys.stdout, sys.stderr)
    )
    # File names may contain arbitrary bytes.
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")
    signals = Signals()
    try:
        with signals.handled():
            return run(options, signals) if options.out is None else run_parts(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        if isinstance(error, OutputError):
            _drop_output()
        return 1
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except StoppedError as stopped:
        return SIGNALLED + stopped.number


def _drop_output() -> None:
    """Drop what could not be written: Python would fail to flush it at exit, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def command(arguments: Sequence[str] | None = None) -> int:
    """Run the command as a process, which ends at once when its results are no longer wanted."""
    status = main(arguments)
    if status > SIGNALLED:
        # Do not wait for threads, which may be blocked on standard input.
        os._exit(status)
    return status


if __name__ == "__main__":
    sys.exit(command())
