"""Cosine of the angle between two vectors, from sums that can be gathered piece by piece."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Cosine"]


class Cosine:
    """Float64 sums over the elements of two vectors, from which the cosine follows.

    >>> cosine = Cosine()
    >>> cosine.add(np.array([3.0, 0.0]), np.array([1.0, 1.0]))
    >>> round(cosine.value, 4)
    0.7071
    """

    def __init__(self) -> None:
        self.product = self.first = self.second = 0.0
        self.failed = False

    def add(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        """Count two arrays of the same size and any real dtype, as further elements."""
        x, y = (each.astype(np.float64).ravel() for each in (first, second))
        self.product += float(x @ y)
        self.first += float(x @ x)
        self.second += float(y @ y)

    def fail(self) -> None:
        """Count elements that cannot be multiplied."""
        self.failed = True

    @property
    def value(self) -> float | None:
        """Between -1 and 1; None of zeros, of what is not finite, and after a failure."""
        scale = math.sqrt(self.first * self.second)
        if self.failed or not math.isfinite(scale) or scale == 0:
            return None
        return self.product / scale
