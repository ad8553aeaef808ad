"""Pass ``factorize-matmul``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from onnx import helper

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.select import select
from graphopt.facts.weights import WeightGroup, rank_of_product, weight_groups
from graphopt.families.chosen import Exclude, MinSize, Nodes
from graphopt.families.low_rank import Inputs, LowRank, inputs_of
from graphopt.graph.graph import Graph
from graphopt.graph.node import attribute, is_op, label
from graphopt.graph.tensors import Array
from graphopt.numerics.lowrank import Budget, decompose, matrix_cost
from graphopt.rewrite.values import drop_unread

__all__ = ["FactorizeMatmul"]

_NO_BIAS_OPSET = 11  # from here on a Gemm needs no third input


@register("factorize-matmul")
@dataclass(frozen=True, kw_only=True)
class FactorizeMatmul(LowRank):
    """Replace the weight of a MatMul or Gemm by a product of two thin ones (truncated SVD).

        x -> MatMul(W: K x N) -> y    becomes    x -> MatMul(A: K x r) -> MatMul(B: r x N) -> y

    With calibration samples the product loses as little as can be of the *outputs* on them, in
    closed form from the Gram matrix of the layer's input; without, as little as can be of the
    weights, which costs far more accuracy. The rank r of each layer follows from one budget: a
    fixed ``rank``, the ``energy`` to keep (share of the sum of squares of the output, or without
    samples of the weight) or the ``macs`` to keep (share of the layer's). Without any of them
    energy is 0.95. A layer whose rank is not below break-even, K N / (K + N), stays.
    The bias stays on the second product, which keeps name and output of the layer. A weight that
    several layers share is factorized once. Put it before any quantize pass.
    Source: Denton et al. 2014, Exploiting Linear Structure Within Convolutional Networks; Eckart
    and Young 1936; with samples Yuan et al. 2023, ASVD, and Wang et al. 2024, SVD-LLM.
    """

    min_size: MinSize = 1024
    nodes: Nodes = ()
    exclude: Exclude = ()

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        chosen = select(self.nodes, self.exclude)
        groups = []
        for group in weight_groups(graph, chosen, ("MatMul", "Gemm")):
            if refusal := group.refusal(self.min_size) or _refusal(group, graph.opset):
                changes.skip(refusal)
            else:
                groups.append(group)
        for group, read in zip(groups, inputs_of(groups, graph, context), strict=True):
            _factorize(group, self.budget, read, changes)
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [
            Example("mlp"),
            Example("transformer", {"rank": 3, "min_size": 1500}),
            Example("shared-weights", {"energy": 0.8, "nodes": ("MatMul",)}),
            Example("bodies", {"macs": 0.3, "exclude": ("Gemm",)}),
        ]


def _refusal(group: WeightGroup, opset: int) -> Refusal | None:
    """Why the form of the layers does not allow it; None where it does."""
    for layer in group.layers:
        node, turned = layer.node, is_op(layer.node, "Gemm") and attribute(layer.node, "transA", 0)
        if refusal := layer.refusal("matrix"):
            return refusal
        if layer.out_axis != group.layers[0].out_axis:
            return Refusal(node, "its weight is read in both orientations")
        if is_op(node, "Gemm") and layer.weight.index == 0:
            return Refusal(node, "its weight is the left operand of a Gemm")
        if rank_of_product(layer) is not None:
            return Refusal(node, "it is part of a low-rank product already")
        if turned and opset < _NO_BIAS_OPSET:
            reason = f"a Gemm with transA needs opset {_NO_BIAS_OPSET}; put upgrade-opset first"
            return Refusal(node, reason)
    return group.layers[0].refusal("finite")


def _factorize(group: WeightGroup, budget: Budget, read: Inputs | None, changes: Changes) -> None:
    values = group.constant.values
    matrix = values.T if group.layers[0].out_axis == 0 else values
    found = decompose(matrix, None if read is None else read.gram)
    cost = matrix_cost(*values.shape)
    rank = budget.rank(found.values, cost)
    if rank == 0:
        changes.skip(
            group.name,
            f"{budget.kind} {budget.value:g} asks for a higher rank than any that saves something",
        )
        return
    first, second = found.factors(rank)
    if read is not None:
        read.rebias(group.layers, matrix - first.astype(np.float64) @ second)
    home, origin = group.constant.scope, group.constant.origin
    names: dict[tuple[str, bool], str] = {}

    def name(part: Literal["first", "second"], factor: Array, turned: bool) -> str:
        if (part, turned) not in names:
            stored = (factor.T if turned else factor).astype(values.dtype)
            names[part, turned] = home.add_constant(f"{origin}_{part}", stored)
        return names[part, turned]

    for layer in group.layers:
        stored_second = name("second", second, layer.read_axes[0] == 0)
        _split(layer, name("first", first, layer.weight.index == 0), stored_second)
        changes.edit(
            layer.node,
            f"rank {rank} of {len(found.values)}: keeps {found.energy(rank):.1%} of the energy "
            f"at {cost.share(rank):.0%} of the MACs",
        )
    drop_unread(home, [origin])


def _split(layer: Layer, first: str, second: str) -> None:
    """Put the first product in front of the layer, which becomes the second."""
    scope, node = layer.scope, layer.node
    hidden = scope.graph.unique_name(f"{node.output[0]}_rank")
    name = scope.graph.unique_name(f"{label(node)}_first")
    if is_op(node, "Gemm") and attribute(node, "transA", 0):
        added = helper.make_node("Gemm", [layer.data, first], [hidden], name, transA=1)
        for item in node.attribute:
            if item.name == "transA":
                item.i = 0
    else:
        inputs = [first, layer.data] if layer.weight.index == 0 else [layer.data, first]
        added = helper.make_node("MatMul", inputs, [hidden], name)
    old = node.input[layer.weight.index]
    scope.add(added, before=node)
    scope.set_input(node, layer.weight.index, second)
    scope.set_input(node, layer.data_index, hidden)
    drop_unread(scope, [old])
