"""Muon for the convolutions, AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class MuonAdamW(torch.optim.Optimizer):
    """Optimizer that makes the updates of convolutions orthogonal, and is AdamW for other parameters.

    Muon (Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024) needs about two
    thirds of the samples that AdamW needs here (docs/ablations.md). It is used for convolutions that a
    batch norm follows, which have no bias. Its updates are scaled to the size of AdamW's (Liu et al., Muon
    is scalable for LLM training, 2025), so that both have one learning rate.

    Args:
        model: Model to train, on its device; its weights have the memory format channels_last.
        lr: Learning rate.
        weight_decay: Weight decay of all parameters but vectors.

    Raises:
        ValueError: The weights of a convolution have another memory format.
    """

    def __init__(self, model: nn.Module, lr: float, weight_decay: float) -> None:
        convolutions = [
            module.weight
            for module in model.modules()
            if isinstance(module, nn.Conv2d) and module.bias is None and module.in_channels > 1
        ]
        known = set(map(id, convolutions))
        rest = [value for value in model.parameters() if id(value) not in known]
        groups: list[dict[str, Any]] = [
            {"params": [value for value in rest if value.ndim > 1], "weight_decay": weight_decay},
            {"params": [value for value in rest if value.ndim <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self._convolutions = convolutions
        self._adamw = torch.optim.AdamW(groups, lr=lr)
        self._muon: torch.optim.Muon | None = None
        if convolutions:
            # torch's Muon takes matrices: these share the memory of the weights.
            matrices = [nn.Parameter(_matrix(weight.detach())) for weight in convolutions]
            if any(
                matrix.data_ptr() != weight.data_ptr()
                for matrix, weight in zip(matrices, convolutions, strict=True)
            ):
                raise ValueError("weights of convolutions must have the format channels_last")
            self._muon = torch.optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            groups = [{"params": convolutions, "weight_decay": weight_decay}, *groups]
        # All parameters are in these groups, for schedules and for scalers of gradients.
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters; ``closure``, if there is one, computes the gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        lr = self.param_groups[0]["lr"]
        for inner in self._inner():
            for group in inner.param_groups:
                group["lr"] = lr
        if self._muon is not None:
            for weight, matrix in zip(
                self._convolutions, self._muon.param_groups[0]["params"], strict=True
            ):
                matrix.grad = None if weight.grad is None else _matrix(weight.grad)
        for inner in self._inner():
            inner.step()
        return loss

    def _inner(self) -> list[torch.optim.Optimizer]:
        return [self._adamw] if self._muon is None else [self._adamw, self._muon]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimizers and the groups with their learning rates."""
        inner = [optimizer.state_dict() for optimizer in self._inner()]
        return {**super().state_dict(), "inner": inner}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        inner = state_dict["inner"]
        super().load_state_dict({name: state_dict[name] for name in ("state", "param_groups")})
        for optimizer, state in zip(self._inner(), inner, strict=True):
            optimizer.load_state_dict(state)


def _matrix(weight: Tensor) -> Tensor:
    """Return weights ``(O, I, h, w)`` or their gradient as a matrix, a row for each output."""
    return weight.permute(0, 2, 3, 1).flatten(1)
