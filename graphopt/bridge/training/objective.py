"""The loss as a function of a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import to_tensor
from graphopt.bridge.training.criterion import Criterion
from graphopt.graph.tensors import Array

__all__ = ["Objective", "channels_last", "on_device"]

_PICTURE_RANK = 4


class Objective(nn.Module):
    """Student and criterion as one module, whose only result is the loss.

    What several processes average is then exactly what the loss depends on.

    Args:
        student: The module that is trained.
        criterion: The loss.
        half: Compute products in bfloat16.
    """

    def __init__(self, student: GraphModule, criterion: Criterion, *, half: bool) -> None:
        super().__init__()
        self.student = student
        self._criterion = criterion
        self._half = half

    def forward(
        self, feeds: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """The mean loss over a batch."""
        device = next(self.student.parameters()).device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._half):
            answers = self.student(feeds, taps=self._criterion.taps)
        return self._criterion.loss(answers, wanted, labels)


def channels_last(module: Any) -> None:
    """Lay weights of four axes out with their channels last in memory, as pictures are."""
    module.to(memory_format=torch.channels_last)


def on_device(arrays: Mapping[str, Array], device: torch.device) -> dict[str, Tensor]:
    """Copies of arrays as tensors; pictures with their channels last in memory, which is faster."""
    return {name: _placed(to_tensor(array), device) for name, array in arrays.items()}


def _placed(tensor: Tensor, device: torch.device) -> Tensor:
    if tensor.dim() == _PICTURE_RANK and tensor.is_floating_point():
        return tensor.to(device, memory_format=torch.channels_last)
    return tensor.to(device)
