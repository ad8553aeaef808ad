"""Vectors that several nodes read, given to each of them alone."""

from __future__ import annotations

from onnx import NodeProto, TensorProto

from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.rewrite.values import drop_unread

__all__ = ["unshare_vectors"]

_SIZES = (TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING)
"""Element types of what is no weight: sizes, places, texts."""


def unshare_vectors(graph: Graph) -> list[NodeProto]:
    """Give each node of the main graph that reads a vector its own copy of it.

    Exporters store equal constants once: the zeros of all biases of one length, the scales of
    norms without any. Channels that have nothing else in common would have to go together.
    Matrices stay shared, as they are meant to be.

    Returns:
        The nodes that read a copy now.
    """
    scope = graph.main
    read: set[str] = set()
    changed: list[NodeProto] = []
    for node in [node for node in scope.nodes if not is_op(node, "Identity")]:
        for index, name in enumerate(node.input):
            constant = scope.constant(name) if name else None
            if constant is None or constant.overridable or constant.scope is not scope:
                continue
            if constant.data_type in _SIZES or sum(size > 1 for size in constant.shape) != 1:
                continue
            if constant.origin in read or scope.is_output(constant.origin):
                copy = scope.add_constant(f"{constant.origin}_copy", constant.values)
                scope.set_input(node, index, copy)
                drop_unread(scope, [name])
                changed.append(node)
            read.add(constant.origin)
    return changed
