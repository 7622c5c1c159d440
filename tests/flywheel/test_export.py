"""What was reviewed, and nothing else, becomes a set that the evaluation can read."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from src.datasets.annotations import AnnotationFile
from src.flywheel import export as module
from src.flywheel.corrections import Correction
from src.flywheel.errors import StoreError
from src.flywheel.export import SPLITS, export, lost, names_of, split_of
from src.flywheel.review import decide
from src.flywheel.store import Store
from tests.bundles import scene
from tests.flywheel.databases import CORNERS, capture, noise, plate

ROOT = Path(__file__).parents[2]
FAR = tuple((x + 60.0, y + 30.0) for x, y in CORNERS)
OTHER = tuple((x + 5.0, y + 3.0) for x, y in CORNERS)


@pytest.fixture
def in_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "split_of", lambda _: "train")


def exported(store: Store, out: Path) -> dict[str, list[dict[str, str]]]:
    with store.reading() as session:
        export(session, store, out)
    return {
        name: list(csv.DictReader((out / f"{name}.csv").open(encoding="utf-8"))) for name in SPLITS
    }


def test_reviewed_plates_alone(store: Store, tmp_path: Path, in_train: None) -> None:
    entry = capture(plates=(plate("ZH1"), plate("ZH2"), plate("ZH3"), plate("ZH4")))
    store.save([entry])
    decide(store, entry.id, 0, "accepted", "me")
    decide(store, entry.id, 1, "corrected", "me", Correction("BE22", OTHER))
    decide(store, entry.id, 2, "rejected", "me")
    rows = exported(store, tmp_path / "feedback")["train"]
    assert [(row["plate"], row["whole"]) for row in rows] == [("BE22", "0"), ("ZH1", "0")]
    decide(store, entry.id, 3, "rejected", "me")
    rows = exported(store, tmp_path / "feedback")["train"]
    assert [row["whole"] for row in rows] == ["0", "0"], "what is rejected may be a foreign plate"
    for number, text in ((2, "ZH3"), (3, "ZH4")):
        decide(store, entry.id, number, "corrected", "me", Correction(text, OTHER))
    rows = exported(store, tmp_path / "feedback")["train"]
    assert [row["whole"] for row in rows] == ["1"] * 4, "all are known now"
    # As the evaluation reads it.
    truth = AnnotationFile(tmp_path / "feedback/train.csv")
    (image,) = truth
    assert {each.text for each in image.plates} == {"BE22", "ZH1", "ZH3", "ZH4"}
    moved = next(each for each in image.plates if each.text == "BE22")
    assert moved.corners is not None
    assert moved.corners == pytest.approx(np.array(OTHER), abs=0.01)


def test_a_missed_plate_is_a_row_and_until_then_a_hole(
    store: Store, tmp_path: Path, in_train: None
) -> None:
    entry = capture(plates=(plate("ZH1"),))
    store.save([entry])
    store.add_feedback(entry.id, None, "missed")
    decide(store, entry.id, 0, "accepted", "me")
    (row,) = exported(store, tmp_path / "feedback")["train"]
    assert row["whole"] == "0"
    decide(store, entry.id, None, "corrected", "me", Correction("GE9", OTHER))
    rows = exported(store, tmp_path / "feedback")["train"]
    assert [(row["plate"], row["whole"]) for row in rows] == [("GE9", "1"), ("ZH1", "1")]


def test_splits_have_their_shares() -> None:
    names = [split_of(hashlib.sha256(str(number).encode()).hexdigest()) for number in range(40_000)]
    assert {name: names.count(name) / 40_000 for name in SPLITS} == pytest.approx(SPLITS, abs=0.01)


def test_an_image_that_is_sent_twice_is_there_once(store: Store, tmp_path: Path) -> None:
    """In another file too, by whomever; of each place, the latest review counts."""
    plain = capture(plates=(plate("ZH1"),))
    same_pixels = cv2.imencode(".png", scene("BE1"), [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
    assert same_pixels != plain.content
    again = capture(same_pixels, plates=(plate("ZH2"),))
    store.save([plain])
    store.save([again])
    decide(store, again.id, 0, "accepted", "you")
    decide(store, plain.id, 0, "corrected", "me", Correction("ZH3"))
    rows = [row for part in exported(store, tmp_path / "set").values() for row in part]
    assert [row["plate"] for row in rows] == ["ZH3"]
    assert json.loads((tmp_path / "set/manifest.json").read_text())["contradicted"] == 1
    decide(store, again.id, None, "corrected", "you", Correction("BE9", FAR))
    rows = [row for part in exported(store, tmp_path / "set").values() for row in part]
    assert sorted(row["plate"] for row in rows) == ["BE9", "ZH3"], "another place is another plate"
    decide(store, again.id, 0, "rejected", "you")
    rows = [row for part in exported(store, tmp_path / "set").values() for row in part]
    assert [(row["plate"], row["whole"]) for row in rows] == [("BE9", "1")]


def test_a_plate_that_is_cut_off_can_be_read_again(
    store: Store, tmp_path: Path, in_train: None
) -> None:
    entry = capture(plates=(plate("ZH1"),))
    store.save([entry])
    width, height = entry.width, entry.height
    wide = (
        (-0.5 * width, 2.0),
        (1.5 * width, 2.0),
        (1.5 * width, height - 2.0),
        (-0.5 * width, height - 2.0),
    )
    decide(store, entry.id, 0, "corrected", "me", Correction(corners=wide))
    exported(store, tmp_path / "set")
    ((found,),) = [image.plates for image in AnnotationFile(tmp_path / "set/train.csv")]
    assert found.corners is not None
    assert found.corners[:, 0] == pytest.approx(np.array([-0.5, 1.5, 1.5, -0.5]) * width, abs=0.01)
    assert found.box[[0, 2]] == pytest.approx([0, width], abs=0.01)


def test_images_that_are_not_kept_any_more_are_told(store: Store, tmp_path: Path) -> None:
    entries = [capture(plates=(plate("ZH1"),)), capture(noise(1), size=(64, 48))]
    store.save(entries)
    for entry in entries:
        decide(store, entry.id, 0, "accepted", "me")
    exported(store, tmp_path / "set")
    before = names_of(tmp_path / "set")
    assert len(before) == 2
    assert lost(tmp_path / "set", {"version": "v"}, before) == ""
    store.delete(entries[0].id)
    exported(store, tmp_path / "set")
    assert "1 of the 2 images of the last export" in lost(
        tmp_path / "set", {"version": "v"}, before
    )


def test_the_version_is_of_the_content(store: Store, tmp_path: Path) -> None:
    entry = capture(plates=(plate("ZH1"),))
    store.save([entry])
    decide(store, entry.id, 0, "accepted", "me")

    def version() -> str:
        exported(store, tmp_path / "feedback")
        manifest = json.loads((tmp_path / "feedback/manifest.json").read_text())
        assert sum(manifest["plates"].values()) == sum(manifest["pictures"].values()) == 1
        assert manifest["read_by"] == ["model-1"]
        return str(manifest["version"])

    first = version()
    assert version() == first
    decide(store, entry.id, 0, "corrected", "me", Correction("ZH8"))
    assert version() != first


def test_without_a_review_the_last_set_stays(store: Store, tmp_path: Path) -> None:
    store.save([capture(plates=(plate("ZH1"),))])
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback/mine").touch()
    with (
        store.reading() as session,
        pytest.raises(StoreError, match="no plate has been reviewed yet"),
    ):
        export(session, store, tmp_path / "feedback")
    assert (tmp_path / "feedback/mine").exists()


def test_the_command(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/feedback.db"
    store = Store(url)
    entry = capture(plates=(plate("ZH1"),))
    store.save([entry])
    decide(store, entry.id, 0, "accepted", "me")
    store.close()
    done = subprocess.run(
        [sys.executable, "-m", "src.flywheel.export", "--feedback", url, "--out", tmp_path / "set",
         "--report", tmp_path / "report"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Track it with `dvc add" in done.stdout
    assert (tmp_path / "report/report.html").exists(), done.stderr
    assert len(list((tmp_path / "set/pictures").iterdir())) == 1
