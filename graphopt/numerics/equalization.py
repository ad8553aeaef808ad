"""Factors that even out the ranges of channels between the weights that make and that take them.

With a factor s a channel, ``W2 f(W1 x) = (W2 s) f((W1 / s) x)`` where f(s x) = s f(x).
Source: Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction,
section 4.1, equation 11: ``s = sqrt(r1 / r2)`` brings both ranges to ``sqrt(r1 r2)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["equalizing", "lowest_factors"]

Floats = NDArray[np.float64]


def equalizing(made: Floats, taken: Floats, least: Floats, most: Floats) -> Floats:
    """The factors that make two sets of ranges alike, within bounds.

    Args:
        made: Range of each channel on the side that is divided, as a share of the largest,
            ``(channels,)``; 0 where there is nothing.
        taken: The same of the side that is multiplied.
        least: Smallest factor of each channel, above 0.
        most: Largest one.

    Returns:
        ``sqrt(made / taken)`` within the bounds; 1 where one of both is 0.

    >>> one = np.ones(3)
    >>> equalizing(np.array([1, 0.04, 0.0]), np.array([0.25, 1, 1]), one / 4, one * 10)
    array([2.  , 0.25, 1.  ])
    """
    live = (made > 0) & (taken > 0)
    factors = np.ones_like(made)
    factors[live] = np.sqrt(made[live] / taken[live])
    return np.where(live, np.clip(factors, least, most), 1.0)


def lowest_factors(peaks: Floats, bound: float, margin: float) -> tuple[Floats, Floats]:
    """Bounds of factors that let ``min(f(x) / s, bound)`` stay ``min(f(x), bound) / s``.

    A channel that reaches the bound keeps s = 1. One that stays below may be lifted until its peak,
    with the margin, is at the bound; pushed down it may be as far as one likes: below its own bound
    a larger s changes nothing, and what lies above was cut at ``bound`` and is now cut later.

    Args:
        peaks: Largest value of each channel, not below 0, ``(channels,)``.
        bound: Upper bound of all channels, above 0.
        margin: How much larger than its peak a channel may get.

    Returns:
        The smallest and the largest factor of each channel.

    >>> lowest_factors(np.array([6.0, 1.0, 5.0]), 6.0, 1.5)
    (array([1.  , 0.25, 1.  ]), array([ 1., inf,  1.]))
    """
    free = peaks * margin < bound
    return np.where(free, peaks * margin / bound, 1.0), np.where(free, np.inf, 1.0)
