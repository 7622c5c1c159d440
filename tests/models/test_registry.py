"""The registered models: sizes, files, errors, and that each can learn."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from src.config import Config, load_config
from src.config.models import ModelsConfig
from src.core.charset import CHARSET
from src.core.layout import LAYOUT
from src.datasets.ocr import encode_texts
from src.models.base import Localizer, ModelError, Recognizer
from src.models.registry import (
    LOCALIZERS,
    RECOGNIZERS,
    build_localizer,
    build_recognizer,
    load_localizer,
    load_recognizer,
    save_model,
)
from tests.conftest import PARAMETERS

CONFIG = load_config(PARAMETERS)


def changed(config: Config, section: str, **values: object) -> Config:
    part = getattr(config, section).model_copy(update=values)
    return config.model_copy(update={section: part})


def random_images(model: Localizer | Recognizer, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, *model.input_shape, generator=generator)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("plate_net", 0.292), ("plate_localizer_v3", 8.4), ("crnn", 0.744), ("plate_ocr_v2", 15.2)],
)
def test_parameter_counts_are_what_they_were_meant_to_be(name: str, millions: float) -> None:
    model = (LOCALIZERS | RECOGNIZERS)[name](CONFIG)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize(("name", "steps"), [("crnn", 32), ("plate_ocr_v2", 18)])
def test_reader_gives_logits_in_float32_under_autocast(name: str, steps: int) -> None:
    model = build_recognizer(name, CONFIG)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(random_images(model, 2))
        targets, lengths = encode_texts(["ZH1", "AG1111111"])
        loss = model.loss(logits, torch.from_numpy(targets), torch.from_numpy(lengths))
    others = 1 + len(LAYOUT) if name == "crnn" else 0
    assert logits.shape == (2, steps, CHARSET.num_classes + others)
    assert logits.dtype == loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize("name", [*LOCALIZERS, *RECOGNIZERS])
def test_file_gives_the_same_model_whatever_params_py_says(name: str, tmp_path: Path) -> None:
    config = changed(CONFIG, "LocalizeModelParams", CONV_LAYERS=[8, 0, 8], HIDDEN_LAYERS=[8])
    config = changed(config, "OCRModelParams", CONV_LAYERS=[8, 0, 8], GRU_HIDDEN_SIZE=8)
    model = (LOCALIZERS | RECOGNIZERS)[name](config).eval().to(memory_format=torch.channels_last)
    path = tmp_path / "folder" / "model.safetensors"
    save_model(model, path)
    loaded = (load_localizer if name in LOCALIZERS else load_recognizer)(path)
    assert [file.name for file in path.parent.iterdir()] == ["model.safetensors"]
    assert not loaded.training
    assert loaded.input_shape == model.input_shape
    images = random_images(model, 2)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), model(images))


@pytest.mark.parametrize("name", [*LOCALIZERS, *RECOGNIZERS])
def test_the_same_model_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    model = build_localizer(name, CONFIG) if name in LOCALIZERS else build_recognizer(name, CONFIG)
    contents = set()
    for _ in range(8):
        save_model(model, tmp_path / "model.safetensors")
        contents.add((tmp_path / "model.safetensors").read_bytes())
    assert len(contents) == 1


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"models\.localizer.*'yolo'.*plate_net"):
        build_localizer("yolo", CONFIG)
    with pytest.raises(ModelError, match=r"models\.recognizer.*crnn, plate_ocr_v2"):
        build_recognizer("plate_net", CONFIG)


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
        (LOCALIZERS | RECOGNIZERS)[name](changed(CONFIG, section, **values))


def test_wrong_files_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ModelError, match=r"the model does not exist.*dvc repro train_localize"):
        load_localizer(path)
    path.write_bytes(b"no safetensors")
    with pytest.raises(ModelError, match=r"damaged.*dvc repro train_ocr"):
        load_recognizer(path)
    save_model(build_recognizer("crnn", CONFIG), path)
    with pytest.raises(ModelError, match="holds recognizer crnn, not a localizer"):
        load_localizer(path)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(ModelError, match="damaged"):
        load_recognizer(path)


def test_the_names_of_the_configuration_are_those_of_the_registry() -> None:
    fields = ModelsConfig.model_fields
    assert set(get_args(fields["localizer"].annotation)) == set(LOCALIZERS)
    assert set(get_args(fields["recognizer"].annotation)) == set(RECOGNIZERS)
