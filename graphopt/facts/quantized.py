"""Reads how a graph is quantized already: Q and DQ around each node."""

from __future__ import annotations

from onnx import NodeProto

from graphopt.facts.operators import MOVES, find, is_kind
from graphopt.facts.spread import producer
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op

__all__ = [
    "between_quantizers",
    "dequantizer",
    "has_fixed_ranges",
    "integer_nodes",
    "integer_op",
    "is_dequantized",
    "moves_data",
    "quantized_activations",
    "quantizers",
    "ranges_of_each_call",
]


def integer_op(node: NodeProto) -> bool:
    """Whether an operator computes on integers by its definition (QOperator, MatMulInteger...)."""
    return is_kind(node, "integer")


def ranges_of_each_call(node: NodeProto) -> bool:
    """Whether an operator quantizes, or works on, activations whose range each call finds."""
    return node.op_type.startswith("DynamicQuantize") or node.op_type.endswith("Integer")


def moves_data(node: NodeProto) -> bool:
    """Whether a node only moves, copies or measures elements."""
    return is_kind(node, *MOVES, "measure")


def dequantizer(scope: Scope, name: str) -> NodeProto | None:
    """The DequantizeLinear that computes ``name``; None if something else does."""
    _, node = producer(scope, name)
    return node if node is not None and is_op(node, "DequantizeLinear") else None


def is_dequantized(scope: Scope, name: str) -> bool:
    """Whether ``name`` is an activation that comes out of a DequantizeLinear."""
    node = dequantizer(scope, name)
    return node is not None and scope.constant(node.input[0]) is None


def quantizers(scope: Scope, name: str) -> list[NodeProto]:
    """The QuantizeLinear nodes that read ``name``."""
    return [use.node for use in scope.uses(name) if is_op(use.node, "QuantizeLinear")]


def integer_nodes(scope: Scope) -> list[NodeProto]:
    """Nodes of the scope that quantize, dequantize or compute on integers already."""
    return [node for node in scope.nodes if is_kind(node, "quantize", "integer")]


def quantized_activations(scope: Scope) -> list[NodeProto]:
    """Those of the integer nodes that do more than dequantize a weight or read one as codes."""
    found = []
    for node in integer_nodes(scope):
        row = find(node)
        if is_op(node, "DequantizeLinear"):
            small = scope.constant(node.input[0]) is not None
        else:
            small = row is not None and row.weights_only
        if not small:
            found.append(node)
    return found


def has_fixed_ranges(graph: Graph) -> bool:
    """Whether activations are quantized with constant scales, which clip what lies beyond."""
    return any(
        node.op_type.startswith("QLinear")
        or (
            is_op(node, "QuantizeLinear")
            and scope.constant(node.input[1]) is not None
            and scope.constant(node.input[0]) is None
        )
        for scope in graph.scopes()
        for node in scope.nodes
    )


def between_quantizers(scope: Scope, node: NodeProto) -> bool:
    """Whether a node was quantized: it reads dequantized tensors and its result is quantized.

    MatMul, Add, Mul and Concat count without the latter where all they read is dequantized.
    """
    if is_kind(node, "quantize") or not node.output:
        return False
    read = [name for name in node.input if name]
    if not any(is_dequantized(scope, name) for name in read):
        return False
    if quantizers(scope, node.output[0]):
        return True
    combines = is_op(node, "MatMul", "Add", "Mul", "Concat")
    return combines and all(dequantizer(scope, name) is not None for name in read)
