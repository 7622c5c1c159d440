"""Which plate stands for which, and what is counted of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from src.core.geometry import box_to_corners, xyxy_to_box
from src.datasets.annotations import AnnotatedImage, AnnotatedPlate
from src.evaluation import end_to_end as scoring
from tests.stack.oracle import OracleStack, found_plate, wrong
from tests.standins import AnnotatedImages, image_of, plate_text, true_corners


def boxes(*values: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(values, dtype=float).reshape(-1, 4)


def test_each_plate_stands_for_the_one_it_covers_best() -> None:
    true = boxes((0, 0, 10, 10), (20, 0, 30, 10))
    found = boxes((21, 0, 31, 10), (0, 1, 10, 11))
    assert scoring.match(found, np.array([0.2, 0.9]), true).tolist() == [1, 0]


def test_the_most_confident_of_two_stands_for_a_plate() -> None:
    true = boxes((0, 0, 10, 10))
    # The second one covers it better, but the first one is surer of itself.
    found = boxes((0, 2, 10, 12), (0, 0, 10, 10))
    assert scoring.match(found, np.array([0.9, 0.5]), true).tolist() == [0, -1]
    assert scoring.match(found, np.array([0.5, 0.9]), true).tolist() == [-1, 0]


def test_half_is_enough_and_less_is_not() -> None:
    true = boxes((0, 0, 10, 10))
    assert scoring.match(boxes((0, 0, 10, 5)), np.ones(1), true).tolist() == [0]
    assert scoring.match(boxes((0, 0, 10, 4.9)), np.ones(1), true).tolist() == [-1]


def test_one_that_comes_late_takes_what_is_left() -> None:
    true = boxes((0, 0, 10, 10), (0, 3, 10, 13))
    # Both cover the first one best; the second found one still covers the other by 0.54.
    found = boxes((0, 0, 10, 10), (0, 1, 10, 11))
    assert scoring.match(found, np.array([0.9, 0.8]), true).tolist() == [0, 1]


@pytest.mark.parametrize(("count", "true"), [(0, 0), (0, 2), (2, 0)])
def test_nothing_stands_for_nothing(count: int, true: int) -> None:
    found = boxes(*[(0, 0, 10, 10)] * count)
    taken = scoring.match(found, np.ones(count), boxes(*[(50, 50, 60, 60)] * true))
    assert taken.tolist() == [-1] * count


SHAPE = (256, 256)


def true_plate(i: int, text: str | None = "", **about: object) -> AnnotatedPlate:
    """The plate of image ``i``; its own text where none is given, None where there is none."""
    corners = true_corners(i) * SHAPE[::-1]
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return AnnotatedPlate(plate_text(i) if text == "" else text, box, corners, **about)  # type: ignore[arg-type]


def other_plate(box: tuple[float, float, float, float], text: str | None) -> AnnotatedPlate:
    corners = box_to_corners(xyxy_to_box(np.array(box)))
    return AnnotatedPlate(text, np.array(box), corners)


ELSEWHERE = (5.0, 5.0, 65.0, 25.0)
CORNERS_ELSEWHERE = box_to_corners(xyxy_to_box(np.array(ELSEWHERE)))


def images(*plates: list[AnnotatedPlate], **about: bool) -> AnnotatedImages:
    items = [
        AnnotatedImage(str(i), image_of(i, SHAPE), list(values)) for i, values in enumerate(plates)
    ]
    return AnnotatedImages(items, **about)


def test_several_plates_of_an_image_are_each_counted() -> None:
    truth = images([other_plate(ELSEWHERE, "BE42"), true_plate(0)], [true_plate(1)])
    stack = OracleStack(extra={0: [(CORNERS_ELSEWHERE + 1.0, "BE42", 0.95)]})
    scores = scoring.score(stack, truth)
    metrics = scoring.summarise(scores, 0.5)
    assert (metrics["count"], metrics["images"], metrics["accuracy"]) == (3, 2, 1)
    assert scores.table["plate"].tolist() == ["BE42", plate_text(0), plate_text(1)]
    assert scores.answers["right"].all()
    assert metrics["at_threshold"]["coverage"]["share"] == 1
    assert metrics["at_threshold"]["wrong"]["share"] == 0
    # All plates come back, however unsure their texts are.
    assert stack.asked == [0.0]


def test_a_plate_that_is_not_found_is_lost() -> None:
    truth = images([true_plate(0)], [true_plate(1)])
    scores = scoring.score(OracleStack(missed={1}), truth)
    metrics = scoring.summarise(scores, 0.5)
    assert metrics["accuracy"] == metrics["recall_50"] == 0.5
    # The reader would have read it.
    assert (metrics["lost_by_localizer"], metrics["lost_by_recognizer"]) == (0.5, 0)
    assert metrics["at_threshold"]["coverage"]["share"] == 0.5
    assert metrics["at_threshold"]["wrong"] == pytest.approx(
        {"share": 0, "low": 0, "high": 0.793457, "count": 1}, abs=1e-4
    )
    # What was not found has no probability to be judged.
    assert metrics["uncertainty"]["count"] == 1


def test_a_box_that_is_off_keeps_its_overlap_and_loses_its_text() -> None:
    # Moved by a third of its length: it overlaps by a half of what both cover, less than MATCH.
    truth = images([true_plate(0)])
    scores = scoring.score(OracleStack(shift=0.25, shifted={0}), truth)
    row = scores.table.iloc[0]
    assert 0.3 < row.iou < 0.5
    assert (row.found, row.text, row.confidence) == (-1, "", 0)
    assert scores.answers["row"].tolist() == [-1]


def test_texts_where_none_is_to_be_read_are_wrong() -> None:
    truth = images(
        [true_plate(0, None)],  # a foreign plate
        [],  # no plate
        [true_plate(2)],
        [true_plate(3)],  # read twice, at two places
    )
    stack = OracleStack(wrong={2}, extra={3: [(CORNERS_ELSEWHERE, plate_text(3), 0.8)]})
    metrics = scoring.summarise(scoring.score(stack, truth), 0.5)
    threshold = metrics["at_threshold"]
    # Texts: on the foreign plate, in the empty image, a wrong one, a right one and its double.
    assert threshold["wrong"]["count"] == 5
    assert threshold["wrong"]["share"] == pytest.approx(4 / 5)
    assert threshold["coverage"] == pytest.approx(
        {"share": 1, "low": 0.342372, "high": 1, "count": 2}, abs=1e-4
    )
    assert metrics["accuracy"] == 0.5
    assert (metrics["count"], metrics["count_with_text"]) == (3, 2)
    assert metrics["without_plate"]["with_text"]["share"] == 1
    assert metrics["without_plate"]["with_text"]["count"] == 1


def test_a_threshold_counts_what_reaches_it() -> None:
    truth = images(*([true_plate(i)] for i in range(4)))
    stack = OracleStack(wrong={3}, confidences={0: 0.7, 1: 0.69, 2: 0.1, 3: 0.99})
    scores = scoring.score(stack, truth)
    at = scoring.at_threshold(scores, 0.7)
    assert at["coverage"]["share"] == 0.5
    assert at["wrong"]["share"] == 0.5
    assert at["images_with_text"]["share"] == 0.5
    # What is right does not depend on it.
    assert scoring.summarise(scores, 0.7)["accuracy"] == 0.75


def test_doubt_is_about_the_plates_with_a_text() -> None:
    truth = images([true_plate(0)], [true_plate(1)], [true_plate(2, None)], [])
    stack = OracleStack(wrong={1}, confidences={0: 0.8, 1: 0.4, 2: 0.0, 3: 0.0})
    scores = scoring.score(stack, truth)
    found = scoring.uncertainty(scores)
    assert found["count"] == 2
    assert found["brier"] == pytest.approx((0.2**2 + 0.4**2) / 2)
    assert found["brier_constant"] == 0.25
    assert found["aurc"] == pytest.approx((0 + 0.5) / 2)
    assert found["excess_aurc"] == 0
    everywhere = scoring.uncertainty(scores, everywhere=True)
    assert everywhere["count"] == 4
    assert everywhere["brier"] == pytest.approx((0.2**2 + 0.4**2) / 4)


def test_clutter_counts_images() -> None:
    truth = images([true_plate(0, None)], [], [], [])
    corners = np.array([[10, 10], [40, 10], [40, 20], [10, 20]], float)
    unlikely = {2: [(corners, "AI9", 0.1, 0.3)]}
    stack = OracleStack(missed={2, 3}, confidences={0: 0.9, 1: 0.3}, extra=unlikely)
    metrics = scoring.summarise_clutter(scoring.score(stack, truth), 0.5)
    assert metrics["images"] == 4
    assert metrics["with_text"]["share"] == 0.25
    assert metrics["without_plate"]["with_text"]["share"] == 0
    # A box on the foreign plate is right; one of the three other images has one, and a candidate that is
    # too unlikely to be shown is none.
    assert metrics["without_plate"]["with_box"]["share"] == pytest.approx(1 / 3)
    assert metrics["other_plates"]["recall_50"] == 1


def test_a_stack_that_finds_nothing_is_measured_too() -> None:
    truth = images([true_plate(0)], [true_plate(1)])
    scores = scoring.score(OracleStack(missed={0, 1}), truth)
    metrics = scoring.summarise(scores, 0.5)
    assert metrics["accuracy"] == 0
    assert metrics["uncertainty"]["count"] == 0
    assert metrics["uncertainty"]["ece"] is None
    assert metrics["at_threshold"]["wrong"]["share"] is None
    assert scoring.precision(scores)["map"] == 0
    assert len(scoring.confused(scores)) == 0


def test_measures_are_broken_down_by_what_a_plate_is() -> None:
    truth = images(
        [true_plate(0, lines=1, format="front", colour="white")],
        [true_plate(1, lines=2, format="motorcycle", colour="yellow")],
        [true_plate(2, lines=2, format="rear_high", colour="white")],
    )
    metrics = scoring.summarise(scoring.score(OracleStack(wrong={1}), truth), 0.5)
    assert metrics["by_lines"]["1"] == {"count": 1, "mean_iou": pytest.approx(1), "accuracy": 1}
    assert metrics["by_lines"]["2"]["accuracy"] == 0.5
    assert metrics["by_format"]["motorcycle"]["accuracy"] == 0
    assert metrics["by_colour"]["white"] == {
        "count": 2,
        "mean_iou": pytest.approx(1),
        "accuracy": 1,
    }
    assert set(metrics["by_digits"]) == {str(len(plate_text(i)) - 2) for i in range(3)}
    assert set(metrics["by_canton"]) == {plate_text(i)[:2] for i in range(3)}


def test_confusions_are_of_plates_that_were_found() -> None:
    truth = images([true_plate(0)], [true_plate(1)], [true_plate(2)])
    table = scoring.confused(scoring.score(OracleStack(wrong={0, 1}, missed={2}), truth))
    pairs = Counter((plate_text(i)[-1], wrong(plate_text(i))[-1]) for i in (0, 1))
    assert {(a, p): n for a, p, n in table.itertuples(index=False)} == pairs


def test_failures_are_lost_plates_and_false_texts_the_surest_first() -> None:
    truth = images([true_plate(0)], [true_plate(1)], [true_plate(2, None)], [], [true_plate(4)])
    stack = OracleStack(
        wrong={1},
        missed={0},
        confidences={1: 0.6, 2: 0.8, 3: 0.4},
        extra={4: [(CORNERS_ELSEWHERE, "BE42", 0.95)]},
    )
    scores = scoring.score(stack, truth)
    # Beside the plate of image 4, on the foreign one of 2, wrong in 1; nothing was found in 0. The
    # text in image 3 is not given.
    expected = [
        scoring.Case(image=4, row=None, found=0),
        scoring.Case(image=2, row=2, found=0),
        scoring.Case(image=1, row=1, found=0),
        scoring.Case(image=0, row=0, found=None),
    ]
    assert scoring.failures(scores, 0.5, 9) == expected
    assert scoring.failures(scores, 0.5, 2) == expected[:2]
    assert scoring.failures(scores, 0.3, 9)[3] == scoring.Case(image=3, row=None, found=0)
    assert scoring.case_of(scores, 3) == scoring.Case(image=4, row=3, found=1)


def test_a_reader_by_corners_is_not_judged_by_boxes() -> None:
    plates = [AnnotatedPlate(plate_text(1), true_plate(1).box, None)]
    by_corners = scoring.score(OracleStack(), images([], plates, has_corners=False))
    assert scoring.summarise(by_corners, 0.5)["lost_by_recognizer"] is None
    assert len(by_corners.notes) == 2
    by_box = scoring.score(
        OracleStack(rectification="box", wrong={1}), images([], plates, has_corners=False)
    )
    assert scoring.summarise(by_box, 0.5)["lost_by_recognizer"] == 1


def test_found_plates_of_the_real_type_are_taken() -> None:
    plate = found_plate(CORNERS_ELSEWHERE, "ZH1", 0.4)
    assert (plate.box, plate.text, plate.confidence) == (ELSEWHERE, "ZH1", 0.4)


def test_hidden_plates_are_to_get_no_text_and_others_theirs() -> None:
    """Of six plates, the first three are illegible: one silent, one cut short, one read all the same."""
    plates = [plate_text(i) for i in range(7)]
    labels = pd.DataFrame(
        {
            "text": plates,
            "covered": [1.0, 0.8, 0.5, 0.0, 0.15, 0.1, 0.3],
            "format": ["a", "b", *"aaaaa"],
            "obstacle": "bar",
        }
    )
    occluded = OracleStack(wrong={1, 4}, confidences={0: 0.1, 5: 0.2})
    found = scoring.score(occluded, images(*[[true_plate(i)] for i in range(7)]))
    whole = scoring.score(OracleStack(), images(*[[true_plate(i)] for i in range(7)]))
    metrics = scoring.summarise_occluded(found, whole, labels, 0.5)
    assert metrics["illegible"]["wrong"]["count"] == 3
    assert metrics["illegible"]["wrong"]["share"] == pytest.approx(1 / 3)
    assert metrics["illegible"]["by_format"]["b"]["share"] == 1
    assert metrics["illegible"]["by_format"]["a"]["share"] == 0
    assert metrics["legible"]["accuracy"]["share"] == pytest.approx(1 / 3)
    assert metrics["legible"]["wrong"]["share"] == pytest.approx(1 / 3)
    assert metrics["legible"]["kept"]["count"] == 3
