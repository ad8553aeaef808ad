"""Signal to quantization noise ratio, from sums that can be gathered piece by piece."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["CAP_DB", "ErrorSums", "all_finite", "decibels", "finite_pair", "sqnr_db"]

CAP_DB = 300.0
"""What identical answers get, and with a minus sign what answers get that share nothing."""


class ErrorSums:
    """Float64 sums over expected and actual values, from which the SQNR follows.

    ``SQNR = 10 log10(sum f^2 / sum (f - g)^2)`` in dB, held within ``-CAP_DB .. CAP_DB``.

    Positions where both hold the same infinity, or both NaN, are left out of both sums; where only
    one of them is not finite, or they differ in sign, the answer counts as failed.

    >>> sums = ErrorSums()
    >>> _ = sums.add(np.array([3.0, 4.0]), np.array([3.0, 4.5]))
    >>> sums.sqnr_db
    20.0
    """

    def __init__(self) -> None:
        self.signal = 0.0
        self.noise = 0.0
        self.count = 0
        self.failed = False

    def add(
        self, expected: NDArray[Any], actual: NDArray[Any], samples: int = 1
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Count two arrays of the same shape and any real dtype.

        Args:
            expected: Of ``samples`` samples along its leading axis.
            actual: What came instead.
            samples: 1 for arrays that are one sample as a whole.

        Returns:
            Signal and noise of each sample: ``(samples,)``.

        Raises:
            ValueError: The shapes differ.
        """
        if expected.shape != actual.shape:
            raise ValueError(f"shapes {expected.shape} and {actual.shape} differ")
        f, g, fits = finite_pair(expected, actual)
        self.failed |= not fits
        f, g = f.reshape(samples, -1), g.reshape(samples, -1)
        signal, noise = _squares(f), _squares(f - g)
        self.signal += float(signal.sum())
        self.noise += float(noise.sum())
        self.count += expected.size
        return signal, noise

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
        return float(decibels(self.signal, self.noise))


def finite_pair(
    expected: ArrayLike, actual: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Two arrays in float64 with zeros wherever one of them is not finite, and whether that fits.

    It fits where both hold the same infinity, or both NaN.

    >>> finite_pair([1.0, np.inf], [1.0, np.inf])[2], finite_pair([1.0], [np.nan])[2]
    (True, False)
    """
    f, g = np.asarray(expected, np.float64), np.asarray(actual, np.float64)
    if all_finite(f) and all_finite(g):
        return f, g, True
    finite = np.isfinite(f) & np.isfinite(g)
    same = (f == g) | (np.isnan(f) & np.isnan(g))
    fits = bool((finite | same).all())
    return np.where(finite, f, 0.0), np.where(finite, g, 0.0), fits


def all_finite(values: NDArray[Any]) -> bool:
    """Whether no value is NaN or infinite; mostly told by the sum, without a copy.

    >>> all_finite(np.array([1.0, 2.0])), all_finite(np.array([1.0, np.nan]))
    (True, False)
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum(dtype=np.float64)) or np.isfinite(values).all())


def decibels(signal: ArrayLike, noise: ArrayLike) -> NDArray[np.float64]:
    """``10 log10(signal / noise)`` of each pair of sums, within ``-CAP_DB .. CAP_DB``.

    ``CAP_DB`` without noise, also where there is no signal either.

    >>> decibels([100.0, 0.0, 0.0], [1.0, 0.0, 2.0]).tolist()
    [20.0, 300.0, -300.0]
    """
    s, n = np.asarray(signal, np.float64), np.asarray(noise, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = 10.0 * (np.log10(s) - np.log10(n))
    held: NDArray[np.float64] = np.where(n == 0.0, CAP_DB, np.clip(ratio, -CAP_DB, CAP_DB))
    return held


def _squares(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of squares of each row; by ``einsum``, since the threads of ``@`` wait for each other."""
    sums: NDArray[np.float64] = np.einsum("ij,ij->i", rows, rows)
    return sums


def sqnr_db(expected: NDArray[Any], actual: NDArray[Any]) -> float | None:
    """SQNR in dB of one pair of arrays of the same shape; None for empty arrays.

    >>> sqnr_db(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    300.0
    """
    sums = ErrorSums()
    sums.add(expected, actual)
    return sums.sqnr_db
