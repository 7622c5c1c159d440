"""What the store keeps, and what it forgets."""

from __future__ import annotations

import hashlib
import io
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from src.flywheel import store as module
from src.flywheel.corrections import Correction
from src.flywheel.errors import CorrectionError, StoreError, StoreFullError, UnknownEntryError
from src.flywheel.images import ImageFolder
from src.flywheel.store import Capture, Store
from src.flywheel.tables import Base, Feedback, Prediction, Review, StoredImage
from tests.bundles import scene
from tests.flywheel.databases import CORNERS, NOW, PNG, capture, noise, plate


def files(store: Store) -> set[str]:
    return set(store.images.names())


def rows(store: Store) -> dict[str, int]:
    """Of each table that an image's data are in."""
    with store.reading() as session:
        return {
            table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
            for table in (StoredImage, Prediction, Feedback, Review)
        }


NOTHING = {"pictures": 0, "predictions": 0, "feedback": 0, "reviews": 0}


def load(store: Store, name: str) -> np.ndarray:
    with Image.open(store.images.path(name)) as image:
        return np.asarray(image)


# What is kept


def test_an_image_is_kept_with_what_was_read(store: Store) -> None:
    kept = capture(plates=(plate("BE1"), plate("ZH123456")))
    assert store.save([kept]) == {kept.id}
    with store.reading() as session:
        (image,) = session.scalars(select(StoredImage)).all()
        assert (image.id, image.width, image.height) == (kept.id, 256, 256)
        assert image.sha256 == hashlib.sha256(PNG).hexdigest()
        assert (image.model, image.created) == ("model-1", NOW)
        first, second = image.predictions
        assert (first.plate, first.text, first.canton, first.number) == (0, "BE1", "BE", "1")
        assert (second.plate, second.text) == (1, "ZH123456")
        assert first.is_given
        assert (first.confidence, first.char_confidences) == (0.9, [0.9, 0.95])
        assert first.corners == [list(corner) for corner in CORNERS]
        assert (first.lines, first.score) == (1, 0.99)
        assert first.crop_box == [30, 92, 210, 140]
        assert load(store, first.crop).shape == (48, 180, 3)
        assert first.crop == second.crop
        names = {image.file, first.crop}
        size = sum(
            store.images.path(name).stat().st_size for name in (image.file, *[first.crop] * 2)
        )
        assert image.bytes == size
    assert files(store) == names
    whole = load(store, image.file)
    assert whole[..., 0].astype(int) == pytest.approx(scene("BE1").astype(int), abs=40)
    assert np.abs(whole[92:140, 30:210].astype(int) - load(store, first.crop)).mean() < 2


def test_a_text_that_was_not_given_is_kept_as_such(store: Store) -> None:
    unsure = plate("BE1")
    store.save([capture(plates=(unsure.__class__(**{**unsure.__dict__, "plate": None}),))])
    with store.reading() as session:
        (found,) = session.scalars(select(Prediction)).all()
        assert (found.text, found.is_given) == ("BE1", False)


def test_a_large_photograph_is_shrunk_and_its_crop_is_not(store: Store) -> None:
    pixels = np.full((1500, 3000, 3), 120, np.uint8)
    corners = ((1000.0, 500.0), (1400.0, 500.0), (1400.0, 600.0), (1000.0, 600.0))
    content = cv2.imencode(".jpg", pixels)[1].tobytes()
    store.save([capture(content, (plate("BE1", corners),), (3000, 1500))])
    with store.reading() as session:
        (image,) = session.scalars(select(StoredImage)).all()
        assert load(store, image.file).shape == (800, 1600, 3)
        assert load(store, image.predictions[0].crop).shape == (150, 600, 3)
        assert (image.width, image.predictions[0].corners[0]) == (3000, [1000.0, 500.0])


def turned_jpeg() -> bytes:
    """White above black as it is displayed, stored on its side, with all that EXIF data may hold."""
    upright = np.vstack([np.full((100, 60), 255), np.zeros((100, 60))]).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = 6, "SecretCamera", "SecretPlace"
    exif.get_ifd(0x8825)[2] = (47.0, 22.0, 0.0)
    file = io.BytesIO()
    comment = b"SecretComment"
    Image.fromarray(np.rot90(upright)).save(file, "JPEG", quality=95, exif=exif, comment=comment)
    assert b"SecretCamera" in file.getvalue()
    return file.getvalue()


def test_exif_data_are_dropped_and_the_image_is_upright(store: Store) -> None:
    corners = ((10.0, 10.0), (50.0, 10.0), (50.0, 90.0), (10.0, 90.0))
    store.save([capture(turned_jpeg(), (plate("BE1", corners),), (60, 200))])
    with store.reading() as session:
        (image,) = session.scalars(select(StoredImage)).all()
    whole = load(store, image.file)
    assert whole.shape == (200, 60, 3)
    assert whole[:90].min() > 200
    assert whole[110:].max() < 50
    for name in files(store):
        content = store.images.path(name).read_bytes()
        assert b"Secret" not in content
        assert b"Exif" not in content
        with Image.open(io.BytesIO(content)) as stored:
            assert dict(stored.getexif()) == {}


def test_one_image_that_cannot_be_decoded_does_not_spoil_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = capture(b"no image"), capture()
    assert store.save([bad, good]) == {good.id}
    assert rows(store)["pictures"] == 1
    assert "an image is not stored" in caplog.text


def test_the_same_image_twice_is_two_entries_and_one_file(store: Store) -> None:
    first, second = capture(), capture()
    store.save([first])
    before = files(store)
    store.save([second])
    assert rows(store)["pictures"] == 2
    assert files(store) == before
    store.delete(first.id)
    assert files(store) == before
    store.delete(second.id)
    assert files(store) == set()


def test_saving_again_changes_nothing(store: Store) -> None:
    # As after a connection that broke at the end of the transaction.
    first, second = capture(), capture(noise(1), (), (64, 48))
    store.save([first])
    store.add_feedback(first.id, 0, "right")
    assert store.save([first, second]) == {first.id, second.id}
    assert rows(store) == {"pictures": 2, "predictions": 1, "feedback": 1, "reviews": 0}


def test_no_more_is_kept_than_may_be(url: str, tmp_path: Path) -> None:
    store = Store(url, tmp_path / "pictures", max_bytes=5000)
    for number in range(10):
        try:
            store.save([capture(noise(number), (), (64, 48))])
        except StoreFullError as error:
            assert "--max-feedback-mib" in str(error)  # noqa: PT017
            break
    else:
        pytest.fail("there was always room")
    with store.reading() as session:
        total = session.scalar(select(func.sum(StoredImage.bytes))) or 0
        entry = session.scalars(select(StoredImage.id)).first()
    assert 5000 <= total < 10_000
    # Feedback is taken still, and what goes makes room.
    assert entry is not None
    store.add_feedback(entry, None, "right")
    assert store.purge(NOW + timedelta(days=365)) == number
    store.save([capture()])
    store.close()


def test_a_disk_that_fails_keeps_no_half_of_an_image(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = ImageFolder.stage
    calls = []

    def full(folder: ImageFolder, content: bytes) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(folder, content)

    monkeypatch.setattr(ImageFolder, "stage", full)
    with pytest.raises(StoreError, match=r"No space left on device\. Free some disk space"):
        store.save([capture()])
    assert len(calls) == 2
    assert rows(store) == NOTHING
    assert [each for each in (tmp_path / "pictures").rglob("*") if each.suffix] == []


# Feedback


def test_feedback_is_kept_and_the_latest_is_the_last(store: Store) -> None:
    store.save([kept := capture()])
    store.add_feedback(kept.id, 0, "right", now=NOW)
    given = Correction("zh 12", CORNERS, 2)
    answer = store.add_feedback(kept.id, 0, "wrong", given, now=NOW - timedelta(days=1))
    assert (answer.text, answer.lines) == ("ZH12", 2)
    store.add_feedback(kept.id, None, "missed", Correction("AG7"))
    store.add_feedback(kept.id, None, "right")
    with store.reading() as session:
        (image,) = session.scalars(select(StoredImage)).all()
        found = [(each.plate, each.verdict, each.text, each.lines) for each in image.feedback]
        assert found == [
            (0, "right", None, None),
            (0, "wrong", "ZH12", 2),
            (None, "missed", "AG7", None),
            (None, "right", None, None),
        ]
        assert image.feedback[1].corners == [list(corner) for corner in CORNERS]
        assert image.feedback[0].corners is None
        nulls = text("SELECT count(*) FROM feedback WHERE corners IS NULL")
        assert session.scalar(nulls) == 3


@pytest.mark.parametrize(
    ("number", "verdict", "correction", "says"),
    [
        (0, "perhaps", Correction(), "one of right, wrong, missed"),
        (None, "wrong", Correction(), "needs the number"),
        (0, "missed", Correction(), "takes no plate number"),
        (0, "right", Correction("ZH1"), "takes no correction"),
        (0, "wrong", Correction("XX1"), "is not a valid plate"),
        (0, "wrong", Correction(corners=CORNERS[::-1]), "clockwise"),
    ],
)
def test_feedback_that_contradicts_itself(
    store: Store, number: int | None, verdict: str, correction: Correction, says: str
) -> None:
    store.save([kept := capture()])
    with pytest.raises(CorrectionError, match=says):
        store.add_feedback(kept.id, number, verdict, correction)
    assert rows(store)["feedback"] == 0


def test_feedback_on_what_is_not_there(store: Store) -> None:
    store.save([kept := capture()])
    with pytest.raises(UnknownEntryError, match="there is no image"):
        store.add_feedback("0" * 32, 0, "right")
    with pytest.raises(UnknownEntryError, match="no plate 1"):
        store.add_feedback(kept.id, 1, "right")
    for other in ("", "x", "\0", "\ud800", kept.id.upper() + "0", "' OR 1=1 --"):
        with pytest.raises(UnknownEntryError):
            store.add_feedback(other, 0, "right")
        with pytest.raises(UnknownEntryError):
            store.delete(other)


def test_feedback_on_an_image_that_goes_meanwhile(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save([kept := capture()])
    add = Session.add

    def add_too_late(session: Session, feedback: object) -> None:
        session.execute(text("DELETE FROM pictures"))
        add(session, feedback)

    monkeypatch.setattr(Session, "add", add_too_late)
    with pytest.raises(UnknownEntryError):
        store.add_feedback(kept.id, 0, "right")


def test_feedback_on_one_image_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FEEDBACK", 3)
    store.save([kept := capture()])
    for _ in range(3):
        store.add_feedback(kept.id, 0, "right")
    with pytest.raises(CorrectionError, match="at most 3 feedback entries"):
        store.add_feedback(kept.id, 0, "right")


def test_feedback_of_many_at_once_is_all_there(store: Store) -> None:
    kept = [capture() for _ in range(8)]
    store.save(kept)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.add_feedback(kept[i % 8].id, 0, "right"), range(80)))
    assert rows(store)["feedback"] == 80


# Deletion


def fill(store: Store) -> Capture:
    """An image with feedback and a review."""
    kept = capture()
    store.save([kept])
    store.add_feedback(kept.id, 0, "wrong", Correction("ZH12"))
    store.add_feedback(kept.id, None, "missed")
    with store.writing() as session:
        session.add(
            Review(picture_id=kept.id, plate=0, state="corrected", text="ZH12", reviewer="me",
                   created=NOW)
        )  # fmt: skip
    return kept


def test_deletion_takes_all_that_belongs_to_an_image(store: Store) -> None:
    kept = fill(store)
    other = capture(noise(1), (), (64, 48))
    store.save([other])
    store.delete(kept.id)
    assert rows(store) == {**NOTHING, "pictures": 1}
    assert len(files(store)) == 1
    with pytest.raises(UnknownEntryError):
        store.delete(kept.id)


def test_what_is_deleted_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    store = Store(f"sqlite:///{path}")
    kept = fill(store)
    store.close()
    assert b"ZH12" in path.read_bytes()
    store = Store(f"sqlite:///{path}")
    store.delete(kept.id)
    # While the server goes on.
    assert not [file for file in tmp_path.glob("feedback.db*") if b"ZH12" in file.read_bytes()]
    store.close()


def test_files_that_cannot_be_deleted_are_told_and_swept_later(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fill(store)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "a.jpg")

    with monkeypatch.context() as patch:
        patch.setattr(ImageFolder, "remove", refuse)
        with pytest.raises(StoreError, match=r"a\.jpg"):
            store.delete(kept.id)
    # No row names a file that may be gone.
    assert rows(store) == NOTHING
    assert files(store)
    store.purge(NOW)
    assert files(store) == set()


def test_what_is_too_old_is_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 2)
    old = [capture(noise(i), (), (64, 48), NOW - timedelta(days=91, hours=i)) for i in range(5)]
    young = capture(created=NOW - timedelta(days=89))
    # An image that both have.
    shared = capture(PNG, (), created=NOW - timedelta(days=100))
    store.save([*old, young, shared])
    store.add_feedback(old[0].id, None, "right")
    assert store.purge(NOW) == 6
    assert rows(store) == {**NOTHING, "pictures": 1, "predictions": 1}
    assert len(files(store)) == 2
    assert store.purge(NOW) == 0
    assert store.purge(NOW + timedelta(days=2)) == 1
    assert rows(store) == NOTHING
    assert files(store) == set()


def test_files_that_no_row_names_are_swept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 3)
    store.save([capture(), capture(noise(0), (), (64, 48))])
    named = files(store)
    for number in range(10):
        # As a server leaves them that is killed between file and row.
        store.images.keep(store.images.stage(bytes([number])))
    assert len(files(store)) == 13
    store.purge(NOW)
    assert files(store) == named


def test_files_are_not_swept_while_their_rows_are_on_the_way(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving, sweeping = (Store(url, tmp_path / "pictures") for _ in range(2))
    is_kept, may_go_on, found = threading.Event(), threading.Event(), threading.Event()
    keep, names = ImageFolder.keep, ImageFolder.names

    def slow(folder: ImageFolder, staged: object) -> None:
        keep(folder, staged)  # type: ignore[arg-type]
        is_kept.set()
        may_go_on.wait(10)

    def listed(folder: ImageFolder) -> object:
        names_found = list(names(folder))
        found.set()
        return iter(names_found)

    monkeypatch.setattr(ImageFolder, "keep", slow)
    monkeypatch.setattr(ImageFolder, "names", listed)
    with ThreadPoolExecutor(2) as pool:
        saved = pool.submit(saving.save, [capture(plates=())])
        assert is_kept.wait(10)
        swept = pool.submit(sweeping.purge, NOW)
        assert found.wait(10)
        threading.Timer(0.3, may_go_on.set).start()
        swept.result(20)
        saved.result(20)
    monkeypatch.undo()
    assert len(files(saving)) == 1
    for store in (saving, sweeping):
        store.close()


def test_servers_that_save_and_delete_the_same_image(url: str, tmp_path: Path) -> None:
    """What a row names is there, and nothing else is, whoever was faster."""
    stores = [Store(url, tmp_path / "pictures") for _ in range(3)]

    def work(store: Store) -> None:
        for number in range(12):
            kept = capture()
            store.save([kept])
            if number % 2:
                store.delete(kept.id)
            store.purge(NOW)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work, store) for store in stores]:
            done.result()
    with stores[0].reading() as session:
        named = {
            *session.scalars(select(StoredImage.file)),
            *session.scalars(select(Prediction.crop)),
        }
    assert rows(stores[0])["pictures"] == 18
    assert files(stores[0]) == named
    with stores[0].reading() as session:
        entries = session.scalars(select(StoredImage.id)).all()
    for entry in entries:
        stores[0].delete(entry)
    assert files(stores[0]) == set()
    for store in stores:
        store.close()


def test_a_folder_that_has_gone_is_an_error(store: Store, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(StoreError, match="images cannot be written"):
        store.save([capture()])


def test_every_table_forgets_with_its_image() -> None:
    """A table that later work adds must not outlive what it speaks of."""
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_key_constraints:
            assert key.ondelete == "CASCADE", f"{table.name}: {key.name}"
