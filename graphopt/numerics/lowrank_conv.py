"""A convolution as cheaper ones in a row, in one of four schemes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.cp import choose_cp, cp_cost
from graphopt.numerics.lowrank import Budget, Cost, decompose
from graphopt.numerics.tucker import choose_ranks, spectrum, tucker, tucker_cost

__all__ = [
    "ConvFactors",
    "ConvStage",
    "Scheme",
    "applies",
    "compose",
    "conv_cost",
    "factorize_conv",
    "fold",
    "unfold",
]

Scheme = Literal["channel", "spatial", "tucker", "cp"]
"""``channel``: k x k to ``rank`` channels, then 1 x 1. ``spatial``: k x 1, then 1 x k. ``tucker``:
1 x 1, k x k, 1 x 1. ``cp``: 1 x 1, depthwise k x k, 1 x 1."""


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
class ConvStage:
    """One convolution of a chain.

    Attributes:
        weight: ``(out, in, *kernel)``, depthwise ``(channels, 1, *kernel)``, float32.
        axes: The kernel axes along which it strides, pads and dilates for the whole chain.
        depthwise: Whether each channel is convolved on its own.
    """

    weight: NDArray[np.float32]
    axes: tuple[int, ...] = ()
    depthwise: bool = False


def compose(stages: Sequence[ConvStage]) -> NDArray[np.float64]:
    """The weight ``(out, in, *kernel)`` of the one convolution that a chain stands for.

    Each kernel axis must be longer than 1 in one stage only.
    """
    first, *others = (stage.weight.astype(np.float64) for stage in stages)
    whole = first
    for stage, weight in zip(stages[1:], others, strict=True):
        if stage.depthwise:
            whole = weight * whole
        else:
            whole = np.einsum("or...,ri...->oi...", weight, whole, optimize=True)
    return whole


@dataclass(frozen=True)
class ConvFactors:
    """Convolutions in a row that stand for one.

    Attributes:
        scheme: Their form.
        ranks: Channels between them; ``cp`` has the same twice and says it once.
        stages: The convolutions, first to last. None has a bias, but the last may get one.
        energy: Share of the weight's sum of squares that is kept.
        macs_share: Their multiply-accumulates over those of the one.
    """

    scheme: Scheme
    ranks: tuple[int, ...]
    stages: tuple[ConvStage, ...]
    energy: float
    macs_share: float

    @property
    def price(self) -> tuple[float, float]:
        """Energy lost per share of cost saved; among lossless ones the cheapest comes first."""
        lost = 1.0 - self.energy
        return (lost / (1.0 - self.macs_share) if lost > _LOSSLESS else 0.0), self.macs_share


def factorize_conv(
    weight: NDArray[Any],
    budget: Budget,
    strides: Sequence[int] = (1, 1),
    schemes: Sequence[Scheme] = ("spatial", "channel"),
    seed: int = 0,
) -> ConvFactors | None:
    """The scheme that loses less per multiply-accumulate saved, at the rank that the budget gives.

    What is lost is the share of the weight's sum of squares; a scheme that does not apply to the
    kernel (see ``applies``) or saves nothing is left out.

    Args:
        weight: ``(out, in, *kernel)`` of an ungrouped convolution, finite.
        budget: Rank, energy or share of the multiply-accumulates.
        strides: Of the convolution, one a kernel axis.
        schemes: Which to consider.
        seed: Of the random starts of ``cp``.

    Returns:
        The factors; None where no scheme saves anything within the budget.

    Raises:
        ValueError: A weight is not finite, or the budget is none.
    """
    found = [
        _factorize(weight, budget, strides, scheme, seed)
        for scheme in schemes
        if applies(scheme, weight.shape[2:])
    ]
    return min((item for item in found if item), key=lambda item: item.price, default=None)


def applies(scheme: Scheme, kernel: Sequence[int]) -> bool:
    """Whether a kernel has that form.

    ``spatial`` needs two axes longer than 1; ``tucker`` and ``cp`` more than one tap, since for
    1 x 1 they are ``channel`` with a superfluous part.
    """
    if scheme == "spatial":
        return len(kernel) == 2 and min(kernel) > 1
    return scheme == "channel" or math.prod(kernel) > 1


def _factorize(
    weight: NDArray[Any], budget: Budget, strides: Sequence[int], scheme: Scheme, seed: int
) -> ConvFactors | None:
    if scheme == "tucker":
        return _tucker(weight, budget, strides)
    if scheme == "cp":
        return _cp(weight, budget, strides, seed)
    found = decompose(unfold(weight, scheme))
    cost = conv_cost(weight.shape, scheme, strides)
    rank = budget.rank(found.values, cost)
    if not rank:
        return None
    first, second = fold(*found.factors(rank), weight.shape, scheme)
    every = tuple(range(weight.ndim - 2))
    axes: tuple[tuple[int, ...], tuple[int, ...]] = (
        ((0,), (1,)) if scheme == "spatial" else (every, ())
    )
    stages = ConvStage(first, axes[0]), ConvStage(second, axes[1])
    return ConvFactors(scheme, (rank,), stages, found.energy(rank), cost.share(rank))


def _tucker(weight: NDArray[Any], budget: Budget, strides: Sequence[int]) -> ConvFactors | None:
    """1 x 1, k x k, 1 x 1; without the first or the last where its rank is all channels."""
    channels = spectrum(weight)
    ranks = choose_ranks(channels, budget, weight.shape, strides)
    if ranks is None:
        return None
    found = tucker(channels, ranks, weight.shape[2:])
    inner, core, outer = found.balanced()
    stages = [ConvStage(core.astype(np.float32), tuple(range(weight.ndim - 2)))]
    if inner.shape[1] < len(inner):
        stages.insert(0, ConvStage(_pointwise(inner.T, weight.ndim)))
    if outer.shape[1] < len(outer):
        stages.append(ConvStage(_pointwise(outer, weight.ndim)))
    between = tuple(len(stage.weight) for stage in stages[:-1])
    share = tucker_cost(weight.shape, ranks, strides) / weight.size
    return ConvFactors("tucker", between, tuple(stages), found.energy, share)


def _cp(
    weight: NDArray[Any], budget: Budget, strides: Sequence[int], seed: int
) -> ConvFactors | None:
    """1 x 1, depthwise k x k, 1 x 1: a CP form of three modes, the kernel axes as one.

    Four modes would make two depthwise convolutions, k x 1 and 1 x k, of one. That saves
    ``kh kw - kh - kw`` of ``in + out + kh kw`` per rank, which buys less than what it loses.
    """
    out, channels, *kernel = weight.shape
    cost = cp_cost(weight.shape, strides)
    found = choose_cp(weight.reshape(out, channels, -1), budget, cost, seed)
    if found is None:
        return None
    outer, inner, window = found.factors
    rank = outer.shape[1]
    middle = np.ascontiguousarray(window.T.reshape(rank, 1, *kernel), dtype=np.float32)
    stages = (
        ConvStage(_pointwise(inner.T, weight.ndim)),
        ConvStage(middle, tuple(range(len(kernel))), depthwise=True),
        ConvStage(_pointwise(outer, weight.ndim)),
    )
    return ConvFactors("cp", (rank,), stages, found.energy, cost.share(rank))


def _pointwise(matrix: NDArray[np.float64], axes: int) -> NDArray[np.float32]:
    """``(out, in)`` as the weight of a 1 x 1 convolution."""
    shaped = matrix.reshape(*matrix.shape, *(1,) * (axes - 2))
    return np.ascontiguousarray(shaped, dtype=np.float32)
