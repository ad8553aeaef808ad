"""Which weights matter least: scores, and the masks that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BLOCKS",
    "PATTERNS",
    "AskedZeros",
    "BlockName",
    "Pattern",
    "PatternName",
    "block_mask",
    "block_sums",
    "layer_adaptive",
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

BlockName = Literal["1x1", "4x1", "1x4", "4x4", "1x16"]
BLOCKS: Mapping[BlockName, tuple[int, int]] = {
    "1x1": (1, 1),
    "4x1": (4, 1),
    "1x4": (1, 4),
    "4x4": (4, 4),
    "1x16": (1, 16),
}


@dataclass(frozen=True)
class AskedZeros:
    """Which zeros a weight is to have: a share in blocks of neighbours, or an N:M pattern.

    Weights are given to it as ``(out, ..., in)``: a block is ``block[0]`` neighbours along the
    first axis by ``block[1]`` along the last, and a pattern counts along the last one.

    Attributes:
        sparsity: Share of the blocks that are zero; a pattern brings its own.
        pattern: N and M; None for a share.
        block: Outputs by inputs; they divide the axes. With a pattern it is ``(1, 1)``.
    """

    sparsity: float
    pattern: Pattern | None = None
    block: tuple[int, int] = (1, 1)

    def keep(self, scores: NDArray[Any]) -> Mask:
        """What stays, of the scores of all blocks ``(out / block, ..., in / block)``.

        The lowest go; among equal ones those that come first.

        Raises:
            ValueError: A score is NaN, or a pattern does not divide the last axis.

        >>> AskedZeros(0.5).keep(np.array([[3.0, 1.0], [2.0, 4.0]]))
        array([[ True, False],
               [False,  True]])
        """
        if self.pattern is not None:
            return pattern_mask(scores, self.pattern, -1)
        return lowest_masks([scores], zero_count(scores.size, self.sparsity))[0]


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


def layer_adaptive(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Each score over the sum of it and all that are not lower: comparable between layers.

    The highest of a layer has 1, however large it is, so none competes away a whole layer. Among
    equal scores those that come first count as lower. ``-inf`` stays, and counts in no sum.

    Args:
        scores: Any shape, 0 or more: of magnitudes the squares.

    Returns:
        The same shape, 0 to 1.

    Source: Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning (2021), equation 3.

    >>> layer_adaptive(np.array([1.0, 4.0, 3.0]))
    array([0.125     , 1.        , 0.42857143])
    """
    flat = np.asarray(scores, np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    lowest_first = flat[order]
    counted = np.where(lowest_first == -np.inf, 0.0, lowest_first)
    sums = np.cumsum(counted[::-1])[::-1]
    found = np.empty_like(flat)
    found[order] = np.divide(lowest_first, sums, out=np.minimum(lowest_first, 0.0), where=sums > 0)
    return found.reshape(scores.shape)


def block_sums(scores: NDArray[Any], block: tuple[int, int]) -> NDArray[Any]:
    """The sum of each block: ``block[0]`` neighbours on the first axis by ``block[1]`` on the last.

    Args:
        scores: ``(out, ..., in)``.
        block: Its sizes, which divide the first and the last axis.

    Raises:
        ValueError: It does not.

    >>> block_sums(np.arange(8.0).reshape(2, 4), (2, 2))
    array([[10., 18.]])
    """
    out, *others, width = scores.shape
    rows, columns = block
    if out % rows or width % columns:
        raise ValueError(f"blocks of {rows} x {columns} do not divide {out} x {width}")
    cut: NDArray[Any] = scores.reshape(out // rows, rows, *others, width // columns, columns)
    return cut.sum(axis=(1, -1)) if block != (1, 1) else scores


def block_mask(mask: Mask, block: tuple[int, int]) -> Mask:
    """A mask of blocks as one of elements, the other way round.

    >>> block_mask(np.array([[True, False]]), (1, 2))
    array([[ True,  True, False, False]])
    """
    return np.repeat(np.repeat(mask, block[0], axis=0), block[1], axis=-1)


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
