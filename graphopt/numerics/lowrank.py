"""Matrices as products of two thin ones: truncated SVD, the rank that a budget allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Budget", "Cost", "Decomposition", "decompose", "matrix_cost"]


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
    """Singular value decomposition ``M = U diag(s) V`` of a matrix ``(K, N)``.

    Attributes:
        left: ``U (K, n)``, float64, n = min(K, N).
        values: ``s (n,)``, descending.
        right: ``V (n, N)``.
    """

    left: NDArray[np.float64]
    values: NDArray[np.float64]
    right: NDArray[np.float64]

    def energy(self, rank: int) -> float:
        """Share of the sum of squares of the matrix that rank ``rank`` keeps, 0 .. 1."""
        squares = np.square(self.values)
        total = float(squares.sum())
        return float(squares[:rank].sum()) / total if total > 0 else 1.0

    def lost(self, rank: int) -> float:
        """Sum of squares that is lost: ``|M - A B|^2`` (Eckart and Young 1936)."""
        return float(np.square(self.values[rank:]).sum())

    def factors(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``A = U sqrt(s)`` of ``(K, rank)`` and ``B = sqrt(s) V`` of ``(rank, N)``.

        Both carry the same share of each singular value, which keeps their ranges alike and so
        quantizes better than a split of another kind.
        """
        root = np.sqrt(self.values[:rank])
        left = self.left[:, :rank] * root
        right = root[:, None] * self.right[:rank]
        return left.astype(np.float32), right.astype(np.float32)


def decompose(matrix: NDArray[Any]) -> Decomposition:
    """The decomposition of a matrix of any real dtype, computed in float64.

    Raises:
        ValueError: It is not a matrix, is empty, or holds values that are not finite.

    >>> found = decompose(np.array([[3.0, 0.0], [0.0, 4.0]]))
    >>> found.values, found.energy(1)
    (array([4., 3.]), 0.64)
    """
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"not a matrix: shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("a weight is not finite")
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return Decomposition(left, values, right)
