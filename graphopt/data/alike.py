"""Samples that are one and the same, however many there are of them."""

from __future__ import annotations

import numpy as np

from graphopt.data.samples import Feeds, Samples
from graphopt.graph.tensors import Array

__all__ = ["alike"]

_MOST = 1000
"""Samples looked at; reading stops at the first that differs, which mostly is the second."""


def alike(samples: Samples) -> bool:
    """Whether there are several samples, and each of the first ones is the same as the first.

    Rows of a fixed batch are compared too.
    """
    first: Feeds | None = None
    for feeds, real in samples.feeds(limit=_MOST):
        if real > 1 and not all(_repeats(array, real) for array in feeds.values()):
            return False
        if first is None:
            first = feeds
        elif not all(np.array_equal(first[name], array) for name, array in feeds.items()):
            return False
    return samples.count > 1


def _repeats(array: Array, real: int) -> bool:
    """Whether the real rows of one feed are the same."""
    if array.ndim == 0 or len(array) < real:
        return True
    return bool((array[:1] == array[:real]).all())
