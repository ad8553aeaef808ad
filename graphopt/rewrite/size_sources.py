"""Where the sizes come from that a model computes from its own shapes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.evaluate import moves_only
from graphopt.facts.operators import is_kind
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope, Use
from graphopt.graph.node import attribute, is_op

__all__ = ["AxisSize", "size_leaves", "size_sources"]


@dataclass(frozen=True)
class AxisSize:
    """The size of an axis, as a Shape node gives it.

    Attributes:
        tensor: Whose axis.
        axis: Its number.
        result: Tensor that the Shape node gives.
    """

    tensor: str
    axis: int
    result: str


def size_sources(scope: Scope, name: str, shapes: Shapes) -> list[int | AxisSize | None]:
    """What each element of a vector of sizes is: a number, the size of an axis, or computed.

    Args:
        scope: Where ``name`` is read.
        name: A tensor of rank 0 or 1.
        shapes: Of the tensors of the scope.
    """
    constant = scope.constant(name)
    if constant is not None:
        return [int(value) for value in constant.values.reshape(-1).tolist()]
    node = scope.producer(name)
    found = None if node is None else _moved(scope, node, shapes)
    if found is not None:
        return found
    known = shapes.static_shape(name)
    return [None] * (known[0] if known else 1)


def _moved(scope: Scope, node: NodeProto, shapes: Shapes) -> list[int | AxisSize | None] | None:
    """The same for what a node gives; None where it does more than to move elements."""
    if is_op(node, "Shape"):
        info = shapes.get(node.input[0])
        if info is None or info.shape is None:
            return None
        axes = range(len(info.shape))[attribute(node, "start", 0) : attribute(node, "end", None)]
        return [AxisSize(node.input[0], axis, node.output[0]) for axis in axes]
    if is_op(node, "Concat"):
        return [each for name in node.input for each in size_sources(scope, name, shapes)]
    if not _hands_on(node):
        return None
    given = size_sources(scope, node.input[0], shapes)
    if is_op(node, "Gather"):
        picks = scope.constant(node.input[1])
        if picks is None or picks.values.ndim > 1:
            return None
        numbers = picks.values.reshape(-1).tolist()
        return (
            [given[at] for at in numbers]
            if all(-len(given) <= at < len(given) for at in numbers)
            else None
        )
    if is_op(node, "Slice"):
        bounds = [scope.constant(held) for held in node.input[1:] if held]
        if any(bound is None for bound in bounds) or len(node.input) < 3:
            return None
        numbers = [int(bound.values.item()) for bound in bounds if bound is not None]
        return given[numbers[0] : numbers[1] : numbers[3] if len(numbers) > 3 else 1]
    return given


def _hands_on(node: NodeProto) -> bool:
    """Whether a node does no more than to move sizes."""
    return moves_only(node) or is_op(node, "Concat") or is_kind(node, "cast")


def size_leaves(scope: Scope, name: str, sizes: set[AxisSize], shapes: Shapes) -> Iterator[Use]:
    """Who reads some of these sizes in the end, through nodes that only move them.

    Args:
        scope: Where ``name`` is computed.
        name: A vector of sizes.
        sizes: Those that are asked after.
        shapes: Of the tensors of the scope.
    """
    for use in scope.uses(name):
        if use.index < 0 or use.scope is not scope or not _hands_on(use.node):
            yield use
        elif not sizes.isdisjoint(size_sources(scope, use.node.output[0], shapes)):
            yield from size_leaves(scope, use.node.output[0], sizes, shapes)
        elif _moved(scope, use.node, shapes) is None:
            yield use
