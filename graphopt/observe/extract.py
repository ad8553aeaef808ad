"""The part of a graph that computes some of its tensors."""

from __future__ import annotations

from collections.abc import Collection

from onnx import NodeProto

from graphopt.graph.graph import Graph
from graphopt.graph.scope import Scope

__all__ = ["extract", "reads"]


def extract(graph: Graph, tensors: Collection[str]) -> Graph:
    """A copy of ``graph`` with the nodes and weights that ``tensors`` depend on, without outputs.

    Required inputs stay, needed or not, so that the same feeds fit. Weights are shared.

    Args:
        graph: Left as it is.
        tensors: Names of tensors of the main graph.
    """
    part = graph.copy()
    scope = part.main
    needed = _ancestors(scope, tensors)
    scope.remove([node for node in scope.nodes if id(node) not in needed])
    del scope.proto.output[:]
    del scope.proto.value_info[:]  # onnxruntime refuses a stale one; it infers them anew
    kept = set(tensors)
    for name in list(scope.initializers):
        if name not in kept and not scope.uses(name):
            scope.drop_initializer(name)
    return part


def _ancestors(scope: Scope, tensors: Collection[str]) -> set[int]:
    """``id`` of each node of the scope that one of the tensors depends on."""
    found: set[int] = set()
    waiting = list(tensors)
    while waiting:
        node = scope.producer(waiting.pop())
        if node is not None and id(node) not in found:
            found.add(id(node))
            waiting.extend(reads(scope, node))
    return found


def reads(scope: Scope, node: NodeProto) -> list[str]:
    """The tensors that a node reads, itself or in its bodies."""
    names = [name for name in node.input if name]
    for body in scope.children(node).values():
        names.extend(body.captures())
    return names
