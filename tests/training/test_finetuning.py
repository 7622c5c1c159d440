"""Fine-tuning learns what is new from few samples, keeps what is old, and does nothing without any."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from src.config import Config, load_config
from src.core.dependencies import PACKAGE, closure
from src.core.random import Draws
from src.datasets.localize import LocalizeDataset
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.inference.detection import best
from src.localize import finetune as localize_finetune
from src.localize import train as localize_train
from src.models.base import Localizer, LocalizerTargets
from src.models.registry import build_recognizer, load_localizer, load_recognizer
from src.ocr import finetune as ocr_finetune
from src.ocr import train as ocr_train
from src.stack.export import weights
from src.training.finetuning import blend
from src.training.localizer_finetuning import pseudo_label_corners
from tests.conftest import drawn_plate, drawn_quads, make_localize, make_ocr, set_params

STAGES: dict[str, tuple[Callable[[Config], None], Callable[[Config], None]]] = {
    "localize": (localize_train.main, localize_finetune.main),
    "ocr": (ocr_train.main, ocr_finetune.main),
}


def negative(indices: range) -> Shard:
    """The scenes of training, black for white."""
    shard = make_localize(indices)
    return Shard([255 - image for image in shard.images], shard.labels)


def write_feedback(config: Config, counts: dict[str, dict[str, int]]) -> None:
    """Prepared feedback; tasks and splits that are not named are empty."""
    makers = {"localize": negative, "ocr": make_ocr}
    for task, make in makers.items():
        for split in ("train", "val"):
            folder = config.prepared("feedback") / task / split
            count = counts.get(task, {}).get(split, 0)
            if count:
                write_sets([NewSet(folder, range(200, 200 + count), make, {})])
            else:
                folder.mkdir(parents=True)
                (folder / "meta.json").write_text('{"count": 0, "shards": 0, "sha256": ""}')


@pytest.mark.parametrize("task", STAGES)
def test_without_feedback_nothing_is_trained(
    task: str,
    tiny_workspace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tiny_workspace)
    config = load_config()
    write_feedback(config, {})
    STAGES[task][1](config)
    assert "no feedback yet" in capsys.readouterr().out
    folder = config.out("models", f"{task}_finetuned")
    assert [path.name for path in folder.iterdir()] == ["finetuning.json"]
    assert json.loads((config.out("runs", f"{task}_finetuned") / "metrics.json").read_text())
    assert weights(config, task) == config.out("models", task) / "model.safetensors"


@pytest.mark.parametrize("task", STAGES)
def test_fine_tuning_starts_from_the_trained_weights(
    task: str, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    name = {"localize": "Localize", "ocr": "OCR"}[task]
    # So small a rate that the weights stay what they were.
    set_params(
        tiny_workspace, {f"Finetune{name}Params.LR": 1e-9, f"Finetune{name}Params.STEPS": 12}
    )
    config = load_config()
    write_feedback(config, {task: {"train": 10, "val": 4}})
    train, finetune = STAGES[task]
    train(config)
    before = weights(config, task)
    finetune(config)
    after = weights(config, task)
    assert after == config.out("models", f"{task}_finetuned") / "model.safetensors"
    load = load_localizer if task == "localize" else load_recognizer
    old, new = (dict(load(path).named_parameters()) for path in (before, after))
    assert all(torch.allclose(old[key], new[key], atol=1e-6) for key in old)
    plots = config.out("runs", f"{task}_finetuned") / "plots/metrics/val/loss.tsv"
    assert len(pd.read_csv(plots, sep="\t")) == 6


def test_a_localizer_learns_what_is_new(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_params(
        tiny_workspace,
        {
            "TrainLocalizeParams.EPOCHS": 60,
            "TrainLocalizeParams.VALIDATE_EVERY": 40,
            "TrainLocalizeParams.LR": 0.01,
            "FinetuneLocalizeParams.LR": 0.01,
            "FinetuneLocalizeParams.STEPS": 240,
        },
    )
    config = load_config()
    write_feedback(config, {"localize": {"train": 40, "val": 10}})
    localize_train.main(config)
    localize_finetune.main(config)
    folder = tiny_workspace / "other"
    write_sets([NewSet(folder, range(300, 340), negative, {})])
    new, old = ShardedSet(folder), ShardedSet(config.prepared("localize") / "val")
    models = [
        load_localizer(config.out("models", name) / "model.safetensors")
        for name in ("localize", "localize_finetuned")
    ]
    errors = [[_error(model, data) for data in (new, old)] for model in models]
    assert errors[1][0] < 0.6 * errors[0][0], "of the new kind"
    assert errors[1][1] < 1.5 * errors[0][1], "of the old one"


def test_weights_are_kept_in_part(tiny_workspace: Path, tmp_path: Path) -> None:
    config = load_config(tiny_workspace)
    torch.manual_seed(0)
    old, new = build_recognizer("crnn", config), build_recognizer("crnn", config)
    before = [value.detach().clone() for value in new.parameters()]
    blend(new, old, 0.25, tmp_path / "model.safetensors")
    found = load_recognizer(tmp_path / "model.safetensors").parameters()
    for value, start, trained in zip(found, before, old.parameters(), strict=True):
        assert torch.allclose(value, 0.75 * start + 0.25 * trained, atol=1e-6)


def test_statistics_of_batch_norm_stay(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_params(
        tiny_workspace, {"FinetuneLocalizeParams.LR": 0.01, "FinetuneLocalizeParams.STEPS": 12}
    )
    config = load_config()
    write_feedback(config, {"localize": {"train": 10, "val": 4}})
    localize_train.main(config)
    localize_finetune.main(config)
    old, new = (
        dict(load_localizer(config.out("models", name) / "model.safetensors").named_buffers())
        for name in ("localize", "localize_finetuned")
    )
    means = [name for name in old if name.endswith("running_mean")]
    assert means
    assert all(torch.equal(old[name], new[name]) for name in means)


def _error(model: Localizer, data: ShardedSet) -> float:
    """Mean distance of the corners in pixels."""
    images = torch.from_numpy(data.images(range(len(data))))[:, None].float().div(255)
    with torch.inference_mode():
        corners, _, _ = best(model(images).numpy())
    return float(np.linalg.norm(corners - data.corners * 84, axis=-1).mean())


class Knows(Localizer):
    """Finds the plates of a set, turned as they are."""

    def __init__(self, corners: np.ndarray, score: float) -> None:
        super().__init__({}, [1, 84, 84])
        self._corners, self._score = corners, score

    def loss(self, maps: torch.Tensor, targets: LocalizerTargets) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = torch.full((len(images), 10, 1, 1), float(np.log(self._score / (1 - self._score))))
        maps[:, 2:, 0, 0] = torch.from_numpy(self._corners.reshape(-1, 8)[: len(images)])
        return maps


@pytest.mark.parametrize(("score", "moved", "believed"), [
    (0.9, 0.0, True), (0.2, 0.0, False), (0.9, 30.0, False),
])  # fmt: skip
def test_own_corners_are_believed_where_they_fit_the_box(
    tmp_path: Path, score: float, moved: float, believed: bool
) -> None:
    draws = Draws(3, "turned", np.arange(6))
    quads = drawn_quads(draws, 84, 0.4)
    shard = drawn_plate(["ZH1"] * 6, quads, 84, draws)
    low, high = quads.min(axis=1) / 84, quads.max(axis=1) / 84
    upright = np.stack([low, np.stack([high[:, 0], low[:, 1]], 1), high,
                        np.stack([low[:, 0], high[:, 1]], 1)], axis=1)  # fmt: skip
    labels = shard.labels.copy()
    labels[[f"{axis}{i}" for i in range(4) for axis in "xy"]] = upright.reshape(6, 8)
    labels["has_corners"] = [False] * 5 + [True]
    write_sets([NewSet(tmp_path / "set", range(6), lambda _: Shard(shard.images, labels), {})])
    dataset = LocalizeDataset(tmp_path / "set", (1, 84, 84))
    found = (quads + moved).astype(np.float32)
    pseudo_label_corners(dataset, Knows(found, score))
    wanted = found[:5] if believed else upright[:5] * 84
    assert dataset.corners[:5].numpy() == pytest.approx(wanted, abs=1e-3)
    assert dataset.corners[5].numpy() == pytest.approx(upright[5] * 84, abs=1e-3), "known ones stay"


def test_the_old_set_is_not_touched(tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_workspace)
    set_params(tiny_workspace, {"FinetuneOCRParams.STEPS": 6})
    config = load_config()
    write_feedback(config, {"ocr": {"train": 4}})
    ocr_train.main(config)
    before = weights(config, "ocr").read_bytes()
    shutil.rmtree(config.out("checkpoints", "ocr"))
    ocr_finetune.main(config)
    assert (config.out("models", "ocr") / "model.safetensors").read_bytes() == before
    assert not config.out("checkpoints", "ocr").exists()


@pytest.mark.parametrize("task", STAGES)
def test_a_checkpoint_of_a_fine_tuning_is_of_its_code(
    task: str, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_workspace)
    name = {"localize": "Localize", "ocr": "OCR"}[task]
    set_params(tiny_workspace, {f"Finetune{name}Params.STEPS": 12})
    config = load_config()
    write_feedback(config, {task: {"train": 10, "val": 4}})
    train, finetune = STAGES[task]
    train(config)
    read: list[Path] = []

    def watched(code: Path) -> list[Path]:
        read.extend(closure(code))
        return closure(code)

    monkeypatch.setattr("src.training.checkpoints.closure", watched)
    finetune(config)
    own = {"localize": "localizer", "ocr": "recognizer"}[task]
    files = {path.relative_to(PACKAGE).as_posix() for path in read}
    assert files >= {
        "datasets/mixture.py",
        "training/finetuning.py",
        "training/feedback.py",
        f"training/{own}_finetuning.py",
        f"training/{own}.py",
        "training/fit.py",
    }
