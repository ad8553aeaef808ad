"""What a convolution as cheaper ones in a row looks like, in one of four schemes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graphopt.numerics.lowrank import Cost

__all__ = [
    "ConvFactors",
    "ConvStage",
    "Scheme",
    "applies",
    "compose",
    "conv_cost",
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
        energy: Share that is kept: of the weight's sum of squares, or of the output's where they
            were found in the metric of a Gram matrix.
        macs_share: Their multiply-accumulates over those of the one.
    """

    scheme: Scheme
    ranks: tuple[int, ...]
    stages: tuple[ConvStage, ...]
    energy: float
    macs_share: float

    @property
    def elements(self) -> int:
        """Of all weights together."""
        return sum(stage.weight.size for stage in self.stages)

    @property
    def kind(self) -> str:
        """The scheme."""
        return self.scheme

    @property
    def full_ranks(self) -> tuple[int, ...]:
        """For each rank the least at which every weight of that shape has this form exactly.

        Of ``cp``, of which that is not known, what is always enough.
        """
        first, last = self.stages[0].weight, self.stages[-1].weight
        inputs, outputs = first.shape[1], len(last)
        if self.scheme == "tucker":
            return tuple(outputs if stage.axes else inputs for stage in self.stages[:-1])
        if self.scheme == "cp":
            sizes = sorted((inputs, outputs, math.prod(self.stages[1].weight.shape[2:])))
            return (sizes[0] * sizes[1],)
        return (min(first[0].size, last[:, 0].size),)

    @property
    def words(self) -> str:
        """Scheme and ranks."""
        return f"{self.scheme}, rank {' and '.join(map(str, self.ranks))}"

    @property
    def price(self) -> tuple[float, float]:
        """Energy lost per share of cost saved; among lossless ones the cheapest comes first."""
        lost = 1.0 - self.energy
        return (lost / (1.0 - self.macs_share) if lost > _LOSSLESS else 0.0), self.macs_share


def applies(scheme: Scheme, kernel: Sequence[int]) -> bool:
    """Whether a kernel has that form.

    ``spatial`` needs two axes longer than 1; ``tucker`` and ``cp`` more than one tap, since for
    1 x 1 they are ``channel`` with a superfluous part.
    """
    if scheme == "spatial":
        return len(kernel) == 2 and min(kernel) > 1
    return scheme == "channel" or math.prod(kernel) > 1
