"""The contact sheets of `make gallery`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from src import gallery
from src.config import load_config
from src.video.sources import VideoFile
from tests.conftest import PARAMETERS

ROOT = Path(__file__).parents[1]


def test_all_sheets_are_drawn_without_backgrounds_at_hand(tmp_path: Path) -> None:
    config = load_config(PARAMETERS).model_copy(update={"dataset_path": str(tmp_path / "nothing")})
    gallery.main(config, tmp_path / "sheets")
    names = {path.stem for path in (tmp_path / "sheets").iterdir()}
    assert names == {
        "plates_cantons",
        "plates_formats",
        "scenes",
        "scenes_formats",
        "scenes_localize",
        "crops_ocr",
    }
    for path in (tmp_path / "sheets").iterdir():
        image = cv2.imread(str(path))
        assert image is not None
        assert image.std() > 20


@pytest.mark.slow
def test_a_clip_is_drawn_with_its_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    config = load_config(PARAMETERS)
    path = tmp_path / "clips" / "street.mp4"
    gallery.draw_street(config, path, vehicles=1, seed=0)
    assert capsys.readouterr().out == f"{path}\n"
    truth = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert len(truth["vehicles"]) == 1
    source = VideoFile(str(path))
    assert source.size == (1280, 720)
    assert source.duration == pytest.approx(truth["seconds"], abs=0.1)
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("count", ["0", "101", "x"])
def test_a_number_of_vehicles_out_of_range_is_refused(
    count: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gallery.command(["--clip", "x.mp4", "--vehicles", count])
    assert "--vehicles" in capsys.readouterr().err


def test_sheet_puts_each_image_into_its_cell() -> None:
    images = [np.full((10, 20, 3), shade, np.uint8) for shade in (0, 60, 255)]
    sheet = gallery.sheet(images, columns=2, gap=4)
    assert sheet.shape == (2 * 14 + 4, 2 * 24 + 4, 3)
    assert (sheet[4:14, 4:24] == 0).all()
    assert (sheet[4:14, 28:48] == 60).all()
    assert (sheet[18:28, 4:24] == 255).all()
    assert (sheet[18:, 28:] == gallery.PAPER).all()
