"""What is checked: prepared sets as they are, and annotation files with whatever is wrong in them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from src.core import images
from src.datasets.shards import DatasetError
from src.quality.samples import SamplesError, open_samples, prepared, read_table
from tests.standins import prepared_set, true_corners


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two images, 200x100 and 80x60."""
    for name, size in (("a.png", (100, 200)), ("b.png", (60, 80))):
        image = np.random.default_rng(1).integers(0, 255, size).astype(np.uint8)
        cv2.imwrite(str(tmp_path / name), image)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "truth.csv"
    path.write_text(text)
    return path


def test_a_prepared_set_keeps_its_labels_and_images(tmp_path: Path) -> None:
    data = prepared_set(tmp_path / "ocr" / "val", (60, 120), 7)
    samples = prepared(tmp_path / "ocr" / "val")
    assert (samples.name, samples.total, samples.crops, samples.has_text) == ("val", 7, True, True)
    assert samples.labels["plate"].tolist() == data.plates
    assert samples.corners[3] == pytest.approx(true_corners(3), abs=1e-6)
    assert samples.sizes[0].tolist() == [120, 60]
    assert (samples.image(5) == data.image(5)).all()
    some = samples.take([4, 2])
    assert (some.image(1) == data.image(2)).all()
    assert some.where(1) == f"{tmp_path / 'ocr' / 'val'}, sample 2"
    (tmp_path / "ocr" / "val").rename(tmp_path / "v1.0")
    assert prepared(tmp_path / "v1.0").number(3) == "sample 3"


def test_a_sample_is_drawn_by_its_seed_and_leaves_out_what_cannot_be_used(tmp_path: Path) -> None:
    prepared_set(tmp_path / "val", (60, 120), 30)
    samples = prepared(tmp_path / "val")
    samples.labels.loc[3, "problem"] = "no image"
    drawn = samples.sampled(10, 1).labels["sample"].tolist()
    assert len(drawn) == 10
    assert drawn == sorted(drawn) == samples.sampled(10, 1).labels["sample"].tolist()
    assert drawn != samples.sampled(10, 2).labels["sample"].tolist()
    assert len(samples.sampled(100, 1)) == 29
    assert samples.sampled(10, 1).total == 30


def test_boxes_of_a_truth_file_are_shares_of_the_image(folder: Path) -> None:
    path = write(folder, "file,plate,x1,y1,x2,y2\na.png,ZH1,20,10,120,60\nb.png,,,,,\n")
    samples = read_table(path)
    assert samples.boxes[0] == pytest.approx([0.35, 0.35, 0.5, 0.5])
    assert samples.labels["present"].tolist() == [True, False]
    assert samples.labels["plate_height"].iloc[0] == pytest.approx(50)
    assert samples.where(1) == f"{path}, line 3"
    shares = read_table(write(folder, "file,cx,cy,w,h\na.png,0.35,0.35,0.5,0.5\n"))
    assert shares.boxes[0] == pytest.approx(samples.boxes[0])
    assert not shares.has_text
    text = "file,x0,y0,x1,y1,x2,y2,x3,y3\na.png,20,10,120,10,120,60,20,60\n"
    corners = read_table(write(folder, text))
    assert corners.boxes[0] == pytest.approx(samples.boxes[0])
    assert corners.corners[0, 2] == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a.png,ZH1,20,ten,120,60", "`y1` is not a number: 'ten'"),
        ("a.png,ZH1,20,,120,60", "the box is incomplete"),
        ("missing.png,ZH1,20,10,120,60", "missing.png"),
        ("truth.csv,ZH1,20,10,120,60", "truth.csv"),
    ],
)
def test_a_row_that_cannot_be_used_is_kept_with_the_reason(
    folder: Path, row: str, problem: str
) -> None:
    samples = read_table(write(folder, f"file,plate,x1,y1,x2,y2\nb.png,ZH2,1,1,50,20\n{row}\n"))
    assert samples.labels["problem"].iloc[0] == ""
    assert problem in samples.labels["problem"].iloc[1]
    assert len(samples.sampled(10, 1)) == 1


def test_texts_and_numbers_keep_their_spelling(folder: Path) -> None:
    samples = read_table(write(folder, "file,plate,x1,y1,x2,y2\na.png,007,20,10,120,60\n"))
    assert samples.labels["plate"].tolist() == ["007"]


def test_a_place_is_told_by_what_is_in_it(folder: Path) -> None:
    prepared_set(folder / "sets" / "train", (60, 120), 3)
    prepared_set(folder / "sets" / "val", (60, 120), 3)
    assert [samples.name for samples in open_samples(folder / "sets")] == ["train", "val"]
    assert [samples.name for samples in open_samples(folder / "sets" / "val")] == ["val"]
    write(folder, "file,cx,cy,w,h\na.png,0.5,0.5,0.5,0.5\n")
    assert [len(samples) for samples in open_samples(folder)] == [1]
    rows = next(folder.glob("*.csv")).read_text()
    (folder / "second.csv").write_text(rows)
    for name, heading in (("third", "{}\n"), ("fourth", "{}\n\n,,,,\n"), ("fifth", "sep=,\n{}\n")):
        (folder / f"{name}.csv").write_text(heading.format(rows.splitlines()[0]))
    assert len(open_samples(folder)) == 2, "a table without rows is no set"
    for path in folder.glob("*.csv"):
        path.write_text("file,cx,cy,w,h\n")
    with pytest.raises(SamplesError, match=r"none of its annotation files .* has a row"):
        open_samples(folder)
    with pytest.raises(SamplesError, match="no such folder"):
        open_samples(folder / "nowhere")


def test_a_table_without_boxes_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="cx,cy,w,h"):
        read_table(write(folder, "file,plate\na.png,ZH1\n"))


def test_boxes_of_a_large_jpeg_are_those_of_the_image_as_it_is_displayed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = np.random.default_rng(1).integers(0, 255, (50, 100)).astype(np.uint8)
    large = images.DecodedImage(grey, 200, 100, scale=2)
    monkeypatch.setattr("src.quality.samples.load_image", lambda path: large)
    samples = read_table(write(folder, "file,x1,y1,x2,y2\na.png,20,10,120,60\n"))
    assert samples.boxes[0] == pytest.approx([0.35, 0.35, 0.5, 0.5])
    assert samples.sizes[0].tolist() == [100, 50]
    assert samples.labels["plate_height"].iloc[0] == pytest.approx(25)


def test_the_sets_of_feedback_are_found_in_whatever_format(folder: Path) -> None:
    feedback = folder / "feedback"
    reviewed, yolo = feedback / "reviewed", feedback / "mine"
    image = np.full((40, 80), 120, np.uint8)
    for place in (reviewed, yolo / "train/images", yolo / "train/labels"):
        place.mkdir(parents=True)
    for place in (reviewed, yolo / "train/images"):
        cv2.imwrite(str(place / "a.png"), image)
    (reviewed / "train.csv").write_text("file,plate,cx,cy,w,h\na.png,BE1,0.5,0.5,0.5,0.25\n")
    (reviewed / "val.csv").write_text("file,plate,cx,cy,w,h\n")
    (yolo / "train/labels/a.txt").write_text("0 0.5 0.25 0.5 0.25\n0 0.5 0.75 0.25 0.25\n")
    mine, theirs = open_samples(feedback)
    assert (mine.name, theirs.name) == ("mine-train", "reviewed-train")
    assert theirs.labels["plate"].tolist() == ["BE1"]
    assert not mine.has_text
    assert mine.boxes.tolist() == [[0.5, 0.25, 0.5, 0.25], [0.5, 0.75, 0.25, 0.25]]
    assert mine.labels["plate_height"].tolist() == [10, 10]
    assert mine.images.tolist() == [0, 0]
    assert np.array_equal(mine.image(1), image)
    assert [samples.name for samples in open_samples(yolo)] == ["train"]
    (feedback / "odd").mkdir()
    with pytest.raises(DatasetError, match=r"odd: not a known dataset layout.*Pascal VOC"):
        open_samples(feedback)
