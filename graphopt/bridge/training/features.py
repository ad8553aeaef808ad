"""Inner tensors that student and teacher have in common."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["block_ends"]


def block_ends(student: Graph, teacher: Graph) -> list[str]:
    """Sums of residual branches that both graphs compute under the same name, in order."""
    known = {node.output[0] for node in teacher.main.nodes if _joins(teacher.main, node)}
    return [
        node.output[0]
        for node in student.main.nodes
        if node.output and node.output[0] in known and _joins(student.main, node)
    ]


def _joins(scope: Scope, node: NodeProto) -> bool:
    return is_op(node, "Add") and all(scope.constant(name) is None for name in node.input)
