"""How much memory the results hold that a graph, run node by node, still has to read."""

from __future__ import annotations

import math

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Scope

__all__ = ["peak_elements"]


def peak_elements(scope: Scope, shapes: Shapes) -> int:
    """Most elements of inputs and results that wait for a reader at once.

    Args:
        scope: The main graph.
        shapes: Of its tensors in one run; those that are not known do not count.
    """
    order = scope.nodes
    last = {name: at for at, node in enumerate(order) for name in scope.reads(node)}
    held = {name: _elements(shapes, name) for name in scope.inputs if name in last}
    most = 0
    for at, node in enumerate(order):
        held.update({name: _elements(shapes, name) for name in node.output if name in last})
        most = max(most, sum(held.values()))
        for name in {*scope.reads(node), *node.output}:
            if last.get(name, -1) <= at:
                held.pop(name, None)
    return most


def _elements(shapes: Shapes, name: str) -> int:
    return math.prod(shapes.static_shape(name) or (0,))
