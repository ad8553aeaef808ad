"""Means and covariances of rows, summed as the rows come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["MomentSums", "Moments"]

_SLICE = 4096
"""Rows whose products are summed in float32 before they are added in float64."""


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
            part = rows[start : start + _SLICE] - self._shift
            self._sum += part.sum(axis=0, dtype=np.float64)
            self._products += part.transpose(1, 2, 0) @ part.transpose(1, 0, 2)

    def result(self) -> Moments:
        """The moments so far."""
        if self._shift is None:
            return Moments(0, self._sum.copy(), self._products.copy())
        off = self._sum / self.count
        covariance = self._products / self.count - off[:, :, None] * off[:, None, :]
        return Moments(self.count, off + self._shift, covariance)
