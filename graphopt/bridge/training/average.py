"""A running average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Average"]


class Average:
    """Exponential moving average of all parameters and float buffers of a module.

    Source: Polyak and Juditsky, Acceleration of Stochastic Approximation by Averaging (1992); the
    decay starts low, as (1 + t) / (10 + t), so that the first weights are soon forgotten.

    Args:
        module: Whose values are averaged.
        decay: Share of the average that stays at each step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        self._held = {name: tensor.detach().clone() for name, tensor in _floats(module)}

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self._decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in _floats(self._module):
                self._held[name].lerp_(tensor, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module holds the averages meanwhile."""
        before = {name: tensor.detach().clone() for name, tensor in _floats(self._module)}
        self._put(self._held)
        try:
            yield
        finally:
            self._put(before)

    def state(self) -> dict[str, Tensor]:
        """The averages by name."""
        return self._held

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""
        for name, tensor in self._held.items():
            tensor.copy_(state[name])

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in _floats(self._module):
                tensor.copy_(values[name])


def _floats(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    for name, buffer in module.named_buffers():
        if buffer.is_floating_point():
            yield name, buffer
