"""Ranges for quantization grids: from a histogram of activations, or from weights themselves."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.grids import SMALLEST_SCALE
from graphopt.numerics.histogram import Histogram

__all__ = ["Histogram", "Range", "entropy", "min_max", "mse", "percentile", "weight_scales"]

Range = tuple[float, float]
"""Lower and upper end; 0 lies between them, the ends included."""

_COARSE = np.linspace(0.1, 1.0, 10)
_REFINEMENTS = (0.05, 0.025, 0.0125, 0.00625)
_SHRINKS = np.linspace(0.4, 1.0, 61)
_ENTROPY_CANDIDATES = 128


def min_max(histogram: Histogram) -> Range:
    """The whole range, widened to hold 0; ``(0, 0)`` for an empty histogram.

    >>> histogram = Histogram()
    >>> histogram.add(np.array([0.5, 2.0]))
    >>> min_max(histogram)
    (0.0, 2.0)
    """
    return min(histogram.low, 0.0), max(histogram.high, 0.0)


def percentile(histogram: Histogram, p: float = 99.99) -> Range:
    """The range that holds the share ``p`` percent of the values, widened to hold 0.

    What is cut off is shared by both ends, ``(100 - p) / 2`` percent each; where all values have
    one sign, all of it is cut from the far end. Within a bin the values count as spread evenly.

    Args:
        histogram: Of the values; an empty one gives ``(0, 0)``.
        p: Percent of the values to keep, above 0 and up to 100.

    Raises:
        ValueError: ``p`` is out of bounds.

    >>> histogram = Histogram(bins=128)
    >>> histogram.add(np.arange(101.0))
    >>> percentile(histogram, 90)
    (0.0, 90.9)
    """
    if not 0 < p <= 100:
        raise ValueError(f"a percentile lies above 0 and up to 100, not at {p}")
    if p == 100 or histogram.total == 0:
        return min_max(histogram)
    cut = (100.0 - p) / 100.0
    one_sided = histogram.low >= 0 or histogram.high <= 0
    share = cut if one_sided else cut / 2
    below = np.concatenate([[0.0], np.cumsum(histogram.counts) / histogram.total])
    edges = histogram.edges
    low = min(float(np.interp(share, below, edges)), 0.0)
    high = max(float(np.interp(1.0 - share, below, edges)), 0.0)
    return low, high


def mse(histogram: Histogram, qmin: int, qmax: int) -> Range:
    """The range whose affine grid has the least expected squared error, rounding and clipping.

    ``E(low, high) = sum over bins of count * mean over the bin of (x - quantized(x))^2``, where the
    grid is ``grids.affine(low, high, qmin, qmax)`` and values count as spread evenly within a bin.
    Both ends are shrunk towards 0 independently: a coarse grid of factors, then finer ones around
    the best. Exact zeros are on every grid and cost nothing.

    Args:
        histogram: Of the values; an empty one gives ``(0, 0)``.
        qmin: Smallest code.
        qmax: Largest code.

    >>> histogram = Histogram()
    >>> histogram.add(np.append(np.linspace(-1.0, 1.0, 10_000), 50.0))
    >>> low, high = mse(histogram, 0, 15)
    >>> -1 <= low < -0.9, 1 < high < 50
    (True, True)
    """
    low, high = min_max(histogram)
    if histogram.total == 0 or low == high:
        return low, high
    error = _ExpectedError(histogram, qmin, qmax)
    lows, highs = _factors(low), _factors(high)
    best = error.best(low * lows, high * highs)
    for step in _REFINEMENTS:
        around = np.array([-step, 0.0, step])
        lows = np.clip(best[0] / low + around, step, 1.0) if low else np.zeros(1)
        highs = np.clip(best[1] / high + around, step, 1.0) if high else np.zeros(1)
        best = error.best(low * lows, high * highs)
    return best


def _without_zeros(histogram: Histogram) -> NDArray[np.float64]:
    """The counts less the exact zeros, which every grid that holds 0 represents exactly."""
    counts = histogram.counts.astype(np.float64)
    if histogram.zeros:
        at = int(np.searchsorted(histogram.edges, 0.0, side="right")) - 1
        counts[min(at, len(counts) - 1)] -= histogram.zeros
    return counts


def _factors(end: float) -> NDArray[np.float64]:
    return _COARSE if end else np.zeros(1)


class _ExpectedError:
    """Expected squared quantization error of a histogram as a function of the grid."""

    def __init__(self, histogram: Histogram, qmin: int, qmax: int) -> None:
        self.qmin, self.qmax = qmin, qmax
        counts, edges = _without_zeros(histogram), histogram.edges
        widths = np.diff(edges)
        spread = widths > 0
        self.density = np.where(spread, counts / np.where(spread, widths, 1.0), 0.0)
        self.edges = edges
        self.points, self.weights = edges[:-1][~spread], counts[~spread]

    def best(self, lows: NDArray[np.float64], highs: NDArray[np.float64]) -> Range:
        """The pair of ends with the least error; the widest of equally good ones."""
        pairs = [(float(low), float(high)) for low in lows[::-1] for high in highs[::-1]]
        errors = [self(low, high) for low, high in pairs]
        return pairs[int(np.argmin(errors))]

    def __call__(self, low: float, high: float) -> float:
        scale = max((high - low) / (self.qmax - self.qmin), float(SMALLEST_SCALE))
        smallest = -round(-low / scale)
        return self._integral(scale, smallest, smallest + self.qmax - self.qmin)

    def _integral(self, scale: float, smallest: int, largest: int) -> float:
        """Sum over the bins, by the antiderivative of the squared error.

        With ``u = x / scale`` and its code ``k``, that is ``k / 12 + (u - k)^3 / 3`` in units of
        ``scale^3``: continuous where the code changes, and right beyond the clipped ends too.
        """
        u = self.edges / scale
        k = np.clip(np.rint(u), smallest, largest)
        rest = u - k
        total = np.diff(k / 12 + rest * rest * rest / 3) @ self.density * scale**3
        if len(self.points):
            codes = np.clip(np.rint(self.points / scale), smallest, largest)
            total += self.weights @ (self.points - codes * scale) ** 2
        return float(total)


def entropy(histogram: Histogram, bits: int = 8) -> Range:
    """The range whose quantized distribution is closest to the true one, by KL divergence.

    For a threshold ``t`` the range is ``max(low, -t) .. min(high, t)``. The reference ``P`` is the
    histogram inside, with what lies outside added to the end bins; ``Q`` is the histogram inside
    merged into ``2^bits`` levels, each spread again over its bins that are not empty. The
    ``t`` with the least ``sum P log(P / Q)`` wins. As in TensorRT (Migacz 2017, 8-bit inference
    with TensorRT), but the levels of a signed range lie on its real, lopsided extent, and
    exact zeros, which any grid holds, are left out.

    Args:
        histogram: Of the values; an empty one gives ``(0, 0)``.
        bits: Bits of a code.

    >>> histogram = Histogram()
    >>> histogram.add(np.append(np.linspace(0.0, 1.0, 100_000), 50.0))
    >>> low, high = entropy(histogram)
    >>> low, high < 25
    (0.0, True)
    """
    counts, edges = _without_zeros(histogram), histogram.edges
    used, levels = len(counts), 2**bits
    best, least = min_max(histogram), np.inf
    if counts.sum() == 0 or used <= levels:
        return best
    reach = max(abs(histogram.low), abs(histogram.high))
    for t in np.linspace(reach, reach * levels / used, _ENTROPY_CANDIDATES):
        start = max(int(np.searchsorted(edges, -t, side="right")) - 1, 0)
        stop = min(int(np.searchsorted(edges, t, side="left")), used)
        if start >= stop:
            break
        low, high = min(float(edges[start]), 0.0), max(float(edges[stop]), 0.0)
        inside = round(levels * (edges[stop] - edges[start]) / (high - low))
        if not 0 < inside <= stop - start:
            continue
        divergence = _divergence(counts, start, stop, inside)
        if divergence < least:
            best, least = (low, high), divergence
    return best


def _divergence(counts: NDArray[np.float64], start: int, stop: int, levels: int) -> float:
    """KL divergence between the clipped and the quantized distribution; bins start .. stop."""
    inside = counts[start:stop]
    reference = inside.copy()
    reference[0] += counts[:start].sum()
    reference[-1] += counts[stop:].sum()
    level = np.arange(len(inside)) * levels // len(inside)
    filled = reference > 0
    merged = np.bincount(level, weights=inside, minlength=levels)
    share = np.bincount(level, weights=filled, minlength=levels)
    quantized = np.where(filled, merged[level] / np.maximum(share[level], 1.0), 0.0)
    if quantized.sum() == 0:
        return float(np.inf)
    p = reference[filled] / reference.sum()
    q = np.maximum(quantized[filled] / quantized.sum(), 1e-12)
    return float(p @ np.log(p / q))


def weight_scales(
    values: NDArray[Any],
    axis: int | None,
    qmax: int,
    method: Literal["max", "mse"] = "max",
) -> NDArray[np.float32]:
    """Scales of symmetric grids ``-qmax .. qmax`` for a weight, one a channel.

    ``max``: ``scale = max |w| / qmax``. ``mse``: the ``max`` scale times the factor in 0.4 .. 1
    with the least squared error ``sum (w - scale * clip(round(w / scale)))^2`` of the channel.

    A channel of zeros gets the smallest scale among the others, so that a bias scale
    ``x_scale * w_scale`` made from it stays fine; 1 where all are zero. No scale is below the
    smallest normal float32.

    Args:
        values: Weight of any shape, finite.
        axis: Axis of the channels; None for one scale in all.
        qmax: Largest code.
        method: How the range is chosen.

    Returns:
        ``(channels,)``, or rank 0 with ``axis`` None.

    Raises:
        ValueError: A weight is not finite.

    >>> weight_scales(np.array([[1.27, -2.54], [0.0, 0.0]]), 0, 127)
    array([0.02, 0.02], dtype=float32)
    """
    rows = np.asarray(values, dtype=np.float32)
    rows = rows.reshape(1, -1) if axis is None else np.moveaxis(rows, axis, 0)
    rows = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    if not np.isfinite(rows).all():
        raise ValueError("a weight is not finite")
    peaks = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
    scales: NDArray[np.float32] = np.maximum((peaks / qmax).astype(np.float32), SMALLEST_SCALE)
    if method == "mse":
        scales = _least_error(rows, scales, qmax)
    alive = peaks > 0
    scales[~alive] = scales[alive].min() if alive.any() else np.float32(1.0)
    return scales.reshape(()) if axis is None else scales


def _least_error(
    rows: NDArray[np.float32], largest: NDArray[np.float32], qmax: int
) -> NDArray[np.float32]:
    """The shrunk scale of least squared error for each row; the largest of equally good ones."""
    best = largest.copy()
    least = np.full(len(rows), np.inf)
    for factor in _SHRINKS[::-1]:
        scales = np.maximum(largest * np.float32(factor), SMALLEST_SCALE)
        codes = np.clip(np.rint(rows / scales[:, None]), -qmax, qmax)
        errors = np.square(rows - codes * scales[:, None], dtype=np.float64).sum(axis=1)
        better = errors < least
        best[better], least[better] = scales[better], errors[better]
    return best
