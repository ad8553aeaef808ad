"""What a runtime builds of a model beside its weights: constants and the largest tensor."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx
from onnx import NodeProto, TensorProto

from graphopt.facts.operators import find
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op, label

__all__ = ["Built", "built"]


@dataclass(frozen=True)
class Built:
    """Bytes that sessions need at the least beside weights, and what asks for most of them.

    Attributes:
        total: All constants that a runtime computes at load, with the largest tensor of a run.
        node: The node or sparse initializer behind the largest single part; empty without any.
        part: Bytes of that.
    """

    total: int
    node: str
    part: int


def built(graph: Graph, shapes: Shapes) -> Built:
    """What loading and running the model builds, from shapes alone; nothing is computed.

    onnxruntime computes at load whatever follows from constants, and keeps it all. Dimensions of
    unknown size count as 1, so honest bounds on this sum hold for any sample.

    Args:
        graph: Left as it is.
        shapes: Of its tensors.
    """
    constants = 0
    largest = _Part("", 0)
    run = 0
    for scope in graph.scopes():
        for part in _sparse(scope):
            constants += part.size
            largest = max(largest, part, key=lambda each: each.size)
        known = _given(scope)
        for node in scope.nodes:
            part = _Part(label(node), sum(_bytes(shapes, name) for name in node.output if name))
            largest = max(largest, part, key=lambda each: each.size)
            if _folds(scope, node, known):
                known.update(node.output)
                constants += part.size
            else:
                run = max(run, part.size)
    return Built(constants + run, largest.name, largest.size)


@dataclass(frozen=True)
class _Part:
    name: str
    size: int


def _given(scope: Scope) -> set[str]:
    return {name for name in scope.initializers if not scope.is_input(name)}


def _folds(scope: Scope, node: NodeProto, known: set[str]) -> bool:
    """Whether a runtime computes the node at load: from constants, or from shapes alone."""
    if is_op(node, "Shape", "Size"):
        return True
    row = find(node)
    if row is None or row.random or scope.children(node):
        return False
    return all(name in known for name in node.input if name)


def _sparse(scope: Scope) -> Iterator[_Part]:
    """Sparse initializers, which onnxruntime writes out in full."""
    for sparse in scope.proto.sparse_initializer:
        size = math.prod(sparse.dims) * _item_bytes(sparse.values.data_type)
        yield _Part(sparse.values.name, size)


def _bytes(shapes: Shapes, name: str) -> int:
    info = shapes.get(name)
    if info is None or info.shape is None:
        return 0
    sizes = [dim for dim in info.shape if isinstance(dim, int)]
    return math.prod(sizes) * _item_bytes(info.data_type)


def _item_bytes(data_type: int) -> int:
    """Bytes of one element; 1 where the type is unknown or has no fixed size."""
    if data_type in (TensorProto.UNDEFINED, TensorProto.STRING):
        return 1
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)
