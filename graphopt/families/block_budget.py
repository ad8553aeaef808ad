"""How much may be left of a model whose residual blocks go."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from graphopt.analysis.blocks import residual_blocks
from graphopt.contract.passes import Context
from graphopt.facts.cost import params
from graphopt.facts.macs import node_macs
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.time_budget import time_share
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.runtime.profile import node_times

__all__ = ["BlockBudget", "BlockBudgetKind"]

BlockBudgetKind = Literal["blocks", "macs", "params", "latency"]

_RUNS = 15
_CALM = 0.2


class BlockBudget:
    """What a model may cost.

    Args:
        kind: What is counted.
        value: The share of the original's that may be left; of ``blocks`` how many may go.
        graph: The model as it is.
        context: Has the original, which earlier passes may have taken something from.
        shapes: Of the model's tensors in a run.

    Attributes:
        cost: Of a model whose tensors are some of those of ``graph``; of ``latency`` predicted.
        most: What it may cost.
    """

    def __init__(
        self, kind: BlockBudgetKind, value: float, graph: Graph, context: Context, shapes: Shapes
    ) -> None:
        self._share = value
        self._taken: Callable[[Graph], float] | None = None
        original = context.reference
        if kind == "blocks":
            self.cost: Callable[[Graph], float] = lambda model: len(residual_blocks(model, shapes))
            self.most = len(residual_blocks(original, run_shapes(original, context))) - value
        elif kind == "params":
            self.cost = params
            self.most = value * params(original)
        elif kind == "macs":
            self.cost = lambda model: _macs(model, shapes)
            self.most = value * _macs(original, run_shapes(original, context))
        else:
            assert context.training is not None, "a precondition"
            threads = context.training.threads
            feeds = next(feeds for feeds, _ in context.training.samples.feeds(limit=1))
            times = node_times(graph, feeds, threads=threads, runs=_RUNS, quantile=_CALM)
            self.cost = lambda model: sum(times.get(label(one), 0.0) for one in model.main.nodes)
            self._taken = lambda model: time_share(original, model, feeds, threads)
            before = 1.0 if graph is original else self._taken(graph)
            self.most = value * self.cost(graph) / before

    def keeps(self, graph: Graph) -> bool:
        """Whether a model costs no more; of time, as measured."""
        if self.cost(graph) > self.most:
            return False
        return self._taken is None or self._taken(graph) <= self._share

    def missing(self, graph: Graph) -> float:
        """What is still to be saved; infinite where it should be enough, and is not."""
        missing = self.cost(graph) - self.most
        return missing if missing > 0 else float("inf")


def _macs(graph: Graph, shapes: Shapes) -> float:
    """Multiply-accumulates of a run; those of nodes that nobody can count are left out."""
    return sum(node_macs(graph.main, node, shapes) or 0 for node in graph.main.nodes)
