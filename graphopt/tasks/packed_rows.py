"""What the columns of rows hold that a detector packs into one output: box, score, class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.tasks.task import Columns

__all__ = ["SHOWN", "columns_of", "score_column"]

_COORDINATES = 4
_WIDTHS = (5, 6, 7)
_LEAST_ROWS = 4
"""Of numbers that mean nothing of the kind so many rows look like boxes once in 256 times."""
SHOWN = 0.3
"""Score from which on detectors commonly show a row; those below are what is left over."""


def columns_of(tables: Sequence[NDArray[Any]], *, packed: bool = False) -> Columns | None:
    """What the columns of rows ``(rows, columns)`` hold; None where they hold no boxes.

    Four columns side by side are a box where the third lies beyond the first and the fourth beyond
    the second in every row; rows whose four numbers are the same fill up. All other columns hold
    whole numbers or shares, which tells such rows from numbers of any kind.

    Args:
        tables: Of some samples.
        packed: Whether the graph or the user says that columns mean different things: then any
            row will do, and the columns beside the box may hold anything.

    >>> columns_of([np.array([[0.0, 0, 10, 20, 0.9, 1], [5, 5, 8, 9, 0.8, 2]])] * 2)
    Columns(box=0, score=4, whole=(5,))
    """
    if len({table.shape[1] for table in tables}) != 1 or tables[0].dtype.kind != "f":
        return None
    rows = np.concatenate(list(tables)).astype(np.float64)
    if rows.shape[1] not in _WIDTHS or not np.isfinite(rows).all():
        return None
    told = None
    for first in range(rows.shape[1] - _COORDINATES + 1):
        box = rows[:, first : first + _COORDINATES]
        filled = (box != box[:, :1]).any(axis=1)
        if filled.sum() < (1 if packed else _LEAST_ROWS):
            continue
        if not (box[filled, 2:] > box[filled, :2]).all():
            continue
        columns, whole = _beside(rows[filled], first)
        if whole:
            return columns
        told = told or columns
    return told if packed else None


def _beside(rows: NDArray[np.float64], box: int) -> tuple[Columns, bool]:
    """What lies beside a box, and whether every column of it is told."""
    others = [n for n in range(rows.shape[1]) if not box <= n < box + _COORDINATES]
    whole = [n for n in others if (rows[:, n] == np.round(rows[:, n])).all()]
    shares = [n for n in others if n not in whole and _shares(rows[:, n])]
    told = len(whole) + len(shares) == len(others) and len(shares) <= 1
    return Columns(box, shares[0] if shares else None, tuple(whole)), told


def _shares(column: NDArray[np.float64]) -> bool:
    return bool(column.min() >= 0 and column.max() <= 1)


def score_column(rows: NDArray[Any]) -> int | None:
    """The column by which rows are in order, from the best score down; None where none is.

    None too where not even the best one is what a detector would show.

    >>> score_column(np.array([[3.0, 0.9], [7, 0.4], [1, 0.1]]))
    1
    """
    if rows.dtype.kind != "f" or not len(rows):
        return None
    for number, column in enumerate(rows.T):
        within = column.min() >= 0 and column.max() <= 1
        if within and column.max() >= SHOWN and (np.diff(column) <= 0).all():
            return number
    return None
