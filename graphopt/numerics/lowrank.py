"""Matrices as products of two thin ones, best for weights or for outputs, and budgets of ranks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Budget", "Cost", "Decomposition", "decompose", "matrix_cost", "ranks_between"]

_CHOICES = 12
_ROUND_FROM, _ROUND_TO = 16, 4

_ROUNDING = 1e-7
"""Square roots of what is nothing but rounding of float64 sums are about so large a share."""


@dataclass(frozen=True)
class Cost:
    """What a layer costs as it is, and what each unit of rank costs once it is factorized.

    Attributes:
        dense: Multiply-accumulates of the layer at one position of its output.
        per_rank: The same of both factors, for rank 1.
    """

    dense: int
    per_rank: int

    @property
    def highest_rank(self) -> int:
        """Largest rank that still saves something: the one below ``dense / per_rank``."""
        return max((self.dense - 1) // self.per_rank, 0)

    def share(self, rank: int) -> float:
        """Cost of the factors over the cost of the layer."""
        return rank * self.per_rank / self.dense


def matrix_cost(rows: int, columns: int) -> Cost:
    """Cost of a matrix ``(K, N)``: break-even is at rank ``K N / (K + N)``.

    >>> matrix_cost(768, 3072).highest_rank
    614
    """
    return Cost(rows * columns, rows + columns)


def ranks_between(share: float, cost: Cost, highest: int) -> list[int]:
    """About a dozen ranks to choose among, the lowest first; kernels like multiples of 4.

    >>> ranks_between(0.25, Cost(64 * 64, 128), 31)
    [8, 12, 16, 20, 24, 28, 31]

    Args:
        share: Of the cost of the layer; of the ranks below it only the next one counts.
        cost: Of the layer.
        highest: That saves something.
    """
    lowest = share * cost.dense / cost.per_rank
    step = max(1, math.ceil((highest - lowest) / _CHOICES))
    if highest >= _ROUND_FROM:
        step = -(-step // _ROUND_TO) * _ROUND_TO
    first = max(step, int(lowest) // step * step)
    return [*range(first, highest, step), highest] if highest > 0 else []


@dataclass(frozen=True)
class Budget:
    """How far to go down with the rank.

    Attributes:
        kind: ``rank``: keep exactly that many singular values. ``energy``: the fewest whose squares
            sum up to that share of all. ``macs``: the most whose factors cost no more than that
            share of the layer.
        value: The rank, or the share, above 0 and up to 1.
    """

    kind: Literal["rank", "energy", "macs"]
    value: float

    def rank(self, singular_values: NDArray[Any], cost: Cost) -> int:
        """The rank for a layer; 0 where none within the budget saves anything.

        Args:
            singular_values: ``(n,)``, descending.
            cost: Of the layer.

        Raises:
            ValueError: The value does not fit its kind.

        >>> Budget("energy", 0.9).rank(np.array([4.0, 1.0, 0.1]), Cost(100, 20))
        1
        """
        if self.value <= 0 or (self.kind != "rank" and self.value > 1):
            raise ValueError(f"no budget: {self.kind} {self.value}")
        if self.kind == "rank":
            rank = int(self.value)
        elif self.kind == "energy":
            rank = _rank_of_energy(singular_values, self.value)
        else:
            # a share that was written for a whole rank must not miss it by rounding
            rank = int(self.value * cost.dense / cost.per_rank + 1e-9)
            rank = min(rank, len(singular_values), cost.highest_rank)
        return rank if rank <= min(cost.highest_rank, len(singular_values)) else 0


def _rank_of_energy(singular_values: NDArray[Any], share: float) -> int:
    squares = np.square(singular_values, dtype=np.float64)
    if not squares.sum() > 0:
        return 1
    kept = np.cumsum(squares) / squares.sum()
    # the last sum may miss 1 by rounding
    return min(int(np.searchsorted(kept, share * (1 - 1e-12))) + 1, len(squares))


@dataclass(frozen=True)
class Decomposition:
    """A matrix ``M = L R`` of ``(K, N)`` by falling importance of the columns of L.

    Attributes:
        left: ``L (K, n)``, float64, n = min(K, N).
        values: ``(n,)``, descending; what the columns contribute: the singular values of M, or of
            ``G^(1/2) M`` in the metric of a Gram matrix G.
        right: ``R (n, N)``, orthonormal rows (zeros where a value is nothing but rounding).
    """

    left: NDArray[np.float64]
    values: NDArray[np.float64]
    right: NDArray[np.float64]

    def energy(self, rank: int) -> float:
        """Share of the sum of squares of the values that rank ``rank`` keeps, 0 .. 1."""
        squares = np.square(self.values)
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if total > 0 else 1.0

    def lost(self, rank: int) -> float:
        """Sum of squares that is lost: ``|M - A B|^2``, or ``tr((M - A B)^T G (M - A B))``."""
        return float(np.square(self.values[rank:]).sum())

    def factors(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``A`` of ``(K, rank)`` and ``B`` of ``(rank, N)``, whose product loses least.

        Column and row of each rank have the same norm, which keeps the ranges of both alike and so
        quantizes better than a split of another kind.
        """
        left, right = self.left[:, :rank], self.right[:rank]
        root = np.sqrt(np.linalg.norm(left, axis=0))
        even = np.divide(left, root, where=root > 0, out=np.zeros_like(left))
        return even.astype(np.float32), (root[:, None] * right).astype(np.float32)


def decompose(matrix: NDArray[Any], gram: NDArray[Any] | None = None) -> Decomposition:
    """The best products of all ranks for a matrix of any real dtype, computed in float64.

    Without a Gram matrix it is the singular value decomposition, whose leading part loses the
    least squares of the weight (Eckart and Young 1936). With the Gram matrix ``G = X^T X`` of what
    the matrix multiplies it loses the least squares of the output ``X M``: R holds the leading
    eigenvectors of ``M^T G M``, and ``L = M R^T``, so nothing is divided by G, which may be
    singular.

    Args:
        matrix: ``M (K, N)``.
        gram: ``G (K, K)``, symmetric and positive semidefinite; None for the identity.

    Source: Zhang et al. 2016, Accelerating Very Deep Convolutional Networks for Classification and
    Detection, 3.1 (the linear case); the same optimum as Wang et al. 2024, SVD-LLM, where G is
    split by Cholesky.

    Raises:
        ValueError: It is not a matrix, is empty, or holds values that are not finite; or the Gram
            matrix does not fit it.

    >>> found = decompose(np.array([[3.0, 0.0], [0.0, 4.0]]))
    >>> found.values, found.energy(1)
    (array([4., 3.]), 0.64)
    >>> decompose(np.array([[3.0, 0.0], [0.0, 4.0]]), np.diag([4.0, 1.0])).values
    array([6., 4.])
    """
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"not a matrix: shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("a weight is not finite")
    exact = matrix.astype(np.float64)
    if gram is None:
        left, values, right = np.linalg.svd(exact, full_matrices=False)
        return Decomposition(left * values, values, right)
    if gram.shape != (len(matrix), len(matrix)) or not np.isfinite(gram).all():
        raise ValueError(f"no Gram matrix of {len(matrix)} inputs: shape {gram.shape}")
    return _in_metric(exact, gram.astype(np.float64))


def _in_metric(matrix: NDArray[np.float64], gram: NDArray[np.float64]) -> Decomposition:
    """On the smaller side: eigenvectors of ``M^T G M``, or those of ``C C^T``, C = G^(1/2) M."""
    rows, columns = matrix.shape
    if columns <= rows:
        squares, vectors = np.linalg.eigh(matrix.T @ gram @ matrix)
        values, right = np.sqrt(squares[::-1].clip(min=0)), vectors.T[::-1]
    else:
        inside, basis = np.linalg.eigh(gram)
        seen = (np.sqrt(inside.clip(min=0)) * basis).T @ matrix
        squares, vectors = np.linalg.eigh(seen @ seen.T)
        values, turned = np.sqrt(squares[::-1].clip(min=0)), vectors.T[::-1] @ seen
        real = values > _ROUNDING * values[0]
        right = np.divide(turned, values[:, None], where=real[:, None], out=np.zeros_like(turned))
    return Decomposition(matrix @ right.T, values, np.ascontiguousarray(right))
