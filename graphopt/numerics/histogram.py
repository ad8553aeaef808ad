"""A histogram that grows with its data and does not depend on the order in which it came."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram"]

_FINEST = -149  # exponent of the smallest positive float32
_MANTISSA = 24  # bins finer than float32's own spacing would stay empty


class Histogram:
    """Counts of values in at most ``bins`` bins, with the exact smallest and largest value.

    Bin ``i`` covers ``[i w, (i + 1) w)`` where ``w`` is a power of two: the smallest one with
    which all values fit into the bins. When a value falls outside, ``w`` doubles and bins merge
    in pairs. So 0 is always an edge, at least half of the bins are in use, and the result depends
    on the values only, not on how or in which order they were added.

    >>> histogram = Histogram(bins=4)
    >>> histogram.add(np.array([0.0, 1.0, 2.5, 3.0]))
    >>> histogram.counts, histogram.edges
    (array([1, 1, 1, 1]), array([0., 1., 2., 3., 3.]))

    Attributes:
        bins: Most bins.
        low: Exact minimum; ``inf`` while empty.
        high: Exact maximum; ``-inf`` while empty.
        zeros: How many of the counted values are exactly 0.
    """

    def __init__(self, bins: int = 2048) -> None:
        if bins < 2:
            raise ValueError(f"a histogram needs at least 2 bins, not {bins}")
        self.bins = bins
        self.low = math.inf
        self.high = -math.inf
        self.zeros = 0
        self._exponent = _FINEST
        self._first = 0
        self._counts = np.zeros(0, dtype=np.int64)

    @property
    def width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, self._exponent)

    @property
    def total(self) -> int:
        """Number of counted values."""
        return int(self._counts.sum())

    @property
    def counts(self) -> NDArray[np.int64]:
        """Counts from the bin of ``low`` to the bin of ``high``: ``(used,)``, not to be edited."""
        return self._counts

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins in use, ``(used + 1,)``; the outermost are ``low`` and ``high``."""
        edges = (self._first + np.arange(len(self._counts) + 1)) * self.width
        return np.clip(edges, self.low, self.high)

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of an array of any shape; an empty one changes nothing.

        Raises:
            ValueError: A value is not finite.
        """
        flat = np.ravel(values)
        if flat.size == 0:
            return
        self.widen(float(flat.min()), float(flat.max()))
        # float64, because dividing a small float32 by a great width may underflow to zero
        bins = np.floor(np.multiply(flat, 1.0 / self.width, dtype=np.float64))
        index = (bins - self._first).astype(np.intp)
        self._counts += np.bincount(index, minlength=len(self._counts))
        self.zeros += flat.size - int(np.count_nonzero(flat))

    def widen(self, low: float, high: float) -> None:
        """Make the range hold ``low`` and ``high``, without counting them.

        Raises:
            ValueError: One of them is not finite.
        """
        if self.low <= low and high <= self.high:
            return
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"values from {low} to {high} cannot be counted")
        self.low, self.high = min(self.low, low), max(self.high, high)
        exponent = self._needed()
        first = math.floor(math.ldexp(self.low, -exponent))
        last = math.floor(math.ldexp(self.high, -exponent))
        counts = np.zeros(last - first + 1, dtype=np.int64)
        self._pour(counts, first, exponent)
        self._counts, self._first, self._exponent = counts, first, exponent

    def _needed(self) -> int:
        """Exponent of the smallest bin width with which the range fits into the bins."""
        largest = max(abs(self.low), abs(self.high))
        exponent = max(_FINEST, math.frexp(largest)[1] - _MANTISSA) if largest else _FINEST
        span = self.high - self.low
        if span > 0:
            exponent = max(exponent, math.frexp(span / self.bins)[1] - 1)
        while self._bins_at(exponent) > self.bins:
            exponent += 1
        return exponent

    def _bins_at(self, exponent: int) -> int:
        low, high = math.ldexp(self.low, -exponent), math.ldexp(self.high, -exponent)
        return math.floor(high) - math.floor(low) + 1

    def _pour(self, counts: NDArray[np.int64], first: int, exponent: int) -> None:
        """Add the own counts to those of a histogram of the same or a greater bin width."""
        if not len(self._counts):
            return
        index = (self._first + np.arange(len(self._counts))) // 2.0 ** (exponent - self._exponent)
        np.add.at(counts, index.astype(np.int64) - first, self._counts)
