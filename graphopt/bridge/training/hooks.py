"""What may act on the weights beside the optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphopt.bridge.module import GraphModule

__all__ = ["Hook", "KeepZeros"]


class Hook:
    """Called in the course of the training; this one does nothing."""

    @property
    def identity(self) -> str:
        """What it does, in words that differ where its effect does; part of a run's identity."""
        return type(self).__name__

    def began(self, step: int, total: int) -> None:
        """Before the first step of this run, or after a resumed state was loaded."""

    def before_update(self, step: int) -> None:
        """Gradients are there, the optimizer has not used them yet."""

    def after_update(self, step: int) -> None:
        """The weights have moved."""

    def judged(self) -> None:
        """The weights that are judged next and perhaps kept are in the module: averages, maybe."""

    def scored(self, step: int, score: float | None) -> None:
        """What the held-out part gave after so many steps; None for a loss without a score."""

    def complete(self, step: int) -> bool:  # noqa: ARG002 - for those who count
        """Whether weights after so many steps may be kept as the result."""
        return True

    def state(self) -> dict[str, Tensor]:
        """What must be stored to go on later."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what ``state`` gave."""


class KeepZeros(Hook):
    """Weights that are zero stay zero: masks, N:M patterns and removed channels are kept.

    Only tensors of two or more axes count; a bias that starts at zero is free to move.

    Args:
        module: Its weights are looked at now.
    """

    def __init__(self, module: GraphModule) -> None:
        self._masked: list[tuple[nn.Parameter, Tensor]] = []
        for _, weight in module.weights():
            if weight.dim() > 1 and bool((weight == 0).any()):
                self._masked.append((weight, weight == 0))

    def began(self, step: int, total: int) -> None:  # noqa: ARG002 - the same at each
        """The weights may have gone to another device meanwhile."""
        self._masked = [(weight, zero.to(weight.device)) for weight, zero in self._masked]

    def after_update(self, step: int) -> None:  # noqa: ARG002 - the same at each
        """Set them back to zero."""
        with torch.no_grad():
            for weight, zero in self._masked:
                weight.masked_fill_(zero, 0)
