"""Means and covariances of rows, summed as the rows come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MomentSums", "Moments"]

_SLICE = 4096
"""About so many rows at most have products that are summed in float32 before they are added in
float64."""
_STRIP = 256
"""Rows of a matrix that are changed at once."""
_WAITING = 1 << 22
"""Values of rows that wait at most, unless they come all at once."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What is known of rows, group by group.

    Attributes:
        count: Rows.
        mean: ``(groups, width)``; zero of no rows.
        covariance: ``(groups, width, width)``, divided by the count; zero of no rows.
    """

    count: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


class MomentSums:
    """Adds up rows; products are taken in float32, around the mean of the first rows.

    Few rows wait until there are more: each product, added in float64, costs passes over the whole
    matrix.

    >>> sums = MomentSums(1, 2)
    >>> sums.add(np.array([[[1, 5]], [[3, 9]]], np.float32))
    >>> sums.result().covariance.tolist()
    [[[1.0, 2.0], [2.0, 4.0]]]

    Args:
        groups: Groups of each row.
        width: Values of a group.
    """

    def __init__(self, groups: int, width: int) -> None:
        self.count = 0
        self._shift: NDArray[np.float32] | None = None
        self._waiting: list[NDArray[np.float32]] = []
        self._most = min(_SLICE, max(1, _WAITING // max(1, groups * width)))
        self._sum: NDArray[np.float64] = np.zeros((groups, width))
        self._products: NDArray[np.float64] = np.zeros((groups, width, width))

    def add(self, rows: NDArray[np.float32]) -> None:
        """Take in rows: ``(rows, groups, width)``."""
        if not len(rows):
            return
        if self._shift is None:
            self._shift = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.count += len(rows)
        for start in range(0, len(rows), _SLICE):
            self._waiting.append(rows[start : start + _SLICE] - self._shift)
            if sum(map(len, self._waiting)) >= self._most:
                self._multiply()

    def _multiply(self) -> None:
        """Take in the rows that wait."""
        rows = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        self._waiting = []
        self._sum += rows.sum(axis=0, dtype=np.float64)
        self._products += rows.transpose(1, 2, 0) @ rows.transpose(1, 0, 2)

    def result(self) -> Moments:
        """The moments so far."""
        if self._shift is None:
            return Moments(0, self._sum.copy(), self._products.copy())
        if self._waiting:
            self._multiply()
        off = self._sum / self.count
        covariance = self._products / self.count
        for start in range(0, off.shape[1], _STRIP):
            strip = slice(start, start + _STRIP)
            covariance[:, strip] -= off[:, strip, None] * off[:, None, :]
        return Moments(self.count, off + self._shift, covariance)
