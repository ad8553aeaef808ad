"""Weights with all nodes that read them, so that a shared one is changed for all or none."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.layers import Layer, Refusal, layer, layers
from graphopt.facts.operators import LINEAR
from graphopt.graph.graph import Constant, Graph, Scope
from graphopt.graph.node import is_op, label

__all__ = ["WeightGroup", "grouped", "rank_of_product", "too_small", "weight_groups"]


@dataclass(frozen=True)
class WeightGroup:
    """A weight and the layers that read it.

    Attributes:
        constant: The weight as it is stored.
        layers: Its layers in order; at least one.
    """

    constant: Constant
    layers: tuple[Layer, ...]

    @property
    def name(self) -> str:
        """The label of the first node, for reports."""
        return label(self.layers[0].node)

    def refusal(self, min_size: int = 0) -> Refusal | None:
        """Why its values must be left alone, or None.

        That is so where it is smaller than ``min_size`` elements, not stored as floats, where a
        caller may replace it, where it is an output, and where others than these layers read it.
        """
        first = self.layers[0]
        if reason := too_small(self.constant, min_size):
            return Refusal(first.node, reason)
        for each in self.layers:
            if refusal := each.refusal("float", "fixed"):
                return refusal
        known = {id(each.node) for each in self.layers}
        for use in first.weight.readers:
            if id(use.node) not in known:
                reason = f"its weight is also read by another {use.node.op_type}, which stays"
                return Refusal(first.node, reason)
        if first.weight.given_out:
            return Refusal(first.node, "its weight is an output of the model")
        return None


def too_small(constant: Constant, least: int) -> str:
    """Why a weight of fewer elements is left alone; empty where it has enough."""
    return f"fewer than min_size={least} elements" if math.prod(constant.shape) < least else ""


def weight_groups(
    graph: Graph, chosen: Callable[[NodeProto], bool], op_types: Sequence[str] = LINEAR
) -> Iterator[WeightGroup]:
    """Every weight of the chosen nodes of these operators, bodies included, each once."""
    yield from grouped(
        each
        for each in layers(graph)
        if isinstance(each, Layer) and is_op(each.node, *op_types) and chosen(each.node)
    )


def grouped(each: Iterable[Layer]) -> Iterator[WeightGroup]:
    """Layers by the weights that they read, in order of the first of each."""
    groups: dict[tuple[int, str], list[Layer]] = {}
    for one in each:
        constant = one.weight.constant
        groups.setdefault((id(constant.scope), constant.origin), []).append(one)
    for group in groups.values():
        yield WeightGroup(group[0].weight.constant, tuple(group))


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


def _layer(scope: Scope, node: NodeProto) -> Layer | None:
    found = layer(scope, node) if is_op(node, *LINEAR) else None
    return found if isinstance(found, Layer) else None


def _part_before(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The layer without bias whose output this layer alone reads."""
    one = _layer(scope, node)
    before = scope.producer(one.data) if one is not None else None
    return before if before is not None and _part_after(scope, before) is node else None


def _part_after(scope: Scope, node: NodeProto) -> NodeProto | None:
    """The layer that alone reads as its data what this one, without bias, makes."""
    one, uses = _layer(scope, node), scope.uses(node.output[0])
    if one is None or one.adds or scope.is_output(node.output[0]):
        return None
    if len(uses) != 1 or uses[0].index < 0 or is_op(uses[0].node, "Conv") != is_op(node, "Conv"):
        return None
    after = _layer(scope, uses[0].node)
    return uses[0].node if after is not None and uses[0].index == after.data_index else None


def _product_rank(scope: Scope, parts: Sequence[NodeProto]) -> int | None:
    """The channels between the parts, where those parts are smaller than their product."""
    row = [one for node in parts if (one := _layer(scope, node)) is not None]
    if len(parts) > 2 and not is_op(parts[0], "Conv"):
        return None
    size, whole = 0, row[0].in_channels * row[-1].out_channels
    for place, one in enumerate(row):
        if one.groups > 1 and not (0 < place < len(row) - 1 and one.depthwise):
            return None
        elements = math.prod(one.weight.constant.shape)
        size += elements
        whole *= elements * one.groups // (one.in_channels * one.out_channels)  # its taps
    return min(one.out_channels for one in row[:-1]) if size < whole else None
