"""The localizer's training learns; each registered localizer runs through the stage."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torchmetrics.functional.classification import binary_average_precision

from src.config import load_config
from src.core.geometry import CORNER_COLUMNS, box_iou, corners_to_box
from src.datasets.localize import LocalizeBatch
from src.datasets.shards import DatasetError
from src.localize import train
from src.models.base import LocalizerTargets
from src.models.registry import load_localizer
from src.training.localizer import LocalizerTraining, average_precision
from tests.conftest import PARAMETERS, set_params, set_texts
from tests.standins import OUTSIDE, OracleLocalizer, make_samples, true_corners


def last_value(folder: Path, name: str) -> float:
    table = pd.read_csv(folder / f"out/runs/localize/plots/metrics/{name}.tsv", sep="\t")
    return table.iloc[-1, 1]


def test_plate_net_learns_to_find_plates(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_params(
        tiny_workspace,
        {
            "LocalizeModelParams.PLATE_NET_CHANNELS": [16] * 8,
            "TrainLocalizeParams.EPOCHS": 40,
            "TrainLocalizeParams.PATIENCE": 1000,
            "TrainLocalizeParams.LR": 0.01,
        },
    )
    train.main(load_config(tiny_workspace))
    assert last_value(tiny_workspace, "val/iou") > 0.5
    assert last_value(tiny_workspace, "val/quality") > 0.5
    # All of its images have a plate.
    plots = tiny_workspace / "out/runs/localize/plots/metrics/val"
    assert not (plots / "average_precision.tsv").exists()
    model = load_localizer(tiny_workspace / "out/models/localize/model.safetensors")
    assert model.input_shape == (1, 84, 84)


def test_plate_localizer_v3_runs_through_the_stage(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_texts(tiny_workspace, "localizer: plate_net", "localizer: plate_localizer_v3")
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
    # Every image has a plate for it.
    quality, iou = (last_value(tiny_workspace, f"val/{name}") for name in ("quality", "iou"))
    assert quality == pytest.approx(iou)


def test_missing_data_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_workspace: Path
) -> None:
    monkeypatch.chdir(tiny_workspace)
    config = load_config(tiny_workspace).model_copy(update={"prepared_data_path": str(tmp_path)})
    with pytest.raises(DatasetError, match="dvc repro -f prepare_localize"):
        train.main(config)
    assert not (tiny_workspace / "out").exists()


class Scripted(OracleLocalizer):
    """Knows the plates, is a little less sure of two images; its loss is the number of images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = super().forward(images)
        brightest = images.amax(dim=(1, 2, 3)) * 255 - OUTSIDE
        unsure = torch.isin(brightest.round(), torch.tensor([12.0, 16.0]))
        maps[:, 0] -= unsure.float()[:, None, None]
        return maps

    def loss(self, maps: torch.Tensor, targets: LocalizerTargets) -> torch.Tensor:
        return torch.tensor(float(len(maps)))


def training_of(localizer: OracleLocalizer, count: int) -> LocalizerTraining:
    """Its training on ``count`` images, in batches of 8."""
    data = SimpleNamespace(
        params=load_config(PARAMETERS).TrainLocalizeParams,
        batch_size=8,
        validation_count=count,
        train_count=count,
    )
    return LocalizerTraining(localizer, data)  # type: ignore[arg-type]  # its sizes alone


def test_figures_are_those_of_all_images_whatever_the_batches() -> None:
    count = 20
    shard = make_samples((84, 84), range(count))
    corners = torch.tensor(shard.labels[CORNER_COLUMNS].to_numpy(np.float32)).view(-1, 4, 2)
    present = torch.arange(count) % 4 != 0
    corners[~present] = torch.nan
    whole = LocalizeBatch(
        torch.from_numpy(np.stack(shard.images)),
        corners * 84,
        present,
        torch.ones(count, dtype=torch.int64),
    )
    # Of the five without a plate it finds something in two; of the fifteen with one it misses one.
    localizer = Scripted(shift=0.1, unseen={0, 4, 8, 1})
    module = training_of(localizer, count)
    results = []
    for batch in (20, 7, 1):
        sums: dict[str, torch.Tensor] = {}
        for start in range(0, count, batch):
            part = LocalizeBatch(*(value[start : start + batch] for value in whole))
            for name, value in module.batch_sums(part).items():
                sums[name] = sums.get(name, torch.zeros(())) + value
        results.append(module.figures(sums))
    first = results[0]
    iou = first["iou"]
    assert 0.5 < iou < 0.8
    assert first["corner_error_px"] == pytest.approx(8.4, abs=1e-3)
    assert first["loss"] == 20
    for other in results[1:]:
        assert other == pytest.approx({**first, "loss": other["loss"]})
    missed = box_iou(
        corners_to_box(true_corners(1) + np.array([0.1, 0])), corners_to_box(true_corners(1))
    )
    assert first["quality"] == pytest.approx((15 * iou - missed + 3) / 20)
    # 14 right, then 2 wrong that are hardly less sure, then 1 right and 3 wrong on one level.
    assert first["average_precision"] == pytest.approx(14 / 15 + 1 / 15 * 15 / 20)


def test_of_a_plate_that_leaves_the_image_what_is_inside_counts() -> None:
    found = true_corners(0) + np.array([0.5, 0.0])
    true = found + np.array([[0, 0], [0.8, 0], [0.8, 0], [0, 0]])
    batch = LocalizeBatch(
        torch.tensor(np.stack(make_samples((84, 84), range(1)).images)),
        torch.tensor(true[None] * 84, dtype=torch.float32),
        torch.ones(1, dtype=torch.bool),
        torch.ones(1, dtype=torch.int64),
    )
    module = training_of(Scripted(shift=0.5), 1)
    assert module.figures(module.batch_sums(batch))["iou"] == pytest.approx(1, abs=1e-5)


def test_average_precision_is_that_of_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(1)
    bins = torch.randint(0, 30, (400,), generator=generator)
    present = torch.rand(400, generator=generator) < bins / 40
    right, wrong = (
        torch.bincount(bins[kind], minlength=30).double() for kind in (present, ~present)
    )
    expected = binary_average_precision(bins / 30, present.long())
    assert average_precision(right, wrong) == pytest.approx(float(expected), abs=1e-5)
