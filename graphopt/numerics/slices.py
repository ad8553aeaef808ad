"""Signal and noise slice by slice: along an axis whose entries may hold different things."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.sqnr import decibels

__all__ = ["AxisSums", "axis_sums", "least_slice"]

_DUST = 2.0**-20
"""Magnitude over that of the largest slice below which one holds nothing but rounding, unless
rounding is finer."""
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

    The squared deviations are summed about each part's own mean and joined by the formula of Chan,
    Golub, LeVeque 1979 (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances):
    from sums of squares a deviation of 1e-8 of the mean could not be told.

    Attributes:
        count: Values of a slice.
        mean: Of the expected values ``(slices,)``.
        spread: Sum of their squared deviations from it ``(slices,)``.
        signal: Sum of their squares ``(slices,)``.
        noise: Sum of the squared differences ``(slices,)``.
        low: Smallest expected value of each slice ``(slices,)``.
        high: Largest one.
    """

    count: int
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    signal: NDArray[np.float64]
    noise: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def join(self, other: AxisSums) -> None:
        """Count the sums of further samples; slices must be as many."""
        count, apart = self.count + other.count, other.mean - self.mean
        self.spread = self.spread + other.spread + apart**2 * (self.count * other.count / count)
        self.mean = self.mean + apart * (other.count / count)
        self.count = count
        self.signal = self.signal + other.signal
        self.noise = self.noise + other.noise
        self.low = np.minimum(self.low, other.low)
        self.high = np.maximum(self.high, other.high)

    def whole(self) -> AxisSums:
        """All slices as one."""
        mean = np.array([self.mean.mean()])
        spread = np.array([self.spread.sum() + self.count * np.square(self.mean - mean).sum()])
        signal, noise = np.array([self.signal.sum()]), np.array([self.noise.sum()])
        low, high = np.array([self.low.min()]), np.array([self.high.max()])
        return AxisSums(self.count * len(self.mean), mean, spread, signal, noise, low, high)

    def informative(self, rounding: float) -> NDArray[np.bool_]:
        """Which slices vary by more than rounding: only these can be right or wrong ``(slices,)``.

        Args:
            rounding: What rounding alone makes a constant vary by, over its magnitude.

        >>> sums = axis_sums(np.array([[1.0, 5, 0], [2, 5, 0]]), np.zeros((2, 3)), [1])[1]
        >>> sums.informative(2.0**-20).tolist()
        [True, False, False]
        """
        own = self.spread > rounding**2 * self.signal
        dust = min(_DUST, rounding)
        told: NDArray[np.bool_] = own & (self.signal > dust**2 * self.signal.max(initial=0.0))
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
        count = expected.size // expected.shape[axis]
        mean = values.sum(axis=2).sum(axis=0) / count
        apart = values - mean[None, :, None]
        found[axis] = AxisSums(
            count,
            mean,
            np.einsum("ijk,ijk->ij", apart, apart).sum(axis=0),
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


def least_slice(
    sums: AxisSums, rounding: float, *, about_mean: bool = True
) -> tuple[int, float] | None:
    """The slice with the least ratio of signal to noise, and that ratio in dB.

    The signal of a slice is what deviates from its own mean, so that neither a constant nor a
    large neighbour hides noise. Among many slices in the same units one that hardly moves is
    no quantity of its own: it is held against what is usual in its family. Families are slices
    whose values all lie from 0 to 1 while others do not, and those of about the same deviation.

    Args:
        sums: Of the slices along one axis.
        rounding: See ``AxisSums.informative``.
        about_mean: Take the whole power for the signal where False: for samples that say
            nothing of how far real ones vary.

    Returns:
        None where no slice carries information, or there is only one.
    """
    if len(sums.mean) < 2:
        return None
    informative = sums.informative(rounding) if about_mean else sums.signal > 0
    if not informative.any():
        return None
    signal = sums.spread if about_mean else sums.signal
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
