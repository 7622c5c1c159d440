"""Networks of folds: each learns from the others' samples and is asked about its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from src.config import load_config
from src.core.errors import StageError
from src.datasets.shards import NewSet, Shard, write_sets
from src.quality import folds
from src.quality.folds import Folds, by_folds
from src.quality.samples import prepared
from tests.conftest import make_localize


def _stacked(indices: range) -> Shard:
    shard = make_localize(indices)
    return Shard(np.stack(shard.images), shard.labels)


def test_folds_are_equally_large_and_drawn_by_a_seed() -> None:
    split = Folds(3, 1, 5).split(10)
    assert sorted(np.bincount(split).tolist()) == [3, 3, 4]
    assert (split == Folds(3, 1, 5).split(10)).all()
    assert (split != Folds(3, 1, 6).split(10)).any()


@pytest.mark.parametrize("task", ["localize", "ocr"])
def test_each_network_judges_what_it_has_not_seen(
    task: str, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(tiny_workspace)
    place = tiny_workspace / "data" / "prepared" / task / "train"
    if task == "localize":
        # Images of one size are stored as one array, as prepare_localize does.
        write_sets([NewSet(place, range(60), _stacked, {})])
    samples = prepared(place)
    seen: list[set[int]] = []
    build = f"build_{'recognizer' if task == 'ocr' else 'localizer'}"
    real_build = getattr(folds, build)

    def watched(*arguments: object) -> torch.nn.Module:
        seen.append(set())
        return real_build(*arguments)

    dataset = folds.OCRDataset if task == "ocr" else folds.LocalizeDataset
    real = dataset.__getitems__

    def items(self: object, picked: folds.BatchIndices) -> object:
        seen[-1].update(picked.samples.tolist())
        return real(self, picked)  # type: ignore[arg-type]  # it is one

    monkeypatch.setattr(folds, build, watched)
    monkeypatch.setattr(dataset, "__getitems__", items)
    parts, cost = by_folds(samples, config, Folds(2, 2, 3))
    split = Folds(2, 2, 3).split(60)
    assert len(seen) == 2
    for fold, part in enumerate(parts):
        own = part.samples.labels["sample"].tolist()
        assert own == np.flatnonzero(split == fold).tolist()
        assert seen[fold] == set(range(60)) - set(own)
        assert part.unseen
        assert len(part.features) == len(own)
    assert cost.samples == 2 * 60
    assert cost.seconds > 0


def test_folds_need_samples_and_a_set_to_train_on(tiny_workspace: Path) -> None:
    config = load_config(tiny_workspace)
    samples = prepared(tiny_workspace / "data" / "prepared" / "ocr" / "train")
    with pytest.raises(StageError, match="60 samples are too few for 4 folds"):
        by_folds(samples, config, Folds(4, 1, 3))
