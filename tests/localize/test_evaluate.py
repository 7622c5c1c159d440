"""evaluate_localize on localizers that know the answer, or miss it by a known amount."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from src.config import Config
from src.localize import evaluate
from src.models.base import Localizer
from tests.standins import OracleLocalizer, config_below, files_below, metrics_of, prepared_set

COUNT = 24
PICTURES = {f"plots/images/pred_{i}.png" for i in range(10)} | {"plots/images/worst_failures.png"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_below(tmp_path)
    prepared_set(config.prepared("localize") / "val", (84, 84), COUNT)
    return config


def run(localizer: Localizer, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_localizer", lambda path: localizer)
    evaluate.main(config)


def test_a_perfect_localizer(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run(OracleLocalizer(), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    for name in ("mean_iou", "map", "map_50", "map_75", "recall_50", "recall_70", "recall_90"):
        assert metrics[name] == pytest.approx(1, abs=1e-4)
    assert metrics["count"] == COUNT
    assert metrics["corner_error"]["scene_px"]["p95"] < 0.01
    assert metrics["backgrounds"] == "procedural"
    folder = config.out("evaluations", "localize")
    plots = {"recall_by_iou", "corner_error", "iou_by_height", "iou_by_angle"}
    assert files_below(folder) == {
        "metrics.json",
        *PICTURES,
        *(f"plots/{name}.csv" for name in plots),
    }


def test_a_shifted_localizer_is_off_by_what_it_is_shifted(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Boxes 0.6 wide, shifted by 0.1, share 0.5 of 0.7; the turned ones are a little wider.
    run(OracleLocalizer(shift=0.1), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    assert metrics["by_angle"]["0-10"] == pytest.approx(
        {"count": COUNT / 2, "mean_iou": 5 / 7, "corner_error": 25.6}, abs=1e-3
    )
    assert metrics["corner_error"]["picture_px"]["mean"] == pytest.approx(8.4, abs=1e-3)
    assert metrics["corner_error"]["scene_px"]["median"] == pytest.approx(25.6, abs=1e-3)
    assert metrics["recall_50"] == 1
    assert metrics["recall_90"] == 0
    assert metrics["map_50"] == pytest.approx(1)
    assert metrics["map_75"] == pytest.approx(0)
    table = pd.read_csv(config.out("evaluations", "localize") / "plots" / "recall_by_iou.csv")
    assert table["recall"].is_monotonic_decreasing
    assert table["recall"].iloc[[0, -1]].tolist() == [1, 0]


def test_some_missed_plates_are_counted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run(OracleLocalizer(shift=2.0, shifted={1, 2, 3}), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    found = (COUNT - 3) / COUNT
    for name in ("mean_iou", "recall_50", "recall_70", "recall_90"):
        assert metrics[name] == pytest.approx(found, abs=1e-4)
    assert metrics["map_50"] < 1
    count = sum(row["count"] for row in metrics["by_height"].values())
    assert count == COUNT


def test_measures_do_not_depend_on_the_batches(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = OracleLocalizer(shift=0.05, shifted={0, 5, 23})
    run(localizer, config, monkeypatch)
    whole = metrics_of(config, "localize")
    # 24 samples in batches of 7: the last one holds 3.
    run(localizer, config.model_copy(update={"BATCH_SIZE": 7}), monkeypatch)
    assert metrics_of(config, "localize") == whole


def test_another_input_size_than_the_sets(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    localizer = OracleLocalizer()
    localizer.input_shape = (1, 48, 48)
    seen: list[torch.Size] = []
    localizer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    run(localizer, config, monkeypatch)
    assert {tuple(shape[1:]) for shape in seen} == {(1, 48, 48)}
    assert metrics_of(config, "localize")["mean_iou"] == pytest.approx(1, abs=1e-4)
