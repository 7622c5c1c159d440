"""The command ``swiss-plates blur``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import cv2
import pytest

from src.blur.__main__ import LEAST_SCORE, blur_file, main
from src.inference.detection import SURE
from src.inference.reader import Plate, PlateReader
from tests.bundles import scene, write_bundle
from tests.video.footage import empty, passing, plate, write_video


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("blur") / "bundle")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    cv2.imwrite(str(folder / "a.png"), scene("ZH123456"))
    cv2.imwrite(str(folder / "more/b.jpg"), scene("BE1"))
    return folder


def test_files_keep_their_places_and_names(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip = write_video(tmp_path / "c.avi", passing("ZH123456"))
    out = tmp_path / "out"
    status = main([str(photos), str(clip), "--out", str(out), "--model", str(model)])
    output, errors = capfd.readouterr()
    assert status == 0, errors
    new = ["a.png", "more/b.jpg", "c.avi.mp4"]
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*.*")) == sorted(new)
    assert output.splitlines() == [
        f"{photos / 'a.png'}\t{out / 'a.png'}\t1 plate",
        f"{photos / 'more/b.jpg'}\t{out / 'more/b.jpg'}\t1 plate",
        f"{clip}\t{out / 'c.avi.mp4'}\t1 plate",
    ]
    reader = PlateReader.load(model)
    for name in new[:2]:
        assert reader.read(photos / name)[0].plate is not None
        assert all(plate.plate is None for plate in reader.read(out / name))
    capture = cv2.VideoCapture(str(out / new[2]))
    while capture.isOpened():
        done, image = capture.read()
        if not done:
            break
        assert all(plate.plate is None for plate in reader.read(image))


def test_nothing_is_overwritten(
    model: Path, photos: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    assert main([str(photos), "--out", str(photos), "--model", str(model)]) == 1
    errors = capfd.readouterr().err
    # A folder that is written to is not searched.
    assert "no image" in errors or "exists already" in errors
    assert main([str(photos / "a.png"), "--out", str(photos), "--model", str(model)]) == 1
    assert "a.png: exists already, and is not overwritten" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before


def test_one_that_cannot_be_read_does_not_stop_the_others(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (photos / "0.jpg").write_text("no image")
    out = tmp_path / "out"
    assert main([str(photos), "--out", str(out), "--model", str(model)]) == 1
    output, errors = capfd.readouterr()
    assert len(output.splitlines()) == 2
    assert f"error: {photos / '0.jpg'}" in errors or "error: 0.jpg" in errors
    assert not list(out.rglob("*partial*"))


class OfScore:
    """A reader that finds a plate of a given score in every image."""

    def __init__(self, score: float) -> None:
        self.score = score

    def read(
        self, image: object, min_confidence: float | None = None, search: str = "standard"
    ) -> list[Plate]:
        assert min_confidence == 0.0
        return [plate(confidence=0.01, score=self.score)]


@pytest.mark.parametrize("score", [LEAST_SCORE + 0.01, LEAST_SCORE - 0.01])
@pytest.mark.parametrize("name", ["a.png", "a.mp4"])
def test_an_improbable_plate_is_covered_too(score: float, name: str, tmp_path: Path) -> None:
    assert LEAST_SCORE < SURE
    if name == "a.png":
        cv2.imwrite(str(tmp_path / name), empty())
    else:
        write_video(tmp_path / name, [empty()] * 5)
    options = argparse.Namespace(method="fill", search="standard", keep_metadata=False)
    reader = cast(PlateReader, OfScore(score))
    _, count = blur_file(
        str(tmp_path / name), tmp_path / "out" / name, reader, options, lambda _: None
    )
    assert count == (score >= LEAST_SCORE)


def test_out_must_be_a_folder(
    model: Path, photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(photos), "--out", str(tmp_path / "file"), "--model", str(model)]) == 1
    assert "is a file; name a folder" in capfd.readouterr().err
