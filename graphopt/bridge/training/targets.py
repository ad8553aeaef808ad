"""What kind of answer each output of a model is, read from the nodes that make it."""

from __future__ import annotations

from math import prod
from typing import Literal

from onnx import NodeProto

from graphopt.facts.operators import KEEPS, is_kind
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = ["Kind", "block_ends", "kind_of"]

Kind = Literal["logits", "probabilities", "embedding", "values"]


def kind_of(graph: Graph, output: str, rank: int, width: int) -> Kind:
    """The kind of an output of the main graph.

    Args:
        graph: The model.
        output: Name of the output.
        rank: Number of its axes.
        width: Size of its last axis.
    """
    node = _maker(graph.main, output)
    if node is not None and is_op(node, "Softmax"):
        return "probabilities"
    if node is not None and is_op(node, "LogSoftmax"):
        return "logits"
    if rank not in (2, 3) or width < 2:
        return "values"
    if node is not None and is_op(node, "Gemm", "MatMul", "Conv"):
        return "logits" if rank == 2 or is_op(node, "Gemm", "MatMul") else "values"
    return "embedding" if rank == 2 else "values"


def _maker(scope: Scope, name: str) -> NodeProto | None:
    """The node that computes a tensor, seen through what only moves it, a bias and a factor."""
    node = scope.producer(name)
    if node is None or is_op(node, "Constant"):
        return None
    if is_kind(node, *KEEPS):
        return _maker(scope, node.input[0])
    if is_op(node, "Add") or (is_op(node, "Mul", "Div") and _by_a_number(scope, node)):
        makers = [each for each in (_maker(scope, name) for name in node.input) if each is not None]
        if len(makers) == 1:
            return makers[0]
    return node


def _by_a_number(scope: Scope, node: NodeProto) -> bool:
    constants = [each for each in map(scope.constant, node.input) if each is not None]
    return any(prod(each.shape) == 1 for each in constants)


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
