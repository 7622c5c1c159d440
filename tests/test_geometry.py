"""Boxes, corners and rectification."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from src.geometry import (
    box_iou,
    box_to_corners,
    box_to_xyxy,
    corners_to_box,
    rectify,
    xyxy_to_box,
)

BOXES = arrays(np.float64, (5, 4), elements=st.floats(0.05, 1.0))


@given(BOXES)
def test_boxes_convert_there_and_back(boxes: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(xyxy_to_box(box_to_xyxy(boxes)), boxes, atol=1e-12)
    np.testing.assert_allclose(corners_to_box(box_to_corners(boxes)), boxes, atol=1e-12)


def test_corners_run_clockwise_from_the_top_left() -> None:
    corners = box_to_corners(np.array([0.5, 0.5, 0.4, 0.2]))
    np.testing.assert_allclose(corners, [[0.3, 0.4], [0.7, 0.4], [0.7, 0.6], [0.3, 0.6]])


def test_a_box_is_around_all_corners() -> None:
    turned = np.array([[0.5, 0.1], [0.9, 0.4], [0.6, 0.8], [0.2, 0.5]])
    np.testing.assert_allclose(corners_to_box(turned), [0.55, 0.45, 0.7, 0.7])


def test_iou_of_known_boxes() -> None:
    first = np.array([[0.5, 0.5, 0.2, 0.2]] * 4)
    second = np.array(
        [[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1], [0.5, 0.5, 0.1, 0.1]]
    )
    np.testing.assert_allclose(box_iou(first, second), [1, 1 / 3, 0, 1 / 4], atol=1e-12)


def test_iou_without_area_is_zero_and_no_warning() -> None:
    empty = np.zeros((1, 4))
    with np.errstate(all="raise"):
        assert box_iou(empty, empty) == 0


@given(BOXES, BOXES)
def test_iou_is_symmetric_and_in_the_unit_interval(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> None:
    iou = box_iou(first, second)
    np.testing.assert_allclose(iou, box_iou(second, first))
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()


@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 3)])
def test_rectify_of_the_whole_picture_changes_nothing(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    corners = np.array([[0, 0], [80, 0], [80, 60], [0, 60]], dtype=np.float64)
    np.testing.assert_array_equal(rectify(image, corners, (60, 80)), image)


def test_rectify_straightens_a_warped_picture() -> None:
    flat = cv2.GaussianBlur(
        np.random.default_rng(2).integers(0, 256, (32, 128), dtype=np.uint8), (0, 0), 3
    )
    corners = np.array([[40, 60], [210, 30], [220, 110], [50, 150]], dtype=np.float64)
    square = np.array([[0, 0], [128, 0], [128, 32], [0, 32]], dtype=np.float64)
    matrix = cv2.getPerspectiveTransform(
        (square - 0.5).astype(np.float32), (corners - 0.5).astype(np.float32)
    )
    scene = cv2.warpPerspective(flat, matrix, (256, 256), borderMode=cv2.BORDER_REPLICATE)
    straight = rectify(scene, corners, (32, 128))
    assert np.abs(straight.astype(int) - flat)[2:-2, 2:-2].mean() < 3


def test_rectify_keeps_a_margin_and_the_edge_goes_on() -> None:
    image = np.full((40, 100), 200, dtype=np.uint8)
    image[10:30, 20:80] = 50
    corners = np.array([[20, 10], [80, 10], [80, 30], [20, 30]], dtype=np.float64)
    result = rectify(image, corners, (50, 150), margin=0.1)
    assert result[25, 75] == 50
    assert result[0, 0] == 200
    outside = rectify(image, corners - [40, 0], (50, 150))
    assert outside[25, 0] == 200
