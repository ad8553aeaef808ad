"""What the columns of rows hold that a detector packs into one output: box, score, class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHOWN", "class_columns", "packed_box", "score_column"]

_COORDINATES = 4
_WIDTHS = (6, 7)
SHOWN = 0.3
"""Score from which on detectors commonly show a row; those below are what is left over."""


def packed_box(rows: NDArray[Any]) -> int | None:
    """The first of the four columns of a box by its corners; None where there is none.

    Rows of six columns begin with it, those of seven may have the number of the picture before.

    >>> packed_box(np.array([[0.0, 0, 10, 20, 0.9, 1], [5, 5, 8, 9, 0.8, 2]]))
    0
    """
    if rows.dtype.kind != "f" or rows.ndim != 2 or rows.shape[1] not in _WIDTHS or not len(rows):
        return None
    for first in range(rows.shape[1] - _WIDTHS[0] + 1):
        box = rows[:, first : first + _COORDINATES]
        if (box[:, 2:] > box[:, :2]).all():
            return first
    return None


def class_columns(rows: NDArray[Any], box: int) -> list[int]:
    """Columns beside a box that hold whole numbers."""
    others = [n for n in range(rows.shape[1]) if not box <= n < box + _COORDINATES]
    return [n for n in others if (rows[:, n] == np.round(rows[:, n])).all()]


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
