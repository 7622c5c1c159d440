"""Batches: order, jitter, crops."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import load_config
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, corners_to_box, rectify
from src.datasets.batches import BatchIndices, TrainingBatches, ValidationBatches
from src.datasets.localize import LocalizeDataset
from src.datasets.ocr import OCRDataset
from src.datasets.shards import DatasetError
from src.inference.crops import recognizer_crop
from tests.conftest import ROOT


def test_an_epoch_has_every_sample_and_only_full_batches() -> None:
    batches = list(TrainingBatches(count=10, batch_size=4, epochs=2, seed=1))
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1, 1, 1]
    assert all(len(batch.samples) == 4 for batch in batches)
    first, second = (np.concatenate([b.samples for b in batches[i : i + 3]]) for i in (0, 3))
    assert set(first[:10]) == set(second[:10]) == set(range(10))
    assert first.tolist() != second.tolist()


def test_a_set_smaller_than_a_batch_fills_it() -> None:
    (batch,) = TrainingBatches(count=3, batch_size=8, epochs=1, seed=1)
    assert len(batch.samples) == 8


def test_resumed_order_is_the_rest_of_the_whole() -> None:
    whole = list(TrainingBatches(count=10, batch_size=4, epochs=3, seed=1))
    resumed = TrainingBatches(count=10, batch_size=4, epochs=3, seed=1, start=4)
    assert len(resumed) == len(whole)
    for a, b in zip(resumed, whole[4:], strict=True):
        assert a.epoch == b.epoch
        assert a.samples.tolist() == b.samples.tolist()


def test_processes_share_a_batch_without_overlap() -> None:
    whole = list(TrainingBatches(count=12, batch_size=4, epochs=1, seed=1))
    parts = [list(TrainingBatches(12, 4, 1, 1, rank=rank, world=2)) for rank in range(2)]
    for batch, *shares in zip(whole, *parts, strict=True):
        together = np.concatenate([share.samples for share in shares])
        assert sorted(together) == sorted(batch.samples)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_counts_each_sample_once(world: int) -> None:
    seen = [
        sample
        for rank in range(world)
        for batch in ValidationBatches(10, 4, rank, world)
        for sample in batch.samples
    ]
    assert sorted(seen) == list(range(10))


def test_localize_batch(tiny_workspace: Path) -> None:
    folder = tiny_workspace / "data/prepared/localize/train"
    path = folder / "labels-00000.parquet"
    labels = pd.read_parquet(path)
    labels.loc[5, [*BOX_COLUMNS, *CORNER_COLUMNS]] = np.nan
    labels.loc[5, "present"] = False
    labels.loc[0, "lines"] = 2
    labels.to_parquet(path)
    dataset = LocalizeDataset(folder, (1, 84, 84))
    batch = dataset.__getitems__(BatchIndices(0, np.array([5, 0, 59])))
    assert batch.images.shape == (3, 84, 84)
    assert batch.images.dtype == torch.uint8
    assert batch.corners.shape == (3, 4, 2)
    assert batch.corners.dtype == torch.float32
    np.testing.assert_array_equal(batch.images[1], dataset.samples.image(0))
    # In pixels, and nowhere where there is no plate.
    np.testing.assert_allclose(batch.corners[1], dataset.samples.corners[0] * 84, rtol=1e-6)
    assert batch.corners[0].isnan().all()
    assert batch.present.tolist() == [False, True, True]
    assert batch.lines.tolist() == [1, 2, 1]
    with pytest.raises(DatasetError, match=r"84x84.*96x96.*IMG_SHAPE.*prepare_localize"):
        LocalizeDataset(folder, (1, 96, 96))


@pytest.mark.parametrize("column", ["present", "lines"])
def test_a_set_that_does_not_say_where_plates_are_is_older(
    tiny_workspace: Path, column: str
) -> None:
    folder = tiny_workspace / "data/prepared/localize/train"
    path = folder / "labels-00000.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    with pytest.raises(DatasetError, match=r"do not say.*dvc repro -f prepare_localize"):
        LocalizeDataset(folder, (1, 84, 84))


@pytest.mark.parametrize(
    ("rectification", "shape"), [("corners", (1, 32, 128)), ("box", (1, 84, 84))]
)
def test_jitter_depends_on_epoch_and_sample_alone(
    tiny_workspace: Path, rectification: str, shape: tuple[int, int, int]
) -> None:
    folder = tiny_workspace / "data/prepared/ocr/train"
    params = load_config(tiny_workspace).TrainOCRParams
    training = OCRDataset(folder, rectification, shape, params)  # type: ignore[arg-type]  # literal
    fixed = OCRDataset(folder, rectification, shape, params, fixed=True)  # type: ignore[arg-type]

    def crop(dataset: OCRDataset, epoch: int, *samples: int) -> torch.Tensor:
        return dataset.__getitems__(BatchIndices(epoch, np.array(samples))).images[0]

    first = crop(training, 0, 7)
    assert first.shape == shape[1:]
    assert torch.equal(first, crop(training, 0, 7, 3, 1))
    assert not torch.equal(first, crop(training, 1, 7))
    assert torch.equal(crop(fixed, 0, 7), crop(fixed, 1, 7, 2))
    assert not torch.equal(first, crop(fixed, 0, 7))


def test_without_jitter_a_training_crop_is_the_crop_of_use(tiny_workspace: Path) -> None:
    none = dict.fromkeys(("CORNER_JITTER", "BOX_JITTER", "BOX_SKEW", "LINES_ERROR"), 0.0)
    none |= {"TONE_JITTER": 0.0, "BLUR_JITTER": 0.0}
    params = load_config(tiny_workspace).TrainOCRParams.model_copy(update=none)
    folder = tiny_workspace / "data/prepared/ocr/val"
    for rectification, shape in (("corners", (1, 32, 128)), ("box", (1, 84, 84))):
        dataset = OCRDataset(folder, rectification, shape, params)  # type: ignore[arg-type]  # literal
        batch = dataset.__getitems__(BatchIndices(0, np.arange(25)))
        for i in range(25):
            image = dataset.samples.image(i)
            corners = dataset.samples.corners[i] * np.array(image.shape[::-1])
            crop = recognizer_crop(image, corners, rectification, shape)  # type: ignore[arg-type]
            assert np.abs(crop.astype(int) - batch.images[i].numpy()).max() <= 1


def test_box_crop_is_the_upright_box(tiny_workspace: Path) -> None:
    image = np.arange(200 * 100, dtype=np.uint32).reshape(200, 100).astype(np.uint8)
    corners = np.array([[10, 20], [50, 24], [48, 60], [12, 58]], dtype=np.float32)
    crop = recognizer_crop(image, corners, "box", (1, 40, 40))
    assert corners_to_box(corners).tolist() == [30, 40, 40, 40]
    assert crop.shape == (40, 40)
    np.testing.assert_array_equal(crop, image[20:60, 10:50])


def test_corner_crop_keeps_a_margin() -> None:
    image = np.zeros((100, 200), dtype=np.uint8)
    image[40:60, 50:130] = 255
    corners = np.array([[50, 40], [130, 40], [130, 60], [50, 60]], dtype=np.float32)
    crop = recognizer_crop(image, corners, "corners", (1, 32, 128))
    assert (crop[:1] == 0).all()
    assert (crop[:, :6] == 0).all()
    assert (crop[4:-4, 10:-10] == 255).all()
    assert (rectify(image, corners, (32, 128)) > 0).all()


def test_damaged_texts_are_named(tiny_workspace: Path) -> None:
    folder = tiny_workspace / "data/prepared/ocr/train"
    path = folder / "labels-00000.parquet"
    pd.read_parquet(path).assign(plate="XX1").to_parquet(path)
    params = load_config(tiny_workspace).TrainOCRParams
    with pytest.raises(DatasetError, match=r"train: 'XX1' is not a valid plate.*prepare_ocr"):
        OCRDataset(folder, "corners", (1, 32, 128), params)


def test_crops_need_no_torch() -> None:
    code = "import sys, src.inference.crops; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
