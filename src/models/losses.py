"""The loss of localizers that say something of every place: ``plate_loss``.

It is the sum of four, each a mean over the batch's pictures:

- finding: the focal loss with a reduced penalty near the centre (Law and Deng 2018, Zhou et al. 2019);
- placing: the corners of each place near the centre;
- voting: the corners as detection takes them, the mean of the votes around the centre;
- lines: binary cross-entropy of the number of lines, near the centre.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .base import LocalizerTargets

FOCUS = 2.0
"""Exponent of the error's own probability in the focal loss; the papers' alpha."""
REDUCTION = 4.0
"""Exponent that spares places near the centre; the papers' beta."""
SPREAD = 0.125
"""Standard deviation of the Gaussian around the centre, in widths and heights of the plate: such that
it is gone at the plate's edge, where a second plate may begin."""
LEAST_SPREAD = 0.7
"""The same in places, at least: a centre may lie half a place's diagonal (0.7) from the nearest."""
WINDOW = 1
"""Votes are taken this many places around the centre, as src/inference/detection.py takes them: farther ones
add nothing."""
SMOOTH = 0.05
"""Errors of corners below this share of the plate's size count by their square: about a pixel in a
scene of 84, less than which labels and pixels do not tell."""
LEAST_SIZE = 4.0
"""Plates count as this many pixels large at least: one without area has no size to compare with."""
PLACING, VOTING, LINES = 1.0, 1.0, 0.5
"""Weights beside finding. Voting is what is used in the end, but alone it trains slower: what is wrong
with one vote is made up for by another. With less weight the number of lines is learned late, with more
the corners are."""

# Logarithm of the share of a vote that does not count; finite, as a picture may have no other.
_NEVER = -1e4


def plate_loss(maps: Tensor, targets: LocalizerTargets, places: Tensor, stride: int) -> Tensor:
    """The loss of maps.

    Args:
        maps: ``(N, 10, h, w)`` float32.
        targets: what is true.
        places: ``(2, h, w)``, x and y of the places' centres in pixels of the input.
        stride: pixels from a place to the next.
    """
    maps = maps.flatten(2)
    logit, lines, votes = maps[:, 0], maps[:, 1], maps[:, 2:].unflatten(1, (4, 2))
    aim = _aim(targets, places.flatten(1), stride)
    finding = _focal(logit, aim).sum(dim=1)
    errors = _corner_error(votes, aim.corners[..., None], aim.size[:, None])
    placing = (errors * aim.nearness).sum(dim=1)
    # The softmax of log-probabilities: their shares of the sum, also where all are tiny.
    shares = torch.where(aim.window, nn.functional.logsigmoid(logit), _NEVER).softmax(dim=1)
    vote = (votes * shares[:, None, None]).sum(dim=3)
    voting = _corner_error(vote, aim.corners, aim.size) * targets.present
    two = (targets.lines == 2).float()[:, None].expand_as(lines)
    unsure = nn.functional.binary_cross_entropy_with_logits(lines, two, reduction="none")
    counting = (unsure * aim.nearness).sum(dim=1)
    return (finding + PLACING * placing + VOTING * voting + LINES * counting).mean()


class _Aim(NamedTuple):
    """What each of the P places of each picture should say; nothing in it is NaN.

    Attributes:
        corners: ``(N, 4, 2)``; a point where there is no plate.
        size: ``(N,)`` square root of the plate's area in pixels.
        gaussian: ``(N, P)``, 1 at the centre; 0 where there is no plate.
        nearness: ``(N, P)``, the same with a sum of 1.
        centre: ``(N, P)`` bool, the place nearest to the centre; none where there is no plate.
        window: ``(N, P)`` bool, the places around it; some where there is no plate.
    """

    corners: Tensor
    size: Tensor
    gaussian: Tensor
    nearness: Tensor
    centre: Tensor
    window: Tensor


def _aim(targets: LocalizerTargets, places: Tensor, stride: int) -> _Aim:
    present = targets.present[:, None]
    # Replaced before anything is computed: the gradient of a masked NaN is NaN.
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
        # A centre outside of the picture has no place near: it counts little, as it is hard to see.
        nearness=gaussian / gaussian.sum(dim=1, keepdim=True).clamp(min=0.1),
        centre=(around < stride / 2) & present,
        window=around < (WINDOW + 0.5) * stride,
    )


def _focal(logit: Tensor, aim: _Aim) -> Tensor:
    """The focal loss of each place, ``(N, P)``."""
    chance = logit.sigmoid()
    found = (1 - chance).pow(FOCUS) * nn.functional.logsigmoid(logit)
    spared = (1 - aim.gaussian).pow(REDUCTION)
    empty = spared * chance.pow(FOCUS) * nn.functional.logsigmoid(-logit)
    return -torch.where(aim.centre, found, empty)


def _corner_error(found: Tensor, true: Tensor, size: Tensor) -> Tensor:
    """Smooth L1 in sizes of the plate, summed over the eight coordinates.

    Args:
        found: ``(N, 4, 2, ...)``.
        true: the same or one that broadcasts.
        size: ``(N, ...)``, likewise.

    Returns:
        ``(N, ...)``.
    """
    error = (found - true) / size[:, None, None]
    return nn.functional.smooth_l1_loss(
        error, torch.zeros_like(error), beta=SMOOTH, reduction="none"
    ).sum(dim=(1, 2))


def quadrilateral_area(corners: Tensor) -> Tensor:
    """Area of ``(N, 4, 2)`` corners (half the cross product of the diagonals): ``(N,)``."""
    first, second = corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1]
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs() / 2
