"""The loss of a localizer's maps: what makes it fall, and that nothing makes it NaN."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from src.models.base import LocalizerTargets
from src.models.losses import plate_loss, quadrilateral_area

STRIDE, SIDE = 8, 12


def places(height: int = SIDE, width: int = SIDE) -> Tensor:
    y, x = torch.meshgrid(
        torch.arange(height) * STRIDE + 0.5, torch.arange(width) * STRIDE + 0.5, indexing="ij"
    )
    return torch.stack([x, y])


def plate(x: float, y: float, width: float = 40, height: float = 10) -> Tensor:
    half = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) * torch.tensor([width, height]) / 2
    return half + torch.tensor([x, y])


def targets(*corners: Tensor | None, lines: int = 1) -> LocalizerTargets:
    """Of images with these plates; None: without."""
    return LocalizerTargets(
        torch.stack([torch.full((4, 2), math.nan) if c is None else c for c in corners]),
        torch.tensor([c is not None for c in corners]),
        torch.tensor([1 if c is None else lines for c in corners]),
    )


def maps_of(corners: Tensor, logit: float = -6.0, lines: float = 0.0) -> Tensor:
    """Maps ``(1, 10, h, w)`` in which every place votes for one plate."""
    maps = corners.reshape(8, 1, 1).expand(8, SIDE, SIDE)
    logits = torch.tensor([logit, lines])[:, None, None].expand(2, SIDE, SIDE)
    return torch.cat([logits, maps])[None].clone()


def loss_of(maps: Tensor, aim: LocalizerTargets) -> Tensor:
    return plate_loss(maps, aim, places(*maps.shape[-2:]), STRIDE)


def gradient_of(maps: Tensor, aim: LocalizerTargets) -> Tensor:
    maps = maps.clone().requires_grad_()
    loss_of(maps, aim).backward()
    assert maps.grad is not None
    return maps.grad


TRUE = plate(41, 49)
"""Its centre is close to that of the place in row 6 and column 5."""


def test_what_is_right_costs_next_to_nothing() -> None:
    maps = maps_of(TRUE, -12.0, -12.0)
    maps[0, 0, 6, 5] = 12.0
    assert loss_of(maps, targets(TRUE)) < 1e-4
    assert loss_of(maps_of(TRUE, -12.0), targets(None)) < 1e-4


@pytest.mark.parametrize("change", ["miss", "ghost", "shift", "lines"])
def test_each_kind_of_error_costs(change: str) -> None:
    maps = maps_of(TRUE, -12.0, -12.0)
    maps[0, 0, 6, 5] = 12.0
    if change == "miss":
        maps[0, 0, 6, 5] = -3.0
    elif change == "ghost":
        maps[0, 0, 1, 9] = 3.0
    elif change == "shift":
        maps[0, 2, 6, 5] += 3.0
    else:
        maps[0, 1, 6, 5] = 3.0
    assert loss_of(maps, targets(TRUE)) > 0.1


def test_the_nearest_place_alone_is_pulled_up() -> None:
    gradient = gradient_of(maps_of(TRUE, 0.0), targets(TRUE))[0, 0]
    assert (gradient < 0).nonzero().tolist() == [[6, 5]]
    # Neighbours along the plate are spared most, far places least, and all of those alike.
    beside, above, far = gradient[6, 6], gradient[5, 5], gradient[0, 0]
    assert 0 < beside < 0.5 * far
    assert 0 < above < 0.5 * far
    torch.testing.assert_close(gradient[0, 0], gradient[11, 11])
    long = gradient_of(maps_of(TRUE, 0.0), targets(plate(41, 49, 90, 10)))[0, 0]
    assert long[6, 6] < beside
    torch.testing.assert_close(long[5, 5], above, rtol=0.02, atol=0)


def test_an_image_without_a_plate_only_pushes_down() -> None:
    gradient = gradient_of(maps_of(TRUE, -2.0), targets(None))[0]
    assert (gradient[0] > 0).all()
    assert (gradient[1:] == 0).all()


def test_corners_are_pulled_near_the_centre_only() -> None:
    gradient = gradient_of(maps_of(TRUE + 3), targets(TRUE))[0, 2:].abs().sum(dim=0)
    assert gradient.argmax() == 6 * SIDE + 5
    assert gradient[6, 5] > 10 * gradient[6, 8]
    assert gradient[0].max() < 1e-6


def test_votes_are_right_together() -> None:
    """Two votes that are off to opposite sides cost less than two that are off to one."""
    opposite, one_sided = maps_of(TRUE), maps_of(TRUE)
    for maps, sign in ((opposite, -1), (one_sided, 1)):
        maps[0, 0, 6, 5:7] = 0.0
        maps[0, 2:, 6, 5] += 2.0
        maps[0, 2:, 6, 6] += 2.0 * sign
    assert loss_of(opposite, targets(TRUE)) < loss_of(one_sided, targets(TRUE)) - 0.1


def test_small_plates_count_as_much_as_large_ones() -> None:
    def error(scale: float) -> float:
        true = plate(41, 49, 40 * scale, 10 * scale)
        off = maps_of(true + 2 * scale, -12.0, -12.0)
        off[0, 0, 6, 5] = 12.0
        return float(loss_of(off, targets(true)))

    assert error(0.5) == pytest.approx(error(1.0), rel=0.02)
    assert error(2.0) == pytest.approx(error(1.0), rel=0.02)


def test_what_stands_in_for_no_plate_is_never_looked_at() -> None:
    maps = torch.cat([maps_of(TRUE, -1.0), maps_of(TRUE, -1.0)])
    present, lines = torch.tensor([True, False]), torch.tensor([1, 1])
    losses, gradients = [], []
    for value in (math.nan, math.inf, 0.0, 50.0):
        corners = torch.stack([TRUE, torch.full((4, 2), value)])
        aim = LocalizerTargets(corners, present, lines)
        losses.append(loss_of(maps, aim))
        gradients.append(gradient_of(maps, aim))
    for loss, gradient in zip(losses, gradients, strict=True):
        assert loss == losses[-1]
        torch.testing.assert_close(gradient, gradients[-1], rtol=0, atol=0)
        assert gradient.isfinite().all()
    # The mean over both images.
    alone = loss_of(maps[:1], targets(TRUE)) + loss_of(maps[:1], targets(None))
    torch.testing.assert_close(losses[0], alone / 2)


@pytest.mark.parametrize(
    "true",
    [
        plate(41, 49, 0, 0),
        plate(41, 49, 0.01, 0.01),
        plate(41, 49, 5000, 2000),
        plate(-20, 49),
        plate(4000, -4000),
        torch.zeros(4, 2),
        plate(41, 49)[[1, 0, 3, 2]],
    ],
    ids=["point", "speck", "huge", "outside", "far", "zero", "mirrored"],
)
def test_odd_plates_give_finite_gradients(true: Tensor) -> None:
    for logit in (-6.0, 0.0, 60.0, -200.0):
        gradient = gradient_of(maps_of(TRUE, logit).repeat(2, 1, 1, 1), targets(true, None))
        assert gradient.isfinite().all()


def test_other_sizes_of_maps() -> None:
    maps = torch.zeros(2, 10, 5, 21)
    assert gradient_of(maps, targets(plate(100, 20), None)).isfinite().all()


def test_area() -> None:
    turned = torch.tensor([[0.0, 0], [3, 4], [-1, 7], [-4, 3]])
    areas = quadrilateral_area(torch.stack([plate(5, 5, 40, 10), turned]))
    np.testing.assert_allclose(areas, [400, 25])
