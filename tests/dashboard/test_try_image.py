"""The page on which an image is tried: what it reads, keeps and forgets."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select
from streamlit.testing.v1 import AppTest

from src.dashboard.try_image import version
from src.flywheel.errors import StoreFullError
from src.flywheel.store import Store
from src.flywheel.tables import Feedback, StoredImage
from src.inference.reader import PlateReader
from src.serve import engine
from tests.bundles import BLACK, draw_plate, scene
from tests.dashboard.pages import opened, press, shown, texts
from tests.flywheel.databases import NOW, capture

PNG = cv2.imencode(".png", scene("BE1"))[1].tobytes()


def tried(content: bytes = PNG) -> AppTest:
    page = opened("try_image")
    page.file_uploader[0].upload("car.png", content, "image/png")
    return page.run()


def said(store: Store) -> list[tuple[int | None, str, str | None]]:
    with store.reading() as session:
        return [(row.plate, row.verdict, row.text) for row in session.scalars(select(Feedback))]


def images(store: Store) -> int:
    with store.reading() as session:
        return len(session.scalars(select(StoredImage)).all())


def test_it_reads_without_a_store() -> None:
    pixels = draw_plate(scene("BE1", (20, 30, 120, 60)), "GE65432", (100, 150, 220, 182), BLACK)
    page = shown(tried(cv2.imencode(".png", pixels)[1].tobytes()))
    assert sorted(each.value for each in page.subheader) == ["BE 1", "GE 65432"]
    assert "No feedback store is configured" in texts(page)
    assert not page.button, "there is nothing to say it to"


def test_an_image_without_a_plate() -> None:
    content = cv2.imencode(".png", np.full((200, 300), 120, np.uint8))[1].tobytes()
    assert "No plate was found." in texts(shown(tried(content)))


def test_what_is_tried_is_kept_once_and_what_is_said_of_it(store: Store) -> None:
    page = shown(tried())
    assert "are stored until the server deletes it" in texts(page)
    press(page, "Right")
    assert said(store) == [(0, "right", None)]
    assert "Thank you" in texts(page)
    press(page, "A plate was missed")
    assert said(store)[1:] == [(None, "missed", None)]
    assert images(store) == 1


def test_a_wrong_text_is_corrected_if_the_correction_can_be(store: Store) -> None:
    page = shown(tried())
    page.text_input[0].set_value("QQ 12")
    press(page, "Wrong")
    assert "'QQ12' is not a valid plate" in page.error[0].value
    assert said(store) == []
    page.text_input[0].set_value("zh 12")
    press(page, "Wrong")
    assert said(store) == [(0, "wrong", "ZH12")]


def test_an_image_can_be_deleted(store: Store) -> None:
    page = shown(tried())
    press(page, "Right")
    press(page, "Delete the image from the store")
    assert (images(store), said(store)) == (0, [])
    assert not page.button
    assert images(store) == 0, "it was kept again"


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no image", "is not a supported image"), (PNG[:200], "is truncated"),
     (b"GIF89a" + bytes(20), "is not a supported image")],
)  # fmt: skip
def test_what_cannot_be_read_is_told(content: bytes, says: str, store: Store) -> None:
    page = tried(content)
    assert says in page.exception[0].message
    assert images(store) == 0


def test_images_beyond_the_limits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATES_MAX_SIDE", "255")
    assert "the maximum side length is 255" in tried().exception[0].message
    monkeypatch.setenv("PLATES_MAX_SIDE", "256")
    monkeypatch.setenv("PLATES_MAX_PIXELS", "65535")
    assert "the maximum is" in tried().exception[0].message


def test_a_store_that_fails_does_not_fail_the_reading(
    store: Store, monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    def fail(*_: object) -> None:
        raise StoreFullError("it is full")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "save", fail)
        page = shown(tried())
    assert "The image is not stored: it is full" in texts(page)
    assert [each.value for each in page.subheader] == ["BE 1"]
    monkeypatch.setenv("PLATES_FEEDBACK", f"sqlite:///{workspace}/nowhere/feedback.db")
    page = shown(tried())
    assert "Nothing is stored: " in texts(page)
    assert [each.value for each in page.subheader] == ["BE 1"]


def test_old_images_are_deleted_only_if_that_is_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save([capture(created=NOW - timedelta(days=1000))])
    opened("try_image")
    assert images(store) == 1
    monkeypatch.setenv("PLATES_FEEDBACK_DAYS", "30")
    assert "are stored for 30 days" in texts(opened("try_image"))
    assert images(store) == 0


def test_the_version_is_the_servers(bundle: Path) -> None:
    assert version(PlateReader.load(bundle)) == engine.load_model(bundle).version
