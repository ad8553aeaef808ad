"""Weights with all nodes that read them, so that a shared one is changed for all or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.ops import WEIGHTED, Weight, depthwise, weight_of, weighted_nodes
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import is_op, label

__all__ = ["Layer", "WeightGroup", "rank_of_product", "weight_groups"]


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
    if constant.scope.is_output(constant.origin):
        return f"its weight {constant.origin!r} is an output of the model"
    return ""


def _readers(scope: Scope, name: str) -> Iterator[NodeProto]:
    """The nodes that read a tensor, those behind Identity nodes included."""
    for use in scope.uses(name):
        if use.index >= 0 and is_op(use.node, "Identity"):
            yield from _readers(use.scope, use.node.output[0])
        else:
            yield use.node


def rank_of_product(layer: Layer) -> int | None:
    """The rank of a low-rank product of which the layer is a part already; else None.

    Two layers in a row without bias or anything else between them, with fewer channels in between
    than would pay for one layer, are such a product. So are three convolutions in a row, the one
    in the middle plain or depthwise.
    """
    scope = layer.scope
    before = _part_before(scope, layer.node)
    after = _part_after(scope, layer.node)
    first = before and _part_before(scope, before)
    last = after and _part_after(scope, after)
    row = [first, before, layer.node, after, last]
    for size in (2, 3):
        for start in range(3 - size, 3):
            parts = [node for node in row[start : start + size] if node is not None]
            rank = _product_rank(scope, parts) if len(parts) == size else None
            if rank is not None:
                return rank
    return None


def _part_before(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The layer without bias whose output this layer alone reads."""
    weight = weight_of(scope, node)
    before = scope.producer(node.input[1 - weight.index]) if weight is not None else None
    return before if before is not None and _part_after(scope, before) is node else None


def _part_after(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The layer that alone reads as its data what this one, without bias, makes."""
    weight, uses = weight_of(scope, node), scope.uses(node.output[0])
    if weight is None or Layer(scope, node, weight).has_bias or scope.is_output(node.output[0]):
        return None
    if len(uses) != 1 or uses[0].index < 0 or is_op(uses[0].node, "Conv") != is_op(node, "Conv"):
        return None
    after = weight_of(scope, uses[0].node)
    return uses[0].node if after is not None and uses[0].index == 1 - after.index else None


def _product_rank(scope: Scope, parts: Sequence[NodeProto]) -> int | None:
    """The channels between the parts, where those parts are smaller than their product."""
    weights = [weight for node in parts if (weight := weight_of(scope, node)) is not None]
    if len(parts) > 2 and not is_op(parts[0], "Conv"):
        return None
    size, whole = 0, weights[0].in_channels * weights[-1].out_channels
    for place, weight in enumerate(weights):
        if weight.groups > 1 and not (0 < place < len(weights) - 1 and depthwise(weight)):
            return None
        one = math.prod(weight.constant.shape)
        size += one
        whole *= one * weight.groups // (weight.in_channels * weight.out_channels)  # its taps
    return min(weight.out_channels for weight in weights[:-1]) if size < whole else None
