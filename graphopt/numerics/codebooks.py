"""Codebooks: a few values, the centres, by which many are stood for."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["extra_bits", "fit_centres", "nearest_centres", "row_scales"]

Floats = NDArray[np.float64]

_MOST_BITS = 8

_ROUNDS = 60
_TINY = 1e-30
_LEAST = 1e-3
"""Of the scale that a row would have if all of it counted."""


def nearest_centres(values: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.intp]:
    """The index of the centre that is nearest to each value; of two as near the upper one.

    >>> nearest_centres(np.array([-3.0, 0.4, 0.5]), np.array([0.0, 1.0])).tolist()
    [0, 0, 1]

    Args:
        values: Floats of any shape.
        centres: ``(count,)``, rising.
    """
    between = (centres[1:] + centres[:-1]) / 2
    return np.searchsorted(between, values, side="right")


def row_scales(rows: NDArray[Any], importance: Floats | None = None) -> Floats:
    """The weighted root mean square of each row: ``sqrt(sum d_k w_k^2 / sum d_k)``.

    >>> row_scales(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])).tolist()
    [3.0, 1.0]

    Args:
        rows: ``(rows, width)``.
        importance: ``d``, of the same shape, zero or more; None for 1 everywhere. A row of which
            hardly anything counts is taken as if all did.

    Returns:
        ``(rows,)``, above zero: 1 for a row of zeros.
    """
    squares = np.square(rows.astype(np.float64))
    plain = np.sqrt(squares.mean(axis=1))
    scales = plain
    if importance is not None:
        total = importance.sum(axis=1)
        weighed = (squares * importance).sum(axis=1)
        scales = np.sqrt(np.divide(weighed, total, out=np.zeros(len(rows)), where=total > 0))
        scales = np.where(scales > _LEAST * plain, scales, plain)
    return np.where(scales > _TINY, scales, 1.0)


def fit_centres(
    values: NDArray[Any], weights: NDArray[Any] | None, count: int, *, zero: bool = False
) -> Floats:
    """The centres by which values are stood for with little error: k-means in one dimension.

    ``sum_i d_i (w_i - c(w_i))^2`` falls with each round, in which every centre moves to the mean,
    weighted by ``d``, of the values nearest to it. Values are sorted once, and sums over ranges of
    them are differences of prefix sums, so that a round costs ``O(count log n)``. Of several starts
    (even spacing, quantiles, between both) the best result is taken; it is a local minimum.

    Args:
        values: Finite, of any shape; at least one.
        weights: ``d``, of the same shape, zero or more; None for 1 everywhere.
        count: Centres, 1 or more.
        zero: One centre stays at exactly 0.

    Returns:
        ``(count,)``, rising; with more centres than different values some come twice.

    Source: Lloyd 1982, Least squares quantization in PCM; Choi et al. 2017, Towards the Limit of
    Network Quantization, section 3.3 (weights by the Hessian's diagonal).
    """
    sums = _Sums.of(values, weights)
    starts = sums.starts(count)
    best, least = starts[0], np.inf
    for start in starts:
        centres, error = _lloyd(sums, _hold_zero(start) if zero else start, zero)
        if error < least:
            best, least = centres, error
    return best


def _hold_zero(centres: Floats) -> Floats:
    """The same with the one nearest to zero moved there."""
    centres = centres.copy()
    centres[np.abs(centres).argmin()] = 0.0
    return np.sort(centres)


class _Sums:
    """Sorted values, with prefix sums of their weights, first and second moments."""

    def __init__(self, values: Floats, weights: Floats) -> None:
        order = np.argsort(values, kind="stable")
        self.values = values[order]
        weighed = weights[order]
        self.mass = _prefix(weighed)
        self.first = _prefix(weighed * self.values)
        self.second = _prefix(weighed * self.values**2)

    @classmethod
    def of(cls, values: NDArray[Any], weights: NDArray[Any] | None) -> _Sums:
        flat = values.reshape(-1).astype(np.float64)
        weighed = np.ones(flat.shape) if weights is None else weights.reshape(-1).astype(np.float64)
        if not weighed.sum() > 0:
            weighed = np.ones(flat.shape)
        return cls(flat, weighed / weighed.sum())

    def starts(self, count: int) -> list[Floats]:
        """Even spacing, weighted quantiles, and half way between."""
        shares = (np.arange(count) + 0.5) / count
        low, high = self.values[0], self.values[-1]
        even = low + (high - low) * shares
        places = np.searchsorted(self.mass[1:], shares * self.mass[-1])
        quantiles = self.values[np.minimum(places, len(self.values) - 1)]
        return [(even + quantiles) / 2, quantiles, even]

    def bounds(self, centres: Floats) -> NDArray[np.intp]:
        """Where the values of each centre start, and where the last one's end."""
        between = np.searchsorted(self.values, (centres[1:] + centres[:-1]) / 2)
        return np.concatenate([[0], between, [len(self.values)]])


def _prefix(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _lloyd(sums: _Sums, centres: Floats, zero: bool) -> tuple[Floats, float]:
    """Centres that no round moves any more, or those after the last one, and their error."""
    for _ in range(_ROUNDS):
        bounds = sums.bounds(centres)
        mass = np.diff(sums.mass[bounds])
        first = np.diff(sums.first[bounds])
        held = mass > _TINY
        if zero:
            held &= centres != 0
        moved = np.where(held, first / np.where(held, mass, 1.0), centres)
        moved.sort()
        if np.array_equal(moved, centres):
            break
        centres = moved
    bounds = sums.bounds(centres)
    mass, first = np.diff(sums.mass[bounds]), np.diff(sums.first[bounds])
    error = np.diff(sums.second[bounds]) - 2 * centres * first + centres**2 * mass
    return centres, float(error.sum())


def extra_bits(sizes: Sequence[int], bits: int, extra: float, least: int) -> list[int]:
    """Bits for each of several weights, more where these cost little.

    The error of a weight falls by four with each bit, and relative errors of layers add up alike in
    what a network gives: bits go where ``(4^-b - 4^-(b+1)) / size`` is largest, until the next one
    would take more than there is.

    >>> extra_bits([100, 1000], 3, 0.1, 3)
    [6, 3]

    Args:
        sizes: Elements of each weight.
        bits: That they have on the average, by their sizes.
        extra: Share of ``bits * sum(sizes)`` that may be spent on top.
        least: Bits that each has at least, not above ``bits``.

    Returns:
        From ``least`` to 8 for each.
    """
    found = [least] * len(sizes)
    left = (bits * (1 + extra) - least) * sum(sizes)
    waiting = [(-(4.0**-least) / max(size, 1), at) for at, size in enumerate(sizes)]
    heapq.heapify(waiting)
    while waiting:
        gain, at = heapq.heappop(waiting)
        if sizes[at] <= left and found[at] < _MOST_BITS:
            left -= sizes[at]
            found[at] += 1
            heapq.heappush(waiting, (gain / 4, at))
    return found
