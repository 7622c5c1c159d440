"""The registered models: sizes, files, errors, and that each can learn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from src.charset import CHARSET
from src.config import Config, ModelsConfig, load_config
from src.datasets.ocr import encode_texts
from src.decoding import greedy
from src.geometry import CORNER_COLUMNS
from src.models.base import Localizer, ModelError, Reader
from src.models.localizers import corners_to_box
from src.models.registry import (
    LOCALIZERS,
    READERS,
    build_localizer,
    build_reader,
    load_localizer,
    load_reader,
    save_model,
)
from tests.conftest import ROOT, make_localize

CONFIG = load_config(ROOT)


def changed(config: Config, section: str, **values: object) -> Config:
    part = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: part})


def pictures(model: Localizer | Reader, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, *model.input_shape, generator=generator)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("corner_net", 0.44), ("plate_localizer_v3", 8.4), ("crnn", 1.06), ("plate_ocr_v2", 15.2)],
)
def test_parameter_counts_are_what_they_were_meant_to_be(name: str, millions: float) -> None:
    model = (LOCALIZERS | READERS)[name](CONFIG)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_localizer_gives_corners_and_score_in_float32_under_autocast(name: str) -> None:
    model = build_localizer(name, CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(pictures(model, 3))
        loss = model.loss(output, torch.rand(3, 4, 2))
    assert output.corners.shape == (3, 4, 2)
    assert output.score.shape == (3,)
    assert output.corners.dtype == output.score.dtype == loss.dtype == torch.float32
    assert 0 <= output.score.min() <= output.score.max() <= 1
    loss.backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in model.parameters()
    )


@pytest.mark.parametrize(("name", "steps"), [("crnn", 32), ("plate_ocr_v2", 18)])
def test_reader_gives_logits_in_float32_under_autocast(name: str, steps: int) -> None:
    model = build_reader(name, CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(pictures(model, 2))
        targets, lengths = encode_texts(["ZH1", "AG1111111"])
        loss = model.loss(logits, torch.from_numpy(targets), torch.from_numpy(lengths))
    assert logits.shape == (2, steps, CHARSET.num_classes)
    assert logits.dtype == loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize("size", [32, 84, 131])
def test_corner_net_takes_any_size(size: int) -> None:
    model = build_localizer(
        "corner_net", changed(CONFIG, "LocalizeParams", IMG_SHAPE=[1, size, size])
    )
    assert model(pictures(model, 2)).corners.shape == (2, 4, 2)


def test_box_of_plate_localizer_v3_round_trips() -> None:
    model = build_localizer("plate_localizer_v3", CONFIG).eval()
    images = pictures(model, 4)
    box = model.head(model.hidden(model.trunk(images))).sigmoid()  # type: ignore[operator]  # modules
    torch.testing.assert_close(corners_to_box(model(images).corners), box)


def fit(model: Localizer | Reader, loss_of: Callable[[], Tensor], rate: float, steps: int) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.GRU):
            module.p = module.dropout = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("name", LOCALIZERS)
def test_localizer_overfits_one_batch(name: str) -> None:
    torch.manual_seed(1)
    layers = {"CONV_LAYERS": [8, 0, 16, 0, 16, 0], "HIDDEN_LAYERS": [64]}
    model = build_localizer(name, changed(CONFIG, "LocalizeModelParams", **layers))
    shard = make_localize(range(4))
    images = torch.from_numpy(np.stack(shard.images))[:, None] / 255
    corners = torch.from_numpy(shard.labels[CORNER_COLUMNS].to_numpy(np.float32)).view(4, 4, 2)
    fit(model, lambda: model.loss(model(images), corners), 3e-3, 120)
    box = corners_to_box(model(images).corners)
    assert (box - corners_to_box(corners)).abs().max() < 0.04


# The seed's reader has no batch norm and takes twice as long.
@pytest.mark.parametrize(("name", "steps"), [("crnn", 150), ("plate_ocr_v2", 300)])
def test_reader_overfits_one_batch(name: str, steps: int) -> None:
    torch.manual_seed(1)
    layers = {
        "CONV_LAYERS": [8, 0, 16, 0, 16],
        "GRU_HIDDEN_SIZE": 128,
        "GRU_NUM_LAYERS": 1,
        "GRU_AVGPOOL_SIZE": [4, 18],
        "CRNN_CHANNELS": [16] * 8,
        "CRNN_HIDDEN_SIZE": 48,
        "CRNN_NUM_LAYERS": 1,
    }
    model = build_reader(name, changed(CONFIG, "OCRModelParams", **layers))
    texts = ["ZH1", "AG52", "GE743", "BE8"]
    _, height, width = model.input_shape
    images = np.zeros((4, 1, height, width), dtype=np.uint8)
    for text, image in zip(texts, images, strict=True):
        cv2.putText(image[0], text, (2, 25), cv2.FONT_HERSHEY_SIMPLEX, width / 120, 255, 2)
    inputs = torch.from_numpy(images) / 255
    targets, lengths = map(torch.from_numpy, encode_texts(texts))
    fit(model, lambda: model.loss(model(inputs), targets, lengths), 4e-3, steps)
    assert greedy(model(inputs).log_softmax(dim=-1).detach().numpy()) == texts


@pytest.mark.parametrize("name", [*LOCALIZERS, *READERS])
def test_file_gives_the_same_model_whatever_params_py_says(name: str, tmp_path: Path) -> None:
    config = changed(CONFIG, "LocalizeModelParams", CONV_LAYERS=[8, 0, 8], HIDDEN_LAYERS=[8])
    config = changed(config, "OCRModelParams", CONV_LAYERS=[8, 0, 8], GRU_HIDDEN_SIZE=8)
    model = (LOCALIZERS | READERS)[name](config).eval().to(memory_format=torch.channels_last)
    path = tmp_path / "folder" / "model.safetensors"
    save_model(model, path)
    loaded = (load_localizer if name in LOCALIZERS else load_reader)(path)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    assert not loaded.training
    assert loaded.input_shape == model.input_shape
    images = pictures(model, 2)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images))


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"models\.localizer.*'yolo'.*corner_net"):
        build_localizer("yolo", CONFIG)
    with pytest.raises(ModelError, match=r"models\.reader.*crnn, plate_ocr_v2"):
        build_reader("corner_net", CONFIG)


@pytest.mark.parametrize(
    ("name", "section", "values", "parameter"),
    [
        ("crnn", "OCRModelParams", {"CRNN_IMG_SHAPE": [1, 30, 128]}, "CRNN_IMG_SHAPE"),
        ("crnn", "OCRModelParams", {"CRNN_IMG_SHAPE": [1, 32, 48]}, "CRNN_IMG_SHAPE"),
        ("plate_ocr_v2", "OCRModelParams", {"GRU_AVGPOOL_SIZE": [18, 8]}, "GRU_AVGPOOL_SIZE"),
        ("plate_ocr_v2", "OCRParams", {"IMG_SHAPE": [1, 8, 84]}, "OCRParams.IMG_SHAPE"),
        ("plate_localizer_v3", "LocalizeModelParams", {"CONV_LAYERS": [0, 0]}, "CONV_LAYERS"),
        (
            "plate_localizer_v3",
            "LocalizeModelParams",
            {"CONV_LAYERS": [8] + [0] * 7},
            "CONV_LAYERS",
        ),
    ],
)
def test_size_that_a_model_cannot_take_names_the_parameter(
    name: str, section: str, values: dict[str, object], parameter: str
) -> None:
    with pytest.raises(ModelError, match=parameter):
        (LOCALIZERS | READERS)[name](changed(CONFIG, section, **values))


def test_wrong_files_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match=r"no such model.*dvc repro train_localize"):
        load_localizer(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match=r"damaged.*dvc repro train_ocr"):
        load_reader(path)
    save_model(build_reader("crnn", CONFIG), path)
    with pytest.raises(ModelError, match="holds reader crnn, not a localizer"):
        load_localizer(path)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(ModelError, match="damaged"):
        load_reader(path)


def test_the_names_of_the_configuration_are_those_of_the_registry() -> None:
    fields = ModelsConfig.model_fields
    assert set(get_args(fields["localizer"].annotation)) == set(LOCALIZERS)
    assert set(get_args(fields["reader"].annotation)) == set(READERS)
