"""Signal to quantization noise ratio, from sums that can be gathered piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAP_DB", "ErrorSums", "sqnr_db"]

CAP_DB = 300.0
"""What identical answers get, and with a minus sign what answers get that share nothing."""


class ErrorSums:
    """Float64 sums over expected and actual values, from which the SQNR follows.

    ``SQNR = 10 log10(sum f^2 / sum (f - g)^2)`` in dB, held within ``-CAP_DB .. CAP_DB``.

    Positions where both hold the same infinity, or both NaN, are left out of both sums; where only
    one of them is not finite, or they differ in sign, the answer counts as failed.

    >>> sums = ErrorSums()
    >>> sums.add(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    >>> sums.sqnr_db
    20.0
    """

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0
        self.count = 0
        self.failed = False

    def add(self, expected: NDArray[Any], actual: NDArray[Any]) -> None:
        """Count two arrays of the same shape and any real dtype.

        Raises:
            ValueError: The shapes differ.
        """
        if expected.shape != actual.shape:
            raise ValueError(f"shapes {expected.shape} and {actual.shape} differ")
        f = np.asarray(expected, dtype=np.float64).ravel()
        g = np.asarray(actual, dtype=np.float64).ravel()
        finite = np.isfinite(f) & np.isfinite(g)
        if not finite.all():
            same = (f == g) | (np.isnan(f) & np.isnan(g))
            self.failed |= not bool((finite | same).all())
            f, g = f[finite], g[finite]
        difference = f - g
        self.signal += float(f @ f)
        self.noise += float(difference @ difference)
        self.count += expected.size

    def fail(self) -> None:
        """Count an answer that cannot be compared at all, such as one of another shape."""
        self.failed = True

    @property
    def sqnr_db(self) -> float | None:
        """The ratio in dB; None while nothing was counted.

        ``-CAP_DB`` after a failure, and where all expected values are zero but not all actual.
        """
        if self.failed:
            return -CAP_DB
        if self.count == 0:
            return None
        if self.noise == 0.0:
            return CAP_DB
        if self.signal == 0.0:
            return -CAP_DB
        ratio = 10.0 * (np.log10(self.signal) - np.log10(self.noise))
        return float(np.clip(ratio, -CAP_DB, CAP_DB))


def sqnr_db(expected: NDArray[Any], actual: NDArray[Any]) -> float | None:
    """SQNR in dB of one pair of arrays of the same shape; None for empty arrays.

    >>> sqnr_db(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    300.0
    """
    sums = ErrorSums()
    sums.add(expected, actual)
    return sums.sqnr_db
