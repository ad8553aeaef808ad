"""The learning rate over the steps."""

from __future__ import annotations

import math

__all__ = ["rate"]


def rate(step: int, total: int, warmup: float) -> float:
    """Share of the highest rate at a step: linear warm-up, then half a cosine down to zero.

    Args:
        step: 0 to ``total - 1``.
        total: Number of steps.
        warmup: Share of the steps that climb.

    Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017),
    section 3, equation 5, one period; Goyal et al., Accurate, Large Minibatch SGD (2017),
    section 2.2 for the warm-up.
    """
    climb = round(warmup * total)
    if step < climb:
        return (step + 1) / climb
    return 0.5 * (1 + math.cos(math.pi * (step - climb) / max(1, total - climb)))
