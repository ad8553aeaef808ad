"""Scores of channels from their weights alone: the lower, the sooner they go."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["ByWeights", "filter_scores", "in_order"]

ByWeights = Literal["l1", "l2", "median"]

Floats = NDArray[np.float64]


def filter_scores(filters: Floats, kind: ByWeights) -> Floats:
    """A score for each filter ``(units,)`` that makes a channel.

    ``l1`` is the sum of magnitudes, ``l2`` that of squares, ``median`` the sum of distances to the
    other filters: what is near the geometric median of all is what the others can stand in for.

    >>> filter_scores(np.array([[1.0, -2.0], [0.0, 3.0]]), "l2").tolist()
    [5.0, 9.0]

    Args:
        filters: ``(units, elements)``.
        kind: Of score.

    Source: Li et al. 2017, Pruning Filters for Efficient ConvNets; He et al. 2019, Filter Pruning
    via Geometric Median, equation 4.
    """
    if kind == "l1":
        return np.asarray(np.abs(filters).sum(axis=1))
    squares = np.asarray((filters**2).sum(axis=1))
    if kind == "l2":
        return squares
    apart = squares[:, None] + squares[None, :] - 2 * filters @ filters.T
    return np.asarray(np.sqrt(np.maximum(apart, 0)).sum(axis=1))


def in_order(scores: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Units from the lowest score on, and the share of the scores that is gone after each.

    >>> order, gone = in_order(np.array([3.0, 1.0]))
    >>> order.tolist(), gone.tolist()
    ([1, 0], [0.0, 0.25, 1.0])
    """
    order = np.argsort(scores, kind="stable")
    gone = np.concatenate([[0.0], np.cumsum(np.maximum(scores[order], 0))])
    return order, np.asarray(gone / gone[-1] if gone[-1] > 0 else np.linspace(0, 1, len(gone)))
