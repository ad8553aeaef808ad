"""Small things that many operators do with their inputs and attributes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["accumulating", "dims", "positive", "same_pads", "scalar", "spread"]


def dims(values: Tensor) -> list[int]:
    """The elements of an integer tensor as numbers."""
    return [int(value) for value in values.reshape(-1).tolist()]


def scalar(value: Tensor | None, default: float) -> float:
    """The one element of a tensor as a number; ``default`` where the input is left out."""
    return default if value is None else float(value.item())


def positive(axis: int, rank: int) -> int:
    """An axis counted from the front."""
    return axis + rank if axis < 0 else axis


def spread(values: Tensor, axis: int, rank: int) -> Tensor:
    """A vector shaped so that it broadcasts along ``axis`` of a tensor of ``rank`` axes."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def same_pads(
    auto_pad: str,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Pads (all begins, then all ends) of ``auto_pad`` SAME_UPPER, SAME_LOWER or VALID."""
    begins, ends = [], []
    for size, width, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        total = 0
        if auto_pad != "VALID":
            covered = (-(-size // stride) - 1) * stride + (width - 1) * dilation + 1
            total = max(0, covered - size)
        small = total // 2
        begins.append(small if auto_pad == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return begins + ends


def accumulating(dtype: torch.dtype) -> torch.dtype:
    """The type to compute in for values of ``dtype``: float32 for half precision."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
