"""Make the plates in images and videos unreadable.

    python -m src.blur PATH... --out DIR [--method fill|pixelate] [--search full] [--keep-metadata]
                       [--model DIR]

A PATH is an image, a video, a folder (searched recursively), a pattern such as "photos/*.jpg", or - to read
paths from standard input. Every plate that is found, Swiss or not, is covered. The files go to DIR under
their own names; none is overwritten. Date, place and camera are left out unless --keep-metadata is given;
previews always are. A line for each file says how many plates were covered: look at the result before
you publish it, since a plate that is not found is not covered. The exit status is 1 if a file could not be
written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
from tqdm import tqdm

from ..core.errors import UserError
from ..core.program import program
from ..read.arguments import add_paths, add_search_and_model
from ..read.output import Signals, StoppedError
from ..read.paths import LeftOut, find_files
from .covering import Method

if TYPE_CHECKING:
    from ..core.images import DecodedImage, Pixels
    from ..inference.reader import Plate, PlateReader, Search

LEAST_SCORE = 0.3
"""Score of the localizer from which on something is covered: lower than for reading, since what is covered
by mistake harms less than a plate that is not."""
SIGNALLED = 128


class BlurError(UserError):
    """A file cannot be written with its plates covered; the message says why."""


def target_of(path: str, folders: Sequence[Path], out: Path) -> Path:
    """Return where a file goes: below ``out``, under its path within the folder that it was found in."""
    file = Path(path)
    for folder in folders:
        if file.is_relative_to(folder):
            return out / file.relative_to(folder)
    return out / file.name


def blur_file(
    path: str,
    target: Path,
    reader: PlateReader,
    options: argparse.Namespace,
    progress: Callable[[float], None],
) -> tuple[Path, int]:
    """Write one image or video with its plates covered.

    Returns:
        Path of the new file, and the number of plates.

    Raises:
        UserError: It cannot be read, or there is such a file already.
        OSError: It cannot be written.
    """
    from ..video.sources import is_video

    if is_video(path):
        from .videos import CONTAINERS, blurred_video

        if target.suffix.lower() not in CONTAINERS:
            target = target.with_name(f"{target.name}.mp4")
        with _new(target) as partial_path:
            count = blurred_video(
                path,
                partial_path,
                lambda image: find_plates(
                    reader, np.ascontiguousarray(image[..., ::-1]), options.search
                ),
                options.method,
                options.keep_metadata,
                progress,
            )
        return target, count
    from .images import blurred_image

    content, suffixes, count = blurred_image(
        path,
        lambda image: [
            np.array(plate.corners) for plate in find_plates(reader, image, options.search)
        ],
        options.method,
        options.keep_metadata,
    )
    if target.suffix.lower() not in suffixes:
        target = target.with_name(f"{target.name}{suffixes[0]}")
    with _new(target) as partial_path:
        partial_path.write_bytes(content)
    return target, count


def find_plates(reader: PlateReader, image: Pixels | DecodedImage, search: Search) -> list[Plate]:
    """Return the plates of an image (RGB where it is pixels), improbable ones too."""
    found = reader.read(image, min_confidence=0.0, search=search)
    return [plate for plate in found if plate.score >= LEAST_SCORE]


@contextmanager
def _new(target: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes the new file once all is written.

    Raises:
        BlurError: There is such a file already.
    """
    # Videos are written by what their suffix says.
    temporary = target.with_name(f".{target.stem}.partial{target.suffix}")
    if target.exists():
        raise BlurError(f"{target}: exists already, and is not overwritten; choose another --out")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def run(options: argparse.Namespace, signals: Signals) -> int:
    """Write the files; return 1 if one of them could not be written, else 0."""
    from ..inference.reader import PlateReader

    if options.out.exists() and not options.out.is_dir():
        raise BlurError(f"--out {options.out}: is a file; name a folder")
    reader = PlateReader.load(options.model)
    folders = [Path(path) for path in options.paths if Path(path).is_dir()]
    left_out, status = LeftOut(), 0
    with tqdm(unit=" files", file=sys.stderr, delay=1.0) as progress:
        for found in find_files(options.paths, options.out, left_out):
            error, target, count = found.error, Path(), 0
            if error is None:
                try:
                    target, count = blur_file(
                        found.path,
                        target_of(found.path, folders, options.out),
                        reader,
                        options,
                        lambda share: progress.set_postfix_str(f"{share:.0%} of a video"),
                    )
                except UserError as failure:
                    error = str(failure)
                except OSError as failure:
                    error = f"{found.path}: cannot be written ({failure.strerror or failure})"
            progress.set_postfix_str("")
            progress.update()
            with signals.held():
                if error is not None:
                    status = 1
                    progress.write(f"error: {error}", file=sys.stderr)
                else:
                    plates = "1 plate" if count == 1 else f"{count} plates"
                    progress.write(f"{found.path}\t{target}\t{plates}", file=sys.stdout)
    for line in left_out.lines():
        print(f"warning: {line}", file=sys.stderr)
    return status


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("blur"),
        description=__doc__.split("\n\n")[0],
        epilog=__doc__.split("\n\n")[2],
    )
    add_paths(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the new files"
    )
    parser.add_argument(
        "--method", choices=get_args(Method), default="fill",
        help="fill: one colour, of which nothing can be read back (default); pixelate: large pixels",
    )  # fmt: skip
    parser.add_argument(
        "--keep-metadata", action="store_true", help="keep date, place and camera; previews never"
    )
    add_search_and_model(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return the exit status."""
    options = parse(arguments)
    signals = Signals()
    try:
        with signals.handled():
            return run(options, signals)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except StoppedError as stopped:
        return SIGNALLED + stopped.number


if __name__ == "__main__":
    sys.exit(main())
