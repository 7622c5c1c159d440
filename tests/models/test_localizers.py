"""The localizers: what their maps mean, that they learn, and that they can be exported."""

from __future__ import annotations

import io
import math
from functools import cache

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from src.config import load_config
from src.inference.detection import best
from src.models.base import Localizer, LocalizerTargets, ModelError
from src.models.localizers import PlateLocalizerV3, PlateNet, corners_to_box
from src.models.registry import LOCALIZERS, build_localizer
from tests.conftest import PARAMETERS

CONFIG = load_config(PARAMETERS)
SMALL = [8, 8, 16, 16, 24, 24, 24, 24]
SEED_ARGUMENTS = {"layers": [8, 0, 16, 0, 16, 0], "pooling": [5, 5], "hidden": [64], "dropout": 0.0}


@cache
def plate_net() -> PlateNet:
    """With weights and statistics as those of a trained one: nothing is 0 or 1."""
    torch.manual_seed(2)
    model = PlateNet([1, 84, 84], SMALL)
    for value in model.state_dict().values():
        if value.ndim == 1:
            value.copy_(torch.rand_like(value) * 0.5 + 0.5)
        elif value.ndim > 1:
            value.mul_(3)
    return model.eval()


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", LOCALIZERS)
def test_maps_and_loss_are_float32_under_autocast(name: str) -> None:
    model = build_localizer(name, CONFIG)
    corners = torch.rand(3, 4, 2) * 84
    corners[1] = math.nan
    targets = LocalizerTargets(corners, torch.tensor([True, False, True]), torch.tensor([1, 1, 2]))
    with torch.autocast("cpu", torch.bfloat16):
        maps = model(noise(3, *model.input_shape))
        loss = model.loss(maps, targets)
    assert maps.shape[:2] == (3, 10)
    assert maps.dtype == loss.dtype == torch.float32
    loss.backward()
    assert all(
        value.grad is not None and value.grad.isfinite().all() for value in model.parameters()
    )


@pytest.mark.parametrize(
    ("size", "grid"), [((84, 84), (11, 11)), ((96, 160), (12, 20)), ((32, 56), (4, 7))]
)
def test_plate_net_has_a_place_every_eight_pixels(
    size: tuple[int, int], grid: tuple[int, int]
) -> None:
    model = plate_net()
    assert model.dense
    assert model.stride == 8
    assert model(noise(2, 1, *size)).shape == (2, 10, *grid)


@pytest.mark.parametrize("size", [(168, 168), (160, 176)])
def test_a_place_is_centred_on_what_it_sees(size: tuple[int, int]) -> None:
    model = PlateNet([1, 84, 84], SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        model.head.weight[2:] = 0
        model.head.get_parameter("bias").zero_()
    images = noise(1, 1, *size).requires_grad_()
    maps = model(images)
    row, column = 10, 9
    maps[0, 0, row, column].backward()
    assert images.grad is not None
    seen = images.grad[0, 0].nonzero()
    # From the edge of the first pixel to that of the last.
    low, high = seen.amin(dim=0), seen.amax(dim=0) + 1
    assert (high - low).tolist() == [107, 107]
    centre = ((low + high) / 2).flip(0)
    torch.testing.assert_close(maps[0, 2:, row, column].detach(), centre.repeat(4))


def test_what_moves_in_the_image_moves_in_the_maps() -> None:
    model = plate_net()
    wide = noise(1, 1, 144, 168)
    with torch.inference_mode():
        maps, moved = model(wide[..., :160]), model(wide[..., 8:])
    # What the border reaches is left out: 53 pixels.
    first, second = maps[0, :, 7:11, 8:13], moved[0, :, 7:11, 7:12]
    torch.testing.assert_close(first[:2], second[:2])
    torch.testing.assert_close(first[2::2], second[2::2] + 8)
    torch.testing.assert_close(first[3::2], second[3::2])
    assert first[0].std() > 1e-2


def test_at_first_a_plate_is_unlikely_everywhere() -> None:
    torch.manual_seed(1)
    model = build_localizer("plate_net", CONFIG)
    chance = model(noise(8, 1, 84, 84))[:, 0].sigmoid()
    assert 0.002 < chance.mean() < 0.05


def test_a_wrong_number_of_channels_names_the_parameter() -> None:
    with pytest.raises(ModelError, match="PLATE_NET_CHANNELS"):
        PlateNet([1, 84, 84], [8] * 7)


def drawn(count: int, side: int) -> tuple[Tensor, LocalizerTargets]:
    """White quadrilaterals on noise, every third image without; those with a bar have two lines."""
    generator = np.random.default_rng(4)
    images = generator.uniform(0, 120, (count, side, side)).astype(np.uint8)
    present, lines = np.arange(count) % 3 != 2, 1 + np.arange(count) % 2
    corners = np.full((count, 4, 2), np.nan, dtype=np.float32)
    for i in np.flatnonzero(present):
        half = generator.uniform(0.2, 0.3, 2) * side * (1, 0.4 * lines[i])
        centre = side / 2 + generator.uniform(-0.15, 0.15, 2) * side
        skew = generator.uniform(-3, 3, (4, 2))
        corners[i] = centre + half * [[-1, -1], [1, -1], [1, 1], [-1, 1]] + skew
        points = np.round((corners[i] - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(images[i], [points], 255, cv2.LINE_AA, 4)
        if lines[i] == 2:
            first, last = corners[i][[0, 3]].mean(axis=0), corners[i][[1, 2]].mean(axis=0)
            cv2.line(images[i], first.astype(int).tolist(), last.astype(int).tolist(), 0, 3)
    targets = LocalizerTargets(
        torch.from_numpy(corners), torch.from_numpy(present), torch.from_numpy(lines)
    )
    return torch.from_numpy(images)[:, None] / 255, targets


def fit(model: Localizer, images: Tensor, targets: LocalizerTargets, steps: int) -> np.ndarray:
    """Train on one batch; gives the maps that it then makes of it."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(model(images), targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model(images).numpy()


def test_plate_net_overfits_one_batch() -> None:
    torch.manual_seed(1)
    images, targets = drawn(9, 80)
    maps = fit(PlateNet([1, 80, 80], SMALL), images, targets, 120)
    corners, score, two_lines = best(maps)
    present = targets.present.numpy()
    assert (score[present] > 0.5).all()
    assert (score[~present] < 0.3).all()
    error = np.linalg.norm(corners - targets.corners.numpy(), axis=-1)[present]
    assert error.mean() < 1.5
    assert ((two_lines > 0.5) == (targets.lines.numpy() == 2))[present].all()


def seed_localizer() -> PlateLocalizerV3:
    torch.manual_seed(1)
    return PlateLocalizerV3([1, 80, 80], **SEED_ARGUMENTS)


def test_the_seeds_localizer_overfits_one_batch_through_the_same_interface() -> None:
    images, targets = drawn(6, 80)
    corners, score, two_lines = best(fit(seed_localizer(), images, targets, 150))
    assert (score > 0.99).all()
    assert (two_lines < 0.01).all()
    present = targets.present
    found = corners_to_box(torch.from_numpy(corners[present]))
    error = (found - corners_to_box(targets.corners[present])).abs()
    assert error.mean() < 2


def test_the_seeds_localizer_says_of_the_whole_image_that_it_has_a_box() -> None:
    model = seed_localizer().eval()
    assert not model.dense
    images = noise(4, 1, 80, 80)
    with torch.inference_mode():
        maps = model(images)
        box = model.head(model.hidden(model.trunk(images))).sigmoid() * 80
    assert maps.shape == (4, 10, 1, 1)
    corners = maps[:, 2:].reshape(4, 4, 2)
    torch.testing.assert_close(corners_to_box(corners), box)
    # Clockwise from the top left.
    assert (corners[:, 0] < corners[:, 2]).all()
    torch.testing.assert_close(corners[:, 1, 1], corners[:, 0, 1])
    assert not any("size" in name for name in model.state_dict())


def test_the_seeds_localizer_learns_from_plates_alone() -> None:
    model = seed_localizer()
    images, targets = drawn(6, 80)
    maps = model(images)
    present = targets.present
    alone = LocalizerTargets(*(value[present] for value in targets))
    torch.testing.assert_close(model.loss(maps, targets), model.loss(maps[present], alone))
    nothing = targets._replace(present=torch.zeros_like(present))
    assert model.loss(maps, nothing) == 0


def test_exported_plate_net_gives_what_torch_gives_at_any_size() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = plate_net()
    dynamic = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        model,
        (noise(2, 1, 96, 160),),
        dynamo=True,
        input_names=["images"],
        output_names=["maps"],
        dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
        verbose=False,
    )
    assert program is not None
    file = io.BytesIO()
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((2, 1, 96, 160), (1, 1, 160, 96), (5, 1, 64, 64), (3, 1, 84, 84)):
        images = noise(*shape)
        with torch.inference_mode():
            expected = model(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        np.testing.assert_allclose(found, expected, atol=1e-3)
