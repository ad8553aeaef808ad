"""What quantized weights and steps must keep to while they are trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphopt.bridge.quantized.fake import FakeWeight, Grid
from graphopt.bridge.training.hooks import Hook
from graphopt.numerics.saturation import MAX_CODE

__all__ = ["KeepLimits", "Walk", "WeightLimits", "keep_pairs_safe", "unsafe_pairs", "walk_of"]

_HIGHEST = 32767 // MAX_CODE
"""Largest sum of two neighbouring weight codes of one sign (``numerics.saturation``)."""
_JUST_BELOW = 1e-3
"""Weights that add up to this much less round to codes that fit."""

Walk = Callable[[Tensor], Tensor]
"""A weight as rows ``(out, products of one sum)`` in the order of the integer kernel."""


def walk_of(op_type: str, *, transposed: bool = False) -> Walk:
    """How the integer kernel of a Conv, Gemm or MatMul walks its weight."""
    if op_type == "Conv":
        return lambda weight: weight.movedim(1, -1).flatten(1)
    return (lambda weight: weight) if transposed else (lambda weight: weight.t())


def unsafe_pairs(codes: Tensor) -> Tensor:
    """Which pairs of neighbouring codes can overflow 16 bits: ``(out, products // 2)``.

    Args:
        codes: Integers as floats ``(out, products of one sum)``; an odd last one is alone and safe.
    """
    even, odd = codes[:, 0:-1:2], codes[:, 1::2]
    up = even.clamp(min=0) + odd.clamp(min=0)
    down = even.clamp(max=0) + odd.clamp(max=0)
    return (up > _HIGHEST) | (down < -_HIGHEST)


def keep_pairs_safe(weight: FakeWeight, walk: Walk) -> int:
    """Move both weights of each pair that can overflow towards zero by as much as it takes.

    The steps stay. Gives the number of pairs.
    """
    values, grid = weight.values.detach(), weight.grid
    row, pair = torch.nonzero(unsafe_pairs(walk(grid.integers(values))), as_tuple=True)
    if not len(row):
        return 0
    order = walk(torch.arange(values.numel(), device=values.device).reshape(values.shape))
    places = torch.stack([order[row, 2 * pair], order[row, 2 * pair + 1]])
    where = torch.unravel_index(places, values.shape)
    steps = grid.spread(values)[where]
    units = (values[where] / steps).clamp(-grid.codes.qmax, grid.codes.qmax)
    excess = (units.sum(0).abs() - (_HIGHEST - _JUST_BELOW)) / 2
    values[where] = (units - units.sign() * excess) * steps
    return len(row)


@dataclass(frozen=True, eq=False)
class WeightLimits:
    """What one weight keeps to.

    Attributes:
        weight: Is trained.
        walks: Kernels in which its neighbouring products must not overflow.
        zeros: Where it stays zero; None for nowhere.
    """

    weight: FakeWeight
    walks: Sequence[Walk] = ()
    zeros: Tensor | None = None


class KeepLimits(Hook):
    """Keeps pruned weights at zero, products from overflowing, and steps below their ceilings.

    Args:
        limits: Of the weights.
        ceilings: Grids of activations with the largest step at which the runtime drops the Clip
            before; there are no values beyond.
    """

    def __init__(
        self, limits: Sequence[WeightLimits], ceilings: Sequence[tuple[Grid, float]]
    ) -> None:
        self._limits, self._ceilings = limits, ceilings

    def after_update(self, step: int) -> None:  # noqa: ARG002 - the same at each
        """Take back what went beyond."""
        self.judged()

    def judged(self) -> None:
        """The same for averages, which may lie beyond although what they average does not."""
        with torch.no_grad():
            for each in self._limits:
                if each.zeros is not None:
                    each.weight.values.masked_fill_(each.zeros.to(each.weight.values.device), 0)
                for walk in each.walks:
                    keep_pairs_safe(each.weight, walk)
            for grid, most in self._ceilings:
                grid.step.clamp_(-most, most)
