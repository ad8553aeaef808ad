"""Which channels of the tensors of an earlier graph are left, after passes that remove some."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kept", "composed"]

Kept = Mapping[tuple[str, int], NDArray[np.intp]]
"""By tensor and axis, counted from the front: the positions of the earlier graph's tensor of that
name that are left, in order. What is not listed is whole."""


def composed(first: Kept, then: Kept) -> dict[tuple[str, int], NDArray[np.intp]]:
    """What is left of the graph before ``first`` behind both.

    >>> one, two = {("x", 1): np.array([0, 2, 5])}, {("x", 1): np.array([1, 2])}
    >>> composed(one, two)["x", 1].tolist()
    [2, 5]

    Args:
        first: Positions of the earlier graph.
        then: Positions of the graph that ``first`` led to.
    """
    both = dict(first)
    for place, positions in then.items():
        both[place] = first[place][positions] if place in first else np.asarray(positions, np.intp)
    return both
