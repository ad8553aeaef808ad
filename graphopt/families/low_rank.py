"""What the passes have in common that make thin products of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.passes import Context, Option, Pass, RowMoments
from graphopt.contract.preconditions import Precondition, Unquantized
from graphopt.errors import UsageError
from graphopt.facts.layers import Layer
from graphopt.facts.weights import WeightGroup
from graphopt.graph.graph import Graph
from graphopt.numerics.lowrank import Budget
from graphopt.numerics.moments import Moments
from graphopt.rewrite.biases import has_bias, shift_bias

__all__ = ["Inputs", "LowRank", "inputs_of"]

_RIDGE = 1e-3
"""Of the variance of an input: what the samples never showed still counts for something."""
_SHRINKAGE = 0.1
"""The same for each input a row: the fewer rows there are, the less they tell of other samples."""
_DEFAULT_ENERGY = 0.95
"""Share of the sum of squares that is kept where no budget is given."""


@dataclass(frozen=True, kw_only=True)
class LowRank(Pass):
    """A pass whose ranks follow from one budget; without any it is an energy of 0.95."""

    rank: Annotated[int | None, Option("rank of every layer", low=1)] = None
    energy: Annotated[
        float | None, Option("share of energy to keep", low=0, high=1, low_open=True)
    ] = None
    macs: Annotated[
        float | None, Option("share of MACs to keep", low=0, high=1, low_open=True, high_open=True)
    ] = None
    lossy: ClassVar[bool] = True
    uses_samples: ClassVar[bool] = True
    requires: ClassVar[tuple[Precondition, ...]] = (Unquantized(),)

    def __post_init__(self) -> None:
        super().__post_init__()
        budgets = {"rank": self.rank, "energy": self.energy, "macs": self.macs}
        given = [kind for kind, value in budgets.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{self.name}: {' and '.join(given)} exclude each other; give one")

    @property
    def budget(self) -> Budget:
        """The budget that was given."""
        if self.rank is not None:
            return Budget("rank", self.rank)
        if self.macs is not None:
            return Budget("macs", self.macs)
        return Budget("energy", _DEFAULT_ENERGY if self.energy is None else self.energy)


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the layers of a weight read.

    Attributes:
        gram: What the squares of their outputs follow from: ``X^T X / n`` of the rows that they
            multiply with the weight, ``(width, width)``, ridged. Their covariance where all of them
            have a bias, which then makes up for the mean.
        means: Mean row of each layer; empty where not all have a bias.
    """

    gram: NDArray[np.float64]
    means: tuple[NDArray[np.float64], ...]

    def rebias(self, layers: Sequence[Layer], lost: NDArray[np.float64]) -> None:
        """Let the biases make up for what a lower rank takes from the means of the outputs.

        Args:
            layers: In the order of ``means``.
            lost: The weight less its low-rank form, ``(width, out)``.
        """
        for one, mean in zip(layers, self.means, strict=False):
            shift_bias(one, one.alpha * (mean @ lost))


def inputs_of(groups: Sequence[WeightGroup], graph: Graph, context: Context) -> list[Inputs | None]:
    """What the layers of each weight read on the calibration samples.

    None where there are no samples, and for layers in bodies, which cannot be observed.
    """
    asked: list[list[RowMoments]] = []
    for group in groups:
        made = [RowMoments.of(each) for each in group.layers if each.scope is graph.main]
        known = [each for each in made if isinstance(each, RowMoments)]
        asked.append(known if context.calibrated and len(known) == len(group.layers) else [])
    answers = context.observe([request for requests in asked for request in requests])
    return [
        _inputs([answers[each] for each in requests], all(map(has_bias, group.layers)))
        for group, requests in zip(groups, asked, strict=True)
    ]


def _inputs(moments: Sequence[Moments], centred: bool) -> Inputs | None:
    """What layers read together, each by its rows; None of no rows."""
    count = sum(each.count for each in moments)
    if not count:
        return None
    gram = np.zeros_like(moments[0].covariance[0])
    for each in moments:
        second = each.covariance[0]
        if not centred:
            second = second + np.outer(each.mean[0], each.mean[0])
        gram += second * (each.count / count)
    width = len(gram)
    ridge = np.trace(gram) / width * (_RIDGE + _SHRINKAGE * width / count)
    means = tuple(each.mean[0] for each in moments) if centred else ()
    return Inputs(gram + ridge * np.eye(width), means)
