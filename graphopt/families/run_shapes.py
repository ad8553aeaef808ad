"""Shapes of a graph's tensors, and its MACs, in one run on the first sample."""

from __future__ import annotations

from graphopt.contract.passes import Context
from graphopt.facts.shapes import Shapes
from graphopt.facts.sized import Sized
from graphopt.graph.graph import Graph
from graphopt.run.sizing import sized_run

__all__ = ["run_shapes", "run_sizes"]


def run_shapes(graph: Graph, context: Context) -> Shapes:
    """Shapes at the sizes of the first sample, as far as they are known.

    Args:
        graph: The graph handed over, or the reference.
        context: Has the samples, where there are any.
    """
    known = None if graph is context.reference else context.shapes
    return _sized(graph, context, known).shapes


def run_sizes(graph: Graph, context: Context) -> Sized:
    """Shapes and MACs at the sizes of the first sample of any graph that takes it.

    Args:
        graph: The graph.
        context: Has the samples, where there are any.
    """
    return _sized(graph, context, None)


def _sized(graph: Graph, context: Context, known: Shapes | None) -> Sized:
    feeds = None
    if context.training is not None:
        feeds = next((each for each, _ in context.training.samples.feeds(limit=1)), None)
    return sized_run(graph, feeds, known=known)
