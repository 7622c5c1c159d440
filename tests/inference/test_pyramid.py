"""Levels of an image: their sizes, and that a place in them is the same place of the image."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from src.core.images import DecodedImage
from src.generators import street
from src.inference.pyramid import PAD_GREY, Level, Pyramid, stacked

STRIDE, PAD = 8, 4


def of(height: int, width: int, scale: int = 1) -> Pyramid:
    """An image whose grey grows to the right and, more, downwards: a place is known by it."""
    y, x = np.mgrid[:height, :width]
    grey = 60 + 60 * (x + 0.5) / width + 120 * (y + 0.5) / height
    return Pyramid(
        DecodedImage(np.round(grey).astype(np.uint8), width * scale, height * scale, scale)
    )


def grey_at(of_image: Pyramid, point: NDArray[np.float64]) -> float:
    """What ``of`` has drawn at x, y of the displayed image."""
    return float(60 + 60 * point[0] / of_image.width + 120 * point[1] / of_image.height)


def check_places(of_image: Pyramid, level: Level) -> None:
    """Compare the grey at some places of a level with that of the same places of the image."""
    (image,) = stacked([level])
    assert image.shape == level.shape
    height, width = level.image.shape
    for share in ([0.2, 0.3], [0.5, 0.5], [0.8, 0.75]):
        point = level.offset + np.array(share) * [width, height]
        # The grey at a pixel's corner is the mean of the pixels around.
        x, y = np.round(point).astype(int)
        found = image[y - 1 : y + 1, x - 1 : x + 1].mean()
        place = level.to_image(np.array([x, y]))
        assert found == pytest.approx(grey_at(of_image, place), abs=1.2)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        ((256, 256), [(128, 128), (64, 64)]),
        ((255, 301), [(127, 150), (63, 75)]),
        ((84, 84), [(84, 84)]),
        ((30, 111), [(30, 111)]),
        ((56, 112), [(28, 56)]),
        ((3000, 4000), [(750, 1000), (375, 500), (187, 250), (93, 125), (46, 62)]),
        # Larger than 1016: resized to that.
        ((1500, 2300), [(663, 1016), (331, 508), (165, 254), (82, 127), (41, 63)]),
        ((20, 3000), [(7, 1016)]),
        # Only a little smaller: kept.
        ((1500, 3800), [(375, 950), (187, 475), (93, 237), (46, 118), (23, 59)]),
        ((8, 4000), [(2, 1000)]),
        ((1, 5000), [(1, 1016)]),
        ((1, 1), [(1, 1)]),
    ],
)
def test_sizes_of_levels(size: tuple[int, int], sizes: list[tuple[int, int]]) -> None:
    levels = list(of(*size).levels(STRIDE))
    assert [level.image.shape for level in levels] == sizes
    for level in levels:
        height, width = level.image.shape
        assert level.shape[0] % STRIDE == level.shape[1] % STRIDE == 0
        assert level.offset.tolist() == [PAD, PAD]
        # Half a stride of padding on each side at least; small ones in squares, others with little more.
        if max(height, width) <= 128:
            square = next(side for side in (64, 96, 128) if max(height, width) <= side)
            assert level.shape == (square + 2 * PAD, square + 2 * PAD)
            continue
        for side, padded in zip((height, width), level.shape, strict=True):
            assert side + 2 * PAD <= padded < 1.0625 * (side + 2 * PAD) + STRIDE


def test_inputs_have_few_sizes() -> None:
    widths = {level.shape[1] for side in range(1, 4000, 7) for level in of(2, side).levels(STRIDE)}
    assert len(widths) < 80
    assert max(widths) == 1024


@pytest.mark.parametrize("size", [(256, 256), (301, 455), (1501, 2303), (480, 640), (90, 100)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_place_in_a_level_is_that_of_the_image(size: tuple[int, int], scale: int) -> None:
    image = of(*size, scale)
    for level in image.levels(STRIDE):
        check_places(image, level)
        # The whole level is the whole image, but for an odd row or column a level.
        low, high = level.to_image(np.array([level.offset, level.offset + level.image.shape[::-1]]))
        assert low.tolist() == [0, 0]
        assert high == pytest.approx([image.width, image.height], rel=0.06)


def test_the_scale_of_a_resized_level_is_that_of_its_own_sides() -> None:
    """Of 11 rows 7 are left, which is not the share that is left of the columns."""
    image = of(22, 3000)
    (level,) = image.levels(STRIDE)
    assert level.image.shape == (7, 1016)
    end = level.to_image(level.offset + np.array([1016, 7]))
    assert end == pytest.approx([3000, 22])


def test_the_padding_is_the_grey_of_training() -> None:
    level = next(of(100, 100).levels(STRIDE))
    (image,) = stacked([level])
    assert image.shape == (136, 136)
    inside = np.zeros(image.shape, bool)
    inside[PAD:104, PAD:104] = True
    assert (image[~inside] == PAD_GREY).all()
    assert np.array_equal(image[inside].reshape(100, 100), level.image)
    assert street.PAD_GREY == PAD_GREY


@pytest.mark.parametrize("size", [(256, 256), (100, 333), (1501, 700), (40, 50), (3, 2)])
def test_the_whole_image_squeezed(size: tuple[int, int]) -> None:
    image = of(*size)
    level = image.whole((84, 92))
    assert level.shape == level.image.shape == (84, 92)
    corners = level.to_image(np.array([[0, 0], [92, 84]]))
    assert corners[0].tolist() == [0, 0]
    assert corners[1] == pytest.approx(size[::-1], rel=0.01)
    if min(size) > 10:
        check_places(image, level)


@pytest.mark.parametrize("side", [30.0, 84.0, 200.0, 600.0])
@pytest.mark.parametrize("centre", [(300.0, 200.0), (310.7, 190.2), (20.0, 30.0)])
@pytest.mark.parametrize("scale", [1, 4])
def test_a_window_shows_what_is_there(side: float, centre: tuple[float, float], scale: int) -> None:
    image = of(400 // scale, 640 // scale, scale)
    level = image.window(np.array(centre), side, 88)
    assert level.image.shape == (88, 88)
    assert level.to_image(np.array([44.0, 44.0])) == pytest.approx(centre)
    low, high = level.to_image(np.array([[0.0, 0.0], [88.0, 88.0]]))
    assert high - low == pytest.approx([side, side])
    for x in range(4, 88, 20):
        for y in range(4, 88, 20):
            place = level.to_image(np.array([x, y], float))
            found = level.image[y - 1 : y + 1, x - 1 : x + 1].mean()
            inside = (place > 8 * scale) & (place < [640 - 8 * scale, 400 - 8 * scale])
            if inside.all():
                assert found == pytest.approx(grey_at(image, place), abs=1.5)
            elif (place < -8 * scale).any():
                assert found == PAD_GREY


def test_halves_are_means() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (61, 47), dtype=np.uint8)
    halves = Pyramid(DecodedImage(grey, 47, 61))
    means = grey[:60, :46].reshape(30, 2, 23, 2).mean(axis=(1, 3))
    assert np.abs(halves.half(1) - means).max() <= 0.5
    assert halves.half(0) is grey
    assert halves.nearest_above(0.3)[1] == 1
    assert halves.nearest_above(1.99)[1] == 1
    assert halves.nearest_above(2.0)[1] == 2
    assert halves.nearest_above(7.9)[1] == 4
    # It ends where there is nothing to halve.
    assert min(halves.nearest_above(1e9)[0].shape) == 1


def test_an_image_that_opencv_could_not_warp() -> None:
    wide = of(16, 40_000)
    assert max(wide.half(0).shape) < 2**15
    assert wide.scale(0) == 2
    assert wide.width == 40_000
    level = wide.window(np.array([39_000.0, 8.0]), 84, 84)
    found = level.image[41:43, 41:43].mean()
    assert found == pytest.approx(grey_at(wide, np.array([39_000.0, 8.0])), abs=2)


def test_a_batch_of_levels() -> None:
    first, second = of(256, 256), Pyramid(DecodedImage(np.full((256, 256), 9, np.uint8), 256, 256))
    levels = [next(first.levels(STRIDE)), next(second.levels(STRIDE))]
    batch = stacked(levels)
    assert batch.shape == (2, 136, 136)
    for image, level in zip(batch, levels, strict=True):
        assert np.array_equal(image, stacked([level])[0])
