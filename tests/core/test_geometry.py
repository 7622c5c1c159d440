"""Boxes, corners and rectification."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from src.core.geometry import (
    Part,
    box_iou,
    box_to_corners,
    box_to_xyxy,
    corners_to_box,
    edge_lengths,
    likely_lines,
    plate_angle,
    plate_axes,
    plate_height,
    plate_width,
    rectify,
    rectify_parts,
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
def test_rectify_of_the_whole_image_changes_nothing(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    corners = np.array([[0, 0], [80, 0], [80, 60], [0, 60]], dtype=np.float64)
    np.testing.assert_array_equal(rectify(image, corners, (60, 80)), image)


def test_rectify_straightens_a_warped_image() -> None:
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


def turned(length: float, aspect: float, degrees: float, centre: float) -> NDArray[np.float64]:
    """``(4, 2)`` corners of a plate, a little in perspective."""
    half = np.array([[-1, -aspect], [1, -1.05 * aspect], [1, 1.05 * aspect], [-1, aspect]])
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return half * length / 2 @ turn + centre


def barcode(corners: NDArray[np.float64], side: int, strokes: int) -> NDArray[np.uint8]:
    """An image of a plate with upright strokes, its grey exact at each pixel's centre."""
    points = np.stack(np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5), axis=-1)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float32)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), unit)
    u, v = np.moveaxis(cv2.perspectiveTransform(points.reshape(1, -1, 2), matrix)[0], -1, 0)
    on_plate = (np.minimum(u, v) >= 0) & (np.maximum(u, v) <= 1)
    values = np.where(on_plate, 127 + 120 * np.sin(2 * np.pi * strokes * u), 127)
    return values.reshape(side, side).round().astype(np.uint8)


# 30 strokes can be seen in a crop; of 113, one to a pixel, nothing is left or moire is.
LIMITS = ((30, 3), (113, 14))


def supersampled(
    image: NDArray[np.uint8], corners: NDArray[np.float64], size: tuple[int, int], margin: float
) -> NDArray[np.uint8]:
    """What averaging would be if it cost nothing: sixteen samples a pixel of the image."""
    factor = 32
    height, width = size[0] * factor, size[1] * factor
    left, top = margin * width, margin * height
    target = [[left, top], [width - left, top], [width - left, height - top], [left, height - top]]
    matrix = cv2.getPerspectiveTransform(
        np.array(target, np.float32) - np.float32(0.5), corners.astype(np.float32) - np.float32(0.5)
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpPerspective(
        image, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return cv2.resize(large, size[::-1], interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("degrees", [0, 12, 50, 90, 180])
@pytest.mark.parametrize(
    ("length", "strokes", "most"),
    [
        *((length, strokes, most) for length in (190, 300, 420, 900) for strokes, most in LIMITS),
        # Two strokes to a pixel: more than an interpolation at twice the size gets hold of.
        (1100, 226, 14),
    ],
)
def test_a_large_plate_is_averaged(
    length: float, degrees: float, strokes: int, most: float
) -> None:
    corners = turned(length, 0.22, degrees, 620)
    image = barcode(corners, 1240, strokes)
    size, margin = (32, 128), 0.06
    wanted = supersampled(image, corners, size, margin).astype(float)
    result = rectify(image, corners, size, margin)
    error = np.sqrt(np.square(result - wanted).mean())
    assert error < most
    assert abs(result.mean() - wanted.mean()) < 1
    # Four neighbours of each pixel alone, for comparison.
    left, top = margin * 128, margin * 32
    place = [[left, top], [128 - left, top], [128 - left, 32 - top], [left, 32 - top]]
    matrix = cv2.getPerspectiveTransform(
        np.array(place, np.float32) - np.float32(0.5), corners.astype(np.float32) - np.float32(0.5)
    )
    plain = cv2.warpPerspective(
        image, matrix, (128, 32), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
    assert np.sqrt(np.square(plain - wanted).mean()) > 2.5 * error


@pytest.mark.parametrize("degrees", [0, 30, 75])
@pytest.mark.parametrize("margin", [0.06, 0.2])
def test_what_is_around_a_large_plate_is_seen_too(margin: float, degrees: float) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (1600, 1600)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 12)
    image = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    corners = turned(900, 0.22, degrees, 800)
    result = rectify(image, corners, (32, 128), margin)
    wanted = supersampled(image, corners, (32, 128), margin)
    assert np.abs(result.astype(int) - wanted).max() < 12


def test_a_large_plate_at_the_edge_of_its_image() -> None:
    corners = turned(900, 0.22, 12, 520)
    image = barcode(corners, 1040, 8)
    whole = rectify(image, corners, (32, 128), 0.06).astype(int)
    for cut_x, cut_y in ((90, 0), (0, 400), (77, 401)):
        part = rectify(image[cut_y:, cut_x:], corners - [cut_x, cut_y], (32, 128), 0.06)
        seen = slice(16, None) if cut_x else slice(None)
        assert np.abs(part - whole)[:, seen].mean() < 4
    beside = rectify(image, corners + 3000, (32, 128), 0.06)
    assert (beside == image[-1, -1]).all()


@pytest.mark.parametrize(
    "corners",
    [np.full((4, 2), 50.0), np.full((4, 2), np.inf), np.full((4, 2), 1e9), np.full((4, 2), np.nan)],
)
def test_corners_of_no_plate_are_no_error(corners: NDArray[np.float64]) -> None:
    image = np.full((100, 200), 7, np.uint8)
    assert rectify(image, corners, (32, 128), 0.06).shape == (32, 128)
    scale = np.array([[0, 0], [1e7, 0], [1e7, 1e6], [0, 1e6]])
    assert rectify(image, scale, (32, 128), 0.06).shape == (32, 128)


def test_parts_are_those_of_the_whole() -> None:
    corners = turned(160, 0.5, 20, 150)
    image = cv2.GaussianBlur(
        np.random.default_rng(3).integers(0, 256, (300, 300), dtype=np.uint8), (0, 0), 2
    )
    whole = rectify(image, corners, (60, 120), 0.1)
    # The same pixels: the plate is at 12, 6 to 108, 54 of the whole.
    upper, lower = rectify_parts(
        image, corners, [Part((25, 70), (2, 6, 98, 54)), Part((30, 120), (12, -24, 108, 24))]
    )
    np.testing.assert_array_equal(upper, whole[:25, 10:80])
    np.testing.assert_array_equal(lower, whole[30:])


def test_axes_of_plates() -> None:
    # 80 by 20: as high as its size.
    upright = np.array([[10, 10], [90, 10], [90, 30], [10, 30]], dtype=np.float64)
    np.testing.assert_allclose(plate_axes(upright), [[20, 0], [0, 20]])
    np.testing.assert_allclose(plate_axes(upright * [1, 4]), [[40, 0], [0, 40]])
    turned_by_90 = upright[:, ::-1] * [-1, 1]
    np.testing.assert_allclose(plate_axes(turned_by_90), [[0, 20], [-20, 0]])
    both = plate_axes(np.stack([upright, turned_by_90]))
    assert both.shape == (2, 2, 2)
    # One plate size to the right and half of one up, along the plate's own axes.
    moved = turned_by_90 + np.array([[1, -0.5]] * 4) @ both[1]
    np.testing.assert_allclose(moved - turned_by_90, [[10, 20]] * 4)
    assert (plate_axes(np.zeros((4, 2))) == 0).all()


def test_height_width_and_angle_of_a_turned_plate() -> None:
    plate = np.array([[0.0, 0], [40, 0], [40, 10], [0, 10]])
    turn = np.radians(30)
    turned = plate @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    many = np.stack([plate, turned, turned[[1, 2, 3, 0]]])
    np.testing.assert_allclose(edge_lengths(many)[0], [40, 10, 40, 10])
    np.testing.assert_allclose(plate_height(many), [10, 10, 40])
    np.testing.assert_allclose(plate_width(many), [40, 40, 10])
    np.testing.assert_allclose(plate_angle(many), [0, 30, 120], atol=1e-9)
    assert likely_lines(turned) == 1
    # Rear high and long: 300 x 160 and 500 x 110 mm.
    assert likely_lines(np.array([[0.0, 0], [300, 0], [300, 160], [0, 160]])) == 2
    assert likely_lines(np.array([[0.0, 0], [500, 0], [500, 110], [0, 110]])) == 1
