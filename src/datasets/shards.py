"""Prepared sets: shards of images as ``.npy`` with their labels as Parquet beside them.

A set is a folder of ``images-00000.npy`` and ``labels-00000.parquet``, ``…-00001`` and so on, and a
``meta.json``. Images are uint8: an array ``(n, H, W)``, or ``(n, H, W, 3)`` in colour, if all have the
same size, otherwise one flat buffer with ``offset``, ``height`` and ``width`` among the labels. The labels
have one row per sample:
``index`` (the sample's number, from which it can be generated again), ``plate``, ``format``, ``colour``,
the box ``cx cy w h`` and the corners ``x0 y0 … x3 y3``, both normalised to the image, and further
properties of the sample.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ..core.errors import UserError
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from ..engine.tasks import Engine, EngineError, LocalEngine

SHARD_SIZE = 2000
"""Number of samples per shard of a set that is not very large."""
LARGEST_SHARD = 20_000
"""Maximum number of samples per shard: 140 MB of the localizer's images."""
OPEN_SHARDS = 256
"""Maximum number of shards of a set that a reader keeps open; systems often allow 1024 files a process."""
_REQUIRED = {"index", "plate", *BOX_COLUMNS, *CORNER_COLUMNS}


class DatasetError(UserError):
    """Raised when a prepared set is missing or damaged, or cannot be written."""


@dataclass(frozen=True)
class Shard:
    """A block of generated samples.

    Attributes:
        images: Array ``(n, H, W)`` of uint8, or ``(n, H, W, 3)`` in RGB, or a list of ``(H, W)`` images of
            any sizes, which are stored as one flat buffer. All shards of a set use the same kind.
        labels: Table with one row per image.
    """

    images: NDArray[np.uint8] | list[NDArray[np.uint8]]
    labels: pd.DataFrame


@dataclass(frozen=True)
class NewSet:
    """Description of a set to write.

    Attributes:
        folder: Folder of the set; existing contents are replaced.
        indices: Numbers of the samples.
        make: Function that generates the samples of a range of numbers; picklable, as workers call it.
        meta: Entries for meta.json, which also gets the numbers of samples and shards and a SHA-256 over
            all images and labels.
    """

    folder: Path
    indices: range
    make: Callable[[range], Shard]
    meta: dict[str, Any]


def shard_size(count: int) -> int:
    """Return the number of samples per shard of a set.

    It grows with the set, so that a reader can keep all shards open, up to a size that a worker can hold
    in memory and lose.
    """
    return min(max(SHARD_SIZE, -(-count // OPEN_SHARDS)), LARGEST_SHARD)


def write_sets(
    sets: Sequence[NewSet],
    engine: Engine | None = None,
    size: int | None = None,
    unfinished: Path | None = None,
) -> None:
    """Generate and write sets; their folders appear only once all of them are complete.

    The written bytes depend neither on the engine nor on whether this was killed before. Sets that are
    written by other machines lie, as ``unfinished`` does, in storage that all of them share, at the same
    path.

    Args:
        sets: Sets to write; one pool of workers generates all of them.
        engine: Where shards are generated; by default in this process.
        size: Number of samples per shard, by default that of ``shard_size``.
        unfinished: Folder that keeps complete shards when this is killed or loses its workers, and where
            they are found again; its name tells all that the shards depend on. On the same disk as the
            sets. By default nothing is kept.

    Raises:
        DatasetError: If the disk is full or a folder cannot be written.
        EngineError: If workers were lost.
    """
    engine = engine or LocalEngine()
    first = sets[0].folder
    work = (unfinished or first.with_name(f".{first.name}.partial")).absolute()
    tasks = [
        _ShardTask(number, shard, new.indices[begin : begin + each])
        for number, new in enumerate(sets)
        for each in (size or shard_size(len(new.indices)),)
        for shard, begin in enumerate(range(0, len(new.indices), each))
    ]
    try:
        if unfinished is None:
            shutil.rmtree(work, ignore_errors=True)
        for folder in (_TEMPORARY, _RECORDS, *map(str, range(len(sets)))):
            (work / folder).mkdir(parents=True, exist_ok=True)
        digests = _write_shards(sets, engine, work, tasks)
        for number, new in enumerate(sets):
            shards = [digests[task] for task in tasks if task.number == number]
            whole = hashlib.sha256("".join(shards).encode()).hexdigest()
            meta = {"count": len(new.indices), "shards": len(shards), "sha256": whole, **new.meta}
            (work / str(number) / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
        for number, new in enumerate(sets):
            shutil.rmtree(new.folder, ignore_errors=True)
            new.folder.parent.mkdir(parents=True, exist_ok=True)
            (work / str(number)).rename(new.folder)
    except EngineError:
        _remove(None if unfinished else work)
        raise
    except Exception as error:
        _remove(work)
        if not isinstance(error, OSError):
            raise
        raise DatasetError(
            f"{first.parent}: cannot write the prepared set: {error.strerror or error}. "
            "Free some space (`dvc gc -w` drops unused cache) or point prepared_data_path in "
            "params.yaml elsewhere."
        ) from error
    except BaseException:
        # Killed; or interrupted, and perhaps for good.
        _remove(None if unfinished else work)
        raise
    _remove(work)


def _remove(folder: Path | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


_TEMPORARY, _RECORDS = "temporary", "records"
"""Folders beside those of the sets: files that are being written, and the digests of complete shards."""


@dataclass(frozen=True)
class _ShardTask:
    """A shard to write: number of its set, its number within it, and numbers of its samples."""

    number: int
    shard: int
    indices: range


@dataclass(frozen=True)
class _Writer:
    """What a worker process needs to write any shard; sent to it once."""

    makers: list[Callable[[range], Shard]]
    work: Path


@dataclass(frozen=True)
class _Start:
    """Callable that returns the writer in a worker process."""

    writer: _Writer
    is_this_process: bool

    def __call__(self) -> _Writer:
        if not self.is_this_process:
            # A worker for each core: more threads would only wait for each other.
            cv2.setNumThreads(1)
        return self.writer


def _write_shards(
    sets: Sequence[NewSet], engine: Engine, work: Path, tasks: Sequence[_ShardTask]
) -> dict[_ShardTask, str]:
    """Write all shards and return the SHA-256 of each."""
    # The generators (with an atlas of several megabytes) are sent to each worker once, not with a shard.
    start = _Start(_Writer([new.make for new in sets], work), engine.is_this_process)
    digests: dict[_ShardTask, str] = {}
    found = 0
    names = ", ".join(str(new.folder) for new in sets)
    total = sum(len(new.indices) for new in sets)
    with tqdm(total=total, unit=" samples", desc=names, mininterval=0.5) as progress:
        for task, (digest, was_there) in engine.map(start, _write_shard, tasks):
            digests[task] = digest
            found += was_there
            progress.update(len(task.indices))
    if found:
        print(f"{found} of {len(tasks)} shards were complete already.", file=sys.stderr)
    return digests


def _write_shard(writer: _Writer, task: _ShardTask) -> tuple[str, bool]:
    """Generate and write a shard, unless it is there already.

    Returns:
        The SHA-256 of its images and labels, and whether it was there.
    """
    folder = writer.work / str(task.number)
    images = folder / _images_name(task.shard)
    table = folder / f"labels-{task.shard:05d}.parquet"
    record = writer.work / _RECORDS / f"{task.number}-{task.shard:05d}"
    if not record.parent.is_dir():
        raise DatasetError(
            f"{writer.work}: this folder is not there on {platform.node()}. The machines of a cluster "
            "write to storage that all of them share: mount it at the same path on each, and point "
            "prepared_data_path in params.yaml to it."
        )
    # What a system that crashed has left under a name may be damaged, so that its digest is compared.
    with suppress(OSError, ValueError):
        if (digest := _digest(images, table)) == record.read_text(encoding="ascii"):
            return digest, True
    shard = writer.makers[task.number](task.indices)
    labels = shard.labels.assign(index=np.asarray(task.indices, dtype=np.int64))
    if isinstance(shard.images, np.ndarray):
        pixels = shard.images
    else:
        shapes = np.array([image.shape for image in shard.images])
        sizes = shapes.prod(axis=1)
        labels = labels.assign(
            offset=np.cumsum(sizes) - sizes, height=shapes[:, 0], width=shapes[:, 1]
        )
        pixels = np.concatenate([image.ravel() for image in shard.images])
    temporary = writer.work / _TEMPORARY
    with _complete_file(images, temporary) as path, path.open("wb") as stream:
        # Buffered write: a full disk raises an error here, whereas a memory-mapped write gets a SIGBUS.
        np.save(stream, pixels, allow_pickle=False)
    with _complete_file(table, temporary) as path:
        labels.to_parquet(path, index=False)
    digest = _digest(images, table)
    with _complete_file(record, temporary) as path:
        path.write_text(digest, encoding="ascii")
    return digest, False


@contextmanager
def _complete_file(path: Path, temporary: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes ``path`` once all is written.

    It is unique: a task that was lost with its node may still run there while it runs again elsewhere.
    """
    unique = temporary / f"{path.name}-{uuid4().hex}"
    try:
        yield unique
        unique.replace(path)
    finally:
        unique.unlink(missing_ok=True)


def _digest(images: Path, labels: Path) -> str:
    """Return the SHA-256 of the images and labels of a shard.

    Raises:
        OSError, ValueError: A file is missing or damaged.
    """
    digest = hashlib.sha256(np.load(images, mmap_mode="r", allow_pickle=False).data)
    digest.update(labels.read_bytes())
    return digest.hexdigest()


class ShardedSet:
    """A prepared set with memory-mapped images; shards are opened when they are read, and few stay open.

    Args:
        folder: Folder of the set.

    Raises:
        DatasetError: If the folder or one of its files is missing, damaged or inconsistent with another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = "meta.json"
        tables: list[pd.DataFrame] = []
        shapes: list[tuple[int, ...]] = []
        try:
            self.meta: dict[str, Any] = json.loads((folder / name).read_text())
            for number in range(self.meta["shards"]):
                name = f"labels-{number:05d}.parquet"
                tables.append(pd.read_parquet(folder / name))
                name = _images_name(number)
                # Opened to be checked, and closed again.
                shapes.append(_open_images(folder, number).shape)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{name}: {error}") from error
        for number, (table, shape) in enumerate(zip(tables, shapes, strict=True)):
            if missing := _REQUIRED - set(table.columns):
                raise self._damaged(
                    f"labels-{number:05d}.parquet lacks the columns {sorted(missing)}"
                )
            wanted = (
                int((table["height"] * table["width"]).sum()) if len(shape) == 1 else len(table)
            )
            if shape[0] != wanted:
                raise self._damaged(f"{_images_name(number)} does not match its labels")
        self._starts = np.cumsum([0] + [len(table) for table in tables])
        if not tables or self._starts[-1] != self.meta["count"]:
            raise self._damaged(f"found {self._starts[-1]} samples, expected {self.meta['count']}")
        self.labels = pd.concat(tables, ignore_index=True)
        self._images = _opener(folder)

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the shards that it reads itself.
        return {name: value for name, value in vars(self).items() if name != "_images"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._images = _opener(self.folder)

    def _damaged(self, what: str) -> DatasetError:
        return DatasetError(
            f"{self.folder}: the prepared set is missing or damaged: {what}. Recreate it with "
            f"`dvc repro -f prepare_{self.folder.parent.name}`."
        )

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def boxes(self) -> NDArray[np.float32]:
        """Plate boxes as cx, cy, w, h, shape ``(n, 4)``, normalised to the image."""
        return self.labels[BOX_COLUMNS].to_numpy(np.float32)

    @cached_property
    def corners(self) -> NDArray[np.float32]:
        """Plate corners, shape ``(n, 4, 2)``, normalised, clockwise from the plate's own top left."""
        return self.labels[CORNER_COLUMNS].to_numpy(np.float32).reshape(-1, 4, 2)

    @cached_property
    def plates(self) -> list[str]:
        """Plate texts, one per sample."""
        return self.labels["plate"].tolist()

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Presence of a plate in each sample, shape ``(n,)``.

        Raises:
            DatasetError: If the set predates this label.
        """
        if "present" not in self.labels:
            raise self._damaged("its labels do not say whether there is a plate")
        return self.labels["present"].to_numpy(np.bool_)

    @cached_property
    def lines(self) -> NDArray[np.int64]:
        """Number of lines of text, shape ``(n,)``, 1 or 2; 1 where there is no plate.

        Raises:
            DatasetError: If the set predates this label.
        """
        if "lines" not in self.labels or not self.labels["lines"].isin([1, 2]).all():
            raise self._damaged("its labels do not say whether a plate has one line or two")
        return self.labels["lines"].to_numpy(np.int64)

    @cached_property
    def _layout(self) -> NDArray[np.int64] | None:
        if "offset" not in self.labels:
            return None
        return self.labels[["offset", "height", "width"]].to_numpy(np.int64)

    def image(self, i: int) -> NDArray[np.uint8]:
        """Return image ``i``, shape ``(H, W)`` or ``(H, W, 3)``, uint8, as a read-only view of the file.

        Raises:
            DatasetError: If the file has been removed or damaged since the set was opened.
        """
        shard = int(np.searchsorted(self._starts, i, side="right")) - 1
        try:
            images = self._images(shard)
        except (OSError, EOFError, ValueError) as error:
            raise self._damaged(f"{_images_name(shard)}: {error}") from error
        if self._layout is None:
            return images[i - self._starts[shard]]
        offset, height, width = self._layout[i]
        return images[offset : offset + height * width].reshape(height, width)

    def images(self, indices: ArrayLike | Iterable[int]) -> NDArray[np.uint8]:
        """Return images of equal size as one array, shape ``(n, H, W)``."""
        return np.stack([self.image(int(i)) for i in np.asarray(indices)])


def _images_name(number: int) -> str:
    return f"images-{number:05d}.npy"


def _open_images(folder: Path, number: int) -> NDArray[np.uint8]:
    return np.load(folder / _images_name(number), mmap_mode="r", allow_pickle=False)


def _opener(folder: Path) -> Callable[[int], NDArray[np.uint8]]:
    """Return a function that maps a shard's images by its number, and keeps those used last."""
    return lru_cache(OPEN_SHARDS)(partial(_open_images, folder))
