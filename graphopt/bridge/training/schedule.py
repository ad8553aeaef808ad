"""What changes over the steps by a formula: the learning rate, the share of pruned weights."""

from __future__ import annotations

import math
from typing import Literal

__all__ = ["rate", "sparsity"]


def rate(step: float, total: int, warmup: float) -> float:
    """Share of the highest rate at a step: linear warm-up, then half a cosine down to zero.

    Args:
        step: 0 to ``total``; further on where the time will end before the steps do.
        total: Number of steps.
        warmup: Share of the steps that climb.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017),
    section 3, equation 5, one period; Goyal et al., Accurate, Large Minibatch SGD (2017),
    section 2.2 for the warm-up.
    """
    climb = round(warmup * total)
    if step < climb:
        return min(1.0, (step + 1) / climb)
    return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, total - climb)))


def sparsity(
    kind: Literal["cubic", "even", "once"], progress: float, first: float, last: float
) -> float:
    """Share of pruned weights on the way from ``first`` to ``last``.

    ``cubic`` is last + (first - last) * (1 - progress)^3: much goes while the network still has
    plenty, little towards the end. ``even`` is a straight line; ``once`` is all at the beginning.

    Args:
        kind: The course.
        progress: 0 at the first pruning, 1 at the last.
        first: Share before the first pruning, 0 to 1.
        last: Share after the last, 0 to 1.

    Source: Zhu and Gupta, To prune, or not to prune (2017), equation 1.
    """
    if kind == "once":
        return last
    left = 1 - min(1.0, max(0.0, progress))
    return last + (first - last) * (left**3 if kind == "cubic" else left)
