"""Average precision: how well a ranking puts what is right first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["average_precision"]


def average_precision(scores: NDArray[np.float64], right: NDArray[np.bool_], wanted: int) -> float:
    """The area under precision over recall, precision made to fall: 0 to 1.

    ``AP = sum_k (recall_k - recall_{k-1}) max_{j >= k} precision_j`` over the ranks ``k`` by
    falling score; equal scores stay in their order.

    Args:
        scores: Of what was found ``(found,)``.
        right: What of it is right.
        wanted: How many right ones there are, found or not; at least 1.

    Source: Everingham et al. 2010, The PASCAL Visual Object Classes Challenge, the form of 2010.

    >>> average_precision(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    precision = hits / np.arange(1, len(hits) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right[order]].sum() / wanted)
