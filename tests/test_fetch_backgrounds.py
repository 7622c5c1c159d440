"""Backgrounds: CIFAR-10 where it is, procedural images where it cannot be, errors where it must."""

from __future__ import annotations

import hashlib
import json
import pickle
import urllib.error
from pathlib import Path

import cv2
import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from src import fetch_backgrounds
from src.config import Config, load_config
from src.config.sets import BackgroundsConfig
from src.core.errors import StageError
from src.datasets.backgrounds import load_backgrounds
from src.datasets.shards import DatasetError
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.delenv("CIFAR10_ROOT", raising=False)
    monkeypatch.setattr(fetch_backgrounds, "PROCEDURAL_COUNTS", {"train": 60, "val": 20})
    return _with_source(load_config(PARAMETERS), "auto", tmp_path)


def _with_source(config: Config, source: str, folder: Path) -> Config:
    return config.model_copy(
        update={
            "dataset_path": str(folder / "datasets"),
            "backgrounds": BackgroundsConfig(source=source, cifar10_root=str(folder / "cifar")),
        }
    )


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: CIFAR10) -> None:
        raise urllib.error.URLError("no network in this test")

    monkeypatch.setattr(CIFAR10, "download", refuse)


@pytest.fixture
def small_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with CIFAR-10's layout, ten images a file, and checksums that fit it."""
    folder = tmp_path / "cifar" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(3)
    lists: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    names = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
    for name in names:
        data = numbers.integers(0, 256, (10, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": data, "labels": [0] * 10})
        (folder / name).write_bytes(content)
        key = "test_list" if name == "test_batch" else "train_list"
        lists[key].append([name, hashlib.md5(content, usedforsecurity=False).hexdigest()])
    content = pickle.dumps({"label_names": ["one"]})
    (folder / "batches.meta").write_bytes(content)
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": digest}
    )
    for key, value in lists.items():
        monkeypatch.setattr(CIFAR10, key, value)
    return folder


@pytest.mark.usefixtures("no_network")
def test_procedural_where_neither_folder_nor_network_is(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_backgrounds.write_backgrounds(config)
    train = load_backgrounds(config.backgrounds_folder, "train")
    val = load_backgrounds(config.backgrounds_folder, "val")
    assert train.source == val.source == "procedural"
    assert train.images.shape == (60, 32, 32)
    shared = {p.tobytes() for p in train.images} & {p.tobytes() for p in val.images}
    assert not shared
    assert len({p.tobytes() for p in train.images}) == 60
    said = capsys.readouterr().err
    assert "CIFAR10_ROOT" in said
    assert "dvc exp run -S backgrounds.source=cifar10" in said


@pytest.mark.usefixtures("small_cifar10")
def test_cifar10_is_taken_split_and_recorded(config: Config) -> None:
    fetch_backgrounds.write_backgrounds(config)
    meta = json.loads((config.backgrounds_folder / "meta.json").read_text())
    assert meta["source"] == "cifar10"
    assert meta["counts"] == {"train": 50, "val": 10}
    images = load_backgrounds(config.backgrounds_folder, "train").images
    # Training gets CIFAR-10's training images, validation its test images.
    first = np.random.default_rng(3).integers(0, 256, (10, 3072), dtype=np.uint8)[0]
    grey = cv2.cvtColor(first.reshape(3, 32, 32).transpose(1, 2, 0), cv2.COLOR_RGB2GRAY)
    assert (images[0] == grey).all()


def test_the_environment_goes_before_the_parameter(
    config: Config, small_cifar10: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = config.model_copy(
        update={"backgrounds": BackgroundsConfig(source="cifar10", cifar10_root="nowhere")}
    )
    monkeypatch.setenv("CIFAR10_ROOT", str(small_cifar10.parent))
    assert fetch_backgrounds.resolve_source(elsewhere) == "cifar10"


@pytest.mark.usefixtures("no_network")
def test_cifar10_demanded_but_missing_is_an_error(config: Config, tmp_path: Path) -> None:
    demanding = _with_source(config, "cifar10", tmp_path)
    with pytest.raises(DatasetError, match=r"no such folder.*CIFAR10_ROOT"):
        fetch_backgrounds.write_backgrounds(demanding)
    assert not demanding.backgrounds_folder.exists()


@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_damaged_cifar10_is_an_error_and_not_replaced(
    config: Config, small_cifar10: Path, damage: str
) -> None:
    broken = small_cifar10 / "test_batch"
    if damage == "truncated":
        broken.write_bytes(broken.read_bytes()[:-100])
    else:
        broken.unlink()
    with pytest.raises(DatasetError, match=r"cifar-10-batches-py: CIFAR-10 is damaged"):
        fetch_backgrounds.write_backgrounds(config)
    assert not config.backgrounds_folder.exists()


def test_procedural_can_be_chosen_although_cifar10_is_there(
    config: Config, small_cifar10: Path, tmp_path: Path
) -> None:
    assert small_cifar10.is_dir()
    assert (
        fetch_backgrounds.resolve_source(_with_source(config, "procedural", tmp_path))
        == "procedural"
    )


@pytest.mark.usefixtures("no_network")
def test_a_full_disk_leaves_nothing_behind(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StageError, match="No space left on device"):
        fetch_backgrounds.write_backgrounds(config)
    assert not list(config.backgrounds_folder.parent.iterdir())


def test_missing_backgrounds_say_how_to_make_them(config: Config) -> None:
    with pytest.raises(DatasetError, match="dvc repro -f fetch_backgrounds"):
        load_backgrounds(config.backgrounds_folder, "train")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("file", "content"),
    [("train.npy", b""), ("train.npy", None), ("meta.json", b"[]"), ("meta.json", b"{")],
)
def test_damaged_backgrounds_say_how_to_make_them(
    config: Config, file: str, content: bytes | None
) -> None:
    fetch_backgrounds.write_backgrounds(config)
    path = config.backgrounds_folder / file
    if content is None:
        # One bit: the hash tells.
        changed = bytearray(path.read_bytes())
        changed[-1] ^= 1
        content = bytes(changed)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="dvc repro -f fetch_backgrounds"):
        load_backgrounds(config.backgrounds_folder, "train")
