"""What layers read, as it decides what a lower rank does to their outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.contract.passes import Context, RowMoments
from graphopt.facts.layers import Layer
from graphopt.facts.weights import WeightGroup
from graphopt.families.padding import RealRows
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.numerics.moments import Moments
from graphopt.rewrite.biases import has_bias, shift_bias

__all__ = ["Inputs", "inputs_of"]

_RIDGE = 1e-3
"""Of the variance of an input: what the samples never showed still counts for something."""
_SHRINKAGE = 0.1
"""The same for each input a row: the fewer rows there are, the less they tell of other samples."""


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
            layers: In the order of ``means``; one that was taken out of its graph may have left its
                bias there.
            lost: The weight less its low-rank form, ``(width, out)``.
        """
        for one, mean in zip(layers, self.means, strict=False):
            if one.bias is not None:
                shift_bias(one, one.alpha * (mean @ lost))


def inputs_of(groups: Sequence[WeightGroup], graph: Graph, context: Context) -> list[Inputs | None]:
    """What the layers of each weight read on the calibration samples.

    None where there are no samples, for layers in bodies, which cannot be observed, and where what
    they read cannot be measured, such as values too large to be squared. Tokens of padding, by a
    mask among the inputs, do not count.
    """
    asked: list[list[RowMoments]] = []
    for group in groups:
        made = [RowMoments.of(each) for each in group.layers if each.scope is graph.main]
        known = [each for each in made if isinstance(each, RowMoments)]
        asked.append(known if context.calibrated and len(known) == len(group.layers) else [])
    everything = [request for requests in asked for request in requests]
    moments = dict[RowMoments, Moments]()
    if everything:
        moments = RealRows(graph, context, run_shapes(graph, context)).moments(everything)
    others = [request for request in everything if request not in moments]
    answers = context.observe(others)
    moments |= {each: answers[each] for each in others if answers.failure(each) is None}
    return [
        None
        if any(each not in moments for each in requests)
        else _inputs([moments[each] for each in requests], all(map(has_bias, group.layers)))
        for group, requests in zip(groups, asked, strict=True)
    ]


def _inputs(moments: Sequence[Moments], centred: bool) -> Inputs | None:
    """What layers read together, each by its rows; None of no rows, or of nothing that varies."""
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
    if not np.trace(gram) > 0:
        return None
    ridge = np.trace(gram) / width * (_RIDGE + _SHRINKAGE * width / count)
    means = tuple(each.mean[0] for each in moments) if centred else ()
    return Inputs(gram + ridge * np.eye(width), means)
