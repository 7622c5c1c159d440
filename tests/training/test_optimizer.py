"""The optimizer updates every parameter, and goes on where it stopped."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from src.training.optimizer import MuonAdamW


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Conv2d(12, 4, 1), nn.Flatten(), nn.Linear(4 * 4 * 4, 3),
    )  # fmt: skip
    return model.to(memory_format=torch.channels_last)


IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(IMAGES) - IMAGES[:, 0, :3, 0]).square().mean()
        loss.backward()
        return loss

    loss = optimizer.step(closure)  # type: ignore[arg-type]  # a closure gives a loss
    return float(loss.detach())


def test_every_parameter_is_updated_and_the_loss_falls() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    optimizer = MuonAdamW(model, 0.01, 0.01)
    losses = [step(model, optimizer) for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]
    for name, value in model.named_parameters():
        assert not torch.equal(value, before[name]), name


def test_updates_of_hidden_convolutions_are_orthogonal_and_no_others_are() -> None:
    model = network()
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    step(model, MuonAdamW(model, 0.01, 0.0))
    new = dict(model.named_parameters())
    change = (new["3.weight"] - weights["3.weight"]).permute(0, 2, 3, 1).flatten(1)
    values = torch.linalg.svdvals(change.detach())
    assert float(values.max() / values.min()) < 3
    # The size of a step is that of AdamW's: about 0.2 of the learning rate.
    assert float(change.detach().square().mean().sqrt()) == pytest.approx(0.002, rel=0.3)
    first = (new["6.weight"] - weights["6.weight"]).detach()
    assert first.abs().median() == pytest.approx(0.01, rel=0.05)


def test_all_parameters_are_in_its_groups_once() -> None:
    model = network()
    grouped = [
        value for group in MuonAdamW(model, 0.1, 0.1).param_groups for value in group["params"]
    ]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    decayed = {group["weight_decay"] for group in MuonAdamW(model, 0.1, 0.1).param_groups}
    assert decayed == {0.0, 0.1}


def test_it_follows_a_schedule() -> None:
    model = network()
    optimizer = MuonAdamW(model, 0.01, 0.0)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.0)
    before = copy.deepcopy(dict(model.named_parameters()))
    step(model, optimizer)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]), name


def test_it_goes_on_where_it_stopped() -> None:
    first = network()
    optimizer = MuonAdamW(first, 0.01, 0.01)
    for _ in range(3):
        step(first, optimizer)
    second = network()
    second.load_state_dict(first.state_dict())
    resumed = MuonAdamW(second, 0.5, 0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        step(first, optimizer)
        step(second, resumed)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_network_without_such_convolutions() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    optimizer = MuonAdamW(model, 0.05, 0.0)
    losses = [step(model, optimizer) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_weights_in_another_memory_format_are_refused() -> None:
    model = network().to(memory_format=torch.contiguous_format)
    with pytest.raises(ValueError, match="channels_last"):
        MuonAdamW(model, 0.1, 0.1)
