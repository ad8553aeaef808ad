"""Tensors as sums of few products of vectors: CP by regularised alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.lowrank import Budget, Cost

__all__ = ["Cp", "choose_cp", "cp", "cp_cost", "khatri_rao", "lowest_rank", "mttkrp", "unfolding"]

_Factors = list[NDArray[np.float64]]

RIDGE = 1e-5
"""Weight of the factors' squares against the tensor's, which is scaled to norm 1. Ten times more
halves the norms of the components but ends in poorer minima of tensors that have an exact form."""

_SCREENING = 10  # sweeps after which only the best start goes on
_SWEEPS = 100
_SETTLED = 1e-8  # share of the sum of squares by which a sweep must still gain


@dataclass(frozen=True)
class Cp:
    """``X[i, j, ...] = sum_r A[i, r] B[j, r] ...``, all factors of a component of the same norm.

    Attributes:
        factors: One a mode, ``(size, rank)``, float64.
        energy: Share of the tensor's sum of squares that is kept, 0 .. 1.
        history: What is minimised, after each sweep; never rises. Share of the sum of squares that
            is lost plus the ridge times the squares of all factors (of the tensor at norm 1).
    """

    factors: tuple[NDArray[np.float64], ...]
    energy: float
    history: tuple[float, ...]

    @property
    def norms(self) -> NDArray[np.float64]:
        """Norm of each component ``(rank,)``."""
        norms = [np.linalg.norm(factor, axis=0) for factor in self.factors]
        return np.asarray(np.prod(norms, axis=0))

    def tensor(self) -> NDArray[np.float64]:
        """The sum of all components, of the shape that was factorized."""
        first, *others = self.factors
        shape = [len(factor) for factor in self.factors]
        return np.asarray((first @ khatri_rao(others).T).reshape(shape))


def unfolding(tensor: NDArray[Any], mode: int) -> NDArray[Any]:
    """The matrix ``(size of the mode, product of the others)``, the last axis fastest."""
    return np.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def khatri_rao(matrices: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Column-wise Kronecker product ``(product of rows, rank)``, the last matrix fastest.

    >>> khatri_rao([np.array([[1, 2]]), np.array([[3, 4], [5, 6]])])
    array([[ 3,  8],
           [ 5, 12]])
    """
    return reduce(lambda a, b: (a[:, None] * b[None]).reshape(-1, a.shape[1]), matrices)


def cp_cost(shape: Sequence[int], strides: Sequence[int] = (1, 1)) -> Cost:
    """Multiply-accumulates of 1 x 1, depthwise k x k, 1 x 1 at one position of the output.

    ``rank (s in + window + out)``: the first convolution runs before the strides, at s times as
    many positions.

    Args:
        shape: Of the weight, ``(out, in, *kernel)``.
        strides: Of the convolution, one a kernel axis.

    >>> cp_cost((64, 32, 3, 3)).highest_rank
    175
    """
    out, channels, *kernel = (int(size) for size in shape)
    window = math.prod(kernel)
    return Cost(out * channels * window, math.prod(strides) * channels + window + out)


def lowest_rank(tensor: NDArray[Any], share: float) -> int:
    """A rank below which no CP form keeps ``share`` of the sum of squares.

    The components are matrices of rank one in every unfolding, so none of these forms beats the
    best matrix of that rank (Eckart and Young 1936).
    """
    lowest = 1
    for mode in range(tensor.ndim):
        matrix = unfolding(tensor, mode).astype(np.float64)
        squares = np.linalg.eigvalsh(matrix @ matrix.T)[::-1].clip(min=0)
        kept = np.cumsum(squares)
        needed = int(np.searchsorted(kept, share * (1 - 1e-12) * kept[-1])) + 1
        lowest = max(lowest, min(needed, len(kept)))
    return lowest


def choose_cp(tensor: NDArray[Any], budget: Budget, cost: Cost, seed: int = 0) -> Cp | None:
    """The CP form that the budget gives; None where none within it saves anything.

    ``rank`` takes that rank, ``macs`` the highest within that share of the cost. ``energy``
    searches the lowest rank that keeps the share by bisection, as ranks do not nest.

    Args:
        tensor: To factorize, finite.
        budget: How far to go.
        cost: Of the layer.
        seed: Of the random starts.
    """
    highest = cost.highest_rank
    if budget.kind == "energy":
        return _search(tensor, budget.value, highest, seed)
    if budget.kind == "macs":
        # a share that was written for a whole rank must not miss it by rounding
        rank = min(int(budget.value * cost.dense / cost.per_rank + 1e-9), highest)
    else:
        rank = int(budget.value)
    return cp(tensor, rank, seed) if 0 < rank <= highest else None


def _search(tensor: NDArray[Any], share: float, highest: int, seed: int) -> Cp | None:
    low = lowest_rank(tensor, share)
    best = None
    if low <= highest:
        last = cp(tensor, highest, seed)
        best = last if last.energy >= share else None
    while best is not None and low < best.factors[0].shape[1]:
        middle = (low + best.factors[0].shape[1]) // 2
        found = cp(tensor, middle, seed)
        if found.energy >= share:
            best = found
        else:
            low = middle + 1
    return best


def cp(
    tensor: NDArray[Any], rank: int, seed: int = 0, *, starts: int = 3, ridge: float = RIDGE
) -> Cp:
    """CP form of a tensor by alternating least squares with a ridge.

    Minimises ``|X - sum|^2 + ridge (|A|^2 + |B|^2 + ...)`` for X scaled to norm 1. A CP form of a
    given rank need not have a best one: without the ridge, components may grow without bounds and
    cancel each other. It bounds them, and costs about its square in energy. The first start takes
    the leading singular vectors of each unfolding, the others are random; the best after a few
    sweeps goes on. In every sweep each component is spread evenly over its factors, which is the
    normalisation that lowers the ridge most.

    Args:
        tensor: Two axes or more, any real dtype.
        rank: Number of components, 1 or more.
        seed: Of what is random.
        starts: How many to try.
        ridge: Weight of the squares of all factors.

    Source: Kolda and Bader 2009, Tensor Decompositions and Applications, 3.4; for convolutions
    Lebedev et al. 2015; the ridge as in Phan et al. 2020, Stable Low-rank Tensor Decomposition
    for Compression of Convolutional Neural Network.

    Raises:
        ValueError: No axes, an empty tensor, one that is not finite, or a rank below 1.
    """
    if tensor.ndim < 2 or tensor.size == 0 or rank < 1:
        raise ValueError(f"no CP form of rank {rank} of a tensor of shape {tensor.shape}")
    if not np.isfinite(tensor).all():
        raise ValueError("a weight is not finite")
    values = tensor.astype(np.float64)
    norm = float(np.linalg.norm(values))
    if norm == 0:
        zeros = tuple(np.zeros((size, rank)) for size in tensor.shape)
        return Cp(zeros, 1.0, (0.0,))
    values /= norm
    generator = np.random.default_rng(seed)
    begun = [
        _sweeps(values, _start(values, rank, generator, random=index > 0), ridge, _SCREENING)
        for index in range(starts)
    ]
    best = min(begun, key=lambda found: found.history[-1])
    done = _sweeps(values, list(best.factors), ridge, _SWEEPS - _SCREENING)
    scale = norm ** (1 / values.ndim)
    return replace(
        done,
        factors=tuple(factor * scale for factor in done.factors),
        history=best.history + done.history,
    )


def _start(
    tensor: NDArray[np.float64], rank: int, generator: np.random.Generator, *, random: bool
) -> _Factors:
    factors = []
    for mode, size in enumerate(tensor.shape):
        factor = generator.standard_normal((size, rank)) / math.sqrt(size)
        if not random:
            matrix = unfolding(tensor, mode)
            leading = np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]
            factor[:, : leading.shape[1]] = leading
        factors.append(factor)
    return factors


def mttkrp(
    tensor: NDArray[np.float64], factors: Sequence[NDArray[np.float64]], mode: int
) -> NDArray[np.float64]:
    """``unfolding(tensor, mode) @ khatri_rao(the other factors)``, without the large product.

    The widest of the other axes goes first, in one matrix product; then one axis after another.

    Args:
        tensor: N axes.
        factors: One an axis, ``(size, rank)``.
        mode: The axis that stays.

    Returns:
        ``(size of the mode, rank)``.
    """
    others = [axis for axis in range(tensor.ndim) if axis != mode]
    widest = max(others, key=lambda axis: tensor.shape[axis])
    found = np.tensordot(tensor, factors[widest], (widest, 0))
    left = [axis for axis in range(tensor.ndim) if axis != widest]
    for axis in reversed(others):
        if axis != widest:
            place = left.index(axis)
            shape = (len(factors[axis]), *(1,) * (found.ndim - place - 2), found.shape[-1])
            found = (found * factors[axis].reshape(shape)).sum(axis=place)
            left.remove(axis)
    return np.asarray(found)


def _sweeps(tensor: NDArray[np.float64], factors: _Factors, ridge: float, count: int) -> Cp:
    """Up to ``count`` sweeps over all modes, each the exact minimum of its mode."""
    from scipy import linalg  # noqa: PLC0415 - takes a third of a second, seldom needed

    history: list[float] = []
    for _ in range(count):
        grams = [factor.T @ factor for factor in factors]
        for mode in range(tensor.ndim):
            gram = np.prod([g for index, g in enumerate(grams) if index != mode], axis=0)
            moved = mttkrp(tensor, factors, mode)
            system = gram + ridge * np.eye(len(gram))
            factors[mode] = linalg.solve(system, moved.T, assume_a="pos").T
            grams[mode] = factors[mode].T @ factors[mode]
        lost = 1 - 2 * float(np.vdot(moved, factors[-1])) + float(np.vdot(gram, grams[-1]))
        _spread(factors)
        squares = sum(float(np.vdot(factor, factor)) for factor in factors)
        history.append(lost + ridge * squares)
        if len(history) > 1 and history[-2] - history[-1] < _SETTLED:
            break
    return Cp(tuple(factors), min(1 - lost, 1.0), tuple(history))


def _spread(factors: _Factors) -> None:
    """Give all factors of a component the same norm, in place."""
    norms = np.array([np.linalg.norm(factor, axis=0) for factor in factors])
    even = np.prod(norms, axis=0) ** (1 / len(factors))
    for mode, norm in enumerate(norms):
        factors[mode] = factors[mode] * np.divide(
            even, norm, where=norm > 0, out=np.zeros_like(norm)
        )
