"""How much may be left of a model whose residual blocks go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from graphopt.analysis.blocks import Block, residual_blocks
from graphopt.contract.passes import Context, Missed, missed_budget
from graphopt.facts.cost import params
from graphopt.facts.macs import node_macs
from graphopt.facts.shapes import Shapes
from graphopt.families.channels.time_budget import time_share
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.graph.node import label
from graphopt.runtime.profile import node_times

__all__ = ["BlockBudget", "BlockBudgetKind", "adds"]

BlockBudgetKind = Literal["blocks", "macs", "params", "latency"]

_RUNS = 15
_CALM = 0.2


class BlockBudget:
    """What a model may cost, by what the original costs.

    Args:
        kind: What is counted.
        value: The share of the original's that may be left; of ``blocks`` how many are to go.
        graph: The model as it is.
        context: Has the original, of which earlier passes may have taken something.
        shapes: Of the model's tensors in a run.
        blocks: All that the model has.

    Attributes:
        cost: Of a model whose tensors are some of those of ``graph``; of ``latency`` as predicted.
        most: What it may cost.
    """

    def __init__(
        self,
        kind: BlockBudgetKind,
        value: float,
        graph: Graph,
        context: Context,
        shapes: Shapes,
        blocks: Sequence[Block],
    ) -> None:
        self._kind, self._value, original = kind, value, context.reference
        self._timed: Callable[[Graph], float] | None = None
        if kind == "blocks":
            ends = [(block.branch, block.total) for block in blocks]
            self.cost: Callable[[Graph], float] = lambda model: sum(
                adds(model, *each) for each in ends
            )
            self._whole: float = len(residual_blocks(original, run_shapes(original, context)))
            self.most = self._whole - value
            return
        if kind == "params":
            self.cost = params
            self._whole = params(original)
        elif kind == "macs":
            self.cost = lambda model: _macs(model, shapes)
            self._whole = _macs(original, run_shapes(original, context))
        else:
            assert context.training is not None, "a precondition"
            threads = context.training.threads
            feeds = next(feeds for feeds, _ in context.training.samples.feeds(limit=1))
            times = node_times(graph, feeds, threads=threads, runs=_RUNS, quantile=_CALM)
            self.cost = lambda model: sum(times.get(label(one), 0.0) for one in model.main.nodes)
            self._timed = lambda model: time_share(original, model, feeds, threads)
            self._whole = self.cost(graph) / self._timed(graph)
        self.most = value * self._whole

    def left(self, graph: Graph) -> float | None:
        """What the option says of a model: blocks that are gone, or the share that is left.

        None where the original's costs are not known. Times are measured where they should be
        within the budget, else predicted.
        """
        cost = self.cost(graph)
        if self._kind == "blocks":
            return self._whole - cost
        if self._timed is not None and cost <= self.most:
            return self._timed(graph)
        return cost / self._whole if self._whole else None

    def missing(self, graph: Graph) -> float:
        """What is still to be saved; infinite where it should be enough, and is not."""
        missing = self.cost(graph) - self.most
        return missing if missing > 0 else float("inf")

    def missed(self, left: float | None, reason: str) -> Missed | None:
        """The budget, where a model is beyond it.

        Args:
            left: See ``left``.
            reason: Why it is no closer.
        """
        return missed_budget(self._kind, self._value, left, reason, least=self._kind == "blocks")


def adds(graph: Graph, branch: str, total: str) -> bool:
    """Whether a graph has a sum of this name to which it adds the branch."""
    uses = graph.main.uses(branch) if graph.main.producer(branch) is not None else []
    return any(total in use.node.output for use in uses)


def _macs(graph: Graph, shapes: Shapes) -> float:
    """Multiply-accumulates of a run; those of nodes that nobody can count are left out."""
    return sum(node_macs(graph.main, node, shapes) or 0 for node in graph.main.nodes)
