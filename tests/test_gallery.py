"""The contact sheets of `make gallery`."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from src import gallery
from src.config import load_config
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


def test_sheet_puts_each_image_into_its_cell() -> None:
    images = [np.full((10, 20, 3), shade, np.uint8) for shade in (0, 60, 255)]
    sheet = gallery.sheet(images, columns=2, gap=4)
    assert sheet.shape == (2 * 14 + 4, 2 * 24 + 4, 3)
    assert (sheet[4:14, 4:24] == 0).all()
    assert (sheet[4:14, 28:48] == 60).all()
    assert (sheet[18:28, 4:24] == 255).all()
    assert (sheet[18:, 28:] == gallery.PAPER).all()
