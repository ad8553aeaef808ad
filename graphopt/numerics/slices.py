"""Signal and noise slice by slice: along an axis whose entries may hold different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.sqnr import decibels

__all__ = ["AxisSums", "axis_sums", "least_slice"]

_OWN_ROUNDING = 2.0**-12
"""Deviation over magnitude of a slice below which half precision cannot tell its values apart."""
_DUST = 2.0**-20
"""Magnitude over that of the largest slice below which float32 holds nothing but rounding."""
_GAP = 4.0
"""Deviations of neighbours, sorted, that are further apart are in different units."""
_BAND = 30.0
"""So are those that are further below the largest of their family."""
_LONG = 64
_FEW = 16
"""Slices of one family up to which each one is taken to be a quantity of its own."""


@dataclass
class AxisSums:
    """Float64 sums of each slice along one axis, over samples and all other axes.

    Attributes:
        count: Values of a slice.
        total: Sum of the expected values ``(slices,)``.
        signal: Sum of their squares ``(slices,)``.
        noise: Sum of the squared differences ``(slices,)``.
        low: Smallest expected value of each slice ``(slices,)``.
        high: Largest one.
    """

    count: int
    total: NDArray[np.float64]
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def join(self, other: AxisSums) -> None:
        """Count the sums of further samples; slices must be as many."""
        self.count += other.count
        self.total = self.total + other.total
        self.signal = self.signal + other.signal
        self.noise = self.noise + other.noise
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)

    def whole(self) -> AxisSums:
        """All slices as one."""
        total, signal, noise = (
            np.array([sums.sum()]) for sums in (self.total, self.signal, self.noise)
        )
        low, high = np.array([self.low.min()]), np.array([self.high.max()])
        return AxisSums(self.count * len(self.total), total, signal, noise, low, high)

    def spread(self) -> NDArray[np.float64]:
        """Sum of the squared deviations of each slice from its own mean ``(slices,)``."""
        held: NDArray[np.float64] = np.maximum(self.signal - self.total**2 / self.count, 0.0)
        return held

    def informative(self) -> NDArray[np.bool_]:
        """Which slices vary by more than rounding: only these can be right or wrong ``(slices,)``.

        >>> sums = axis_sums(np.array([[1.0, 5, 0], [2, 5, 0]]), np.zeros((2, 3)), [1])[1]
        >>> sums.informative().tolist()
        [True, False, False]
        """
        own = self.spread() > _OWN_ROUNDING**2 * self.signal
        told: NDArray[np.bool_] = own & (self.signal > _DUST**2 * self.signal.max(initial=0.0))
        return told


def axis_sums(
    expected: NDArray[np.float64], error: NDArray[np.float64], axes: Sequence[int]
) -> dict[int, AxisSums]:
    """The sums of an array's slices along each of some axes.

    Args:
        expected: Values that are right, all finite, at least one.
        error: What the others differ by, of the same shape.
        axes: Counted from the front.
    """
    found = {}
    for axis in axes:
        values, differences = _laid_out(expected, axis), _laid_out(error, axis)
        found[axis] = AxisSums(
            expected.size // expected.shape[axis],
            values.sum(axis=2).sum(axis=0),
            np.einsum("ijk,ijk->ij", values, values).sum(axis=0),
            np.einsum("ijk,ijk->ij", differences, differences).sum(axis=0),
            values.min(axis=2).min(axis=0),
            values.max(axis=2).max(axis=0),
        )
    return found


def _laid_out(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """``(outer, slices, inner)`` of the same values, with a long inner axis: sums are fast then."""
    size = values.shape[axis]
    inner = math.prod(values.shape[axis + 1 :])
    if inner >= _LONG:
        return values.reshape(-1, size, inner)
    return np.ascontiguousarray(np.moveaxis(values, axis, 0)).reshape(1, size, -1)


def least_slice(sums: AxisSums, *, about_mean: bool = True) -> tuple[int, float] | None:
    """The slice with the least ratio of signal to noise, and that ratio in dB.

    The signal of a slice is what deviates from its own mean, so that neither a constant nor a
    large neighbour hides noise. Among many slices in the same units one that hardly moves is
    no quantity of its own: it is held against what is usual in its family. Families are slices
    whose values all lie from 0 to 1 while others do not, and those of about the same deviation.

    Args:
        sums: Of the slices along one axis.
        about_mean: Take the whole power for the signal where False: for samples that say
            nothing of how far real ones vary.

    Returns:
        None where no slice carries information, or there is only one.
    """
    if len(sums.total) < 2:
        return None
    informative = sums.informative() if about_mean else sums.signal > 0
    if not informative.any():
        return None
    signal = sums.spread() if about_mean else sums.signal
    held = signal.copy()
    for family, usual in _families(sums, signal, informative):
        held[family] = np.maximum(held[family], usual)
    ratios = np.where(informative, decibels(held, sums.noise), np.inf)
    worst = int(ratios.argmin())
    return worst, float(ratios[worst])


def _families(
    sums: AxisSums, signal: NDArray[np.float64], informative: NDArray[np.bool_]
) -> list[tuple[NDArray[np.intp], float]]:
    """Informative slices in the same units, with the signal that is usual there, else 0."""
    shares = (sums.low >= 0) & (sums.high <= 1)
    families = list[tuple[NDArray[np.intp], float]]()
    if shares.all() or not shares.any():
        rest = np.flatnonzero(informative)
    else:
        scores = np.flatnonzero(informative & shares)
        rest = np.flatnonzero(informative & ~shares)
        if len(scores):
            families.append((scores, float(signal[scores].mean())))
    rest = rest[np.argsort(-signal[rest], kind="stable")]
    if not len(rest):
        return families
    deviations = np.sqrt(signal[rest])
    start = 0
    for place in range(1, len(rest) + 1):
        ends = place == len(rest) or (
            deviations[place] * _GAP < deviations[place - 1]
            or deviations[place] * _BAND < deviations[start]
        )
        if ends:
            family = rest[start:place]
            usual = float(np.median(signal[family])) if len(family) > _FEW else 0.0
            families.append((family, usual))
            start = place
    return families
