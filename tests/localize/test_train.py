"""The localizer's training learns; each registered localizer runs through the stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import load_config
from src.datasets.shards import DatasetError
from src.geometry import box_iou
from src.localize import train
from src.models.registry import load_localizer
from tests.conftest import set_params, set_texts


def last_value(folder: Path, name: str) -> float:
    table = pd.read_csv(folder / f"out/runs/localize/plots/metrics/{name}.tsv", sep="\t")
    return table.iloc[-1, 1]


def test_corner_net_learns_to_find_plates(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_params(
        tiny_workspace,
        {
            "LocalizeModelParams.CORNER_NET_CHANNELS": [16] * 8,
            "TrainLocalizeParams.EPOCHS": 40,
            "TrainLocalizeParams.PATIENCE": 1000,
            "TrainLocalizeParams.LR": 0.01,
        },
    )
    train.main(load_config(tiny_workspace))
    assert last_value(tiny_workspace, "val/iou") > 0.5
    model = load_localizer(tiny_workspace / "out/models/localize/model.safetensors")
    assert model.input_shape == (1, 84, 84)


def test_plate_localizer_v3_runs_through_the_stage(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_texts(tiny_workspace, "localizer: corner_net", "localizer: plate_localizer_v3")
    set_params(
        tiny_workspace,
        {
            "LocalizeModelParams.CONV_LAYERS": [4, 0, 4, 0, 4, 0],
            "LocalizeModelParams.HIDDEN_LAYERS": [16],
            "TrainLocalizeParams.EPOCHS": 1,
        },
    )
    train.main(load_config(tiny_workspace))
    model = load_localizer(tiny_workspace / "out/models/localize/model.safetensors")
    assert type(model).__name__ == "PlateLocalizerV3"


def test_missing_data_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    monkeypatch.chdir(tiny_workspace)
    config = load_config(tiny_workspace).model_copy(update={"prepared_data_path": str(tmp_path)})
    with pytest.raises(DatasetError, match="dvc repro -f prepare_localize"):
        train.main(config)
    assert not (tiny_workspace / "out").exists()


def test_iou_is_that_of_geometry() -> None:
    boxes = torch.rand(50, 2, 4)
    found = train.box_iou(boxes[:, 0], boxes[:, 1]).numpy()
    first, second = boxes.numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(found, box_iou(first, second), atol=1e-6)
