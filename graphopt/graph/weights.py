"""Weights with all nodes that read them, so that a shared one is changed for all or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.graph.graph import Constant, Graph, Scope, label
from graphopt.graph.ops import WEIGHTED, Weight, is_op, weight_of, weighted_nodes

__all__ = ["Layer", "WeightGroup", "half_of_product", "weight_groups"]


@dataclass(frozen=True)
class Layer:
    """One node that reads a weight."""

    scope: Scope
    node: NodeProto
    weight: Weight

    @property
    def data_index(self) -> int:
        """Which input of the node is the data: 0, or 1 for a MatMul with its weight on the left."""
        return 1 - self.weight.index

    @property
    def has_bias(self) -> bool:
        """Whether the node adds a third input, constant or not."""
        return len(self.node.input) > 2 and bool(self.node.input[2])


@dataclass(frozen=True)
class WeightGroup:
    """A constant float weight and its readers.

    Attributes:
        constant: The weight.
        layers: The chosen nodes that read it, in order; at least one.
        reason: Why it must be left alone; empty where it may be changed.
    """

    constant: Constant
    layers: tuple[Layer, ...]
    reason: str

    @property
    def name(self) -> str:
        """The label of the first node, for reports."""
        return label(self.layers[0].node)


def weight_groups(
    graph: Graph,
    chosen: Callable[[NodeProto], bool],
    op_types: Sequence[str] = WEIGHTED,
    min_size: int = 0,
) -> Iterator[WeightGroup]:
    """Every weight of the chosen nodes, bodies included, each once.

    A weight must be left alone where it is smaller than ``min_size`` elements, where a caller may
    replace it, and where a node reads it that is not chosen, not of ``op_types``, or reads it as
    something else than its weight.
    """
    found: dict[tuple[int, str], list[Layer]] = {}
    for scope in graph.scopes():
        for node, weight in weighted_nodes(scope):
            if is_op(node, *op_types) and chosen(node):
                key = (id(weight.constant.scope), weight.constant.origin)
                found.setdefault(key, []).append(Layer(scope, node, weight))
    for layers in found.values():
        constant = layers[0].weight.constant
        yield WeightGroup(constant, tuple(layers), _reason(constant, layers, min_size))


def _reason(constant: Constant, layers: Sequence[Layer], min_size: int) -> str:
    size = math.prod(constant.shape)
    if size < min_size:
        return f"{size} elements, min_size is {min_size}"
    if constant.overridable:
        return f"{constant.origin!r} is an optional input; put freeze-initializers first"
    known = {id(layer.node) for layer in layers}
    for node in _readers(constant.scope, constant.origin):
        if id(node) not in known:
            return f"its weight {constant.origin!r} is also read by {label(node)}, which stays"
    if constant.origin in constant.scope.outputs:
        return f"its weight {constant.origin!r} is an output of the model"
    return ""


def _readers(scope: Scope, name: str) -> Iterator[NodeProto]:
    """The nodes that read a tensor, those behind Identity nodes included."""
    for use in scope.uses(name):
        if use.index >= 0 and is_op(use.node, "Identity"):
            yield from _readers(use.scope, use.node.output[0])
        else:
            yield use.node


def half_of_product(layer: Layer) -> int | None:
    """The rank of a low-rank product of which the layer is one half already; else None.

    Two layers in a row without bias or anything else between them, with fewer channels in between
    than would pay for one layer, are such a product.
    """
    scope, node = layer.scope, layer.node
    before = scope.producer(node.input[layer.data_index])
    pairs = []
    if before is not None and len(scope.uses(before.output[0])) == 1:
        pairs.append((before, node))
    uses = scope.uses(node.output[0])
    if len(uses) == 1 and node.output[0] not in scope.outputs:
        pairs.append((node, uses[0].node))
    for first, second in pairs:
        rank = _product_rank(scope, first, second)
        if rank is not None:
            return rank
    return None


def _product_rank(scope: Scope, first: NodeProto, second: NodeProto) -> int | None:
    left, right = weight_of(scope, first), weight_of(scope, second)
    if left is None or right is None or is_op(first, "Conv") != is_op(second, "Conv"):
        return None
    if Layer(scope, first, left).has_bias or max(left.groups, right.groups) > 1:
        return None
    if second.input[1 - right.index] != first.output[0]:
        return None
    rank = left.out_channels
    one, other = (math.prod(w.constant.shape) // max(rank, 1) for w in (left, right))
    return rank if rank * (one + other) < one * other else None
