"""A graph whose channels are zero where they are summed up: what one without them must equal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.axes import Nest
from graphopt.facts.operators import is_kind
from graphopt.facts.shapes import Shapes
from graphopt.facts.some_sizes import at_some_sizes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.rewrite.remove_channels import marked
from graphopt.rewrite.shrunk import Place, Shrunk, shrunk_node

__all__ = ["zeroed"]


def zeroed(graph: Graph, shapes: Shapes, gone: Mapping[Place, Collection[int]]) -> Graph:
    """A copy in which each node that sums over these positions reads zeros there.

    Constants are zeroed where a node sums over products with one, else a Mul by a mask is put in
    front. A recurrent layer reads zeros of its own last state.

    Args:
        graph: Left as it is.
        shapes: Of its tensors.
        gone: As for ``remove_channels``.
    """
    twin = graph.copy()
    some = at_some_sizes(graph, shapes)
    nests = [
        (node, some.nest(twin.main, node)) for node in twin.main.nodes if not is_op(node, "Shape")
    ]
    flags = marked(nests, gone)
    touched = {name for name, _ in flags}
    for node, made in nests:
        if touched.isdisjoint((*node.input, *node.output)):
            continue
        one = shrunk_node(node, made, flags)
        for loop in one.lost:
            if is_kind(node, "recurrent") and loop == "hidden":
                _mask(twin.main, one, 2, [2])
            elif loop in made.summed:
                index = _operand(twin.main, node, made, loop)
                _mask(twin.main, one, index, made.axes_of(index, loop))
    return twin


def _operand(scope: Scope, node: NodeProto, made: Nest, loop: str) -> int:
    """Which of the operands that have a loop is made zero: a constant if there is one."""
    held = [index for index in made.read if made.axes_of(index, loop)]
    constants = [index for index in held if scope.constant(node.input[index]) is not None]
    return (constants or held)[0]


def _mask(scope: Scope, one: Shrunk, index: int, axes: Sequence[int]) -> None:
    """Let a node read zeros at what it loses of these axes of an input."""
    held = one.nest.inputs[index]
    assert held is not None
    for number in axes:
        left = ~one.gone(held[number])
        mask = left.reshape([-1 if at == number else 1 for at in range(len(held))])
        name = one.node.input[index]
        constant = scope.constant(name)
        if constant is not None:
            values: NDArray[np.generic] = constant.values
            zeros = scope.add_constant(f"{name}_zeroed", values * mask.astype(values.dtype))
        else:
            zeros = scope.graph.unique_name(f"{name}_zeroed")
            factor = scope.add_constant(f"{name}_mask", mask.astype(np.float32))
            scope.add(onnx.helper.make_node("Mul", [name, factor], [zeros]), before=one.node)
        scope.set_input(one.node, index, zeros)
