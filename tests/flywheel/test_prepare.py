"""Real images become what both models are trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from src.config import Config, load_config
from src.core.geometry import CORNER_COLUMNS
from src.datasets.annotations import AnnotatedPlate
from src.datasets.localize import LocalizeDataset
from src.datasets.ocr import OCRDataset
from src.datasets.shards import ShardedSet
from src.flywheel import prepare
from src.inference.pyramid import PAD_GREY
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[2]
WIDTH, HEIGHT = 640, 480
HEADING = "file,plate," + ",".join(CORNER_COLUMNS) + ",cx,cy,w,h,lines,whole\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("params.py", "params.yaml"):
        shutil.copy(PARAMETERS / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row(file: str, text: str, box: tuple[float, float, float, float], whole: int = 1) -> str:
    """Of an upright plate x1, y1, x2, y2 in pixels."""
    x1, y1, x2, y2 = box
    points = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    corners = [value for x, y in points for value in (x / WIDTH, y / HEIGHT)]
    shares = [
        (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT,
    ]  # fmt: skip
    return f"{file},{text},{','.join(map(str, corners + shares))},,{whole}\n"


def write(
    folder: Path, name: str, boxes: list[tuple[float, float, float, float]], rows: str
) -> None:
    """A set of one image, white where its plates are."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    image = np.full((HEIGHT, WIDTH), 40, np.uint8)
    for x1, y1, x2, y2 in boxes:
        image[round(y1) : round(y2), round(x1) : round(x2)] = 230
    assert cv2.imwrite(str(folder / f"pictures/{name}.png"), image)
    (folder / f"{name}.csv").write_text(HEADING + rows, encoding="utf-8")


def made(config: Config, task: str, split: str = "train") -> ShardedSet:
    return ShardedSet(config.prepared("feedback") / task / split)


def test_without_feedback_the_sets_are_empty(workspace: Path) -> None:
    config = load_config(workspace)
    prepare.main(config)
    for task in prepare.TASKS:
        for split in prepare.SPLITS:
            meta = config.prepared("feedback") / task / split / "meta.json"
            assert json.loads(meta.read_text())["count"] == 0


def test_labels_are_where_the_plate_is(workspace: Path) -> None:
    box = (200.0, 220.0, 360.0, 256.0)
    write(workspace / "data/feedback/own", "train", [box], row("pictures/train.png", "ZH12", box))
    config = load_config(workspace)
    prepare.main(config)
    windows = made(config, "localize")
    assert windows.present.sum() == config.PrepareFeedbackParams.WINDOWS
    assert (~windows.present).sum() == config.PrepareFeedbackParams.NEGATIVES
    shares = []
    for i in np.flatnonzero(windows.present):
        inside = cv2.fillConvexPoly(
            np.zeros((84, 84), np.uint8), np.round(windows.corners[i] * 84 - 0.5).astype(int), 1
        )
        white = windows.image(int(i)) > 130
        assert (white == inside.astype(bool)).mean() > 0.97
        shares.append(np.ptp(windows.corners[i][:, 0]))
    low, high = config.PrepareLocalizeParams.STREET_WIDTH
    assert min(shares) >= low - 0.01
    assert max(shares) <= high + 0.01
    assert np.ptp(shares) > 0.1
    for i in np.flatnonzero(~windows.present):
        assert windows.image(int(i)).max() < 130
    crops = made(config, "ocr")
    assert crops.plates == ["ZH12"]
    inside = crops.image(0)[
        tuple(slice(*np.round(edges).astype(int)) for edges in _edges(crops))[::-1]
    ]
    assert inside.min() > 220
    assert (crops.image(0) > 130).sum() == pytest.approx(160 * 36, rel=0.02)
    # As they are trained on.
    LocalizeDataset(config.prepared("feedback") / "localize/train", (1, 84, 84))
    folder = config.prepared("feedback") / "ocr/train"
    OCRDataset(folder, "corners", (1, 32, 128), config.TrainOCRParams)


def _edges(crops: ShardedSet) -> np.ndarray:
    corners = crops.corners[0] * crops.image(0).shape[::-1]
    return np.stack([corners.min(axis=0), corners.max(axis=0)], axis=1)


def test_a_window_shows_one_plate_and_nothing_unknown(workspace: Path) -> None:
    boxes = [(100.0, 100.0, 180.0, 118.0), (200.0, 100.0, 280.0, 118.0)]
    rows = "".join(row("pictures/train.png", "ZH1", box) for box in boxes)
    write(workspace / "data/feedback/two", "train", boxes, rows)
    part = row("pictures/val.png", "BE2", boxes[0], whole=0)
    write(workspace / "data/feedback/two", "val", boxes, part)
    config = load_config(workspace)
    prepare.main(config)
    windows = made(config, "localize")
    for i in np.flatnonzero(windows.present):
        labels = cv2.connectedComponents((windows.image(int(i)) > 130).astype(np.uint8))
        assert labels[0] == 2, "the ground and one plate"
    unsure = made(config, "localize", "val")
    assert unsure.present.all(), "what is beside a plate may be another one"
    assert np.ptp(unsure.corners[:, :, 0], axis=1).min() >= 0.59


def test_locked_slices_are_not_opened(workspace: Path) -> None:
    folder = workspace / "data/feedback/own"
    folder.mkdir(parents=True)
    (folder / "locked.csv").write_text("file,cx,cy,w,h\nmissing.png,0.5,0.5,0.1,0.1\n")
    prepare.main(load_config(workspace))


def test_a_set_without_texts_teaches_no_reader(workspace: Path) -> None:
    folder = workspace / "data/feedback/voc"
    (folder / "Annotations").mkdir(parents=True)
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 99, (HEIGHT, WIDTH), np.uint8)
        cv2.imwrite(str(folder / f"Annotations/{number}.png"), pixels)
        (folder / f"Annotations/{number}.xml").write_text(
            f"<annotation><filename>{number}.png</filename><object><name>plate</name><bndbox>"
            "<xmin>20</xmin><ymin>30</ymin><xmax>80</xmax><ymax>50</ymax></bndbox></object></annotation>"
        )
    config = load_config(workspace)
    prepare.main(config)
    labels = made(config, "localize").labels
    assert not labels["has_corners"].any()
    assert (
        json.loads((config.prepared("feedback") / "ocr/train/meta.json").read_text())["count"] == 0
    )


def test_the_same_again(workspace: Path) -> None:
    box = (200.0, 220.0, 360.0, 256.0)
    write(workspace / "data/feedback/own", "train", [box], row("pictures/train.png", "ZH12", box))
    config = load_config(workspace)
    hashes = []
    for _ in range(2):
        prepare.main(config)
        hashes.append(made(config, "localize").meta["sha256"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(("width", "height", "lines"), [(300, 80, 1), (300, 160, 2), (180, 140, 2)])
def test_lines_follow_the_shape_where_nobody_says_them(width: int, height: int, lines: int) -> None:
    samples = prepare.Samples()
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    image = np.zeros((500, 500), np.uint8)
    box = np.array([0, 0, width, height], float)
    samples.add(image, corners, AnnotatedPlate("ZH1", box, corners))
    samples.add(image, corners, AnnotatedPlate("ZH1", box, corners, lines=3 - lines))
    assert pd.DataFrame(samples.rows)["lines"].tolist() == [lines, 3 - lines]


@pytest.mark.parametrize("wide", [30.0, 84.0, 200.0, 1000.0])
def test_a_window_is_where_it_says(wide: float) -> None:
    ramp = np.tile(np.arange(640, dtype=np.float32) / 4, (480, 1)).astype(np.uint8)
    window = prepare.cut_window(ramp, np.array([100.3, 50.0, wide]), 84)
    centres = 100.3 + (np.arange(84) + 0.5) * wide / 84
    inside = centres < 639
    row_ = window[2][inside].astype(float)
    assert row_ == pytest.approx((centres[inside] - 0.5) / 4, abs=1.5)
    beyond = centres > 640 + wide / 84
    assert (window[2][beyond] == PAD_GREY).all()


def test_a_large_plate_is_made_smaller() -> None:
    large = np.zeros((2000, 3000), np.uint8)
    corners = np.array([[500, 500], [2500, 500], [2500, 1000], [500, 1000]], float)
    plate = AnnotatedPlate("ZH1", np.array([500.0, 500, 2500, 1000]), corners)
    crop, moved = prepare.cut_crop(large, plate, 0.25)
    assert max(crop.shape) == 384
    assert np.ptp(moved[:, 0]) / np.ptp(moved[:, 1]) == pytest.approx(4, rel=0.02)
    assert np.ptp(moved[:, 0]) / crop.shape[1] == pytest.approx(2 / 3, rel=0.02)
