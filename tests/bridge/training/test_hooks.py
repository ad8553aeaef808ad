"""What acts on weights beside the optimizer."""

from __future__ import annotations

from typing import Any

import torch

from graphopt.bridge import to_torch
from graphopt.bridge.training.hooks import Hook, KeepZeros


def test_a_hook_does_nothing_by_itself() -> None:
    hook = Hook()
    assert hook.complete(0)
    assert hook.state() == {}
    assert hook.identity == "Hook"


def test_zeros_of_matrices_stay(convnet: Any) -> None:
    module = to_torch(convnet())
    held = dict(module.weights())
    with torch.no_grad():
        for weight in held.values():
            weight.reshape(-1)[0] = 0
    hook = KeepZeros(module)
    with torch.no_grad():
        for weight in held.values():
            weight.add_(1)
    hook.after_update(0)
    first = {name: float(weight.detach().reshape(-1)[0]) for name, weight in held.items()}
    assert first == {"W": 0, "V": 0, "scale": 1, "shift": 1, "b": 1}
    assert int((held["W"] == 0).sum()) == 1
