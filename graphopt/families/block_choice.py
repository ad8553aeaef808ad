"""Which residual block of a model goes next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from onnx.helper import tensor_dtype_to_np_dtype

from graphopt.analysis.blocks import Block
from graphopt.contract.passes import ChannelMean, Context, RowMoments
from graphopt.families.answer_damage import AnswerDamage
from graphopt.families.padding import RealRows
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.rewrite.branches import silence
from graphopt.rewrite.edit import remove_dead

__all__ = ["BlockChoice", "Droppable", "droppable", "without_block"]


@dataclass(frozen=True, eq=False)
class Droppable:
    """A block, told by names that copies of its graph have as well.

    Attributes:
        name: Label of the node that adds.
        total: The sum.
        branch: What the branch gives.
        layers: How many layers go with it.
        rest: What is left of the branch: its mean on each channel, broadcast to the sum.
    """

    name: str
    total: str
    branch: str
    layers: int
    rest: Array


def droppable(
    blocks: Sequence[Block], context: Context, real: RealRows | None = None
) -> list[Droppable]:
    """Blocks with the means of their branches, over what is no padding where ``real`` knows it."""
    asked = [_mean_of(block) for block in blocks]
    moments = {} if real is None else real.moments(RowMoments(m.tensor, m.axis) for m in asked)
    answers = context.observe(asked)
    means: dict[ChannelMean, NDArray[np.float64]] = {each: answers[each] for each in asked}
    for moment, found in moments.items():
        means[ChannelMean(moment.tensor, moment.axis)] = found.mean[0]
    listed = []
    for block, request in zip(blocks, asked, strict=True):
        along = [1] * len(block.shape)
        along[request.axis] = -1
        known = block.data_type != TensorProto.UNDEFINED
        kind = tensor_dtype_to_np_dtype(block.data_type) if known else block.layers[-1].weight.dtype
        rest = means[request].reshape(along).astype(kind)
        listed.append(Droppable(block.name, block.total, block.branch, len(block.layers), rest))
    return listed


def _mean_of(block: Block) -> ChannelMean:
    """The mean of a branch on each channel that its last layer makes, wherever these lie."""
    shape = block.shape
    last = next((each for each in reversed(block.layers) if each.multiplies), block.layers[-1])
    usual = 1 if last.kind == "conv" and len(shape) > 1 else len(shape) - 1
    places = [axis for axis, size in enumerate(shape) if axis and size == last.channels]
    axis = usual if usual in places or not places else places[0]
    return ChannelMean(block.branch, axis)


def without_block(graph: Graph, block: Droppable) -> Graph:
    """A copy that adds the mean of the branch in place of what it gives."""
    copy = graph.copy()
    scope = copy.main
    uses = [use for use in scope.uses(block.branch) if block.total in use.node.output]
    silence(scope, block.branch, uses, block.rest)
    remove_dead(copy)
    return copy


class BlockChoice:
    """Tells which block goes next: the one that hurts the answers least for what it saves.

    Args:
        graph: The model, with whose answers those of others are compared.
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
        """The block to drop, the model without it, and what its answers suffer by then.

        How much a block hurts is measured again unless it hurt more before than the best does now.

        Args:
            graph: The model as it is.
            blocks: Those that it still has.
            missing: What is to be saved; more than that counts for nothing.

        Returns:
            None where no block saves anything.
        """
        now = self._cost(graph)
        trials = {block.total: without_block(graph, block) for block in blocks}
        saved = {total: min(missing, now - self._cost(trial)) for total, trial in trials.items()}
        waiting = [block for block in blocks if saved[block.total] > 0]
        measured: dict[str, float] = {}
        while waiting:
            best = min(waiting, key=lambda block: self._price(block, saved))
            if best.total in measured:
                self._suffered = measured[best.total]
                return best, trials[best.total], self._suffered
            measured[best.total] = self._damage.of(trials[best.total])
            self._known[best.total] = measured[best.total] - self._suffered
        return None

    def _price(self, block: Droppable, saved: Mapping[str, float]) -> float:
        """By how much the answers get worse for what is saved; at once, where nobody knows."""
        rise = self._known.get(block.total, -np.inf)
        return rise / saved[block.total] if rise > 0 else rise
