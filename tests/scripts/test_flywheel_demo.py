"""The simulated user, reviewer and camera of the demonstration do what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts import flywheel_demo as demo
from src.core.charset import CHARSET
from src.datasets.annotations import AnnotatedPlate
from src.flywheel.review import queue, reviewed_images
from src.flywheel.store import Store
from tests.flywheel.databases import capture, plate

CORNERS = np.array([[10.0, 20], [90, 20], [90, 40], [10, 40]])
TRUE = AnnotatedPlate("ZH123", np.array([10.0, 20, 90, 40]), CORNERS, 1)
NO_MISTAKE = np.array([0.9, 0.5, 0.5])


def found(text: str | None, box: tuple[float, float, float, float]) -> dict[str, Any]:
    return {"plate": text, "box": box}


@pytest.mark.parametrize(
    ("plates", "wanted"),
    [
        ([found("ZH123", (10, 20, 90, 40))], {"plate": 0, "verdict": "right"}),
        (
            [found("ZH128", (10, 20, 90, 40))],
            {"plate": 0, "verdict": "wrong", "text": "ZH123"},
        ),
        ([found(None, (10, 20, 90, 40))], {"plate": 0, "verdict": "wrong", "text": "ZH123"}),
        (
            [found("ZH123", (10, 20, 66, 40))],
            {"plate": 0, "verdict": "wrong", "text": "ZH123", "corners": CORNERS.tolist()},
        ),
        (
            [found("BE1", (200, 200, 220, 210)), found("ZH123", (10, 20, 90, 40))],
            {"plate": 1, "verdict": "right"},
        ),
        (
            [found("ZH123", (200, 200, 220, 210))],
            {"verdict": "missed", "text": "ZH123", "corners": CORNERS.tolist(), "lines": 1},
        ),
        ([], {"verdict": "missed", "text": "ZH123", "corners": CORNERS.tolist(), "lines": 1}),
    ],
)
def test_what_the_user_says(plates: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    assert demo.opinion(TRUE, plates, NO_MISTAKE) == wanted


def test_some_corrections_are_wrong_by_a_digit() -> None:
    dice = np.random.default_rng(0).random((4000, 3))
    wrong = found("BE1", (10, 20, 90, 40))
    texts = [demo.opinion(TRUE, [wrong], numbers)["text"] for numbers in dice]
    mistakes = [text for text in texts if text != "ZH123"]
    assert len(mistakes) / len(texts) == pytest.approx(demo.MISTAKES, abs=0.01)
    for text in mistakes:
        CHARSET.encode(text)
        assert len(text) == 5
        assert sum(a != b for a, b in zip(text, "ZH123", strict=True)) == 1


@pytest.mark.parametrize("text", ["ZH1", "ZH9", "ZH10", "BE999999"])
def test_a_mistake_obeys_the_grammar(text: str) -> None:
    for place in np.linspace(0, 0.999, 7):
        for digit in np.linspace(0, 0.999, 9):
            other = demo.mistaken(text, np.array([place, digit]))
            CHARSET.encode(other)
            assert other != text


def test_the_reviewer_believes_the_user(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/feedback.db")
    try:
        entry = capture(plates=(plate("ZH1"), plate("ZH2"), plate("ZH3")))
        store.save([entry])
        store.add_feedback(entry.id, 0, "right")
        store.add_feedback(entry.id, 1, "wrong", demo.Correction("BE22"))
        demo.review(store)
        with store.reading() as session:
            assert queue(session) == []
            (image,) = reviewed_images(session)
            states = {each.plate: (each.state, each.text) for each in image.reviews}
        assert states == {0: ("accepted", None), 1: ("corrected", "BE22"), 2: ("rejected", None)}
    finally:
        store.close()


def test_a_camera_on_its_side_turns_the_plate_with_the_image() -> None:
    image = np.zeros((40, 60), np.uint8)
    image[10:14, 20:32] = 200
    image[10:12, 20:23] = 255  # its top left
    corners = np.array([[20, 10], [32, 10], [32, 14], [20, 14]], float)
    shot = demo.sideways(image, AnnotatedPlate("BE1", np.array([20, 10, 32, 14.0]), corners, 1))
    assert shot.image.shape == (60, 40)
    x1, y1, x2, y2 = shot.plate.box.astype(int)
    assert (shot.image[y1:y2, x1:x2] >= 200).all()
    assert (shot.image > 0).sum() == 4 * 12
    assert shot.plate.corners is not None
    # The first corner is still where the text begins, and the others follow clockwise.
    x, y = shot.plate.corners[0].astype(int)
    assert shot.image[y - 1, x] == 255
    assert np.allclose(shot.plate.corners[1] - shot.plate.corners[0], [0, -12])
    assert np.allclose(shot.plate.corners[3] - shot.plate.corners[0], [4, 0])


def test_the_report_names_the_share_that_is_recovered(capsys: pytest.CaptureFixture[str]) -> None:
    before = {"the new camera": 0.5, "the original set": 0.9}
    after = {"the new camera": 0.8, "the original set": 0.899}
    demo.report(before, after, promoted=True, seconds=120)
    out = capsys.readouterr().out
    assert "75% of the lost accuracy" in out
    assert "-0.10 percentage points" in out
    assert "accepted the bundle. Total time: 2.0 min" in out
