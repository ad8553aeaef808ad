"""A convolution as two cheaper ones in a row, in either of two schemes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.lowrank import Budget, Cost, Decomposition, decompose

__all__ = ["ConvFactors", "Scheme", "conv_cost", "factorize_conv", "fold", "unfold"]

Scheme = Literal["channel", "spatial"]
"""``channel``: k x k to ``rank`` channels, then 1 x 1. ``spatial``: k x 1, then 1 x k."""


def unfold(weight: NDArray[Any], scheme: Scheme) -> NDArray[Any]:
    """The matrix whose low-rank form is the scheme's pair of convolutions.

    Args:
        weight: ``(out, in, kh, kw)``; with ``channel`` any number of kernel axes.
        scheme: ``channel`` gives ``(in * kh * kw, out)``, ``spatial`` ``(in * kh, kw * out)``.

    >>> unfold(np.zeros((8, 4, 3, 5)), "spatial").shape
    (12, 40)
    """
    if scheme == "channel":
        return weight.reshape(len(weight), -1).T
    out, channels, height, width = weight.shape
    return weight.transpose(1, 2, 3, 0).reshape(channels * height, width * out)


def fold(
    left: NDArray[Any], right: NDArray[Any], shape: Sequence[int], scheme: Scheme
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The weights of both convolutions from the factors of ``unfold``'s matrix.

    Args:
        left: ``(rows, rank)``.
        right: ``(rank, columns)``.
        shape: Of the weight, ``(out, in, kh, kw)``.
        scheme: As in ``unfold``.

    Returns:
        ``channel``: ``(rank, in, kh, kw)`` and ``(out, rank, 1, 1)``. ``spatial``:
        ``(rank, in, kh, 1)`` and ``(out, rank, 1, kw)``.
    """
    rank = left.shape[1]
    out, channels, *kernel = shape
    if scheme == "channel":
        first = left.T.reshape(rank, channels, *kernel)
        second = right.T.reshape(out, rank, *(1 for _ in kernel))
    else:
        height, width = kernel
        first = left.T.reshape(rank, channels, height, 1)
        second = right.reshape(rank, width, out).transpose(2, 0, 1).reshape(out, rank, 1, width)
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


def conv_cost(shape: Sequence[int], scheme: Scheme, strides: Sequence[int] = (1, 1)) -> Cost:
    """Multiply-accumulates at one position of the output.

    ``channel``: ``rank (in kh kw + out)`` against ``out in kh kw``. ``spatial``: ``rank (in kh sw +
    out kw)``, since the first convolution strides only along its own axis and so runs at ``sw``
    times as many positions.

    Args:
        shape: Of the weight, ``(out, in, kh, kw)``.
        scheme: Which form.
        strides: Of the convolution, one a kernel axis.

    >>> conv_cost((64, 64, 3, 3), "spatial").highest_rank
    95
    """
    out, channels, *kernel = (int(size) for size in shape)
    window = int(np.prod(kernel, dtype=np.int64))
    dense = out * channels * window
    if scheme == "channel":
        return Cost(dense, channels * window + out)
    height, width = kernel
    return Cost(dense, channels * height * strides[-1] + out * width)


_LOSSLESS = 1e-12  # share of the energy that is rounding


@dataclass(frozen=True)
class ConvFactors:
    """Two convolutions that stand for one.

    Attributes:
        scheme: Their form.
        rank: Channels between them.
        first: Weight of the first, float32.
        second: Weight of the second, float32.
        energy: Share of the weight's sum of squares that is kept.
        macs_share: Their multiply-accumulates over those of the one.
    """

    scheme: Scheme
    rank: int
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    energy: float
    macs_share: float


def factorize_conv(
    weight: NDArray[Any],
    budget: Budget,
    strides: Sequence[int] = (1, 1),
    schemes: Sequence[Scheme] = ("spatial", "channel"),
) -> ConvFactors | None:
    """The scheme that loses less per multiply-accumulate saved, at the rank that the budget gives.

    What is lost is the share of the weight's sum of squares; a scheme that does not apply (spatial
    with other than two kernel axes longer than 1) or saves nothing is left out.

    Args:
        weight: ``(out, in, kh, kw)`` of an ungrouped convolution, finite.
        budget: Rank, energy or share of the multiply-accumulates.
        strides: Of the convolution.
        schemes: Which to consider.

    Returns:
        The factors; None where no scheme saves anything within the budget.

    Raises:
        ValueError: A weight is not finite, or the budget is none.
    """
    candidates = []
    for scheme in schemes:
        if scheme == "spatial" and not (weight.ndim == 4 and min(weight.shape[2:]) > 1):
            continue
        found = decompose(unfold(weight, scheme))
        cost = conv_cost(weight.shape, scheme, strides)
        rank = budget.rank(found.values, cost)
        if rank:
            candidates.append((scheme, rank, found, cost.share(rank)))
    if not candidates:
        return None
    scheme, rank, found, share = min(candidates, key=_price)
    first, second = fold(*found.factors(rank), weight.shape, scheme)
    return ConvFactors(scheme, rank, first, second, found.energy(rank), share)


def _price(candidate: tuple[Scheme, int, Decomposition, float]) -> tuple[float, float]:
    """Energy lost per share of cost saved; among lossless ones the cheapest comes first."""
    _, rank, found, share = candidate
    lost = 1.0 - found.energy(rank)
    return (lost / (1.0 - share) if lost > _LOSSLESS else 0.0), share
