"""evaluate_localize on localizers that know the answer, or miss it by a known amount."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import Config
from src.core.errors import StageError
from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS, plate_axes
from src.datasets.ocr import CORNER_ERROR_COLUMNS, read_corner_errors
from src.datasets.shards import DatasetError, NewSet, Shard, ShardedSet, write_sets
from src.localize import evaluate
from src.models.base import Localizer
from tests.standins import (
    OracleLocalizer,
    config_below,
    files_below,
    make_samples,
    metrics_of,
    prepared_set,
)

COUNT = 24
PICTURES = {f"plots/images/pred_{i}.png" for i in range(10)} | {"plots/images/worst_failures.png"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = config_below(tmp_path)
    prepared_set(config.prepared("localize") / "val", (84, 84), COUNT)
    return config


def without_plates(config: Config, empty: Collection[int], street: Collection[int] = ()) -> None:
    """The set again, some of its images without a plate, some of another style."""

    def make(indices: range) -> Shard:
        shard = make_samples((84, 84), indices)
        labels = shard.labels
        nothing = [i in empty for i in indices]
        unknown = [*BOX_COLUMNS, *CORNER_COLUMNS, "plate_height", "angle"]
        labels.loc[nothing, unknown] = np.nan
        labels["present"] = ~np.array(nothing)
        labels["style"] = ["street" if i in street else "scene" for i in indices]
        return shard

    folder = config.prepared("localize") / "val"
    write_sets([NewSet(folder, range(COUNT), make, {"backgrounds": "procedural"})])


def run(localizer: Localizer, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate, "load_localizer", lambda path: localizer)
    evaluate.main(config)


def table_of(config: Config, name: str) -> pd.DataFrame:
    return pd.read_csv(config.out("evaluations", "localize") / "plots" / f"{name}.csv")


def test_a_perfect_localizer(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run(OracleLocalizer(), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    names = ("mean_iou", "map", "map_50", "map_75", "recall_50", "recall_70", "recall_90")
    for name in ("quality", *names):
        assert metrics[name] == pytest.approx(1, abs=1e-4)
    assert metrics["count"] == metrics["count_with_plate"] == COUNT
    assert metrics["corner_error"]["scene_px"]["p95"] < 0.01
    assert metrics["corner_error"]["plate_heights"]["p95"] < 1e-3
    assert metrics["lines"] == {
        "accuracy": 1.0,
        "by_lines": {"1": {"count": COUNT, "accuracy": 1.0}},
    }
    for name in ("recall", "precision"):
        found = metrics["detection"][name]
        assert (found["share"], found["count"]) == (1.0, COUNT)
    assert "false_per_empty_picture" not in metrics["detection"]
    assert "by_style" not in metrics
    assert metrics["backgrounds"] == "procedural"
    folder = config.out("evaluations", "localize")
    plots = {
        "recall_by_iou", "corner_error", "iou_by_height", "iou_by_angle", "precision_recall", "scores"
    }  # fmt: skip
    assert files_below(folder) == {
        "metrics.json",
        "corner_errors.json",
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
    assert metrics["quality"] == metrics["mean_iou"]
    recall = table_of(config, "recall_by_iou")["recall"]
    assert recall.is_monotonic_decreasing
    assert recall.iloc[[0, -1]].tolist() == [1, 0]


def test_some_missed_plates_are_counted(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run(OracleLocalizer(shift=2.0, shifted={1, 2, 3}), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    found = (COUNT - 3) / COUNT
    for name in ("quality", "mean_iou", "recall_50", "recall_70", "recall_90"):
        assert metrics[name] == pytest.approx(found, abs=1e-4)
    for name in ("recall", "precision"):
        assert metrics["detection"][name]["share"] == pytest.approx(found, abs=1e-4)
    assert metrics["map_50"] < 1
    count = sum(row["count"] for row in metrics["by_height"].values())
    assert count == COUNT


def test_a_plate_of_a_low_score_is_placed_but_not_found(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(OracleLocalizer(unseen=range(6)), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    assert metrics["mean_iou"] == pytest.approx(1, abs=1e-4)
    assert metrics["quality"] == pytest.approx(0.75, abs=1e-4)
    assert metrics["detection"]["recall"]["share"] == 0.75
    assert metrics["detection"]["precision"]["share"] == 1
    scores = table_of(config, "scores")
    assert scores["plate"].iloc[[0, -1]].tolist() == [0.25, 0.75]
    assert scores["nothing"].sum() == 0


def test_images_without_a_plate(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = {2, 3, 5, 8}
    without_plates(config, empty)
    # In three of the four nothing is found, as in one that has a plate.
    run(OracleLocalizer(unseen={2, 3, 5, 10}), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    assert (metrics["count"], metrics["count_with_plate"]) == (COUNT, COUNT - 4)
    assert metrics["mean_iou"] == pytest.approx(1, abs=1e-4)
    assert metrics["quality"] == pytest.approx((COUNT - 2) / COUNT, abs=1e-4)
    detection = metrics["detection"]
    assert detection["recall"]["share"] == pytest.approx(19 / 20)
    assert detection["precision"]["share"] == pytest.approx(19 / 20)
    assert detection["false_per_empty_picture"] == 0.25
    # 19 right and one wrong on one level, then one right and three wrong.
    assert detection["picture_average_precision"] == pytest.approx(
        19 / 20 * 19 / 20 + 1 / 20 * 20 / 24, abs=1e-4
    )
    assert metrics["map_50"] < 0.97
    curve = table_of(config, "precision_recall")
    assert curve[["recall", "precision"]].iloc[0].tolist() == pytest.approx([0.95, 0.95])
    scores = table_of(config, "scores")
    assert scores["nothing"].iloc[[0, -1]].tolist() == [0.75, 0.25]


class Halving(OracleLocalizer):
    """Finds the left three fifths of each plate, and the right ones for another plate."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = super().forward(images).repeat(1, 1, 1, 3)
        maps[:, 0, :, 1] = -9.0
        left, right = maps[:, 2:4, :, 0].clone(), maps[:, 4:6, :, 0].clone()
        third, fourth = maps[:, 6:8, :, 0].clone(), maps[:, 8:, :, 0].clone()
        maps[:, 4:6, :, 0], maps[:, 6:8, :, 0] = (
            left + 0.6 * (right - left),
            fourth + 0.6 * (third - fourth),
        )
        maps[:, 2:4, :, 2], maps[:, 8:, :, 2] = (
            right + 0.6 * (left - right),
            third + 0.6 * (fourth - third),
        )
        return maps


def test_a_plate_is_found_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    run(Halving(), config, monkeypatch)
    detection = metrics_of(config, "localize")["detection"]
    # Three fifths of a plate are enough if it is upright, as every second one is.
    assert detection["recall"]["share"] == 0.5
    assert (detection["precision"]["share"], detection["precision"]["count"]) == (0.25, 2 * COUNT)


def test_a_set_without_any_plate(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    without_plates(config, range(COUNT))
    run(OracleLocalizer(unseen=range(12)), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    assert metrics["quality"] == 0.5
    assert metrics["detection"]["false_per_empty_picture"] == 0.5
    assert metrics["detection"]["recall"]["share"] is None
    assert "mean_iou" not in metrics


def test_styles_are_measured_apart(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    street = range(16, COUNT)
    without_plates(config, {20}, street)
    run(OracleLocalizer(shift=0.1, shifted=set(street), two_lines={17}), config, monkeypatch)
    metrics = metrics_of(config, "localize")
    scene, other = metrics["by_style"]["scene"], metrics["by_style"]["street"]
    assert (scene["count"], other["count"], other["count_with_plate"]) == (16, 8, 7)
    assert scene["mean_iou"] == scene["map"] == pytest.approx(1, abs=1e-4)
    assert other["mean_iou"] < 0.8
    assert metrics["mean_iou"] == pytest.approx(
        (16 * scene["mean_iou"] + 7 * other["mean_iou"]) / 23, abs=1e-4
    )
    assert "false_per_empty_picture" not in scene["detection"]
    assert other["detection"]["false_per_empty_picture"] == 1
    assert scene["lines"]["accuracy"] == 1
    assert other["lines"]["accuracy"] == pytest.approx(6 / 7, abs=1e-4)


def test_an_older_set_is_refused(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    path = config.prepared("localize") / "val" / "labels-00000.parquet"
    pd.read_parquet(path).drop(columns="present").to_parquet(path)
    with pytest.raises(DatasetError, match="dvc repro -f prepare_localize"):
        run(OracleLocalizer(), config, monkeypatch)


def test_measures_do_not_depend_on_the_batches(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_plates(config, {2, 9})
    localizer = OracleLocalizer(shift=0.05, shifted={0, 5, 23}, unseen={9})
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


class Wobbly(OracleLocalizer):
    """Off by 2 px to the right, and the first corner by 1 px more downwards; far off in two images."""

    def __init__(self) -> None:
        super().__init__(shift=2.0, shifted={3, 4})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = super().forward(images)
        maps[:, 2::2] += 2.0
        maps[:, 3] += 1.0
        return maps


def test_errors_are_told_along_the_plates_own_axes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(Wobbly(), config, monkeypatch)
    samples = ShardedSet(config.prepared("localize") / "val")
    found = evaluate.find(Wobbly(), samples, 64, torch.device("cpu"))
    errors = evaluate.relative_errors(found, samples)
    kept = [i for i in range(COUNT) if i not in {3, 4}]
    assert errors.shape == (COUNT - 2, 4, 2)
    # Plates are 0.6 by 0.16 of 84 pixels; their size is half of the geometric mean.
    plate_size = np.sqrt(0.6 * 0.16) / 2 * 84
    expected = np.array([[2, 1], [2, 0], [2, 0], [2, 0]]) / plate_size
    np.testing.assert_allclose(errors[0], expected, atol=1e-4)
    axes = plate_axes(samples.corners[kept].astype(float) * 84)
    np.testing.assert_allclose(
        errors @ axes, np.broadcast_to([[2, 1], [2, 0], [2, 0], [2, 0]], errors.shape), atol=1e-4
    )
    path = config.out("evaluations", "localize") / "corner_errors.json"
    described = json.loads(path.read_text())
    assert (described["plates"], described["left_out"]) == (COUNT - 2, 2)
    assert described["shift_x"]["p50"] > 0.1
    assert described["corners_y"]["p99"] == pytest.approx(0.75 / plate_size, abs=1e-4)


def test_the_table_of_errors_is_what_the_readers_training_reads(
    config: Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(evaluate, "load_localizer", lambda path: Wobbly())
    path = tmp_path / "errors.csv"
    with pytest.raises(StageError, match=r"22 plates were found.*1000 are needed"):
        evaluate.write_errors(config, path)
    monkeypatch.setattr(evaluate, "ERROR_ROWS", 20)
    evaluate.write_errors(config, path)
    assert "20 of 22 plates; excluded 2 with a lower IoU" in capsys.readouterr().out
    errors = read_corner_errors(path)
    assert errors.shape == (20, 4, 2)
    assert pd.read_csv(path).columns.tolist() == CORNER_ERROR_COLUMNS
    first = path.read_bytes()
    evaluate.write_errors(config, path)
    assert path.read_bytes() == first
    samples = ShardedSet(config.prepared("localize") / "val")
    found = evaluate.find(Wobbly(), samples, 64, torch.device("cpu"))
    every = evaluate.relative_errors(found, samples).round(4).tolist()
    assert all(row in every for row in errors.tolist())
