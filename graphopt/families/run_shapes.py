"""Shapes of a graph's tensors in one run on the first sample."""

from __future__ import annotations

from graphopt.contract.passes import Context
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph
from graphopt.run.sizing import sized_run

__all__ = ["run_shapes"]


def run_shapes(graph: Graph, context: Context) -> Shapes:
    """Shapes at the sizes of the first sample, as far as they are known.

    Args:
        graph: The graph handed over, or the reference.
        context: Has the samples, where there are any.
    """
    feeds = None
    if context.training is not None:
        feeds = next((each for each, _ in context.training.samples.feeds(limit=1)), None)
    known = None if graph is context.reference else context.shapes
    return sized_run(graph, feeds, known=known).shapes
