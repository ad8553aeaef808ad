"""Mean and variance of inner tensors of a module over samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import from_torch, to_tensor
from graphopt.data.samples import Samples
from graphopt.graph.tensors import Array

__all__ = ["moments"]

_SAMPLES = 256


def moments(
    module: GraphModule, tensors: Sequence[str], samples: Samples
) -> dict[str, tuple[Array, Array]]:
    """Mean and variance of each channel (axis 1) over the first 256 samples.

    Args:
        module: In evaluation mode.
        tensors: Inner tensors of two axes or more.
        samples: What to run.

    Returns:
        By name: mean and variance, each ``(channels,)``, float64.
    """
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in tensors}
    count: dict[str, int] = dict.fromkeys(tensors, 0)
    with torch.no_grad():
        for feeds, _ in samples.feeds(batch=1, limit=_SAMPLES):
            found = module({n: to_tensor(a) for n, a in feeds.items()}, taps=tensors)
            for name in tensors:
                rows = found[name].double().transpose(0, 1).flatten(1)
                new = [rows.sum(1), rows.square().sum(1)]
                sums[name] = (
                    [a + b for a, b in zip(sums[name], new, strict=True)] if sums[name] else new
                )
                count[name] += rows.shape[1]
    result = {}
    for name, (total, squares) in sums.items():
        mean = total / count[name]
        variance = (squares / count[name] - mean.square()).clamp_min(0)
        result[name] = from_torch(mean), from_torch(variance)
    return result
