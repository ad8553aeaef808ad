"""The optimizer, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["load_state", "make", "state"]

_MOMENTUM = 0.9


def make(
    kind: Literal["adam", "sgd"],
    weights: Iterable[nn.Parameter],
    lr: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay, or SGD with Nesterov momentum 0.9."""
    if kind == "adam":
        return torch.optim.AdamW(weights, lr=lr, weight_decay=weight_decay)
    return torch.optim.SGD(
        weights, lr=lr, weight_decay=weight_decay, momentum=_MOMENTUM, nesterov=True
    )


def state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimizer remembers, by number of the weight and name."""
    held = optimizer.state_dict()["state"]
    return {
        f"{number}/{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for number, values in held.items()
        for name, value in values.items()
        if value is not None
    }


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take back what ``state`` gave, each tensor laid out in memory like its weight."""
    whole = optimizer.state_dict()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for key, value in tensors.items():
        number, name = key.split("/", 1)
        weight = weights[int(number)]
        like = torch.empty_like(weight).copy_(value) if value.shape == weight.shape else value
        whole["state"].setdefault(int(number), {})[name] = like
    optimizer.load_state_dict(whole)
