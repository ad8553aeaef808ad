"""Which weights matter least: scores, and the masks that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "PATTERNS",
    "Pattern",
    "PatternName",
    "lowest_masks",
    "magnitudes",
    "pattern_mask",
    "threshold_mask",
    "zero_count",
]

Mask = NDArray[np.bool_]


class Pattern(NamedTuple):
    """At most ``kept`` of every ``group`` neighbours are not zero: N:M sparsity."""

    kept: int
    group: int

    @property
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.kept / self.group


PatternName = Literal["none", "2:4", "1:4", "4:8"]
PATTERNS: Mapping[PatternName, Pattern | None] = {
    "none": None,
    "2:4": Pattern(2, 4),
    "1:4": Pattern(1, 4),
    "4:8": Pattern(4, 8),
}


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


def magnitudes(values: NDArray[Any]) -> NDArray[Any]:
    """``|w|``, in a type in which the smallest integer has a magnitude too.

    Raises:
        ValueError: A value is NaN.

    >>> magnitudes(np.array([-128, 1], np.int8))
    array([128.,   1.])
    """
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    found: NDArray[Any] = np.abs(values)
    if np.isnan(found).any():
        raise ValueError("a weight is NaN")
    return found


def lowest_masks(scores: Sequence[NDArray[Any]], count: int) -> list[Mask]:
    """Masks without the ``count`` lowest of all scores together.

    Among equal scores those of earlier arrays, and in an array those that come first, go first.

    Args:
        scores: Any shapes, real dtypes; infinite ones are ranked too.
        count: How many go, 0 to the number of all scores.

    Returns:
        True where the weight stays, of the shapes of ``scores``.

    Raises:
        ValueError: A score is NaN.

    >>> lowest_masks([np.array([0.5, -2.0]), np.array([0.5])], 2)
    [array([False, False]), array([ True])]
    """
    flat = np.concatenate([score.ravel() for score in scores]) if scores else np.zeros(0)
    if np.isnan(flat).any():
        raise ValueError("a score is NaN")
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


def pattern_mask(scores: NDArray[Any], pattern: Pattern, axis: int) -> Mask:
    """An N:M pattern: of every M neighbours along ``axis`` the N highest stay.

    Among equal scores in a group those that come first go first.

    Args:
        scores: Any shape and real dtype.
        pattern: N and M; M divides the length of ``axis``.
        axis: The axis of the input channels, for kernels that skip what is zero.

    Returns:
        True where the weight stays, of the shape of ``scores``.

    Raises:
        ValueError: The axis does not divide into groups, or a score is NaN.

    Source: Mishra et al., Accelerating Sparse Deep Neural Networks (2021), section 3.1.

    >>> pattern_mask(np.array([[4.0, 1.0, 2.0, 3.0]]), Pattern(2, 4), 1)
    array([[ True, False, False,  True]])
    """
    kept, group = pattern
    if scores.shape[axis] % group:
        raise ValueError(f"{scores.shape[axis]} is no multiple of {group}")
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    rows = np.moveaxis(scores, axis, -1)
    groups = rows.reshape(-1, group)
    order = np.argsort(groups, axis=1, kind="stable")
    keep = np.ones(groups.shape, dtype=np.bool_)
    np.put_along_axis(keep, order[:, : group - kept], values=False, axis=1)
    return np.ascontiguousarray(np.moveaxis(keep.reshape(rows.shape), -1, axis))


def threshold_mask(values: NDArray[Any], threshold: float) -> Mask:
    """What to keep of a weight where ``|w| < threshold`` goes.

    Raises:
        ValueError: A value is NaN, or ``threshold`` is negative or NaN.

    >>> threshold_mask(np.array([0.1, -0.2, 0.3]), 0.2)
    array([False,  True,  True])
    """
    if not threshold >= 0:
        raise ValueError(f"a threshold is 0 or more, not {threshold}")
    return np.asarray(magnitudes(values) >= threshold)
