"""Pass ``drop-blocks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx

from graphopt.analysis.blocks import Block, residual_blocks
from graphopt.contract.budgets import at_most_one
from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Option, Pass
from graphopt.contract.preconditions import (
    CalibrationSamples,
    TimingSamples,
    Unquantized,
    When,
)
from graphopt.contract.registry import register
from graphopt.facts.select import select
from graphopt.families.block_budget import BlockBudget, BlockBudgetKind, adds
from graphopt.families.block_choice import BlockChoice, droppable
from graphopt.families.branch_means import take_up
from graphopt.families.channels.budget import KeptShare
from graphopt.families.chosen import Exclude, Nodes
from graphopt.families.padding import RealRows
from graphopt.families.run_shapes import run_shapes
from graphopt.graph.graph import Graph
from graphopt.rewrite.branches import unspoken

__all__ = ["DropBlocks"]

_BUDGETS: tuple[BlockBudgetKind, ...] = ("blocks", "macs", "params", "latency")


@register("drop-blocks")
@dataclass(frozen=True, kw_only=True)
class DropBlocks(Pass):
    """Remove residual blocks whose output hardly differs from their input.

        x -> Conv -> Relu -> Conv -> + x -> y      becomes      x -> + mean -> y

    A block is a sum of a tensor and of a branch that starts from that very tensor, of the same
    shape, whatever lies between; of a transformer attention and feed-forward parts are blocks each.
    In its place goes what the branch gives on average, one value a channel, which a bias in front
    of it takes up where no function lies between.

    One budget says how much: ``blocks`` to drop, or ``macs``, ``params`` or ``latency`` to keep,
    as a share of the model before the first lossy pass; without any one block goes. They go one by
    one: each is left out by turns, the answers are compared, and the one goes that hurts them
    least for what it saves. After each the others are measured again, as far as they were better
    before. For ``latency`` nodes are timed on this machine, and the model against the original
    before it is enough.

    Put reconstruct-weights behind it, by which the layers that are left make up for the blocks.
    Source: Veit et al. 2016, Residual Networks Behave Like Ensembles of Relatively Shallow
    Networks; Men et al. 2024, ShortGPT (transformers).
    """

    blocks: Annotated[int | None, Option("blocks to drop", low=1)] = None
    macs: KeptShare = None
    params: KeptShare = None
    latency: KeptShare = None
    samples: Annotated[int, Option("samples that say what the answers suffer", low=1)] = 64
    nodes: Nodes = ()
    exclude: Exclude = ()
    lossy: ClassVar[bool] = True
    requires = (
        Unquantized(),
        CalibrationSamples(),
        TimingSamples(when=When("latency", None, equal=False)),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most_one(self.name, {each: getattr(self, each) for each in _BUDGETS})

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes(nothing="the model keeps to the budget already")
        shapes = run_shapes(graph, context)
        blocks = residual_blocks(graph, shapes)
        budget = BlockBudget(*self.budget, graph, context, shapes, blocks)
        chosen = [each for each in blocks if self._chosen(graph, each, changes)]
        left = droppable(chosen, context, RealRows(graph, context, shapes))
        choice = BlockChoice(graph, context, self.samples, budget.cost)
        now, reached = graph, budget.left(graph)
        while budget.missed(reached, ""):
            found = choice.next(now, left, budget.missing(now))
            if found is None:
                break
            block, now, suffered = found
            left = [each for each in left if adds(now, each.branch, each.total)]
            reached = budget.left(now)
            layers = f"{block.layers} layer{'s' * (block.layers > 1)}"
            changes.edit(block.name, f"{layers} gone; damage to the answers {suffered:.2g} in all")
        reason = "no more blocks can go" if blocks else "it has no residual blocks"
        changes.missed = budget.missed(reached, reason)
        if now is not graph:
            graph.become(now)
            for each in blocks:
                take_up(graph, shapes, each.total)
        elif changes.missed is not None:
            changes.nothing = changes.missed.reason
        return changes

    @property
    def budget(self) -> tuple[BlockBudgetKind, float]:
        """The budget that was given, or one block."""
        for kind in _BUDGETS:
            if (value := getattr(self, kind)) is not None:
                return kind, value
        return "blocks", 1

    def _chosen(self, graph: Graph, block: Block, changes: Changes) -> bool:
        """Whether ``nodes`` has all layers of a block, and ``exclude`` none of its nodes."""
        inside, outside = select(graph, self.nodes), select(graph, self.exclude)
        unwanted = bool(self.exclude) and any(map(outside, (block.end, *block.nodes)))
        if unwanted or not all(inside(each.node) for each in block.layers):
            return False
        if reason := unspoken(graph, block.end):
            changes.skip(block.end, reason)
        return not reason

    @classmethod
    def examples(cls) -> Sequence[Example]:
        plain = Example(_chain, {"blocks": 1})
        return [
            plain,
            plain.but(samples=2, nodes=("Conv",), exclude=("Conv(c2)",)),
            Example(_chain, {"macs": 0.9}),
            Example(_chain, {"params": 0.9}),
            Example(_chain, {"latency": 0.9}),
        ]


def _chain() -> onnx.ModelProto:
    """Two residual blocks that take a time that can be told; the first adds little."""
    made: onnx.ModelProto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        chain (float[N,16,16,16] x) => (float[N,16,16,16] y) {
          c0 = Conv <pads = [1, 1, 1, 1]> (x, W0)
          r0 = Relu (c0)
          c1 = Conv <pads = [1, 1, 1, 1]> (r0, W1)
          s1 = Add (c1, r0)
          r1 = Relu (s1)
          c2 = Conv <pads = [1, 1, 1, 1]> (r1, W2)
          s2 = Add (r1, c2)
          y = Relu (s2)
        }"""
    )
    rng = np.random.default_rng(0)
    for name, scale in (("W0", 0.1), ("W1", 1e-4), ("W2", 0.1)):
        values = scale * rng.normal(size=(16, 16, 3, 3))
        made.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    return made
