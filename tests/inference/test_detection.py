"""Detection on maps that are made by hand."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from src.inference.detection import best, detect, quality, suppress
from tests.conftest import ROOT

NOTHING = -9.0
STRIDE = 8


def plate(x: float, y: float, width: float = 40, height: float = 10) -> NDArray[np.float64]:
    """``(4, 2)`` upright corners around a centre."""
    half = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width, height) / 2
    return half + np.array([x, y])


def empty_maps(count: int = 1, height: int = 12, width: int = 20) -> NDArray[np.float32]:
    """Maps in which every place votes for a small plate upon itself, and believes in none."""
    maps = np.full((count, 10, height, width), NOTHING, dtype=np.float32)
    for row in range(height):
        for column in range(width):
            own = plate(column * STRIDE + 0.5, row * STRIDE + 0.5, 12, 6)
            maps[:, 2:, row, column] = own.reshape(8)
    return maps


def vote(
    maps: NDArray[np.float32],
    row: int,
    column: int,
    logit: float,
    corners: NDArray[np.float64],
    lines: float = NOTHING,
    image: int = 0,
) -> None:
    maps[image, :, row, column] = [logit, lines, *corners.reshape(8)]


def chance(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_nothing() -> None:
    (found,) = detect(empty_maps(), 0.2, 20)
    assert found.corners.shape == (0, 4, 2)
    assert found.score.shape == found.two_lines.shape == (0,)


@pytest.mark.parametrize("place", [(5, 9), (0, 0), (11, 19), (0, 7)])
def test_one_plate_wherever_it_is(place: tuple[int, int]) -> None:
    maps, true = empty_maps(), plate(70, 40)
    vote(maps, *place, 2.0, true, lines=3.0)
    (found,) = detect(maps, 0.2, 20)
    np.testing.assert_allclose(found.corners, true[None], atol=1e-3)
    assert found.score == pytest.approx([chance(2.0)])
    # The place alone counts: those around it have next to no probability.
    assert found.two_lines == pytest.approx([chance(3.0)], abs=1e-2)
    corners, score, two_lines = best(maps)
    np.testing.assert_array_equal(corners, found.corners)
    assert (score, two_lines) == (found.score, found.two_lines)


def test_votes_are_averaged_by_their_probability() -> None:
    maps = empty_maps()
    vote(maps, 5, 9, 1.0, plate(73, 41), lines=2.0)
    vote(maps, 5, 10, 0.0, plate(76, 41), lines=-1.0)
    (found,) = detect(maps, 0.2, 20)
    right, left = chance(0.0), chance(1.0)
    x = (left * 73 + right * 76) / (left + right)
    np.testing.assert_allclose(found.corners[0].mean(axis=0), (x, 41), atol=0.01)
    lines = (left * 2.0 - right) / (left + right)
    assert found.two_lines == pytest.approx([chance(lines)], abs=0.01)
    assert found.score == pytest.approx([left])


def test_votes_farther_than_a_neighbour_do_not_count() -> None:
    maps = empty_maps()
    vote(maps, 5, 9, 2.0, plate(73, 41))
    vote(maps, 5, 11, -2.0, plate(77, 41))
    (found,) = detect(maps, 0.5, 20)
    np.testing.assert_allclose(found.corners[0], plate(73, 41), atol=0.01)


def test_a_neighbour_that_votes_for_another_plate_is_left_out() -> None:
    maps = empty_maps()
    vote(maps, 5, 9, 2.0, plate(73, 41))
    vote(maps, 6, 9, 1.9, plate(73, 53))
    vote(maps, 7, 9, 2.0, plate(73, 53))
    (found,) = detect(maps, 0.2, 20)
    np.testing.assert_allclose(found.corners, [plate(73, 41), plate(73, 53)], atol=0.05)
    # A vote for the same plate, 4 of its 10 pixels off, counts.
    vote(maps, 6, 9, 1.9, plate(73, 45))
    (found,) = detect(maps, 0.2, 20)
    assert 42 < found.corners[0, :, 1].mean() < 44


def test_votes_for_a_tiny_plate_count_within_two_pixels() -> None:
    maps = empty_maps()
    vote(maps, 5, 9, 2.0, plate(73, 41, 1, 1))
    vote(maps, 5, 10, 2.0, plate(74.5, 41, 1, 1))
    (found,) = detect(maps, 0.2, 20)
    assert found.corners[0, :, 0].mean() == pytest.approx(73.75, abs=0.01)


def test_two_plates_best_first_and_no_more_than_asked_for() -> None:
    maps = empty_maps()
    vote(maps, 2, 3, 0.5, plate(25, 17))
    vote(maps, 9, 15, 3.0, plate(121, 73), lines=5.0)
    vote(maps, 9, 4, -1.0, plate(33, 73))
    (found,) = detect(maps, 0.2, 20)
    assert found.score == pytest.approx([chance(3.0), chance(0.5), chance(-1.0)])
    np.testing.assert_allclose(found.corners[:2], [plate(121, 73), plate(25, 17)], atol=0.05)
    assert (found.two_lines[:2] > 0.5).tolist() == [True, False]
    assert len(detect(maps, 0.3, 20)[0].score) == 2
    (first,) = detect(maps, 0.2, 1)
    np.testing.assert_array_equal(first.corners, found.corners[:1])


def test_of_equal_neighbours_one_is_the_peak() -> None:
    for other in ((5, 10), (6, 8), (6, 9), (6, 10)):
        maps = empty_maps()
        vote(maps, 5, 9, 1.0, plate(73, 41))
        vote(maps, *other, 1.0, plate(75, 41))
        (found,) = detect(maps, 0.2, 20)
        np.testing.assert_allclose(found.corners, [plate(74, 41)], atol=0.05)
        np.testing.assert_allclose(best(maps)[0], found.corners)


def test_images_of_a_batch_do_not_mix() -> None:
    generator = np.random.default_rng(5)
    maps = empty_maps(7)
    for image, count in enumerate((2, 0, 1, 3, 0, 0, 1)):
        for number in range(count):
            corners = plate(40 + 50 * number, 40) + generator.normal(0, 2, (4, 2))
            vote(maps, 5, 3 + 6 * number, generator.uniform(-1, 3), corners, 0.0, image)
    together = detect(maps, 0.2, 20)
    assert [len(found.score) for found in together] == [2, 0, 1, 3, 0, 0, 1]
    alone = [detect(maps[i : i + 1], 0.2, 20)[0] for i in range(7)]
    for first, second in zip(together, alone, strict=True):
        np.testing.assert_array_equal(first.corners, second.corners)
        np.testing.assert_array_equal(first.score, second.score)
        np.testing.assert_array_equal(first.two_lines, second.two_lines)
    corners, score, _ = best(maps)
    for i in (0, 2, 3, 6):
        np.testing.assert_array_equal(corners[i], together[i].corners[0])
        assert score[i] == together[i].score[0]


def test_extreme_logits_give_numbers() -> None:
    maps = empty_maps()
    maps[:, 0] = -300.0
    vote(maps, 5, 9, -200.0, plate(73, 41))
    with np.errstate(all="raise", under="ignore"):
        corners, score, _ = best(maps)
        vote(maps, 5, 9, 300.0, plate(73, 41))
        (found,) = detect(maps, 0.2, 20)
    np.testing.assert_allclose(corners, [plate(73, 41)], atol=1e-6)
    assert 0 <= score[0] < 1e-50
    assert found.score == pytest.approx([1.0])


def test_one_place_an_image() -> None:
    """As plate_localizer_v3 gives them."""
    maps = np.empty((2, 10, 1, 1), dtype=np.float32)
    vote(maps, 0, 0, 10.0, plate(30, 40), -10.0)
    vote(maps, 0, 0, 10.0, plate(50, 60), -10.0, image=1)
    np.testing.assert_allclose(best(maps)[0], [plate(30, 40), plate(50, 60)], rtol=1e-6)
    assert [len(found.score) for found in detect(maps, 0.2, 20)] == [1, 1]


def test_suppression_keeps_the_better_of_two_that_overlap() -> None:
    corners = np.stack([plate(50, 50), plate(55, 51), plate(150, 50), plate(52, 49)])
    assert suppress(corners, np.array([0.5, 0.9, 0.3, 0.6])).tolist() == [1, 2]
    assert suppress(corners, np.array([0.5, 0.4, 0.9, 0.6])).tolist() == [2, 3]
    # What is suppressed does not suppress: the third overlaps the second alone.
    chain = np.stack([plate(50, 50), plate(70, 50), plate(90, 50)])
    assert suppress(chain, np.array([0.9, 0.8, 0.7])).tolist() == [0, 2]


@pytest.mark.parametrize(("x", "kept"), [(30, 1), (65, 1), (67, 2)])
def test_suppression_by_what_holds_the_other(x: float, kept: int) -> None:
    """A plate found within a larger one is the same; one of which a third is outside is not."""
    corners = np.stack([plate(40, 50, 60, 30), plate(x, 50, 20, 10)])
    for score in ([0.9, 0.5], [0.5, 0.9]):
        assert len(suppress(corners, np.array(score))) == kept


def test_two_plates_one_above_the_other_stay() -> None:
    corners = np.stack([plate(50, 50, 40, 10), plate(50, 58, 40, 10)])
    assert suppress(corners, np.array([0.9, 0.8])).tolist() == [0, 1]


def test_nothing_to_suppress() -> None:
    assert suppress(np.empty((0, 4, 2)), np.empty(0)).tolist() == []


def test_quality() -> None:
    iou = np.array([0.8, 0.8, 0.0, 0.7, np.nan])
    score = np.array([0.9, 0.4, 0.9, 0.1, 0.9])
    present = np.array([True, True, True, False, False])
    assert quality(iou, score, present).tolist() == [0.8, 0.0, 0.0, 1.0, 0.0]


def test_it_needs_no_torch() -> None:
    code = "import sys, src.inference.detection; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
