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
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from ..core.errors import UserError
from ..core.geometry import BOX_COLUMNS, CORNER_COLUMNS

SHARD_SIZE = 2000
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

    @property
    def partial(self) -> Path:
        """Temporary folder in which the set is written until it is complete."""
        return self.folder.with_name(f".{self.folder.name}.partial")


def write_sets(sets: Sequence[NewSet], workers: int = 1, shard_size: int = SHARD_SIZE) -> None:
    """Generate and write sets; their folders appear only once all of them are complete.

    Args:
        sets: Sets to write; one pool of workers generates all of them.
        workers: Number of processes; the written bytes do not depend on it.
        shard_size: Number of samples per shard.

    Raises:
        DatasetError: If the disk is full or a folder cannot be written.
    """
    items = [
        (number, shard, new.indices[start : start + shard_size])
        for number, new in enumerate(sets)
        for shard, start in enumerate(range(0, len(new.indices), shard_size))
    ]
    try:
        for new in sets:
            shutil.rmtree(new.partial, ignore_errors=True)
            new.partial.mkdir(parents=True)
        names = ", ".join(str(new.folder) for new in sets)
        total = sum(len(new.indices) for new in sets)
        with tqdm(total=total, unit=" samples", desc=names, mininterval=0.5) as progress:
            digests = []
            for item, digest in zip(
                items, _write_shards(sets, items, min(workers, len(items))), strict=True
            ):
                digests.append(digest)
                progress.update(len(item[2]))
        for number, new in enumerate(sets):
            shards = [
                digest for item, digest in zip(items, digests, strict=True) if item[0] == number
            ]
            whole = hashlib.sha256("".join(shards).encode()).hexdigest()
            meta = {"count": len(new.indices), "shards": len(shards), "sha256": whole, **new.meta}
            (new.partial / "meta.json").write_text(json.dumps(meta, indent=2) + "\n")
        for new in sets:
            shutil.rmtree(new.folder, ignore_errors=True)
            new.partial.rename(new.folder)
    except OSError as error:
        raise DatasetError(
            f"{sets[0].folder.parent}: cannot write the prepared set: {error.strerror or error}. "
            "Free some space (`dvc gc -w` drops unused cache) or point prepared_data_path in "
            "params.yaml elsewhere."
        ) from error
    finally:
        for new in sets:
            shutil.rmtree(new.partial, ignore_errors=True)


Item = tuple[int, int, range]
"""Number of the set, number of the shard within it, and numbers of the shard's samples."""


def _write_shards(sets: Sequence[NewSet], items: list[Item], workers: int) -> Iterator[str]:
    if workers <= 1:
        yield from (_write_shard(sets, item) for item in items)
        return
    # Spawned, not forked: OpenCV's threads do not survive a fork. The generators (with an atlas of
    # several megabytes) are sent to each worker once, not with every shard.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start_worker, initargs=(sets,)
    ) as pool:
        yield from pool.map(_write_in_worker, items)


_worker_sets: list[NewSet] = []
"""Sets that a worker process writes; filled once when the process starts."""


def _start_worker(sets: Sequence[NewSet]) -> None:
    _worker_sets[:] = sets
    cv2.setNumThreads(1)


def _write_in_worker(item: Item) -> str:
    return _write_shard(_worker_sets, item)


def _write_shard(sets: Sequence[NewSet], item: Item) -> str:
    """Generate and write a shard, and return the SHA-256 of its images and labels."""
    new, number, indices = sets[item[0]], item[1], item[2]
    shard, folder = new.make(indices), new.partial
    labels = shard.labels.assign(index=np.asarray(indices, dtype=np.int64))
    if isinstance(shard.images, np.ndarray):
        pixels = shard.images
    else:
        shapes = np.array([image.shape for image in shard.images])
        sizes = shapes.prod(axis=1)
        labels = labels.assign(
            offset=np.cumsum(sizes) - sizes, height=shapes[:, 0], width=shapes[:, 1]
        )
        pixels = np.concatenate([image.ravel() for image in shard.images])
    # Buffered write: a full disk raises an error here, whereas a memory-mapped write gets a SIGBUS.
    np.save(folder / f"images-{number:05d}.npy", pixels, allow_pickle=False)
    labels.to_parquet(folder / f"labels-{number:05d}.parquet", index=False)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).data)
    digest.update((folder / f"labels-{number:05d}.parquet").read_bytes())
    return digest.hexdigest()


class ShardedSet:
    """A prepared set with memory-mapped images.

    Args:
        folder: Folder of the set.

    Raises:
        DatasetError: If the folder or one of its files is missing, damaged or inconsistent with another.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        name = "meta.json"
        tables: list[pd.DataFrame] = []
        self._images: list[NDArray[np.uint8]] = []
        try:
            self.meta: dict[str, Any] = json.loads((folder / name).read_text())
            for number in range(self.meta["shards"]):
                name = f"labels-{number:05d}.parquet"
                tables.append(pd.read_parquet(folder / name))
                name = f"images-{number:05d}.npy"
                images = np.load(folder / name, mmap_mode="r", allow_pickle=False)
                self._images.append(images)
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(f"{name}: {error}") from error
        for number, (table, images) in enumerate(zip(tables, self._images, strict=True)):
            if missing := _REQUIRED - set(table.columns):
                raise self._damaged(
                    f"labels-{number:05d}.parquet lacks the columns {sorted(missing)}"
                )
            wanted = (
                int((table["height"] * table["width"]).sum()) if images.ndim == 1 else len(table)
            )
            if len(images) != wanted:
                raise self._damaged(f"images-{number:05d}.npy does not match its labels")
        self._starts = np.cumsum([0] + [len(table) for table in tables])
        if not tables or self._starts[-1] != self.meta["count"]:
            raise self._damaged(f"found {self._starts[-1]} samples, expected {self.meta['count']}")
        self.labels = pd.concat(tables, ignore_index=True)

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
        """Return image ``i``, shape ``(H, W)`` or ``(H, W, 3)``, uint8, as a read-only view of the file."""
        shard = int(np.searchsorted(self._starts, i, side="right")) - 1
        if self._layout is None:
            return self._images[shard][i - self._starts[shard]]
        offset, height, width = self._layout[i]
        return self._images[shard][offset : offset + height * width].reshape(height, width)

    def images(self, indices: ArrayLike | Iterable[int]) -> NDArray[np.uint8]:
        """Return images of equal size as one array, shape ``(n, H, W)``."""
        return np.stack([self.image(int(i)) for i in np.asarray(indices)])
