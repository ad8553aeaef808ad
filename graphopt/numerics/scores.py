"""Which weights matter least: magnitude scores and the masks that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["global_masks", "magnitude_mask", "threshold_mask", "zero_count"]

Mask = NDArray[np.bool_]


def zero_count(size: int, sparsity: float) -> int:
    """How many of ``size`` weights a sparsity sets to zero: ``round(sparsity * size)``.

    Raises:
        ValueError: ``sparsity`` lies outside 0 .. 1.

    >>> zero_count(10, 0.25)
    2
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity lies between 0 and 1, not at {sparsity}")
    return round(sparsity * size)


def magnitude_mask(values: NDArray[Any], sparsity: float) -> Mask:
    """What to keep of one weight so that exactly ``zero_count`` of it goes: the smallest ``|w|``.

    Among equal magnitudes those that come first in memory order go first.

    Args:
        values: Any shape and real dtype.
        sparsity: Share of zeros, 0 .. 1.

    Returns:
        True where the weight stays, of the shape of ``values``.

    Raises:
        ValueError: A value is NaN, or ``sparsity`` is out of bounds.

    >>> magnitude_mask(np.array([3.0, -1.0, 1.0, 2.0]), 0.25)
    array([ True, False,  True,  True])
    """
    return global_masks([values], sparsity)[0]


def global_masks(weights: Sequence[NDArray[Any]], sparsity: float) -> list[Mask]:
    """Masks over several weights that compete with each other, so that layers differ in sparsity.

    Exactly ``zero_count`` of all weights together goes; among equal magnitudes those of earlier
    arrays, and in an array those that come first, go first.

    Raises:
        ValueError: A value is NaN, or ``sparsity`` is out of bounds.

    >>> global_masks([np.array([1.0, 5.0]), np.array([2.0, 3.0])], 0.5)
    [array([False,  True]), array([False,  True])]
    """
    scores = [_magnitudes(values) for values in weights]
    flat = np.concatenate([score.ravel() for score in scores]) if scores else np.zeros(0)
    count = zero_count(flat.size, sparsity)
    keep = np.ones(flat.size, dtype=np.bool_)
    if count:
        highest = np.partition(flat, count - 1)[count - 1]
        below = flat < highest
        ties = np.flatnonzero(flat == highest)
        keep[below] = False
        keep[ties[: count - int(below.sum())]] = False
    ends = np.cumsum([score.size for score in scores])[:-1]
    parts = np.split(keep, ends) if scores else []
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


def threshold_mask(values: NDArray[Any], threshold: float) -> Mask:
    """What to keep of a weight where ``|w| < threshold`` goes.

    Raises:
        ValueError: A value is NaN, or ``threshold`` is negative or NaN.

    >>> threshold_mask(np.array([0.1, -0.2, 0.3]), 0.2)
    array([False,  True,  True])
    """
    if not threshold >= 0:
        raise ValueError(f"a threshold is 0 or more, not {threshold}")
    return np.asarray(_magnitudes(values) >= threshold)


def _magnitudes(values: NDArray[Any]) -> NDArray[Any]:
    """``|w|``, in a type in which the smallest integer has a magnitude too."""
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    magnitudes: NDArray[Any] = np.abs(values)
    if np.isnan(magnitudes).any():
        raise ValueError("a weight is NaN")
    return magnitudes
