"""Linear systems of many right hand sides, each solved on the rows and columns of a mask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

__all__ = ["MaskedSolver", "masked_solvers"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_FACTOR_BYTES = 256 << 20
"""Factors of matrices, one for each pattern of a mask, that are held at once."""
_STEPS = 40
"""Products with the whole matrix that gradients are reckoned to take; mostly they take fewer."""
_MOST_STEPS = 200
_REMAINS = 1e-4
"""Share of the right hand side that may remain: the error that it minimises is then within some
1e-7 of the least."""
_RESTARTS = 3


class MaskedSolver(Protocol):
    """Solves for some right hand sides.

    Attributes:
        columns: Which these are.
    """

    columns: list[int]

    def solve(self, right: Floats) -> Floats:
        """Solutions ``(width, columns)`` of right hand sides ``(width, columns)``."""


def masked_solvers(matrix: Floats, mask: Mask, near: Floats) -> Iterator[MaskedSolver]:
    """Solvers of ``A_SS x_S = b_S`` for each column of a mask, S being where it is true.

    Columns of the same mask share a Cholesky factor; where there are so many masks of so many rows
    that these would take longer, conjugate gradients work on all of them at once.

    Args:
        matrix: A, ``(width, width)``, symmetric and positive definite up to rounding.
        mask: ``(width, columns)``.
        near: About what the solutions are, of the same shape.

    Yields:
        As many at once as memory holds factors of; ``columns`` are each of them once.
    """
    patterns: dict[bytes, list[int]] = {}
    for column, pattern in enumerate(np.packbits(mask, axis=0).T):
        patterns.setdefault(pattern.tobytes(), []).append(column)
    sizes = [int(mask[:, columns[0]].sum()) for columns in patterns.values()]
    # a third of n^3 products for a factor, in double; the products of gradients are in single
    if sum(size**3 / 3 for size in sizes) > _STEPS * mask.shape[1] * len(matrix) ** 2:
        yield _Gradients(matrix, mask, near)
        return
    held: list[tuple[list[int], NDArray[np.intp]]] = []
    taken = 0
    for columns, size in zip(patterns.values(), sizes, strict=True):
        if taken and taken + 8 * size**2 > _FACTOR_BYTES:
            yield _Factors(matrix, held)
            held, taken = [], 0
        taken += 8 * size**2
        held.append((columns, np.flatnonzero(mask[:, columns[0]])))
    if held:
        yield _Factors(matrix, held)


class _Factors:
    """By a Cholesky factor for each pattern."""

    def __init__(self, matrix: Floats, patterns: list[tuple[list[int], NDArray[np.intp]]]) -> None:
        self.columns = [column for columns, _ in patterns for column in columns]
        self._parts = [
            (len(columns), support, _cholesky(matrix, support)) for columns, support in patterns
        ]

    def solve(self, right: Floats) -> Floats:
        found = np.zeros_like(right)
        at = 0
        for count, support, factor in self._parts:
            here = slice(at, at + count)
            at += count
            if factor is not None:
                found[support, here] = cho_solve(factor, right[support, here])
        return found


def _cholesky(matrix: Floats, inputs: NDArray[np.intp]) -> tuple[Floats, bool] | None:
    if not len(inputs):
        return None
    whole = len(inputs) == len(matrix)
    part = matrix if whole else matrix[np.ix_(inputs, inputs)]
    for more in (0.0, 1e-6, 1e-3):  # float32 sums may leave it a little short of definite
        try:
            extra = more * float(np.trace(part)) / len(part)
            firm = part + extra * np.eye(len(part)) if extra else part
            factor: tuple[Floats, bool] = cho_factor(firm)
        except LinAlgError:
            continue
        return factor
    return None


class _Gradients:
    """By conjugate gradients of all columns at once, each on its mask.

    Steps are in float32, what remains is computed anew in float64 until it is small enough: no
    factor is needed, and of each step the products with the matrix are one large product. What
    was found last is where the next right hand sides start from.

    Source: Hestenes and Stiefel, Methods of Conjugate Gradients for Solving Linear Systems (1952);
    on masks, as here, Meng et al., ALPS (2024), section 3.3.
    """

    def __init__(self, matrix: Floats, mask: Mask, near: Floats) -> None:
        self.columns = list(range(mask.shape[1]))
        diagonal = np.diagonal(matrix)
        self._scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))[:, None]
        self._matrix = matrix * self._scale * self._scale.T
        self._single = self._matrix.astype(np.float32)
        self._mask = mask
        self._near = near / self._scale * mask

    def solve(self, right: Floats) -> Floats:
        scaled = right * self._scale * self._mask
        enough = _REMAINS * np.sqrt(np.square(scaled).sum(axis=0))
        for _ in range(_RESTARTS):
            remains = (scaled - self._matrix @ self._near) * self._mask
            if (np.sqrt(np.square(remains).sum(axis=0)) <= enough).all():
                break
            self._near += self._steps(remains.astype(np.float32), enough)
        found: Floats = self._near * self._scale
        return found

    def _steps(self, remains: NDArray[np.float32], enough: Floats) -> NDArray[np.float32]:
        """What takes away, step by step, what remains."""
        moved, along = np.zeros_like(remains), remains.copy()
        squares = np.square(remains).sum(axis=0, dtype=np.float64)
        for _ in range(_MOST_STEPS):
            going = squares > np.square(enough)
            if not going.any():
                break
            product = (self._single @ along) * self._mask
            bend = (along * product).sum(axis=0, dtype=np.float64)
            size = np.divide(squares, bend, out=np.zeros_like(bend), where=going & (bend > 0))
            moved += size.astype(np.float32) * along
            remains = remains - size.astype(np.float32) * product
            now = np.square(remains).sum(axis=0, dtype=np.float64)
            turn = np.divide(now, squares, out=np.zeros_like(now), where=going & (squares > 0))
            along = remains + turn.astype(np.float32) * along
            squares = now
        return moved
