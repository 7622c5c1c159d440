"""Read any number of images into Parquet files, on this machine or on a cluster.

The folder of the results holds

- ``_manifest.parquet``: all images, in order, as they were found at the start;
- ``_manifest.json``: what was asked for;
- ``part-00000.parquet`` and so on: the results of so many images each, one row an image, with the fields of
  ``--json``; ``error`` is null where an image was read, ``plates`` where it was not;
- ``_SUCCESS``: the numbers of images and of errors, once all parts are there.

Each file appears when it is complete, and a part depends on its images and the manifest alone. So the command
that is run again writes what is missing, wherever it was stopped.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
from tqdm import tqdm

from ..core.errors import UserError
from ..core.images import load_image
from ..engine.tasks import Engine
from ..inference.bundle import Bundle
from ..inference.reader import PlateReader, Search
from ..inference.runtimes import Runtime, best_runtime
from .output import Result, as_fields
from .paths import NAMED, LeftOut
from .storage import Place, Storage, StorageError, check_shared, find_images, is_refused, place_of

import pyarrow as pa  # isort: skip  # after storage, whose message names the extra without which it is missing
import pyarrow.parquet as pq  # isort: skip

MANIFEST, IMAGES, SUCCESS = "_manifest.json", "_manifest.parquet", "_SUCCESS"
_VERSION = 1
_UNNAMED = "the image"
"""How messages about an image without a path begin."""
_FOOTERS = 16
"""Number of threads that look into parts that are there."""

_TEXTS = pa.list_(pa.struct([("plate", pa.string()), ("confidence", pa.float64())]))
_PLATE = pa.struct(
    [
        ("plate", pa.string()),
        ("canton", pa.string()),
        ("number", pa.string()),
        ("confidence", pa.float64()),
        ("char_confidences", pa.list_(pa.float64())),
        ("box", pa.list_(pa.float64())),
        ("corners", pa.list_(pa.list_(pa.float64()))),
        ("lines", pa.int64()),
        ("format", pa.string()),
        ("reason", pa.string()),
        ("colour", pa.string()),
        ("colour_confidence", pa.float64()),
        ("alternatives", _TEXTS),
    ]
)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("plates", pa.list_(_PLATE)),
        ("warnings", pa.list_(pa.string())),
        ("error", pa.string()),
    ]
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How images are read; ``PlateReader.read`` documents the fields."""

    min_confidence: float | None
    alternatives: int
    search: Search


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the results are of."""

    version: int = _VERSION
    sources: tuple[str, ...]
    """Paths and URLs, as absolute as they get."""
    part_size: int
    """Number of images per part."""
    settings: Settings
    bundle: str
    """SHA-256 of the bundle's manifest, which has those of its files."""
    runtime: Runtime
    """Inference runtime: on another one, probabilities may differ in their last digits."""
    images: int
    """Number of images."""


@dataclass(frozen=True)
class Image:
    """An image to read, or why there is none."""

    place: Place
    error: str | None = None


@dataclass(frozen=True)
class Part:
    """A part to write: its number and its images."""

    number: int
    images: tuple[Image, ...]

    @property
    def name(self) -> str:
        """Name of its file."""
        return part_name(self.number)


def part_name(number: int) -> str:
    return f"part-{number:05d}.parquet"


@dataclass(frozen=True)
class Counts:
    """How many images there are, and how many of them could not be read."""

    images: int = 0
    errors: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.images + other.images, self.errors + other.errors)


# Writing parts, in any process


@dataclass(frozen=True)
class Start:
    """Callable that returns the writer of parts in a worker process."""

    bundle: Bundle
    runtime: Runtime
    settings: Settings
    results: Place
    is_this_process: bool

    def __call__(self) -> PartWriter:
        check_shared(self.results, MANIFEST)
        if not self.is_this_process:
            # A worker for each core: more threads would only wait for each other.
            cv2.setNumThreads(1)
        return PartWriter(PlateReader(self.bundle, self.runtime, 1), self.settings, self.results)


@dataclass(frozen=True)
class PartWriter:
    """Writer of parts; each process has one, with the networks loaded."""

    reader: PlateReader
    settings: Settings
    results: Place

    def write(self, part: Part) -> Counts:
        """Read the images of a part and write it.

        Raises:
            StorageError: The storage of the images or of the results is out of reach.
        """
        # One by one: a result that depends on what it was computed with would not be the same again.
        results = [self._read(image) for image in part.images]
        rows = [as_fields(result) for result in results]
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), stream, compression="zstd")
        (self.results / part.name).write(stream.getvalue())
        return Counts(len(results), sum(not result.is_read for result in results))

    def _read(self, image: Image) -> Result:
        name, settings = str(image.place), self.settings
        if image.error is not None:
            return Result(name, error=image.error)
        try:
            loaded = load_image(self._source(image.place))
            plates = self.reader.read(
                loaded,
                settings.min_confidence,
                alternatives=settings.alternatives,
                search=settings.search,
            )
        except StorageError:
            raise
        except UserError as error:
            message = str(error)
            if message.startswith(_UNNAMED) and image.place.storage.kind:
                message = name + message.removeprefix(_UNNAMED)
            return Result(name, error=message)
        except Exception as error:
            # A fault of this program, or an object that is gone, which keep no other from being read.
            return Result(name, error=f"{name}: cannot be read ({type(error).__name__}: {error})")
        return Result(name, plates, is_read=True, warnings=loaded.warnings)

    @staticmethod
    def _source(place: Place) -> str | bytes:
        """Return the path of a file of this machine, or the content of another one."""
        if not place.storage.kind:
            return place.path
        try:
            return place.read()
        except OSError as error:
            if is_refused(error):
                raise
            # An outage is no property of the image.
            raise StorageError(f"{place}: cannot be fetched: {error}") from error


def write_part(writer: PartWriter, part: Part) -> Counts:
    """Call ``PartWriter.write``."""
    return writer.write(part)


# The whole


def read_parts(
    names: Sequence[str],
    results: str,
    part_size: int,
    settings: Settings,
    bundle: Bundle,
    engine: Engine,
) -> Counts:
    """Read images into the parts that are missing; show progress on standard error.

    Args:
        names: Paths, folders, patterns and URLs of the images.
        results: Folder of the results, or its URL.
        part_size: Number of images per part.
        settings: How they are read.
        bundle: Bundle that reads them.
        engine: Where they are read.

    Returns:
        The numbers of images and errors in all parts.

    Raises:
        StorageError: A folder or its storage cannot be used, or it has other results.
        EngineError: Workers were lost.
    """
    place = place_of(results)
    sources = tuple(str(place_of(name)) for name in names)
    asked = Manifest(
        sources=sources,
        part_size=part_size,
        settings=settings,
        bundle=hashlib.sha256(msgspec.json.encode(bundle.manifest)).hexdigest(),
        runtime=best_runtime(bundle.has_int8),
        images=0,
    )
    there = set(place.names())
    if SUCCESS in there:
        _check(place, asked)
        counts = Counts(**json.loads(_content(place / SUCCESS)))
        print(f"{place}: is complete already.", file=sys.stderr)
        return counts
    if MANIFEST in there:
        manifest, images = _check(place, asked), _load_images(place)
    else:
        if other := sorted(there - {IMAGES}):
            raise StorageError(
                f"{place}: has other files, such as {other[0]}. Give another folder as --out."
            )
        manifest, images = _freeze(place, asked)
    numbers = range(-(-len(images) // part_size))
    missing = [number for number in numbers if part_name(number) not in there]

    def parts() -> Iterator[Part]:
        for number in missing:
            chosen = images[number * part_size : (number + 1) * part_size]
            yield Part(number, tuple(chosen))

    complete = sorted(set(numbers) - set(missing))
    with ThreadPoolExecutor(_FOOTERS) as threads:
        counts = sum(threads.map(lambda number: _counts(place, number), complete), Counts())
    start = Start(bundle, manifest.runtime, settings, place, engine.is_this_process)
    with _progress(len(images), counts.images) as progress:
        for part, written in engine.map(start, write_part, parts()):
            counts += written
            progress.update(len(part.images))
    if lost := {part_name(number) for number in numbers} - set(place.names()):
        raise StorageError(
            f"{place}: {min(lost)} was written and is gone. Run the same command again."
        )
    (place / SUCCESS).write(json.dumps({"images": counts.images, "errors": counts.errors}).encode())
    return counts


def _progress(total: int, done: int) -> tqdm[Any]:
    on_terminal = sys.stderr.isatty()
    return tqdm(
        total=total, initial=done, unit=" images", file=sys.stderr,
        mininterval=0.3 if on_terminal else 10.0, smoothing=0.1,
    )  # fmt: skip


def _freeze(place: Place, asked: Manifest) -> tuple[Manifest, list[Image]]:
    """Find all images and write the manifest; what is added to a folder later is not read.

    Raises:
        StorageError: There are none, or a folder cannot be searched, or the results' be written.
    """
    left_out = LeftOut()
    images = [Image(*found) for found in find_images(asked.sources, place, left_out)]
    for line in left_out.lines():
        print(f"warning: {line}", file=sys.stderr)
    errors = [image.error for image in images if image.error is not None]
    if len(errors) == len(images):
        raise StorageError("; ".join(errors[:NAMED]) or "there are no images to read")
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    place.make_folder()
    table = pa.table(
        {
            "path": pa.array([str(image.place) for image in images], pa.string()),
            "error": pa.array([image.error for image in images], pa.string()),
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd")
    (place / IMAGES).write(stream.getvalue())
    manifest = msgspec.structs.replace(asked, images=len(images))
    (place / MANIFEST).write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return manifest, images


def _load_images(place: Place) -> list[Image]:
    try:
        table = pq.read_table(io.BytesIO(_content(place / IMAGES)))
        paths, errors = table["path"].to_pylist(), table["error"].to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise _damaged(place / IMAGES, error) from error
    places: dict[str, Place] = {}

    def placed(path: str) -> Place:
        scheme, separator, inside = path.partition("://")
        if not separator:
            return Place(Storage(), path)
        bucket = f"{scheme}://{inside.partition('/')[0]}"
        if bucket not in places:
            places[bucket] = place_of(bucket)
        return Place(places[bucket].storage, inside, f"{scheme}://")

    return [Image(placed(path), error) for path, error in zip(paths, errors, strict=True)]


def _check(place: Place, asked: Manifest) -> Manifest:
    """Return the manifest that is there.

    Raises:
        StorageError: It is that of another request.
    """
    try:
        manifest = msgspec.json.decode(_content(place / MANIFEST), type=Manifest)
    except msgspec.MsgspecError as error:
        raise _damaged(place / MANIFEST, error) from error
    differences = [
        f"{name} is {msgspec.to_builtins(found)!r} there, and {msgspec.to_builtins(wanted)!r} now"
        for name in ("version", "sources", "part_size", "settings")
        if (found := getattr(manifest, name)) != (wanted := getattr(asked, name))
    ]
    if manifest.bundle != asked.bundle:
        differences.append("the bundle is another one")
    if differences:
        raise StorageError(
            f"{place}: has the results of something else: {'; '.join(differences)}. Ask for the same, or "
            "give another folder as --out."
        )
    return manifest


def _content(place: Place) -> bytes:
    try:
        return place.read()
    except OSError as error:
        raise StorageError(f"{place}: cannot be read: {error}") from error


def _damaged(place: Place, error: Exception) -> StorageError:
    return StorageError(f"{place}: is damaged: {error}. Give another folder as --out.")


def _counts(place: Place, number: int) -> Counts:
    """Return the counts of a part that is there, from its footer."""
    part = place / part_name(number)
    try:
        with part.storage.files.open_input_file(part.path) as file:
            group = pq.ParquetFile(file).metadata.row_group(0)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{part}: is damaged: {error}. Remove it, and run the same command again."
        ) from error
    column = next(
        group.column(i)
        for i in range(group.num_columns)
        if group.column(i).path_in_schema == "error"
    )
    return Counts(group.num_rows, group.num_rows - column.statistics.null_count)
