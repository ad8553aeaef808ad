"""Residual blocks: sums of a tensor and of a branch that starts from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnx import NodeProto

from graphopt.facts.layers import Layer, layers_of
from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.facts.some_sizes import at_some_sizes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import label
from graphopt.graph.order import sorted_nodes

__all__ = ["Block", "residual_blocks"]


@dataclass(frozen=True, eq=False)
class Block:
    """A block that adds the result of a branch to its own input: without the branch it is nothing.

    Attributes:
        end: The node that adds; it may normalize the sum as well.
        index: Which of its first two inputs is the branch; the other is the input of the block.
        nodes: What nobody but the branch needs, in order of the graph.
        layers: The layers among them; at least one.
        shape: Of the sum, at some sizes of what is free.
        data_type: Of its elements, as ONNX numbers them.
    """

    end: NodeProto
    index: int
    nodes: tuple[NodeProto, ...]
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    data_type: int

    @property
    def name(self) -> str:
        """That of the node that adds."""
        return label(self.end)

    @property
    def total(self) -> str:
        """What that node gives: the sum, or the sum normalized."""
        return str(self.end.output[0])

    @property
    def branch(self) -> str:
        """What the branch gives."""
        return str(self.end.input[self.index])

    @property
    def shortcut(self) -> str:
        """The input of the block."""
        return str(self.end.input[1 - self.index])


def residual_blocks(graph: Graph, shapes: Shapes) -> list[Block]:
    """The residual blocks of the main graph, in its order; one may lie within another.

    A block ends in a sum of two computed tensors of one shape, of which one follows from the other,
    through layers with weights that nobody else needs.

    Args:
        graph: The model.
        shapes: Of its tensors.
    """
    scope = graph.main
    sizes = at_some_sizes(graph, shapes).shapes
    order = sorted_nodes(scope)
    blocks = []
    for node in scope.nodes:
        index = _branch_index(scope, node, sizes)
        if index is None:
            continue
        nodes = _needed_there(scope, order, node, 1 - index)
        held = [each for one in nodes for each in layers_of(scope, one) if isinstance(each, Layer)]
        if any(each.multiplies or each.kind in ("recurrent", "contraction") for each in held):
            name = node.input[index]
            shape, info = sizes.static_shape(name), sizes.get(name)
            assert shape is not None and info is not None
            blocks.append(Block(node, index, tuple(nodes), tuple(held), shape, info.data_type))
    return blocks


def _branch_index(scope: Scope, node: NodeProto, sizes: Shapes) -> int | None:
    """Which of two summands follows from the other; None where none does."""
    row = find(node)
    plain = row is not None and (row.skips or (row.adds and len(node.input) == 2))
    if not plain or node.input[0] == node.input[1]:
        return None
    first, second = (sizes.static_shape(name) for name in node.input[:2])
    if first is None or first != second:
        return None
    for index in (0, 1):
        branch, shortcut = node.input[index], node.input[1 - index]
        if scope.constant(shortcut) is not None:
            continue
        between = scope.ancestors([branch], stop=[shortcut])
        if any(shortcut in scope.reads(one) for one in between):
            return index
    return None


def _needed_there(
    scope: Scope, order: Sequence[NodeProto], end: NodeProto, stays: int
) -> list[NodeProto]:
    """The nodes that no output depends on once ``end`` reads but its input ``stays``."""
    needed, dead = set(scope.outputs), []
    for node in reversed(order):
        if not any(name and name in needed for name in node.output):
            dead.append(node)
        else:
            needed.update([end.input[stays]] if node is end else scope.reads(node))
    return dead[::-1]
