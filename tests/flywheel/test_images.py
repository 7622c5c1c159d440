"""The folder of images, and what gets into it."""

from __future__ import annotations

import hashlib
import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.flywheel.errors import StoreError
from src.flywheel.images import ImageFolder, crop_box, encode


@pytest.fixture
def folder(tmp_path: Path) -> ImageFolder:
    found = ImageFolder(tmp_path / "pictures")
    found.open("a" * 32)
    return found


def test_a_file_has_the_name_of_its_content(folder: ImageFolder) -> None:
    staged = folder.stage(b"content")
    assert list(folder.names()) == []
    folder.keep(staged)
    assert staged.name == hashlib.sha256(b"content").hexdigest()
    assert folder.path(staged.name).read_bytes() == b"content"
    assert list(folder.names()) == [staged.name]
    # The same once more is the same file.
    folder.keep(folder.stage(b"content"))
    assert list(folder.names()) == [staged.name]
    folder.remove(staged.name)
    folder.remove(staged.name)
    assert list(folder.names()) == []


def test_what_is_not_kept_leaves_nothing(folder: ImageFolder, tmp_path: Path) -> None:
    folder.discard(folder.stage(b"content"))
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["flywheel-id"]


def test_names_cannot_lead_out_of_the_folder(folder: ImageFolder) -> None:
    for name in ("../../etc/passwd", "A" * 64, "a" * 63, "", f"{'a' * 64}\n"):
        with pytest.raises(ValueError, match="is not a valid image name"):
            folder.path(name)


def test_files_of_others_are_not_its_own(folder: ImageFolder, tmp_path: Path) -> None:
    for name in ("holiday.jpg", "ab/holiday.jpg", f"ab/{'c' * 64}.jpg", f"ab/{'a' * 64}.png"):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert list(folder.names()) == []


def test_unfinished_files_are_deleted_when_they_are_old(
    folder: ImageFolder, tmp_path: Path
) -> None:
    old, new = folder.stage(b"old"), folder.stage(b"new")
    before = time.time() - 7200
    os.utime(old.temporary, (before, before))
    folder.remove_abandoned()
    assert not old.temporary.exists()
    assert new.temporary.exists()


def test_a_folder_has_one_database(folder: ImageFolder, tmp_path: Path) -> None:
    ImageFolder(tmp_path / "pictures").open("a" * 32)
    with pytest.raises(StoreError, match="another database"):
        ImageFolder(tmp_path / "pictures").open("b" * 32)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="--feedback-pictures"):
        ImageFolder(tmp_path / "file").open("a" * 32)
    with pytest.raises(StoreError, match="--feedback-pictures"):
        ImageFolder(tmp_path / "file" / "below").open("a" * 32)


def test_the_folder_is_nobody_elses(folder: ImageFolder, tmp_path: Path) -> None:
    assert (tmp_path / "pictures").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize(
    ("size", "wanted"), [((300, 200), (300, 200)), ((4000, 3000), (1600, 1200)), ((9, 8000), (2, 1600))]
)  # fmt: skip
def test_large_images_are_shrunk(size: tuple[int, int], wanted: tuple[int, int]) -> None:
    pixels = np.full((size[1], size[0], 3), (200, 100, 50), np.uint8)
    with Image.open(io.BytesIO(encode(pixels))) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", wanted)
        assert np.asarray(image)[0, 0] == pytest.approx((200, 100, 50), abs=4)


@pytest.mark.parametrize(
    ("corners", "wanted"),
    [
        (((100, 50), (180, 50), (180, 70), (100, 70)), (80, 45, 200, 75)),
        (((-40, -10), (40, -10), (40, 10), (-40, 10)), (0, 0, 60, 15)),
        (((290, 190), (390, 190), (390, 290), (290, 290)), (265, 165, 300, 200)),
        (((500, 500), (501, 500), (501, 501), (500, 501)), (299, 199, 300, 200)),
        (((10, 10), (10, 10), (10, 10), (10, 10)), (10, 10, 11, 11)),
    ],
)
def test_crops_have_a_margin_and_stay_inside(
    corners: tuple[tuple[float, float], ...], wanted: tuple[int, int, int, int]
) -> None:
    assert crop_box(corners, 300, 200) == wanted
