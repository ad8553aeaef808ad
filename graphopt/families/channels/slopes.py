"""What the loss says of the weights that make channels."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from graphopt.analysis.channels import ChannelGroup
from graphopt.contract.passes import Context
from graphopt.facts.weights import grouped
from graphopt.families.masking import gradient_scores
from graphopt.graph.graph import Graph

__all__ = ["slopes_of"]


def slopes_of(
    graph: Graph, groups: Iterable[ChannelGroup], context: Context, name: str
) -> dict[str, NDArray[np.float64]]:
    """First-order Taylor scores of the elements of the weights that make some groups, by origin.

    Args:
        graph: The model.
        groups: Its groups.
        context: Has the samples.
        name: Of the pass, for messages; for what may be raised see ``gradient_scores``.
    """
    made = grouped(each for group in groups for each in group.producers)
    weights = [each for each in made if each.refusal() is None]
    found = gradient_scores(graph, context, weights, "taylor", name)
    return {
        weight.constant.origin: np.maximum(scores, 0)
        for weight, scores in zip(weights, found, strict=True)
    }
