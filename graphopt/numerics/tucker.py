"""Convolution weights as a small core between two channel mixes: Tucker-2 by HOSVD and HOOI."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.cp import unfolding
from graphopt.numerics.lowrank import Budget

__all__ = ["Spectrum", "Tucker", "choose_ranks", "spectrum", "tucker", "tucker_cost"]

_SWEEPS = 50
_SETTLED = 1e-7  # share of the energy by which a sweep must still gain
_BALANCING = 30  # rounds; each halves what is left in the logarithm, about


@dataclass(frozen=True)
class Tucker:
    """``W[o, i, k] = sum_pq outer[o, p] core[p, q, k] inner[i, q]``, k over the kernel.

    Attributes:
        outer: ``(out, r_out)``, float64, orthonormal columns; the identity where r_out = out.
        core: ``(r_out, r_in, *kernel)``.
        inner: ``(in, r_in)``, orthonormal columns; the identity where r_in = in.
        history: Share of the weight's sum of squares that is kept, after HOSVD and after each
            sweep; never falls.
    """

    outer: NDArray[np.float64]
    core: NDArray[np.float64]
    inner: NDArray[np.float64]
    history: tuple[float, ...]

    @property
    def energy(self) -> float:
        """Share of the sum of squares that is kept, 0 .. 1."""
        return self.history[-1]

    def balanced(
        self,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """``(inner, core, outer)`` scaled so that both sides of each rank have the same norm.

        The product stays, and so does an identity. The sum of squares of all three is the least
        that scaling can reach, which keeps their ranges alike and so quantizes better.
        """
        core = np.square(self.core).reshape(*self.core.shape[:2], -1).sum(axis=2)
        log_out, log_in = np.zeros(core.shape[0]), np.zeros(core.shape[1])
        for _ in range(_BALANCING):
            # columns of the outer matrices have norm 1: exp(2 log) on their side
            if len(self.outer) > len(log_out):
                log_out = _middle(core @ np.exp(-2 * log_in))
            if len(self.inner) > len(log_in):
                log_in = _middle(core.T @ np.exp(-2 * log_out))
        scale_out, scale_in = np.exp(log_out), np.exp(log_in)
        tail = (1,) * (self.core.ndim - 2)
        scaled = self.core / np.multiply.outer(scale_out, scale_in).reshape(*core.shape, *tail)
        return self.inner * scale_in, scaled, self.outer * scale_out


def _middle(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of the scale that makes ``scale^2`` equal to ``squares / scale^2``; 0 for zeros."""
    return np.log(np.where(squares > 0, squares, 1.0)) / 4


@dataclass(frozen=True)
class Spectrum:
    """Higher-order SVD of a weight along its two channel modes (De Lathauwer et al. 2000a).

    Attributes:
        weight: ``(out, in, window)``, float64, the kernel axes as one.
        outer: ``(out, n_out)``, n_out = min(out, in * window); columns in falling importance.
        inner: ``(in, n_in)``, n_in = min(in, out * window).
        kept: ``(n_out, n_in)``; entry ``[p - 1, q - 1]`` is the share of the sum of squares that
            the leading p and q columns keep.
    """

    weight: NDArray[np.float64]
    outer: NDArray[np.float64]
    inner: NDArray[np.float64]
    kept: NDArray[np.float64]


def spectrum(weight: NDArray[Any]) -> Spectrum:
    """The higher-order SVD of a weight ``(out, in, *kernel)`` of any real dtype.

    Raises:
        ValueError: The weight has fewer than three axes, is empty, or is not finite.
    """
    if weight.ndim < 3 or weight.size == 0:
        raise ValueError(f"not the weight of a convolution: shape {weight.shape}")
    if not np.isfinite(weight).all():
        raise ValueError("a weight is not finite")
    flat = weight.astype(np.float64).reshape(*weight.shape[:2], -1)
    out, channels, window = flat.shape
    outer = _leading(flat.reshape(out, -1), min(out, channels * window))
    inner = _leading(unfolding(flat, 1), min(channels, out * window))
    core = np.einsum("op,oik,iq->pqk", outer, flat, inner, optimize=True)
    kept = np.square(core).sum(axis=2).cumsum(axis=0).cumsum(axis=1)
    total = kept[-1, -1]
    return Spectrum(flat, outer, inner, kept / total if total > 0 else np.ones_like(kept))


def _leading(matrix: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The leading ``count`` left singular vectors ``(rows, count)``, from the Gram matrix."""
    from scipy import linalg  # noqa: PLC0415 - takes a third of a second, seldom needed

    rows = len(matrix)
    _, vectors = linalg.eigh(matrix @ matrix.T, subset_by_index=(rows - count, rows - 1))
    return np.ascontiguousarray(vectors[:, ::-1])


def tucker_cost(
    shape: Sequence[int], ranks: tuple[int, int], strides: Sequence[int] = (1, 1)
) -> int:
    """Multiply-accumulates of the chain at one position of the output.

    ``s in r_in + r_in r_out window + r_out out``: the first convolution runs before the strides,
    at s times as many positions. A rank equal to the channels needs no convolution on that side.

    Args:
        shape: Of the weight, ``(out, in, *kernel)``.
        ranks: ``(r_out, r_in)``.
        strides: Of the convolution, one a kernel axis.

    >>> tucker_cost((64, 32, 3, 3), (16, 8)), tucker_cost((64, 32, 3, 3), (64, 32))
    (2432, 18432)
    """
    r_out, r_in = ranks
    return int(_costs(shape, np.array([[r_out]]), np.array([[r_in]]), strides)[0, 0])


def _costs(
    shape: Sequence[int], r_out: NDArray[Any], r_in: NDArray[Any], strides: Sequence[int]
) -> NDArray[np.int64]:
    out, channels, *kernel = shape
    before = np.where(r_in < channels, channels * r_in * math.prod(strides), 0)
    after = np.where(r_out < out, out * r_out, 0)
    return np.asarray(before + r_in * r_out * math.prod(kernel) + after)


def choose_ranks(
    found: Spectrum, budget: Budget, shape: Sequence[int], strides: Sequence[int] = (1, 1)
) -> tuple[int, int] | None:
    """The ranks ``(r_out, r_in)`` for a layer; None where none within the budget saves anything.

    ``energy`` takes the cheapest pair that keeps the share, ``macs`` the pair that keeps most
    within the share of the layer's cost, both over all pairs; what the sweeps of ``tucker`` gain
    comes on top. ``rank`` takes that rank, or all channels where there are fewer, on both sides.

    Args:
        found: Of the weight.
        budget: How far to go.
        shape: Of the weight, ``(out, in, *kernel)``.
        strides: Of the convolution, one a kernel axis.
    """
    n_out, n_in = found.kept.shape
    r_out, r_in = np.arange(1, n_out + 1)[:, None], np.arange(1, n_in + 1)[None, :]
    costs = _costs(shape, r_out, r_in, strides)
    allowed = costs < math.prod(shape)
    if budget.kind == "rank":
        rank = int(budget.value)
        allowed &= (r_out == min(rank, n_out)) & (r_in == min(rank, n_in))
    elif budget.kind == "macs":
        allowed &= costs <= budget.value * math.prod(shape) * (1 + 1e-9)
    else:
        allowed &= found.kept >= budget.value * (1 - 1e-12)
    if not allowed.any():
        return None
    keys = (costs, -found.kept) if budget.kind == "energy" else (-found.kept, costs)
    first = np.where(allowed, keys[0], np.inf)
    second = np.where(first == first.min(), keys[1], np.inf)
    row, column = np.unravel_index(int(second.argmin()), costs.shape)
    return int(row) + 1, int(column) + 1


def tucker(found: Spectrum, ranks: tuple[int, int], kernel: Sequence[int]) -> Tucker:
    """Tucker-2 form by higher-order orthogonal iteration, started from the HOSVD.

    Each half sweep takes the best columns of one mode given the other's (alternating least
    squares), so what is kept never falls. The start loses at most twice what the best form of
    these ranks loses (De Lathauwer et al. 2000a, property 10), hence so does the result.

    Args:
        found: Of the weight.
        ranks: ``(r_out, r_in)``, each from 1 to the columns that there are.
        kernel: Sizes of the kernel axes.

    Source: Tucker 1966; De Lathauwer, De Moor and Vandewalle 2000b, On the Best Rank-1 and
    Rank-(R1, ..., RN) Approximation of Higher-Order Tensors; for convolutions Kim et al. 2016.

    Raises:
        ValueError: A rank is out of its range.
    """
    r_out, r_in = ranks
    if not (0 < r_out <= found.kept.shape[0] and 0 < r_in <= found.kept.shape[1]):
        raise ValueError(f"no ranks of a weight of {found.weight.shape}: {ranks}")
    out, channels, _ = found.weight.shape
    outer = found.outer[:, :r_out] if r_out < out else np.eye(out)
    inner = found.inner[:, :r_in] if r_in < channels else np.eye(channels)
    total = float(np.square(found.weight).sum())
    history = [float(found.kept[r_out - 1, r_in - 1])]
    for _ in range(_SWEEPS):
        if r_out < out:
            mixed = np.einsum("oik,iq->oqk", found.weight, inner, optimize=True)
            outer = _leading(mixed.reshape(out, -1), r_out)
        mixed = np.einsum("oik,op->pik", found.weight, outer, optimize=True)
        if r_in < channels:
            inner = _leading(unfolding(mixed, 1), r_in)
        core = np.einsum("pik,iq->pqk", mixed, inner, optimize=True)
        history.append(float(np.square(core).sum()) / total if total > 0 else 1.0)
        if history[-1] - history[-2] < _SETTLED:
            break
    return Tucker(outer, core.reshape(r_out, r_in, *kernel), inner, tuple(history))
