"""Loss of localizers that predict a plate at every cell: ``plate_loss``.

It is a weighted sum of four terms, each averaged over the images of the batch:

- finding: focal loss with a reduced penalty near the centre (Law and Deng 2018, Zhou et al. 2019);
- placing: error of the corners predicted by each cell near the centre;
- voting: error of the corners as detection computes them, the mean of the votes around the centre;
- lines: binary cross-entropy of the number of lines, near the centre.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .base import LocalizerTargets

FOCUS = 2.0
"""Exponent of the probability of error in the focal loss; alpha in the papers."""
REDUCTION = 4.0
"""Exponent that reduces the penalty of cells near the centre; beta in the papers."""
SPREAD = 0.125
"""Standard deviation of the Gaussian around the centre, relative to the plate's width and height.

The Gaussian vanishes at the plate's edge, where a second plate may begin."""
LEAST_SPREAD = 0.7
"""Minimum standard deviation in cells: a centre may be half a cell's diagonal (0.7) from the nearest."""
WINDOW = 1
"""Radius in cells around the centre within which votes count, as in src/inference/detection.py.

Votes from farther away add nothing."""
SMOOTH = 0.05
"""Corner error, relative to the plate's size, below which the loss is quadratic.

It is about one pixel in an 84-pixel scene, the limit of what labels and pixels can resolve."""
LEAST_SIZE = 4.0
"""Minimum plate size in pixels for scaling errors, as a plate without area has no size to divide by."""
PLACING, VOTING, LINES = 1.0, 1.0, 0.5
"""Weights of the other terms relative to finding.

Voting is what detection uses, but alone it trains more slowly, as an error in one vote is compensated by
another. With a smaller weight of lines the number of lines is learned late, with a larger one the
corners are."""

# Log weight of a vote that does not count; finite, as an image may have no other votes.
_NEVER = -1e4


def plate_loss(maps: Tensor, targets: LocalizerTargets, places: Tensor, stride: int) -> Tensor:
    """Return the loss of a localizer's maps.

    Args:
        maps: Output of the localizer, shape ``(N, 10, h, w)``, float32.
        targets: Ground truth of the batch.
        places: Centres of the cells, x and y in pixels of the input, shape ``(2, h, w)``.
        stride: Distance between neighbouring cells in pixels.
    """
    maps = maps.flatten(2)
    logit, lines, votes = maps[:, 0], maps[:, 1], maps[:, 2:].unflatten(1, (4, 2))
    aim = _aim(targets, places.flatten(1), stride)
    finding = _focal(logit, aim).sum(dim=1)
    errors = _corner_error(votes, aim.corners[..., None], aim.size[:, None])
    placing = (errors * aim.nearness).sum(dim=1)
    # The softmax of log-probabilities normalises the probabilities, even if all of them are tiny.
    shares = torch.where(aim.window, nn.functional.logsigmoid(logit), _NEVER).softmax(dim=1)
    vote = (votes * shares[:, None, None]).sum(dim=3)
    voting = _corner_error(vote, aim.corners, aim.size) * targets.present
    two = (targets.lines == 2).float()[:, None].expand_as(lines)
    unsure = nn.functional.binary_cross_entropy_with_logits(lines, two, reduction="none")
    counting = (unsure * aim.nearness).sum(dim=1)
    return (finding + PLACING * placing + VOTING * voting + LINES * counting).mean()


class _Aim(NamedTuple):
    """Targets for each of the P cells of each image, free of NaN.

    Attributes:
        corners: Plate corners, shape ``(N, 4, 2)``; a single point where there is no plate.
        size: Square root of the plate's area in pixels, shape ``(N,)``.
        gaussian: Gaussian around the plate's centre, shape ``(N, P)``, 1 at the centre; 0 where there is
            no plate.
        nearness: The Gaussian normalised to a sum of 1, shape ``(N, P)``.
        centre: Mask of the cell nearest to the centre, shape ``(N, P)``, bool; empty where there is no
            plate.
        window: Mask of the cells around it, shape ``(N, P)``, bool; arbitrary where there is no plate.
    """

    corners: Tensor
    size: Tensor
    gaussian: Tensor
    nearness: Tensor
    centre: Tensor
    window: Tensor


def _aim(targets: LocalizerTargets, places: Tensor, stride: int) -> _Aim:
    present = targets.present[:, None]
    # NaN is replaced before anything is computed: the gradient of a masked NaN is NaN.
    corners = torch.where(present[..., None], targets.corners, 0.0)
    middle, extent = corners.mean(dim=1), corners.amax(dim=1) - corners.amin(dim=1)
    offsets = places - middle[..., None]
    spread = (SPREAD * extent).clamp(min=LEAST_SPREAD * stride)
    gaussian = (offsets / spread[..., None]).square().sum(dim=1).div(-2).exp() * present
    nearest = offsets.square().sum(dim=1).argmin(dim=1)
    around = (places - places.T[nearest][..., None]).abs().amax(dim=1)
    return _Aim(
        corners=corners,
        size=quadrilateral_area(corners).sqrt().clamp(min=LEAST_SIZE),
        gaussian=gaussian,
        # A centre outside the image has no cell nearby: it counts little, as it is hard to see.
        nearness=gaussian / gaussian.sum(dim=1, keepdim=True).clamp(min=0.1),
        centre=(around < stride / 2) & present,
        window=around < (WINDOW + 0.5) * stride,
    )


def _focal(logit: Tensor, aim: _Aim) -> Tensor:
    """Return the focal loss of each cell, shape ``(N, P)``."""
    chance = logit.sigmoid()
    found = (1 - chance).pow(FOCUS) * nn.functional.logsigmoid(logit)
    spared = (1 - aim.gaussian).pow(REDUCTION)
    empty = spared * chance.pow(FOCUS) * nn.functional.logsigmoid(-logit)
    return -torch.where(aim.centre, found, empty)


def _corner_error(found: Tensor, true: Tensor, size: Tensor) -> Tensor:
    """Return the smooth L1 error relative to the plate's size, summed over the eight coordinates.

    Args:
        found: Predicted corners, shape ``(N, 4, 2, ...)``.
        true: True corners, of the same shape or broadcastable to it.
        size: Plate sizes, shape ``(N, ...)`` or broadcastable to it.

    Returns:
        Errors, shape ``(N, ...)``.
    """
    error = (found - true) / size[:, None, None]
    return nn.functional.smooth_l1_loss(
        error, torch.zeros_like(error), beta=SMOOTH, reduction="none"
    ).sum(dim=(1, 2))


def quadrilateral_area(corners: Tensor) -> Tensor:
    """Return the areas ``(N,)`` of corners ``(N, 4, 2)``: half the cross product of the diagonals."""
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs() / 2
