"""Sets in the formats that people have them in become images with plates."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.datasets.annotations import AnnotatedImage
from src.datasets.detection_sets import Split, find_sets, open_set
from src.datasets.shards import DatasetError
from src.datasets.splits import SPLITS, split_of

WIDTH, HEIGHT = 200, 100


def image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    assert cv2.imwrite(str(path), pixels)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def voc(folder: Path, name: str = "licence", images: str = "images") -> None:
    image(folder / images / "a.png")
    text(
        folder / "annotations/a.xml",
        f"""<annotation><filename>a.png</filename>
        <object><name>{name}</name><bndbox><xmin>20</xmin><ymin>30</ymin><xmax>80</xmax><ymax>50</ymax>
        </bndbox></object></annotation>""",
    )


def yolo(folder: Path, line: str = "0 0.25 0.4 0.3 0.2") -> None:
    for number, split in enumerate(("train", "valid", "test")):
        image(folder / f"images/{split}/a.jpg", number)
        text(folder / f"labels/{split}/a.txt", f"{line}\n")


def ufpr(folder: Path, plate: str = "ABC-1234") -> None:
    for number, split in enumerate(("training", "validation", "testing")):
        image(folder / f"{split}/track01/track01[01].png", number)
        text(
            folder / f"{split}/track01/track01[01].txt",
            f"camera: GoPro\nposition_vehicle: 1 1 150 90\n\ttype: car\nplate: {plate}\n"
            "corners: 20,30 80,32 80,50 20,48\n",
        )


def all_of(splits: list[Split]) -> dict[str, list[AnnotatedImage]]:
    return {split.name: list(split.images()) for split in splits}


@pytest.mark.parametrize("images", ["images", "JPEGImages", "annotations"])
def test_voc(tmp_path: Path, images: str) -> None:
    voc(tmp_path, images=images)
    ((split,),) = [list(open_set(tmp_path))]
    assert not split.has_text
    (true,) = split.images()
    (plate,) = true.plates
    assert plate.box.tolist() == [20, 30, 80, 50]
    assert plate.corners is None
    assert plate.text is None
    assert true.image.shape == (HEIGHT, WIDTH)
    assert true.whole


def test_voc_may_come_from_windows(tmp_path: Path) -> None:
    voc(tmp_path)
    path = tmp_path / "annotations/a.xml"
    content = path.read_text(encoding="utf-8")
    text(path, content.replace("<filename>a.png", r"<filename>C:\photos\a.png"))
    assert [split.count for split in open_set(tmp_path)] == [1]


def test_voc_lists_its_splits(tmp_path: Path) -> None:
    voc(tmp_path)
    for name, split in (("train", "train"), ("val", "val"), ("test", "locked")):
        text(tmp_path / f"ImageSets/Main/{name}.txt", "a\n")
        assert [each.name for each in open_set(tmp_path)] == [split]
        (tmp_path / f"ImageSets/Main/{name}.txt").unlink()


def test_other_classes_are_no_plates(tmp_path: Path) -> None:
    voc(tmp_path / "voc", name="dog")
    path = tmp_path / "voc/annotations/a.xml"
    image(tmp_path / "voc/images/b.png", 1)
    content = path.read_text(encoding="utf-8").replace("a.png", "b.png").replace("dog", "plate")
    text(path.with_name("b.xml"), content)
    found = [each for images in all_of(open_set(tmp_path / "voc")).values() for each in images]
    assert {Path(each.name).name: len(each.plates) for each in found} == {"a.png": 0, "b.png": 1}
    yolo(tmp_path / "yolo")
    text(tmp_path / "yolo/data.yaml", "names: [car, License_Plate]\n")
    assert not any(true.plates for (true,) in all_of(open_set(tmp_path / "yolo")).values())
    text(tmp_path / "yolo/data.yaml", "names: {0: number plate, 1: car}\n")
    assert all(true.plates for (true,) in all_of(open_set(tmp_path / "yolo")).values())


def test_yolo(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "labels/valid/a.txt").unlink()
    found = all_of(open_set(tmp_path))
    assert {name: len(true[0].plates) for name, true in found.items()} == {
        "train": 1, "val": 0, "locked": 1,
    }  # fmt: skip
    assert found["train"][0].plates[0].box == pytest.approx([20, 30, 80, 50])


def test_yolo_polygons_and_oriented_boxes_are_corners(tmp_path: Path) -> None:
    # Of a plate at 20,30 80,32 80,50 20,48, in any order; a mask may repeat its first point.
    corners = [[20, 30], [80, 32], [80, 50], [20, 48]]
    for number, order in enumerate(((0, 1, 2, 3), (2, 3, 0, 1), (3, 2, 1, 0), (0, 1, 2, 3, 0))):
        points = [corners[i] for i in order]
        line = " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)
        yolo(tmp_path / str(number), f"0 {line}")
        plate = all_of(open_set(tmp_path / str(number)))["train"][0].plates[0]
        assert plate.box == pytest.approx([20, 30, 80, 50], abs=0.01)
        assert plate.corners is not None
        assert plate.corners == pytest.approx(np.array(corners), abs=0.01)
    yolo(tmp_path / "mask", "0 .1 .3 .25 .28 .4 .32 .4 .5 .1 .48")
    plate = all_of(open_set(tmp_path / "mask"))["train"][0].plates[0]
    assert plate.box == pytest.approx([20, 28, 80, 50])
    assert plate.corners is None
    yolo(tmp_path / "found", "0 0.25 0.4 0.3 0.2 0.93")
    assert all_of(open_set(tmp_path / "found"))["train"][0].plates[0].corners is None


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "plates.yaml"])
def test_the_classes_of_yolo_are_in_any_yaml_file(tmp_path: Path, name: str) -> None:
    yolo(tmp_path)
    text(tmp_path / name, "names: [car, plate]\n")
    assert not any(true.plates for (true,) in all_of(open_set(tmp_path)).values())


def test_the_classes_of_label_studio_are_in_a_text_file(tmp_path: Path) -> None:
    yolo(tmp_path)
    text(tmp_path / "classes.txt", "car\nplate\n")
    assert not any(true.plates for (true,) in all_of(open_set(tmp_path)).values())
    (tmp_path / "classes.txt").rename(tmp_path / "labels/train/classes.txt")
    assert not any(true.plates for (true,) in all_of(open_set(tmp_path)).values()), "LabelImg's"
    text(tmp_path / "classes.txt", "plate\ncar\n")
    assert all(true.plates for (true,) in all_of(open_set(tmp_path)).values())


def test_cvat_writes_texts_into_voc(tmp_path: Path) -> None:
    voc(tmp_path)
    path = tmp_path / "annotations/a.xml"
    attribute = (
        "<attributes><attribute><name>text</name><value>ZH 12</value></attribute></attributes>"
    )
    text(path, path.read_text(encoding="utf-8").replace("</object>", f"{attribute}</object>"))
    (split,) = open_set(tmp_path)
    assert split.has_text
    assert next(split.images()).plates[0].text == "ZH12"


def test_ufpr(tmp_path: Path) -> None:
    ufpr(tmp_path)
    splits = open_set(tmp_path)
    assert [split.name for split in splits] == ["train", "val", "locked"]
    assert all(split.has_text for split in splits)
    plate = next(splits[0].images()).plates[0]
    assert plate.corners is not None
    assert plate.corners.tolist() == [[20, 30], [80, 32], [80, 50], [20, 48]]
    assert plate.text is None, "a foreign plate has no text to read"
    ufpr(tmp_path / "swiss", plate="ZH-1234")
    assert next(open_set(tmp_path / "swiss")[0].images()).plates[0].text == "ZH1234"
    for path in (tmp_path / "swiss").rglob("*.txt"):
        text(path, path.read_text(encoding="utf-8").replace("plate: ZH-1234\n", ""))
    assert not any(split.has_text for split in open_set(tmp_path / "swiss")), "they are unknown"


def test_truth_files(tmp_path: Path) -> None:
    image(tmp_path / "pictures/a.jpg")
    heading = "file,plate,cx,cy,w,h,lines,whole\n"
    text(tmp_path / "train.csv", f"{heading}pictures/a.jpg,ZH12,0.5,0.5,0.4,0.2,2,0\n")
    text(tmp_path / "val.csv", f"sep=,\n{heading}\n,,,,\n")
    (split,) = open_set(tmp_path)
    assert (split.name, split.count, split.has_text) == ("train", 1, True)
    (true,) = split.images()
    assert not true.whole
    assert (true.plates[0].text, true.plates[0].lines) == ("ZH12", 2)


def test_content_decides_on_the_split(tmp_path: Path) -> None:
    for number in range(30):
        voc(tmp_path)
        image(tmp_path / f"images/{number}.png", number)
        source = (tmp_path / "annotations/a.xml").read_text(encoding="utf-8")
        text(tmp_path / f"annotations/{number}.xml", source.replace("a.png", f"{number}.png"))
    counts = {split.name: split.count for split in open_set(tmp_path)}
    assert set(counts) == set(SPLITS)
    assert sum(counts.values()) == 31
    assert split_of("0" * 64) == "train"
    assert split_of("f" * 64) == "locked"


def _no_number(folder: Path) -> None:
    yolo(folder, "0 0.25 0.4 wide 0.2")


def _triangle(folder: Path) -> None:
    yolo(folder, "0 0.25 0.4 0.3 0.2 0.1 0.2")


def _pixels(folder: Path) -> None:
    yolo(folder, "0 20 30 80 32 80 50 20 48")


def _swapped(folder: Path) -> None:
    voc(folder)
    path = folder / "annotations/a.xml"
    text(path, path.read_text(encoding="utf-8").replace("<xmax>80", "<xmax>10"))


def _outside(folder: Path) -> None:
    yolo(folder, "0 1.25 0.4 0.1 0.2")


def _no_image(folder: Path) -> None:
    voc(folder)
    (folder / "images/a.png").unlink()


def _no_xml(folder: Path) -> None:
    voc(folder)
    text(folder / "annotations/a.xml", "<annotation>")


def _no_plates(folder: Path) -> None:
    voc(folder, name="Kontrollschild")


def _no_corners(folder: Path) -> None:
    ufpr(folder)
    text(folder / "training/track01/track01[01].txt", "plate: ABC-1234\ncorners: 1,2 3,4\n")


def _no_names(folder: Path) -> None:
    yolo(folder)
    text(folder / "data.yaml", "nc: 1\n")


def _other_size(folder: Path) -> None:
    voc(folder)
    path = folder / "annotations/a.xml"
    size = f"<size><width>{2 * WIDTH}</width><height>{2 * HEIGHT}</height></size><object>"
    text(path, path.read_text(encoding="utf-8").replace("<object>", size))


def _keypoints(folder: Path) -> None:
    yolo(folder, "0 .25 .4 .3 .2 .1 .3 2 .4 .32 2 .4 .5 2 .1 .48 2")
    text(folder / "data.yaml", "names: [plate]\nkpt_shape: [4, 3]\n")


def _damaged(folder: Path) -> None:
    voc(folder)
    (folder / "images/a.png").write_bytes(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (_no_number, "a.txt, line 1: expected `class cx cy w h`"),
        (
            _outside,
            "a.txt, line 1: the box [240.0, 30.0, 260.0, 50.0] is not valid in an image of 200x100",
        ),
        (_triangle, "a.txt, line 1: expected `class cx cy w h`, or `class x1 y1 … xn yn`"),
        (_pixels, "a.txt, line 1: the box"),
        (_swapped, "a.xml, object 1: the box"),
        (_no_image, "a.xml: its image a.png is not in the same folder"),
        (_no_plates, "none of its classes is a plate: Kontrollschild; name it `plate`"),
        (_no_xml, "a.xml: not a Pascal VOC annotation"),
        (_no_corners, "line 2: expected `corners: x,y x,y x,y x,y`"),
        (_no_names, "data.yaml: does not list the classes"),
        (_damaged, "a.xml: "),
        (_keypoints, "data.yaml: is a set of keypoints (`kpt_shape`); export oriented boxes"),
        (_other_size, "a.xml: a.png was annotated at 400x200 pixels, but has 200x100"),
        (lambda folder: text(folder / "notes.md", "?"), "not a known dataset layout"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: Callable[[Path], None], named: str) -> None:
    make(tmp_path)
    with pytest.raises(DatasetError, match=re.escape(named)):
        all_of(open_set(tmp_path))


@pytest.mark.parametrize("make", [voc, yolo, ufpr])
def test_what_systems_keep_beside_files_is_no_part_of_a_set(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    before = {split.name: split.count for split in open_set(tmp_path)}
    for path in list(tmp_path.rglob("*.*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7 of another system")
    text(tmp_path / ".tool/state.json", "{")
    assert {split.name: split.count for split in open_set(tmp_path)} == before
    assert all_of(open_set(tmp_path))


def test_folders_around_a_set_say_nothing_of_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "test/labels/mine"
    for number in range(30):
        image(folder / f"{number}.png", number)
        text(folder / f"{number}.txt", "plate: ZH1\ncorners: 20,30 80,32 80,50 20,48\n")
    assert {split.name for split in open_set(folder)} == set(SPLITS), "their content decides"
    # Nor are they labels of YOLO.
    image(folder / "images/0.png")
    assert open_set(folder)[0].has_text


def test_sets_are_folders(tmp_path: Path) -> None:
    assert find_sets(tmp_path / "none") == []
    for name in ("b", "a", ".partial"):
        (tmp_path / name).mkdir()
    text(tmp_path / "README.md", "")
    assert [path.name for path in find_sets(tmp_path)] == ["a", "b"]
