"""Prepared sets: written whole or not at all, the same for any number of workers, damage noticed."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pytest

from src.datasets import shards
from src.datasets.shards import (
    BOX_COLUMNS,
    CORNER_COLUMNS,
    DatasetError,
    NewSet,
    Shard,
    ShardedSet,
    shard_size,
    write_sets,
)
from src.engine.tasks import EngineError, LocalEngine


def make(indices: range, ragged: bool = False) -> Shard:
    """Images and labels that follow from a sample's number alone."""
    images = []
    for i in indices:
        shape = (8 + i % 3, 20 + i % 5) if ragged else (8, 12)
        images.append(np.full(shape, i % 256, dtype=np.uint8))
    columns: dict[str, Any] = {"plate": [f"ZH{i + 1}" for i in indices]}
    for number, name in enumerate([*BOX_COLUMNS, *CORNER_COLUMNS]):
        columns[name] = [(i + number) / 1000 for i in indices]
    return Shard(images, pd.DataFrame(columns))


def write_set(
    folder: Path,
    indices: range,
    function: Callable[[range], Shard],
    meta: dict[str, Any],
    workers: int = 1,
    shard_size: int | None = None,
) -> None:
    write_sets([NewSet(folder, indices, function, meta)], LocalEngine(workers), shard_size)


def _fail_at(indices: range, at: int, error: Exception) -> Shard:
    if at in indices:
        raise error
    return make(indices)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _siblings(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir()) if folder.parent.exists() else []


@pytest.mark.parametrize("ragged", [False, True])
def test_a_set_reads_as_it_was_written(tmp_path: Path, ragged: bool) -> None:
    folder = tmp_path / "ocr" / "val"
    indices = range(100, 125)
    write_set(folder, indices, partial(make, ragged=ragged), {"source": "test"}, shard_size=10)
    prepared = ShardedSet(folder)
    expected = make(indices, ragged=ragged)
    assert len(prepared) == 25
    assert prepared.meta["source"] == "test"
    assert (prepared.meta["count"], prepared.meta["shards"]) == (25, 3)
    assert prepared.labels["index"].tolist() == list(indices)
    assert prepared.plates == expected.labels["plate"].tolist()
    for i, image in enumerate(expected.images):
        np.testing.assert_array_equal(prepared.image(i), image)
    assert prepared.boxes.shape == (25, 4)
    assert prepared.corners.shape == (25, 4, 2)
    np.testing.assert_allclose(prepared.boxes, expected.labels[BOX_COLUMNS], rtol=1e-6)
    np.testing.assert_allclose(
        prepared.corners.reshape(25, 8), expected.labels[CORNER_COLUMNS], rtol=1e-6
    )
    if not ragged:
        np.testing.assert_array_equal(prepared.images([3, 17]), np.stack(expected.images)[[3, 17]])


def test_images_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    write_set(tmp_path / "val", range(5), make, {})
    image = ShardedSet(tmp_path / "val").image(0)
    with pytest.raises(ValueError, match="read-only"):
        image[0, 0] = 1


@pytest.mark.parametrize("ragged", [False, True])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path: Path, ragged: bool) -> None:
    function = partial(make, ragged=ragged)
    for workers in (1, 3):
        write_set(tmp_path / str(workers), range(50), function, {}, workers=workers, shard_size=7)
    assert _bytes(tmp_path / "1") == _bytes(tmp_path / "3")


@pytest.mark.parametrize("count", [1, 21])
def test_a_shard_of_one_ragged_image_reads_too(tmp_path: Path, count: int) -> None:
    write_set(tmp_path / "val", range(count), partial(make, ragged=True), {}, shard_size=10)
    prepared = ShardedSet(tmp_path / "val")
    expected = make(range(count), ragged=True)
    for i, image in enumerate(expected.images):
        np.testing.assert_array_equal(prepared.image(i), image)


def test_several_sets_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    train, val = tmp_path / "train", tmp_path / "val"
    broken = partial(_fail_at, at=25, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(DatasetError, match="No space left"):
        write_sets(
            [NewSet(train, range(20), make, {}), NewSet(val, range(20, 30), broken, {})],
            size=10,
        )
    assert list(tmp_path.iterdir()) == []
    write_sets([NewSet(train, range(20), make, {}), NewSet(val, range(20, 30), make, {})], size=10)
    assert (len(ShardedSet(train)), len(ShardedSet(val))) == (20, 10)
    assert ShardedSet(val).labels["index"].tolist() == list(range(20, 30))


def test_a_new_set_replaces_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "val"
    write_set(folder, range(50), make, {}, shard_size=10)
    write_set(folder, range(5), make, {}, shard_size=10)
    assert len(ShardedSet(folder)) == 5
    assert len(list(folder.glob("images-*.npy"))) == 1
    assert _siblings(folder) == ["val"]


def test_a_full_disk_ends_with_a_message_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "prepared" / "val"
    save = np.save
    calls: list[BinaryIO] = []

    def full(stream: BinaryIO, *args: Any, **kwargs: Any) -> None:
        calls.append(stream)
        if len(calls) == 3:
            stream.write(b"half of a sha")  # what a full disk leaves
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(stream, *args, **kwargs)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DatasetError) as error:
        write_set(folder, range(50), make, {}, shard_size=10)
    assert "No space left on device" in str(error.value)
    assert str(folder.parent) in str(error.value)
    assert "prepared_data_path in params.yaml" in str(error.value)
    assert _siblings(folder) == []


def test_a_full_disk_leaves_the_set_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "val"
    write_set(folder, range(5), make, {})
    before = _bytes(folder)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(DatasetError, match="No space left"):
        write_set(folder, range(50), make, {})
    assert _bytes(folder) == before
    assert _siblings(folder) == ["val"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is a device of Linux")
def test_a_really_full_device_is_an_error_of_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The reason for buffered writing: under a mapped write this would be a SIGBUS.
    folder = tmp_path / "val"
    monkeypatch.setattr(shards, "uuid4", lambda: SimpleNamespace(hex="unique"))

    def full(indices: range) -> Shard:
        # The worker's next file is a link to a device that is always full.
        temporary = folder.with_name(".val.partial") / "temporary"
        (temporary / "images-00000.npy-unique").symlink_to("/dev/full")
        return make(indices)

    with pytest.raises(DatasetError, match="No space left on device"):
        write_set(folder, range(10_000), full, {}, shard_size=10_000)
    assert _siblings(folder) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_while_drawing_leaves_nothing(tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "prepared" / "val"
    function = partial(_fail_at, at=25, error=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        write_set(folder, range(50), function, {}, workers=workers, shard_size=10)
    assert _siblings(folder) == []


def test_a_full_disk_in_a_worker_is_told_too(tmp_path: Path) -> None:
    folder = tmp_path / "prepared" / "val"
    function = partial(_fail_at, at=25, error=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(DatasetError, match="No space left"):
        write_set(folder, range(50), function, {}, workers=2, shard_size=10)
    assert _siblings(folder) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match="cannot write the prepared set"):
        write_set(tmp_path / "file" / "val", range(5), make, {})


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def _write(name: str, text: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).write_text(text)

    return damage


def _swap(folder: Path) -> None:
    """Labels of a shard beside the images of another."""
    shutil.copy(folder / "labels-00002.parquet", folder / "labels-00000.parquet")


def _change_meta(**values: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps({**meta, **values}))

    return damage


def _drop_column(folder: Path) -> None:
    path = folder / "labels-00001.parquet"
    pd.read_parquet(path).drop(columns="x3").to_parquet(path)


def _pickle(folder: Path) -> None:
    np.save(folder / "images-00000.npy", np.array([{"never": "loaded"}]), allow_pickle=True)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (shutil.rmtree, "meta.json"),
        (_remove("meta.json"), "meta.json"),
        (_write("meta.json", "{"), ""),
        (_write("meta.json", "[]"), ""),
        (_write("meta.json", "{}"), ""),
        (_remove("images-00001.npy"), "images-00001.npy"),
        (_remove("labels-00001.parquet"), "labels-00001.parquet"),
        (_truncate("images-00001.npy"), ""),
        (_truncate("labels-00001.parquet"), ""),
        (_write("images-00001.npy", ""), ""),
        (_write("labels-00001.parquet", "no parquet"), ""),
        (_swap, "images-00000.npy"),
        (_drop_column, "x3"),
        (_change_meta(count=26), "26"),
        (_change_meta(shards=0), ""),
        (_change_meta(shards=2), ""),
        (_pickle, ""),
    ],
    ids=[
        "no folder", "no meta", "broken meta", "meta of another kind", "empty meta", "no images",
        "no labels", "truncated images", "truncated labels", "empty images", "no parquet",
        "labels of another shard", "no column", "another count", "no shards", "fewer shards",
        "pickled images",
    ],
)  # fmt: skip
def test_damage_is_told_with_the_remedy(
    tmp_path: Path, ragged: bool, damage: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "ocr" / "val"
    write_set(folder, range(25), partial(make, ragged=ragged), {}, shard_size=10)
    damage(folder)
    with pytest.raises(DatasetError) as error:
        ShardedSet(folder)
    assert str(folder) in str(error.value)
    assert "dvc repro -f prepare_ocr" in str(error.value)
    assert named in str(error.value)


# Killed and started again


class LostError(Exception):
    """Stands for whatever ends the process."""


def _until(indices: range, at: int, error: BaseException, made: Path) -> Shard:
    """Make a shard, and note it; end where the sample ``at`` would be made."""
    if at in indices:
        raise error
    (made / str(indices.start)).touch()
    return make(indices)


def _interrupt(tmp_path: Path, at: int, error: BaseException) -> Path:
    """Write a set of five shards until an error in one of them; return the folder of what is kept."""
    unfinished = tmp_path / ".val-1.partial"
    made = tmp_path / "made"
    made.mkdir(exist_ok=True)
    function = partial(_until, at=at, error=error, made=made)
    with pytest.raises(type(error)):
        write_sets([NewSet(tmp_path / "val", range(50), function, {})], None, 10, unfinished)
    return unfinished


def _go_on(tmp_path: Path) -> list[int]:
    """Write the set to its end; return the first samples of the shards that were made for it."""
    made = tmp_path / "made again"
    made.mkdir()
    function = partial(_until, at=-1, error=LostError(), made=made)
    new = NewSet(tmp_path / "val", range(50), function, {})
    write_sets([new], None, 10, tmp_path / ".val-1.partial")
    return sorted(int(path.name) for path in made.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143), EngineError("lost")])
def test_what_is_complete_when_it_is_killed_is_not_made_again(
    tmp_path: Path, error: BaseException
) -> None:
    write_set(tmp_path / "whole" / "val", range(50), make, {}, shard_size=10)
    _interrupt(tmp_path, 30, error)
    assert not (tmp_path / "val").exists()
    assert _go_on(tmp_path) == [30, 40]
    assert _bytes(tmp_path / "val") == _bytes(tmp_path / "whole" / "val")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "0/images-00001.npy").unlink(),
        lambda folder: (folder / "0/labels-00001.parquet").write_bytes(b""),
        lambda folder: (folder / "0/images-00001.npy").write_bytes(
            (folder / "0/images-00001.npy").read_bytes()[:-1] + b"x"
        ),
        lambda folder: (folder / "records/0-00001").unlink(),
        lambda folder: (folder / "records/0-00001").write_text("0" * 64),
    ],
    ids=["no images", "empty labels", "other images", "no record", "another record"],
)
def test_what_is_damaged_or_incomplete_is_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(_interrupt(tmp_path, 30, KeyboardInterrupt()))
    assert _go_on(tmp_path) == [10, 30, 40]
    write_set(tmp_path / "whole" / "val", range(50), make, {}, shard_size=10)
    assert _bytes(tmp_path / "val") == _bytes(tmp_path / "whole" / "val")


def test_an_error_keeps_nothing(tmp_path: Path) -> None:
    assert not _interrupt(tmp_path, 30, LostError()).exists()
    assert not _interrupt(tmp_path, 30, DatasetError("the disk is full")).exists()


def test_storage_that_a_worker_does_not_see_is_told(tmp_path: Path) -> None:
    writer = shards._Writer([make], tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="storage that all of them share: mount it"):
        shards._write_shard(writer, shards._ShardTask(0, 0, range(5)))


# Size


@pytest.mark.parametrize(
    ("count", "size"),
    [(10, 2000), (512_000, 2000), (1_000_000, 3907), (10_000_000, 20_000), (50_000_000, 20_000)],
)
def test_shards_grow_with_the_set(count: int, size: int) -> None:
    assert shard_size(count) == size


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux lists what is mapped")
def test_few_shards_are_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "OPEN_SHARDS", 3)
    folder = tmp_path / "val"
    write_set(folder, range(50), make, {}, shard_size=5)

    def mapped() -> int:
        return Path("/proc/self/maps").read_text().count(f"{folder}/images-")

    prepared = ShardedSet(folder)
    assert mapped() == 0
    for i in [*range(50), *range(0, 50, 7)]:
        np.testing.assert_array_equal(prepared.image(i), make(range(i, i + 1)).images[0])
    assert mapped() == 3


def test_a_set_is_sent_to_another_process_without_its_images(tmp_path: Path) -> None:
    write_set(tmp_path / "val", range(50), make, {}, shard_size=5)
    prepared = ShardedSet(tmp_path / "val")
    prepared.image(0)
    content = pickle.dumps(prepared)
    assert np.asarray(prepared.image(0)).tobytes() not in content
    again = pickle.loads(content)  # noqa: S301  # its own
    np.testing.assert_array_equal(again.image(33), prepared.image(33))


def test_a_shard_that_is_gone_when_it_is_read_is_told(tmp_path: Path) -> None:
    write_set(tmp_path / "ocr" / "val", range(50), make, {}, shard_size=5)
    prepared = ShardedSet(tmp_path / "ocr" / "val")
    (tmp_path / "ocr" / "val" / "images-00003.npy").unlink()
    prepared.image(0)
    with pytest.raises(DatasetError, match=r"images-00003\.npy.*dvc repro -f prepare_ocr"):
        prepared.image(17)
