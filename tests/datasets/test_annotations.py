"""Images with known plates: what labels say of them, in pixels. Annotation files: tests/stack."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from src.core.geometry import BOX_COLUMNS, CORNER_COLUMNS
from src.datasets.annotations import PreparedAnnotations
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from tests.standins import make_samples, plate_text, prepared_set, true_corners

SHAPE = (120, 200)


def test_a_set_of_one_plate_an_image_need_not_say_so(tmp_path: Path) -> None:
    def make(indices: range) -> Shard:
        shard = make_samples(SHAPE, indices)
        return Shard(shard.images, shard.labels.drop(columns=["present", "lines"]))

    write_sets([NewSet(tmp_path / "val", range(3), make, {})])
    truth = PreparedAnnotations(ShardedSet(tmp_path / "val"))
    assert [len(item.plates) for item in truth] == [1, 1, 1]
    plate = truth[2].plates[0]
    assert (plate.text, plate.lines, plate.format, plate.colour) == (plate_text(2), 1, "front", "")
    corners = true_corners(2) * SHAPE[::-1]
    np.testing.assert_allclose(plate.corners, corners, atol=1e-3)
    np.testing.assert_allclose(plate.box, [*corners.min(axis=0), *corners.max(axis=0)], atol=1e-3)


def test_images_hold_no_plate_one_or_several(tmp_path: Path) -> None:
    def make(indices: range) -> Shard:
        shard = make_samples(SHAPE, indices)
        labels = shard.labels.assign(others="", colour="white")
        second = labels.iloc[1].to_dict()
        labels.loc[2, "others"] = json.dumps([{**second, "format": "motorcycle", "lines": 2}])
        labels.loc[1, ["plate", "present"]] = ["", False]
        labels.loc[1, [*BOX_COLUMNS, *CORNER_COLUMNS]] = np.nan
        labels.loc[0, "plate"] = ""
        return Shard(shard.images, labels)

    write_sets([NewSet(tmp_path / "val", range(3), make, {})])
    foreign, empty, two = PreparedAnnotations(ShardedSet(tmp_path / "val"))
    assert [plate.text for plate in foreign.plates] == [None]
    assert empty.plates == []
    assert [plate.text for plate in two.plates] == [plate_text(2), plate_text(1)]
    assert [plate.lines for plate in two.plates] == [1, 2]
    assert two.plates[1].format == "motorcycle"
    np.testing.assert_allclose(two.plates[1].corners, true_corners(1) * SHAPE[::-1], atol=1e-3)


def test_an_image_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    truth = PreparedAnnotations(prepared_set(tmp_path / "val", SHAPE, 4))
    assert len(truth) == 4
    assert truth[3].image.shape == SHAPE
    assert truth[3].name == "3"
    with pytest.raises(KeyError):
        truth.samples.labels["others"]
