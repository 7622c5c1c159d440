"""The reader's dataset: texts and none, lines, errors of corners, light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from src.config import load_config
from src.config.training import TrainOCRParams
from src.core.charset import CHARSET
from src.core.geometry import SEEN_COLUMNS, Rectification, plate_axes
from src.core.layout import FORMATS
from src.core.random import Draws
from src.datasets import ocr
from src.datasets.batches import BatchIndices
from src.datasets.ocr import (
    CORNER_ERROR_COLUMNS,
    CORNER_ERRORS,
    OCRBatch,
    OCRDataset,
    encode_texts,
    jitter_light,
    jitter_quads,
    layout_targets,
    read_corner_errors,
    seen_parts,
    snap,
)
from src.datasets.shards import DatasetError
from src.inference.crops import is_tall, recognizer_crop

SHAPE = (1, 32, 128)
STILL = dict.fromkeys(
    ("CORNER_JITTER", "BOX_JITTER", "BOX_SKEW", "LINES_ERROR", "TONE_JITTER", "BLUR_JITTER"), 0.0
)


@pytest.fixture
def folder(tiny_workspace: Path) -> Path:
    """A set of 60 samples: every third has nothing to read, every other one has two lines."""
    folder = tiny_workspace / "data/prepared/ocr/train"
    labels = pd.read_parquet(folder / "labels-00000.parquet")
    labels.loc[::3, "plate"] = ""
    labels.loc[1::2, "lines"] = 2
    labels.to_parquet(folder / "labels-00000.parquet")
    return folder


def params_of(folder: Path, **values: float) -> TrainOCRParams:
    params = load_config(folder.parents[3]).TrainOCRParams
    return params.model_copy(update=values)


def batch_of(
    folder: Path,
    params: TrainOCRParams,
    rectification: Rectification = "corners",
    epoch: int = 0,
    fixed: bool = False,
) -> OCRBatch:
    dataset = OCRDataset(folder, rectification, SHAPE, params, fixed)
    return dataset.__getitems__(BatchIndices(epoch, np.arange(60)))


def test_nothing_to_read_is_a_text_without_characters() -> None:
    targets, lengths = encode_texts(["", "ZH1", ""])
    assert lengths.tolist() == [0, 2, 0]
    assert (targets[[0, 2]] == CHARSET.blank).all()
    assert targets[1, :2].tolist() == CHARSET.encode("ZH1")
    with pytest.raises(ValueError, match="' '"):
        encode_texts([" "])


def test_hidden_characters_are_targets() -> None:
    targets, lengths = encode_texts(["ZH1?3", "?", "?23", "AG?"])
    assert lengths.tolist() == [4, 1, 3, 2]
    digits = CHARSET.encode("ZH1234567")
    assert targets[0, :4].tolist() == [digits[0], digits[1], CHARSET.hidden, digits[3]]
    assert targets[2, :3].tolist() == [CHARSET.hidden, *digits[2:4]]
    assert (targets[1, 1:] == CHARSET.blank).all()
    for text in ("ZX1?", "ZHA?"):
        with pytest.raises(ValueError, match=f"{text[:-1]}.* is not the text of a plate"):
            encode_texts([text])


def test_a_batch_has_crops_of_both_lines_and_texts_or_none(folder: Path) -> None:
    params = params_of(folder, **STILL)
    batch = batch_of(folder, params)
    dataset = OCRDataset(folder, "corners", SHAPE, params)
    for i in range(60):
        image = dataset.samples.image(i)
        corners = dataset.samples.corners[i] * np.array(image.shape[::-1])
        crop = recognizer_crop(image, corners, "corners", SHAPE, 1 + i % 2)
        assert np.abs(crop.astype(int) - batch.images[i].numpy()).max() <= 1
        text = dataset.samples.plates[i]
        assert int(batch.lengths[i]) == (len(CHARSET.encode(text)) if i % 3 else 0)
    assert (batch.targets[::3] == CHARSET.blank).all()


def test_crops_of_the_wrong_number_of_lines_have_no_text(folder: Path) -> None:
    right = batch_of(folder, params_of(folder, **STILL))
    wrong = batch_of(folder, params_of(folder, **STILL | {"LINES_ERROR": 1.0}))
    assert (wrong.lengths == 0).all()
    assert (wrong.targets == CHARSET.blank).all()
    labels = pd.read_parquet(folder / "labels-00000.parquet")
    labels.assign(lines=3 - labels["lines"]).to_parquet(folder / "labels-00000.parquet")
    other = batch_of(folder, params_of(folder, **STILL))
    assert torch.equal(wrong.images, other.images)
    assert not torch.equal(wrong.images, right.images)
    box = batch_of(folder, params_of(folder, **STILL | {"LINES_ERROR": 1.0}), "box")
    assert torch.equal(box.lengths, right.lengths)


def test_some_crops_are_of_the_wrong_number_of_lines(folder: Path) -> None:
    dataset = OCRDataset(folder, "corners", SHAPE, params_of(folder, LINES_ERROR=0.2))
    lost = total = 0
    for epoch in range(20):
        lengths = dataset.__getitems__(BatchIndices(epoch, np.arange(60))).lengths
        texts = torch.arange(60) % 3 != 0
        lost, total = lost + int((lengths[texts] == 0).sum()), total + int(texts.sum())
    assert 0.15 < lost / total < 0.25


def test_half_of_the_tall_plates_of_two_lines_are_cut_closer(folder: Path) -> None:
    path = folder / "labels-00000.parquet"
    labels = pd.read_parquet(path)
    left, right = labels["x0"].min(), labels["x1"].max()
    for corner in range(4):
        name = f"x{corner}"
        labels[name] = left + 0.15 * (labels[name] - left) / (right - left)
    labels.to_parquet(path)
    params = params_of(folder, **STILL, SNAP_PROBABILITY=0.0)
    dataset, cuts = OCRDataset(folder, "corners", SHAPE, params, True), {False: 0, True: 0}
    images = dataset.__getitems__(BatchIndices(0, np.arange(60))).images
    for i in range(60):
        image, lines = dataset.samples.image(i), 1 + i % 2
        size = np.array([image.shape[1], image.shape[0]])
        quad = dataset.samples.corners[i] * size
        assert is_tall(quad)
        for closer in (False, True):
            expected = recognizer_crop(image, quad, "corners", SHAPE, lines, closer=closer)
            is_this = np.array_equal(images[i].numpy(), expected)
            if lines == 2:
                cuts[closer] += is_this
            else:
                assert is_this
    assert sum(cuts.values()) == 30
    assert 8 < cuts[True] < 22


def test_targets_of_a_set_are_not_changed_by_its_batches(folder: Path) -> None:
    dataset = OCRDataset(folder, "corners", SHAPE, params_of(folder, LINES_ERROR=0.5))
    for epoch in range(8):
        dataset.__getitems__(BatchIndices(epoch, np.arange(60)))
    targets, lengths = encode_texts(dataset.samples.plates)
    np.testing.assert_array_equal(dataset._targets.numpy(), targets)
    np.testing.assert_array_equal(dataset._lengths.numpy(), lengths)


def test_a_set_that_does_not_say_lines_must_be_made_again(folder: Path) -> None:
    path = folder / "labels-00000.parquet"
    labels = pd.read_parquet(path)
    labels.drop(columns="lines").to_parquet(path)
    with pytest.raises(DatasetError, match=r"one line or two.*dvc repro -f prepare_ocr"):
        OCRDataset(folder, "corners", SHAPE, params_of(folder))
    labels.assign(lines=0).to_parquet(path)
    with pytest.raises(DatasetError, match="one line or two"):
        OCRDataset(folder, "corners", SHAPE, params_of(folder))


# Errors of corners


def upright(count: int) -> NDArray[np.float64]:
    """``(count, 4, 2)`` plates of 80 by 20 pixels: of the size 20."""
    return np.tile(np.array([[10, 10], [90, 10], [90, 30], [10, 30]], dtype=float), (count, 1, 1))


def test_corners_are_off_as_the_table_says_or_its_mirror_images(tiny_workspace: Path) -> None:
    params = load_config(tiny_workspace).TrainOCRParams
    errors = np.array([[[0.1, 0.02], [-0.3, 0.04], [0.05, -0.06], [0.07, 0.2]]])
    quads = upright(400)
    draws = Draws(1, "x", np.arange(400))
    moved = jitter_quads(
        quads, "corners", params.model_copy(update={"CORNER_JITTER": 1.5}), errors, draws
    )
    off = np.round((moved - quads) / 20 / 1.5, 6)
    first = errors[0]
    seen_in_mirrors = [
        first,
        first[[1, 0, 3, 2]] * [-1, 1],
        first[[3, 2, 1, 0]] * [1, -1],
        first[[2, 3, 0, 1]] * [-1, -1],
    ]
    wanted = {tuple((sign * item).ravel().round(6)) for item in seen_in_mirrors for sign in (1, -1)}
    assert {tuple(item.ravel()) for item in off} == wanted
    # A plate that is turned is off along its own axes, by its own size.
    turned = quads[:, :, ::-1] * [-3, 3]
    again = jitter_quads(
        turned,
        "corners",
        params.model_copy(update={"CORNER_JITTER": 1.5}),
        errors,
        Draws(1, "x", np.arange(400)),
    )
    np.testing.assert_allclose(again - turned, (moved - quads)[:, :, ::-1] * [-3, 3], atol=1e-9)


def test_all_rows_of_the_table_are_drawn(tiny_workspace: Path) -> None:
    params = load_config(tiny_workspace).TrainOCRParams
    errors = np.arange(1, 51)[:, None, None] * np.full((1, 4, 2), 0.01)
    moved = jitter_quads(upright(2000), "corners", params, errors, Draws(1, "x", np.arange(2000)))
    sizes = np.abs(moved - upright(2000)).mean(axis=(1, 2)) / 20 / params.CORNER_JITTER
    counts = np.bincount(np.round(sizes * 100).astype(int), minlength=51)[1:]
    assert counts.min() > 15
    assert counts.max() < 80


def test_the_committed_table_is_one_of_errors() -> None:
    errors = read_corner_errors(CORNER_ERRORS)
    assert len(errors) >= 500
    assert 0.005 < np.abs(errors).mean() < 0.3
    # By far the most plates are read where the errors leave them.
    assert np.quantile(np.abs(errors), 0.9) < 0.5
    # What is read is what plates' own axes make of errors in pixels.
    corners = upright(3) * 2
    pixels = errors[:3] @ plate_axes(corners)
    np.testing.assert_allclose(pixels, errors[:3] * 40)


@pytest.mark.parametrize("damage", ["missing", "column", "gap", "empty", "text"])
def test_a_damaged_table_is_named(
    damage: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "errors.csv"
    table = pd.DataFrame(np.full((5, 8), 0.1), columns=CORNER_ERROR_COLUMNS)
    if damage == "column":
        table = table.drop(columns="dy2")
    elif damage == "gap":
        table.loc[2, "dx0"] = np.nan
    elif damage == "empty":
        table = table[:0]
    if damage == "text":
        path.write_bytes(b"\xff\xfe\x00 no table")
    elif damage != "missing":
        table.to_csv(path, index=False)
    monkeypatch.setattr(ocr, "CORNER_ERRORS", path)
    with pytest.raises(DatasetError, match=r"errors\.csv.*localizer's errors"):
        OCRDataset(folder, "corners", SHAPE, params_of(folder))


# Light


def test_light_and_sharpness_differ_by_epoch_in_training_alone(folder: Path) -> None:
    params = params_of(folder, **STILL | {"TONE_JITTER": 0.4, "BLUR_JITTER": 0.8})
    identity_collate = batch_of(folder, params_of(folder, **STILL)).images
    first, second = (batch_of(folder, params, epoch=epoch).images for epoch in (0, 1))
    changed = (first != identity_collate).flatten(1).any(dim=1)
    assert changed.float().mean() > 0.95
    assert ((first != second).flatten(1).any(dim=1)).float().mean() > 0.95
    assert torch.equal(first, batch_of(folder, params).images)
    assert torch.equal(batch_of(folder, params, fixed=True).images, identity_collate)


def test_light_clips_nothing_and_keeps_the_order_of_greys(tiny_workspace: Path) -> None:
    params = load_config(tiny_workspace).TrainOCRParams
    params = params.model_copy(update={"TONE_JITTER": 0.6, "BLUR_JITTER": 0.0})
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (32, 1))
    lit = np.stack(jitter_light([ramp] * 300, params, Draws(1, "x", np.arange(300))))[:, 0]
    steps = np.diff(lit.astype(int), axis=1)
    assert (steps >= 0).all()
    spread = lit.max(axis=1).astype(int) - lit.min(axis=1)
    assert spread.min() < 0.5 * 255
    assert spread.min() >= 0.39 * 254
    assert spread.max() > 0.95 * 255
    # Darker and lighter, flat and steep in the shadows.
    assert lit.mean(axis=1).min() < 90
    assert lit.mean(axis=1).max() > 165
    # White and black are not spread over more than a few of the darkest and lightest greys.
    assert (lit == lit.max(axis=1, keepdims=True)).sum(axis=1).max() <= 4


def test_blur_is_up_to_what_is_asked_for(tiny_workspace: Path) -> None:
    params = load_config(tiny_workspace).TrainOCRParams
    params = params.model_copy(update={"TONE_JITTER": 0.0, "BLUR_JITTER": 1.0})
    edge = np.zeros((32, 128), np.uint8)
    edge[:, 64:] = 200
    blurred = np.stack(jitter_light([edge] * 200, params, Draws(1, "x", np.arange(200))))
    beside = blurred[:, 16, 63] / 200
    assert beside.min() == 0
    assert 0.25 < beside.max() < 0.34
    assert len(np.unique(beside)) > 30


def partly_hidden(folder: Path) -> pd.DataFrame:
    """The set with labels of the generator: a quarter is hidden at its right end."""
    path = folder / "labels-00000.parquet"
    labels = pd.read_parquet(path)
    labels["text"] = labels["plate"].where(labels["plate"] != "", "ZH123")
    labels["covered"] = np.where(np.arange(60) % 4 == 0, 1.0, 0.0)
    labels["plate"] = labels["text"].where(labels["covered"] == 0, "")
    labels["format"] = np.where(np.arange(60) % 6 == 5, "foreign", "front_long")
    labels.loc[labels["format"] == "foreign", ["plate", "text"]] = ""
    labels[SEEN_COLUMNS] = [0.0, 0.0, 1.0, 1.0]
    labels.loc[labels["covered"] == 1, "seen_x2"] = 0.6
    labels.to_parquet(path)
    return labels


def test_a_batch_tells_which_plates_are_whole(folder: Path) -> None:
    labels = partly_hidden(folder)
    batch = batch_of(folder, params_of(folder, **STILL))
    foreign, hidden = labels["format"] == "foreign", labels["covered"] == 1
    assert batch.complete[(hidden & ~foreign).to_numpy()].eq(0).all()
    assert batch.complete[(~hidden & ~foreign).to_numpy()].eq(1).all()
    assert batch.complete[foreign.to_numpy()].isnan().all()
    assert batch.swiss.eq(torch.from_numpy((~foreign).to_numpy()).float()).all()
    assert batch.formats.eq(torch.from_numpy(np.where(foreign, -1, FORMATS.index("front")))).all()
    # Without a column that tells where, whatever is hidden has no text to learn.
    assert batch.lengths[hidden.to_numpy()].eq(0).all()
    assert batch.lengths[(~hidden & ~foreign).to_numpy()].gt(0).all()
    labels["seen_text"] = (labels["text"].str[:-1] + "?").where(hidden & ~foreign, labels["plate"])
    labels.to_parquet(folder / "labels-00000.parquet")
    batch = batch_of(folder, params_of(folder, **STILL))
    ends = batch.targets.gather(1, (batch.lengths[:, None] - 1).clamp(min=0))[:, 0]
    assert ends.eq(CHARSET.hidden).eq(torch.from_numpy((hidden & ~foreign).to_numpy())).all()


def test_a_real_set_tells_less(folder: Path) -> None:
    labels = pd.read_parquet(folder / "labels-00000.parquet").assign(format="")
    complete, swiss, formats = layout_targets(labels)
    assert (complete[labels["plate"] != ""] == 1).all()
    assert np.isnan(complete[labels["plate"] == ""]).all()
    assert np.isnan(swiss).all()
    assert (formats == -1).all()


def test_a_crop_for_the_wrong_number_of_lines_says_nothing_of_the_layout(folder: Path) -> None:
    partly_hidden(folder)
    batch = batch_of(folder, params_of(folder, **STILL | {"LINES_ERROR": 1.0}))
    assert batch.complete.isnan().all()
    assert batch.formats.eq(-1).all()


def test_a_plate_is_snapped_to_what_can_be_seen_of_it() -> None:
    corners = np.array([[[0.0, 0], [100, 10], [100, 30], [0, 20]]])
    np.testing.assert_allclose(snap(corners, np.array([[0.0, 0, 1, 1]])), corners)
    left = snap(corners, np.array([[0.0, 0.0, 0.5, 1.0]]))
    np.testing.assert_allclose(left, [[[0, 0], [50, 5], [50, 25], [0, 20]]])
    lower = snap(corners, np.array([[0.0, 0.5, 1.0, 1.0]]))
    np.testing.assert_allclose(lower, [[[0, 10], [100, 20], [100, 30], [0, 20]]])


def test_hidden_ends_are_seen_or_snapped_away(folder: Path) -> None:
    labels = partly_hidden(folder)
    hidden = (labels["covered"] == 1).to_numpy()
    never, always = (
        batch_of(folder, params_of(folder, **STILL | {"SNAP_PROBABILITY": share})).images
        for share in (0.0, 1.0)
    )
    same = (never == always).all(dim=2).all(dim=1).numpy()
    np.testing.assert_array_equal(same, ~hidden)
    # Next to nothing is no plate to snap to.
    assert (seen_parts(labels.assign(seen_x2=0.1)) == [0, 0, 1, 1]).all()
    assert (seen_parts(labels.drop(columns=SEEN_COLUMNS)) == [0, 0, 1, 1]).all()
