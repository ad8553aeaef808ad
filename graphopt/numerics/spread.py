"""A fixed order in which any leading part of it lies evenly over a range of numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["lowest_ranked", "spread_ranks"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: its multiples mod 2^64 lie evenly however many they are."""


def spread_ranks(start: int, count: int) -> NDArray[np.uint64]:
    """Ranks of the numbers from ``start`` on, no two of them the same.

    Source: Knuth, The Art of Computer Programming, volume 3, section 6.4 (Fibonacci hashing).
    """
    return np.arange(start, start + count, dtype=np.uint64) * _GOLDEN


def lowest_ranked(total: int, count: int) -> NDArray[np.intp]:
    """Of the numbers below ``total`` those ``count`` that rank lowest, in order.

    >>> lowest_ranked(16, 4).tolist()
    [0, 5, 10, 13]
    """
    if count >= total:
        return np.arange(total)
    return np.sort(np.argpartition(spread_ranks(0, total), count)[:count])
