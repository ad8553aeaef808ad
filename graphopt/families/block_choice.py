"""Which residual blocks of a model go, and in which order."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.analysis.blocks import Block
from graphopt.contract.passes import ChannelMean, Context
from graphopt.facts.shapes import Shapes
from graphopt.families.answer_damage import AnswerDamage
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.rewrite.branches import silence
from graphopt.rewrite.edit import remove_dead

__all__ = ["BlockChoice", "Droppable", "droppable", "without"]


@dataclass(frozen=True, eq=False)
class Droppable:
    """A block, by names that copies of its graph have as well.

    Attributes:
        name: Label of the node that adds.
        total: The sum.
        index: Which input of that node is the branch.
        layers: How many layers go with it.
        rest: What is left of the branch: its mean on each channel, broadcast to the sum.
    """

    name: str
    total: str
    index: int
    layers: int
    rest: Array


def droppable(blocks: Sequence[Block], shapes: Shapes, context: Context) -> list[Droppable]:
    """Blocks with the means of their branches, all from one observation."""
    asked = {block.total: _mean_of(block, shapes) for block in blocks}
    means = context.observe(asked.values())
    found = []
    for block in blocks:
        request = asked[block.total]
        info = shapes.get(block.branch)
        assert info is not None and info.shape is not None
        along = [1] * len(info.shape)
        along[request.axis] = -1
        kind = block.layers[-1].weight.dtype
        rest = means[request].reshape(along).astype(kind)
        if os.environ.get("REST", "mean") != "mean":
            rest = np.zeros([1] * len(along), kind)
        found.append(Droppable(block.name, block.total, block.index, len(block.layers), rest))
    return found


def _mean_of(block: Block, shapes: Shapes) -> ChannelMean:
    """The mean of a branch on each channel: on the axis on which its last layer makes them."""
    info = shapes.get(block.branch)
    assert info is not None and info.shape is not None
    last = next((each for each in reversed(block.layers) if each.multiplies), block.layers[-1])
    axis = 1 if last.kind == "conv" and len(info.shape) > 1 else len(info.shape) - 1
    return ChannelMean(block.branch, axis)


def without(graph: Graph, block: Droppable) -> Graph:
    """A copy that adds but the mean of the branch."""
    copy = graph.copy()
    scope = copy.main
    end = scope.producer(block.total)
    assert end is not None
    uses = [use for use in scope.uses(end.input[block.index]) if use.node is end]
    silence(scope, uses, block.rest)
    remove_dead(copy)
    return copy


class BlockChoice:
    """Tells which block goes next: the one that hurts the answers least for what it saves.

    Args:
        graph: The model, of whose answers those of others are measured.
        context: Has the samples.
        samples: How many of them answer.
        cost: What a model costs.
    """

    def __init__(
        self, graph: Graph, context: Context, samples: int, cost: Callable[[Graph], float]
    ) -> None:
        self._damage = AnswerDamage(graph, context, samples)
        self._cost = cost
        self._suffered = 0.0
        self._known: dict[str, float] = {}

    def next(
        self, graph: Graph, blocks: Sequence[Droppable], missing: float
    ) -> tuple[Droppable, Graph, float] | None:
        """The block to drop, the model without it, and what its answers suffer.

        Which of them hurts how much is measured again as far as it hurt less before.

        Args:
            graph: The model as it is.
            blocks: Those that it still has.
            missing: What is to be saved; more than that counts for nothing.

        Returns:
            None where no block saves anything.
        """
        now = self._cost(graph)
        trials = {block.total: without(graph, block) for block in blocks}
        saved = {
            total: min(missing, now - self._cost(trial)) for total, trial in trials.items()
        }
        waiting = [block for block in blocks if saved[block.total] > 0]
        measured: dict[str, float] = {}
        while waiting:
            best = min(waiting, key=lambda block: self._worth(block, saved))
            if best.total in measured:
                self._suffered = measured[best.total]
                return best, trials[best.total], self._suffered
            measured[best.total] = self._damage.of(trials[best.total])
            self._known[best.total] = measured[best.total] - self._suffered
        return None

    def _worth(self, block: Droppable, saved: Mapping[str, float]) -> float:
        rise = self._known.get(block.total, -np.inf)
        return rise / saved[block.total] if rise > 0 else rise
