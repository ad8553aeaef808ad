"""Which calls of local functions hold weights: constants inside, or handed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import FunctionProto, NodeProto

from graphopt.facts.operands import FLOATS
from graphopt.facts.operators import find
from graphopt.graph.calls import CallKey, call_key, functions_of, nested
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["holds_weights", "weighted_calls"]


def holds_weights(scope: Scope, call: NodeProto) -> bool:
    """Whether an operator in what a call stands for has a constant as its weight.

    Args:
        scope: Where the call stands.
        call: A node whose function the model has; no function calls itself.
    """
    constants = [
        constant is not None and constant.data_type in FLOATS
        for constant in map(scope.constant, call.input)
    ]
    return _weighted(functions_of(scope.graph.header), call_key(call), tuple(constants), {})


def weighted_calls(graph: Graph) -> list[NodeProto]:
    """The calls in a graph, bodies included, that hold weights; in order of the nodes."""
    functions = functions_of(graph.header)
    if not functions:
        return []
    placed = [(scope, node) for scope in graph.scopes() for node in scope.nodes]
    return [n for scope, n in placed if call_key(n) in functions and holds_weights(scope, n)]


def _weighted(
    functions: Mapping[CallKey, FunctionProto],
    key: CallKey,
    given: tuple[bool, ...],
    known: dict[tuple[CallKey, tuple[bool, ...]], bool],
) -> bool:
    """The same for a function of which these inputs are constants; ``known`` is filled."""
    if (key, given) in known:
        return known[key, given]
    function = functions[key]
    fixed = {name for name, is_fixed in zip(function.input, given, strict=False) if is_fixed}
    found = False
    for node in nested(function.node):
        inside = [name in fixed for name in node.input]
        if is_op(node, "Constant"):
            fixed.update(node.output if _is_float(node) else ())
        elif call_key(node) in functions:
            found = found or _weighted(functions, call_key(node), tuple(inside), known)
        elif any(inside) and all(inside):
            fixed.update(node.output)
        else:
            row = find(node)
            weights: Iterable[int] = () if row is None else row.weights
            if row is not None and row.kind == "product":
                weights = range(len(inside))
            found = found or any(inside[index] for index in weights if index < len(inside))
        if found:
            break
    known[key, given] = found
    return found


def _is_float(constant: NodeProto) -> bool:
    value = constant.attribute[0] if constant.attribute else None
    return value is not None and value.t.data_type in FLOATS
