"""Which calls of local functions hold weights: constants inside, or handed in."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from graphopt.facts.operands import FLOATS
from graphopt.facts.operators import find
from graphopt.graph.calls import CallKey, call_key, functions_of, nested
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["WeightedCalls", "weighted_calls"]


class WeightedCalls:
    """Tells the calls of a graph that hold weights from the others; looks into each function once.

    Args:
        graph: Its functions count as they are now; none calls itself.
    """

    def __init__(self, graph: Graph) -> None:
        self._functions = functions_of(graph.header)
        self._known: dict[tuple[CallKey, tuple[bool, ...]], bool] = {}

    def holds(self, scope: Scope, node: NodeProto) -> bool:
        """Whether an operator in what a node stands for has a constant as its weight.

        False for nodes that call no function.

        Args:
            scope: Where the node stands.
            node: Any node.
        """
        if call_key(node) not in self._functions:
            return False
        constants = tuple(
            constant is not None and constant.data_type in FLOATS
            for constant in map(scope.constant, node.input)
        )
        return self._weighted(call_key(node), constants)

    def _weighted(self, key: CallKey, given: tuple[bool, ...]) -> bool:
        """The same for a function of which these inputs are constants."""
        if (key, given) in self._known:
            return self._known[key, given]
        function = self._functions[key]
        fixed = {name for name, is_fixed in zip(function.input, given, strict=False) if is_fixed}
        found = False
        for node in nested(function.node):
            inside = tuple(name in fixed for name in node.input)
            if is_op(node, "Constant"):
                fixed.update(node.output if _is_float(node) else ())
            elif call_key(node) in self._functions:
                found = self._weighted(call_key(node), inside)
            elif any(inside) and all(inside):
                fixed.update(node.output)
            else:
                found = any(inside[index] for index in _weights(node) if index < len(inside))
            if found:
                break
        self._known[key, given] = found
        return found


def weighted_calls(graph: Graph) -> list[NodeProto]:
    """The calls in a graph, bodies included, that hold weights; in order of the nodes."""
    if not graph.header.functions:
        return []
    calls = WeightedCalls(graph)
    placed = [(scope, node) for scope in graph.scopes() for node in scope.nodes]
    return [node for scope, node in placed if calls.holds(scope, node)]


def _weights(node: NodeProto) -> Iterable[int]:
    """The inputs of an operator that hold what is trained, where they are constant."""
    row = find(node)
    if row is None:
        return ()
    return row.weights or (range(len(node.input)) if row.kind == "product" else ())


def _is_float(constant: NodeProto) -> bool:
    value = constant.attribute[0] if constant.attribute else None
    return value is not None and value.t.data_type in FLOATS
