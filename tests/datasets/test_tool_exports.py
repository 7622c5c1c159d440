"""Exports of CVAT and Label Studio, and COCO, with two-line plates: as these tools write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from src.datasets.annotations import AnnotatedPlate
from src.datasets.detection_sets import open_set
from src.datasets.shards import DatasetError
from src.quality.samples import open_samples

WIDTH, HEIGHT = 640, 480
CORNERS = [[300, 200], [380, 210], [376, 270], [296, 258]]
"""A two-line plate, seen at an angle, clockwise from its top left."""
TURNED = [[300.0, 200.0], [369.282, 240.0], [344.282, 283.301], [275.0, 243.301]]
"""80 x 50 pixels, turned by 30 degrees around the first corner."""


def image(path: Path, seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0]), np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")


def plates(folder: Path) -> dict[str, list[AnnotatedPlate]]:
    return {
        f"{split.name}/{Path(each.name).name}": each.plates
        for split in open_set(folder)
        for each in split.images()
    }


def one(folder: Path) -> AnnotatedPlate:
    ((plate,),) = plates(folder).values()
    return plate


def corners_of(plate: AnnotatedPlate) -> Any:
    assert plate.corners is not None
    return pytest.approx(np.array(plate.corners), abs=0.02)


# CVAT


def cvat(folder: Path, shapes: str, name: str = "a.jpg", subset: str = "") -> None:
    image(folder / "images" / subset / name)
    text(
        folder / "annotations.xml",
        f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><name>plates</name><size>1</size><mode>annotation</mode>
    <labels><label><name>plate</name><type>any</type>
      <attributes><attribute><name>text</name><input_type>text</input_type></attribute></attributes>
    </label></labels></task><dumped>2026-01-01 00:00:00+00:00</dumped></meta>
  <image id="0" name="{name}" subset="{subset}" task_id="1" width="{WIDTH}" height="{HEIGHT}">
  {shapes}
  </image>
</annotations>
""",
    )


def cvat_polygon(points: list[list[int]], label: str = "plate") -> str:
    joined = ";".join(f"{x:.2f},{y:.2f}" for x, y in points)
    return (
        f'<polygon label="{label}" source="manual" occluded="0" points="{joined}" z_order="0">'
        '<attribute name="text">ZH\n123456</attribute></polygon>'
    )


CVAT_BOX = (
    '<box label="plate" source="manual" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}" {} z_order="0">'
    '<attribute name="text">{}</attribute></box>'
)


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("step", [1, -1])
def test_cvat_polygons_are_corners_wherever_they_start(
    tmp_path: Path, start: int, step: int
) -> None:
    points = np.roll(np.array(CORNERS), start, axis=0)[::step].tolist()
    cvat(tmp_path, cvat_polygon(points))
    plate = one(tmp_path)
    assert corners_of(plate) == np.array(CORNERS)
    assert (plate.text, plate.lines) == ("ZH123456", 2)
    assert plate.box.tolist() == [296, 200, 380, 270]


def test_cvat_boxes_turn_around_their_centre(tmp_path: Path) -> None:
    centre = np.mean(TURNED, axis=0)
    (x1, y1), (x2, y2) = np.subtract(centre, [40, 25]), np.add(centre, [40, 25])
    cvat(tmp_path / "turned", CVAT_BOX.format(x1, y1, x2, y2, 'rotation="30.00"', "BE 7"))
    plate = one(tmp_path / "turned")
    assert corners_of(plate) == np.array(TURNED)
    assert (plate.text, plate.lines) == ("BE7", None)
    cvat(tmp_path / "ended", CVAT_BOX.format(10, 20, 90, 70, "", "BE 7\n"))
    plate = one(tmp_path / "ended")
    assert (plate.text, plate.lines) == ("BE7", None)
    cvat(tmp_path / "upright", CVAT_BOX.format(10, 20, 90, 70, "", ""))
    plate = one(tmp_path / "upright")
    assert plate.corners is None
    assert plate.box.tolist() == [10, 20, 90, 70]
    assert plate.text is None


def test_cvat_subsets_are_splits_and_other_labels_no_plates(tmp_path: Path) -> None:
    cvat(tmp_path, cvat_polygon(CORNERS) + cvat_polygon(CORNERS, "car"), subset="Validation")
    ((name, found),) = plates(tmp_path).items()
    assert (name, len(found)) == ("val/a.jpg", 1)


def test_a_cvat_export_of_a_video_says_what_to_export(tmp_path: Path) -> None:
    text(tmp_path / "annotations.xml", '<annotations><track id="0" label="plate"/></annotations>')
    with pytest.raises(DatasetError, match=r"annotations\.xml: .*`CVAT for images 1\.1`"):
        open_set(tmp_path)


# COCO


def coco(
    folder: Path, annotation: dict[str, Any], file: str = "annotations/instances_default.json"
) -> None:
    image(folder / "images/a.jpg")
    content = {
        "licenses": [{"name": "", "id": 0, "url": ""}],
        "info": {"contributor": "", "description": ""},
        "categories": [
            {"id": 1, "name": "plate", "supercategory": ""},
            {"id": 2, "name": "car", "supercategory": ""},
        ],
        "images": [{"id": 1, "width": WIDTH, "height": HEIGHT, "file_name": "a.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **annotation},
            {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 9, 9], "segmentation": []},
        ],
    }
    text(folder / file, json.dumps(content))


def test_coco_boxes_polygons_and_masks(tmp_path: Path) -> None:
    attributes = {"occluded": False, "text": "ZH\n123456"}
    flat = [float(value) for point in CORNERS for value in point]
    coco(
        tmp_path / "quad", {"segmentation": [flat], "attributes": attributes, "bbox": [0, 0, 1, 1]}
    )
    plate = one(tmp_path / "quad")
    assert corners_of(plate) == np.array(CORNERS)
    assert (plate.text, plate.lines) == ("ZH123456", 2)
    coco(tmp_path / "box", {"segmentation": [], "bbox": [10.0, 20.0, 80.0, 50.0]})
    plate = one(tmp_path / "box")
    assert (plate.box.tolist(), plate.corners) == ([10, 20, 90, 70], None)
    assert not open_set(tmp_path / "box")[0].has_text
    mask = {"counts": [5, 5], "size": [HEIGHT, WIDTH]}
    coco(tmp_path / "mask", {"segmentation": mask, "bbox": [10.0, 20.0, 80.0, 50.0]})
    assert one(tmp_path / "mask").box.tolist() == [10, 20, 90, 70]
    outline = [10, 20, 50, 15, 90, 20, 90, 70, 10, 70]
    coco(tmp_path / "outline", {"segmentation": [outline], "bbox": [10, 15, 80, 55]})
    plate = one(tmp_path / "outline")
    assert (plate.box.tolist(), plate.corners) == ([10, 15, 90, 70], None)
    centre = np.mean(TURNED, axis=0)
    box = [*(centre - [40, 25]), 80, 50]
    coco(tmp_path / "turned", {"segmentation": [], "bbox": box, "attributes": {"rotation": 30.0}})
    assert corners_of(one(tmp_path / "turned")) == np.array(TURNED)


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("annotations/instances_Train.json", "train"),
        ("annotations/instances_val2017.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("test/_annotations.coco.json", "locked"),
    ],
)
def test_coco_files_and_folders_name_the_split(tmp_path: Path, file: str, split: str) -> None:
    coco(tmp_path, {"bbox": [10, 20, 80, 50]}, file)
    assert list(plates(tmp_path)) == [f"{split}/a.jpg"]


# Label Studio


def region(
    value: dict[str, Any], kind: str, number: str = "r1", **more: Any
) -> list[dict[str, Any]]:
    place = {
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "id": number,
        "to_name": "image", "origin": "manual", **more,
    }  # fmt: skip
    return [
        {**place, "type": kind, "from_name": "label", "value": {**value, kind: ["plate"]}},
        {
            **place,
            "type": "textarea",
            "from_name": "text",
            "value": {**value, "text": ["ZH", "123456"]},
        },
    ]


def label_studio(folder: Path, *results: list[dict[str, Any]], **annotation: Any) -> None:
    image(folder / "images/a.jpg")
    tasks = [
        {
            "id": number,
            "data": {"image": "/data/upload/1/0f3ab9c2-a.jpg"},
            "annotations": [{"id": number, "was_cancelled": False, "result": result, **annotation}],
            "predictions": [],
            "file_upload": "0f3ab9c2-a.jpg",
        }
        for number, result in enumerate(results, 1)
    ]
    text(folder / "project-1-at-2026-01-01-00-00-0f3ab9c2.json", json.dumps(tasks))


def share(points: list[list[float]]) -> list[list[float]]:
    return [[100 * x / WIDTH, 100 * y / HEIGHT] for x, y in points]


def test_label_studio_polygons_and_texts_of_two_lines(tmp_path: Path) -> None:
    label_studio(tmp_path, region({"points": share(CORNERS[2:] + CORNERS[:2])}, "polygonlabels"))
    plate = one(tmp_path)
    assert corners_of(plate) == np.array(CORNERS)
    assert (plate.text, plate.lines) == ("ZH123456", 2)
    (samples,) = open_samples(tmp_path)
    assert samples.labels["plate"].tolist() == ["ZH123456"]
    assert samples.labels["lines"].tolist() == [2]


def test_label_studio_rectangles_turn_around_their_first_corner(tmp_path: Path) -> None:
    value = {
        "x": 100 * 300 / WIDTH,
        "y": 100 * 200 / HEIGHT,
        "width": 12.5,
        "height": 100 * 50 / HEIGHT,
    }
    label_studio(tmp_path / "turned", region({**value, "rotation": 30}, "rectanglelabels"))
    assert corners_of(one(tmp_path / "turned")) == np.array(TURNED)
    label_studio(tmp_path / "upright", region({**value, "rotation": 0}, "rectanglelabels"))
    plate = one(tmp_path / "upright")
    assert plate.corners is None
    assert plate.box == pytest.approx([300, 200, 380, 250])


@pytest.mark.parametrize(
    "source",
    [
        "/data/local-files/?d=photos/images/a.jpg",
        "s3://bucket/images/a.jpg",
        "http://localhost:8080/data/upload/3/a.jpg",
        "/data/upload/3/12ab34cd-a.jpg",
        "a.jpg",
    ],
)
def test_label_studio_images_are_found_by_name(tmp_path: Path, source: str) -> None:
    label_studio(tmp_path, region({"points": share(CORNERS)}, "polygonlabels"))
    path = next(tmp_path.glob("*.json"))
    path.write_text(path.read_text().replace("/data/upload/1/0f3ab9c2-a.jpg", source))
    assert one(tmp_path).text == "ZH123456"


def test_label_studio_tasks_without_an_annotation_are_left_out(tmp_path: Path) -> None:
    label_studio(tmp_path, region({"points": share(CORNERS)}, "polygonlabels"))
    path = next(tmp_path.glob("*.json"))
    (task,) = json.loads(path.read_text())
    worse = {"result": [], "was_cancelled": False}
    skipped = {"result": [], "was_cancelled": True}
    tasks = [
        {**task, "annotations": [worse, *task["annotations"], skipped]},
        {**task, "annotations": [skipped]},
        {**task, "annotations": []},
    ]
    path.write_text(json.dumps(tasks))
    assert one(tmp_path).text == "ZH123456"


# What is wrong is named


def _json(folder: Path) -> None:
    image(folder / "a.jpg")
    text(folder / "result.json", '{"images": [\n')


def _two_images(folder: Path) -> None:
    coco(folder, {"bbox": [1, 2, 30, 40]})
    image(folder / "x/a.jpg")
    (folder / "images/a.jpg").rename(folder / "b.jpg")
    image(folder / "y/a.jpg")


def _other_size(folder: Path) -> None:
    cvat(folder, cvat_polygon(CORNERS))
    image(folder / "images/a.jpg", size=(320, 240))


def _no_class(folder: Path) -> None:
    coco(folder, {"bbox": [1, 2, 30, 40]})
    path = folder / "annotations/instances_default.json"
    path.write_text(path.read_text().replace('"plate"', '"number"'))


def _replaced(folder: Path, old: str, new: str) -> None:
    coco(folder, {"bbox": [1, 2, 30, 40]})
    path = folder / "annotations/instances_default.json"
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def _no_name(folder: Path) -> None:
    _replaced(folder, '"file_name"', '"filename"')


def _no_list(folder: Path) -> None:
    _replaced(folder, '"annotations": [', '"annotations": null, "others": [')


def _no_data(folder: Path) -> None:
    label_studio(folder, region({"points": share(CORNERS)}, "polygonlabels"))
    path = next(folder.glob("*.json"))
    path.write_text(path.read_text().replace('"image": "/data/upload/1/0f3ab9c2-a.jpg"', ""))


def _turned_image(folder: Path) -> None:
    label_studio(folder, region({"points": share(CORNERS)}, "polygonlabels", image_rotation=90))


def _unlabelled(folder: Path) -> None:
    label_studio(folder, region({"points": share(CORNERS)}, "polygonlabels"))
    path = next(folder.glob("*.json"))
    path.write_text(path.read_text().replace('"plate"', '"Text"'))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: cvat(f, cvat_polygon(CORNERS[:3])), r"annotations\.xml, image a\.jpg, shape 1"),
        (
            lambda f: cvat(f, '<polyline label="plate" points="1,2;3,4"/>'),
            r"shape 1: `polyline` is no valid plate.*polygon",
        ),
        (
            lambda f: cvat(f, cvat_polygon([[0, 0], [90, 0], [90, 90], [60, 20]])),
            r"shape 1: the four corners .* lies within",
        ),
        (
            lambda f: cvat(f, CVAT_BOX.format(700, 20, 790, 70, "", "")),
            r"shape 1: the box .*640x480",
        ),
        (
            lambda f: text(
                f / "annotations.xml",
                '<annotations><image name="a.jpg"><box label="number" xtl="1" ytl="1" xbr="9" ybr="9"/>'
                '<tag label="plate"/></image></annotations>',
            ),
            r"annotations\.xml: none of its classes is a plate: number; name it `plate`",
        ),
        (_other_size, r"annotated at 640x480 pixels, but has 320x240"),
        (
            lambda f: coco(f, {"bbox": [1, 2, 30]}),
            r"instances_default\.json, annotation 1 .*not valid",
        ),
        (
            lambda f: coco(f, {"bbox": [1, 2, 30, 4], "image_id": 9}),
            r"annotation 1 .*not valid: .*9",
        ),
        (lambda f: coco(f, {"bbox": [1, 2, float("nan"), 4]}), r"annotation 1 .*not finite"),
        (_no_class, r"none of its classes is a plate: number, car; name it `plate`"),
        (_no_name, r"instances_default\.json: not a COCO file: KeyError\('file_name'\)"),
        (_no_list, r"instances_default\.json: not a COCO file: .*NoneType"),
        (_no_data, r"task 1: not valid: .*`data` names no image"),
        (_json, r"result\.json: not valid JSON: .*line 2"),
        (_two_images, r"a\.jpg: 2 images have that name"),
        (_turned_image, r"task 1, region r1: the image was turned"),
        (_unlabelled, r"no region is labelled as a plate"),
        (
            lambda f: label_studio(f, region({"points": [[1, 2]]}, "polygonlabels")),
            r"task 1: not valid: .*four points",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    make(tmp_path)
    with pytest.raises(DatasetError, match=message):
        plates(tmp_path)
