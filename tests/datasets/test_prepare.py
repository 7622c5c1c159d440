"""The three prepare stages on a few samples: files, labels, what is shown."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src import fetch_backgrounds
from src.config import Config, load_config
from src.core.errors import StageError
from src.core.geometry import CORNER_COLUMNS, corners_to_box, rectify
from src.datasets import prepare
from src.datasets.prepare import SceneSource, StreetMix, split_counts
from src.datasets.shards import NewSet, Shard, ShardedSet, write_sets
from src.engine.tasks import LocalEngine
from src.generators.glyphs import FAMILIES
from src.generators.structure import SPLIT_TEXTURES
from src.localize import prepare as prepare_localize
from src.ocr import prepare as prepare_ocr
from src.stack import prepare as prepare_stack
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("workspace")
    whole = load_config(PARAMETERS)
    small = {
        name: getattr(whole, name).model_copy(update={"MAX_IMAGES": 30})
        for name in ("PrepareLocalizeParams", "PrepareOCRParams", "PrepareStackParams")
    }
    config = whole.model_copy(
        update={
            **small,
            "MULTIPROCESSING": False,
            "dataset_path": str(folder / "datasets"),
            "prepared_data_path": str(folder / "prepared"),
            "out_path": str(folder / "out"),
            "backgrounds": whole.backgrounds.model_copy(update={"source": "procedural"}),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetch_backgrounds, "PROCEDURAL_COUNTS", {"train": 40, "val": 20})
        fetch_backgrounds.write_backgrounds(config)
    for stage in (prepare_localize, prepare_ocr, prepare_stack):
        stage.main(config)
    return config


def test_localize_has_images_of_the_localizers_size(config: Config) -> None:
    train = ShardedSet(config.prepared("localize") / "train")
    val = ShardedSet(config.prepared("localize") / "val")
    assert (len(train), len(val)) == (28, 2)
    assert train.images(range(28)).shape == (28, 84, 84)
    assert train.meta["backgrounds"] == "procedural"
    assert set(train.labels["index"]).isdisjoint(val.labels["index"])


def test_zoomed_scenes_keep_the_plate_and_its_corners(config: Config) -> None:
    source = SceneSource(config, 5, "zoomed", "val", 84, 0.0, StreetMix(0.0))
    whole = prepare_localize.ZoomedScenes(source, (1.0,), (1.0,))(range(40))
    zoomed = prepare_localize.ZoomedScenes(source, (2.0,), (1.0,))(range(40))
    widths = zoomed.labels["w"] / whole.labels["w"]
    assert (widths.round(4).isin([1.0, 2.0])).all()
    larger = np.flatnonzero(widths > 1.5)
    assert 10 < len(larger) < 40
    likeness = []
    for i in larger:
        corners = [
            shard.labels[CORNER_COLUMNS].to_numpy()[i].reshape(4, 2) for shard in (whole, zoomed)
        ]
        assert -0.02 < corners[1].min() < corners[1].max() < 1.02
        crops = [
            rectify(shard.images[i], corner * 84, (16, 64)).astype(float).ravel()
            for shard, corner in zip((whole, zoomed), corners, strict=True)
        ]
        likeness.append(np.corrcoef(crops)[0, 1])
    # Straightened by its corners, the plate is the same in both, but for noise.
    assert np.median(likeness) > 0.45


@pytest.mark.parametrize("task", ["localize", "ocr"])
def test_training_sets_hold_both_styles_and_images_without_text(config: Config, task: str) -> None:
    labels = pd.concat(
        [ShardedSet(config.prepared(task) / split).labels for split in ("train", "val")]
    )
    assert set(labels["style"]) == {"scene", "street"}
    assert 0 < (~labels["present"]).sum() < len(labels) / 2
    assert (labels["plate"] != "").sum() > len(labels) / 3
    # A reader also sees places without a plate, so all have corners; a localizer's have not.
    assert labels["x0"].isna().any() == (task == "localize")


def test_ocr_holds_windows_around_the_plate_at_native_resolution(config: Config) -> None:
    data = ShardedSet(config.prepared("ocr") / "train")
    margin = config.PrepareOCRParams.MARGIN
    # Images that end within the plate show less.
    whole = data.labels["present"] & (data.labels["obstacle"] != "image edge")
    assert whole.sum() > 10
    for i in np.flatnonzero(whole):
        height, width = data.image(i).shape
        corners = data.corners[i]
        assert corners.min() >= -1e-5
        assert corners.max() <= 1 + 1e-5
        # A plate far from the rim has the whole margin on each side.
        box = corners_to_box(corners)
        assert box[2] >= 1 / (1 + 2 * margin) - 2 / width
        assert box[3] >= 1 / (1 + 2 * margin) - 2 / height
        lengths = np.linalg.norm((np.roll(corners, -1, axis=0) - corners) * (width, height), axis=1)
        assert lengths[[1, 3]].mean() == pytest.approx(data.labels["plate_height"][i], rel=0.01)


def test_stack_has_a_set_for_each_question(config: Config) -> None:
    sets = {
        path.name: ShardedSet(path) for path in config.prepared("stack").iterdir() if path.is_dir()
    }
    assert set(sets) == {"val", *prepare_stack.SHARES}
    assert sets["val"].images(range(30)).shape == (30, 256, 256)
    assert set(sets["val"].labels["style"]) == {"scene"}
    for name, share in prepare_stack.SHARES.items():
        assert len(sets[name]) == round(30 * share)
    street = config.PrepareStackParams.STREET_SIZE
    assert sets["shifted"].image(0).shape == tuple(street)
    assert set(sets["formats"].labels["style"]) == {"street"}
    assert set(sets["calibration"].labels["style"]) == {"scene", "street"}
    assert (sets["clutter"].labels["plate"] == "").all()


def test_the_shifted_set_has_the_family_that_training_never_sees(config: Config) -> None:
    family = FAMILIES.index(prepare_stack.HELD_OUT_FAMILY)
    for plates in (config.PlateParams, config.StreetPlateParams):
        assert plates.FAMILY_WEIGHTS[family] == 0
    held_out = [float(i == family) for i in range(len(FAMILIES))]
    mix = StreetMix(1.0, families=held_out, degradations="shifted")
    source = SceneSource(config, 1, "shifted", "val", 64, 0.0, mix)
    assert {style.family for style in source.streets.atlas.styles} == {FAMILIES[family]}
    assert source.streets.degradations == "shifted"


@pytest.mark.parametrize("task", ["localize", "ocr", "stack"])
def test_overview_counts_every_sample(config: Config, task: str) -> None:
    folder = config.out("prepared", task)
    metrics = json.loads((folder / "metrics.json").read_text())
    labels = pd.concat(
        [ShardedSet(config.prepared(task) / name).labels for name in metrics["samples"]]
    )
    assert sum(metrics["samples"].values()) == len(labels)
    assert metrics["backgrounds"] == "procedural"
    counts = {
        "cantons": (labels["plate"] != "").sum(),
        "lengths": (labels["plate"] != "").sum(),
        "formats": len(labels),
        "sizes": labels["present"].sum(),
        "angles": labels["present"].sum(),
    }
    for name, count in counts.items():
        table = pd.read_csv(folder / "plots" / f"{name}.csv")
        assert list(table.columns) == ["set", "value", "count"]
        assert table["count"].sum() == count, name
    assert metrics["without_text"] == pytest.approx((labels["plate"] == "").mean(), abs=1e-4)
    lengths = pd.read_csv(folder / "plots" / "lengths.csv")
    digits = pd.read_csv(folder / "plots" / "digits.csv")
    assert digits["value"].between(0, 9).all()
    assert digits["count"].sum() == (lengths["value"] * lengths["count"]).sum()
    images = [cv2.imread(str(folder / "plots/images" / f"sample_{i}.png")) for i in range(10)]
    assert all(image is not None for image in images)
    assert np.median([image.std() for image in images]) > 5


@pytest.mark.parametrize(
    ("total", "share", "expected"), [(10, 0.8, (8, 2)), (10, 0.99, (9, 1)), (10, 0.01, (1, 9))]
)
def test_split_gives_each_side_something(
    total: int, share: float, expected: tuple[int, int]
) -> None:
    splits = split_counts(total, share)
    assert tuple(len(indices) for indices in splits.values()) == expected
    assert [*splits["train"], *splits["val"]] == list(range(total))


def test_the_same_set_again_has_the_same_bytes(config: Config, tmp_path: Path) -> None:
    again = config.model_copy(
        update={"prepared_data_path": str(tmp_path / "prepared"), "out_path": str(tmp_path / "out")}
    )
    prepare_ocr.main(again)

    def contents(which: Config) -> dict[str, bytes]:
        folder = which.prepared("ocr")
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    assert contents(config) == contents(again)


def test_real_samples_are_the_same_from_one_worker_and_from_eight(
    config: Config, tmp_path: Path
) -> None:
    params = config.PrepareOCRParams
    source = SceneSource(
        config, params.SEED, "ocr", "train", 256, 0.5, StreetMix(0.5, obstacles=0.3)
    )
    make = prepare_ocr.PlateWindows(source, params.MARGIN, 0.3)
    for name, workers in (("one", 1), ("eight", 8)):
        write_sets([NewSet(tmp_path / name, range(32), make, {})], LocalEngine(workers), size=4)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "eight" / path.name).read_bytes()


def test_a_killed_stage_goes_on_unless_something_has_changed(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"prepared_data_path": str(tmp_path / "prepared"), "out_path": str(tmp_path / "out")}
    again = config.model_copy(update=places)
    draw = prepare_ocr.PlateWindows.__call__
    drawn: list[int] = []

    def drawn_until_killed(self: prepare_ocr.PlateWindows, indices: range) -> Shard:
        drawn.append(indices.start)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(self, indices)

    monkeypatch.setattr(prepare_ocr.PlateWindows, "__call__", drawn_until_killed)

    def kill(config: Config) -> str:
        drawn.clear()
        with pytest.raises(KeyboardInterrupt):
            prepare_ocr.main(config)
        (kept,) = tmp_path.glob("prepared/.ocr-*.partial")
        # DVC removes what the stage has left of its output.
        assert not config.prepared("ocr").exists()
        return kept.name

    first = kill(again)
    params = config.PrepareOCRParams.model_copy(update={"CUT_SHARE": 0.4})
    assert kill(again.model_copy(update={"PrepareOCRParams": params})) != first
    assert drawn == [0, 28], "shards of other parameters were taken"
    # What later stages do, or where this one does it, changes nothing.
    trained = config.TrainOCRParams.model_copy(update={"EPOCHS": 77})
    elsewhere = again.model_copy(update={"MULTIPROCESSING": True, "TrainOCRParams": trained})
    assert kill(again) == first
    assert prepare._fingerprint(elsewhere, "ocr") == prepare._fingerprint(again, "ocr")
    capsys.readouterr()
    prepare_ocr.main(again)
    assert drawn == [0, 28, 28]
    assert "1 of 2 shards were complete already" in capsys.readouterr().err
    assert list(tmp_path.glob("prepared/.*")) == []
    for path in config.prepared("ocr").rglob("*.*"):
        assert (
            path.read_bytes()
            == (again.prepared("ocr") / path.relative_to(config.prepared("ocr"))).read_bytes()
        )


def test_changed_code_or_backgrounds_make_all_shards_again(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prepare._fingerprint(config, "ocr")
    assert prepare._fingerprint(config, "localize") != before
    changed = tmp_path / "changed.py"
    changed.write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "closure", lambda module: [changed])
        assert prepare._fingerprint(config, "ocr") != before
    folder = tmp_path / "datasets" / "backgrounds"
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text("{}")
    other = config.model_copy(update={"dataset_path": str(tmp_path / "datasets")})
    assert prepare._fingerprint(other, "ocr") != before


def test_training_and_validation_share_no_texture() -> None:
    assert set(SPLIT_TEXTURES["train"]).isdisjoint(SPLIT_TEXTURES["val"])


def test_army_plates_are_not_for_a_reader(config: Config) -> None:
    def with_weights(weights: list[float]) -> Config:
        plate = config.PlateParams.model_copy(update={"COLOUR_WEIGHTS": weights})
        return config.model_copy(update={"PlateParams": plate})

    some = prepare_ocr.readable(with_weights([1.0, 0, 0, 0, 0, 1.0, 0]))
    assert some.PlateParams.COLOUR_WEIGHTS == [1.0, 0, 0, 0, 0, 0.0, 0]
    with pytest.raises(StageError, match="COLOUR_WEIGHTS"):
        prepare_ocr.readable(with_weights([0, 0, 0, 0, 0, 1.0, 0]))
