"""Where the float weights behind integers start."""

from __future__ import annotations

import re

import numpy as np
import torch
from torch import Tensor

from graphopt.bridge.quantized.fake import Grid
from graphopt.bridge.quantized.points import WeightPoint
from graphopt.bridge.tensors import to_tensor
from graphopt.facts.operands import FLOATS
from graphopt.graph.graph import Graph

__all__ = ["kept_zeros", "start"]

_QUANTIZED = re.compile(r"(?P<base>.+)_quantized(_\d+)?")
_MOST_OTHERS = 1e-3
_PRUNED = 0.5


def start(point: WeightPoint, grid: Grid, reference: Graph) -> tuple[Tensor, bool]:
    """The float weight that the integers were made from, or what they mean.

    The quantizers of this package and of onnxruntime call the integers of ``W`` ``W_quantized``.
    The tensor ``W`` of ``reference`` is taken if its codes are those of the file, but for one in
    a thousand that is a neighbour.

    Args:
        point: The weight.
        grid: Its grid.
        reference: The model before it was quantized.

    Returns:
        Float32 of the weight's shape, and whether it comes from ``reference``.
    """
    stored = torch.from_numpy(point.constant.values.astype(np.float32))
    named = _QUANTIZED.fullmatch(point.constant.origin)
    source = reference.main.constant(named["base"]) if named else None
    if source is not None and source.data_type in FLOATS and source.shape == point.constant.shape:
        values = to_tensor(source.values.astype(np.float32))
        apart = (grid.stored(values) - stored).detach().abs()
        if float(apart.max()) <= 1 and float((apart > 0).float().mean()) <= _MOST_OTHERS:
            return values, True
    return grid.meaning(stored), False


def kept_zeros(values: Tensor, *, exact: bool) -> Tensor | None:
    """Where a weight was set to zero on purpose; None where it was not.

    Args:
        values: The float weight as it starts.
        exact: It is the weight before quantization. In one that was rounded, zeros come from
            rounding too; there at least half must be zero to count as pruned.
    """
    zero = values == 0
    share = float(zero.float().mean())
    return zero if share and (exact or share >= _PRUNED) else None
