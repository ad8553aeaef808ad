"""What onnxruntime does for a graph, as far as its time depends on it: to tell equal ones apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from onnx import AttributeProto, GraphProto, TensorProto

from graphopt.facts.operators import MOVES, is_kind
from graphopt.graph.graph import Graph
from graphopt.graph.node import is_op
from graphopt.graph.tensors import element_count, is_external
from graphopt.runtime.optimized import optimize

__all__ = ["Work", "maybe_alike"]

_VALUES = 8
"""Floats of so few elements say what is computed (bounds, exponents, scales of Resize)."""
_WEIGHTS = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4)


class Work:
    """The graph that onnxruntime runs, without names and without the values of weights.

    Two graphs of the same work take the same time: the same kernels in the same places on
    tensors of the same types and shapes.

    Args:
        graph: The model; not modified.

    Raises:
        ModelError: onnxruntime cannot load the model, or cannot save what it made of it.
    """

    def __init__(self, graph: Graph) -> None:
        self._kernels: Counter[str] = Counter()
        self._wired = self._walk(optimize(graph, threads=1), {})

    def equals(self, other: Work) -> bool:
        """Whether both do the same."""
        return self._wired == other._wired

    def contains(self, other: Work) -> bool:
        """Whether this does all that the other one does, and perhaps more.

        Where data is only moved, its type does not count: a table of int8 rows that are scaled
        behind the look-up is read as one of floats is.
        """
        return self._kernels >= other._kernels

    def _walk(self, graph: GraphProto, outside: Mapping[str, str]) -> str:
        """A digest of the graph in which equal nodes are equal; counts its kernels.

        Args:
            graph: A main graph or a body.
            outside: Digests of the tensors around a body.
        """
        known = dict(outside)
        constants = {tensor.name: tensor for tensor in graph.initializer}
        for number, value in enumerate(graph.input):
            known[value.name] = _digest("input", number, value.type.SerializeToString())
        known.update((name, _constant(tensor)) for name, tensor in constants.items())
        nodes = []
        for node in graph.node:
            attributes = [self._attribute(a, known) for a in node.attribute]
            what = (node.domain, node.op_type, *sorted(attributes))
            made = _digest(*what, *(known.get(name, name) for name in node.input))
            known.update((name, _digest(made, index)) for index, name in enumerate(node.output))
            nodes.append(made)
            read = (constants.get(name) for name in node.input)
            moved = is_kind(node, *MOVES)
            self._kernels[_digest(*what, *(c and _constant(c, typed=not moved) for c in read))] += 1
        outputs = [known.get(value.name, "") for value in graph.output]
        return _digest(*sorted(nodes), *outputs)

    def _attribute(self, attribute: AttributeProto, known: Mapping[str, str]) -> str:
        if attribute.type == AttributeProto.GRAPH:
            return _digest(attribute.name, self._walk(attribute.g, known))
        return _digest(attribute.SerializeToString(deterministic=True))


def _constant(tensor: TensorProto, *, typed: bool = True) -> str:
    """A digest of type, shape and, unless they are weights, values."""
    kind = tensor.data_type if typed else 0
    floats = tensor.data_type in (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)
    many = floats and element_count(tensor) > _VALUES
    if many or tensor.data_type in _WEIGHTS or is_external(tensor):
        return _digest("weights", kind, *tensor.dims)
    bare = TensorProto()
    bare.CopyFrom(tensor)
    bare.ClearField("name")
    return _digest("values", bare.SerializeToString(deterministic=True))


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def maybe_alike(graph: Graph, other: Graph) -> bool:
    """Whether the work of two graphs can be equal at all: whether as much is quantized in them.

    It is told from the files, so that onnxruntime need not be asked where the answer is no.
    """
    return _quantizing(graph) == _quantizing(other)


def _quantizing(graph: Graph) -> Counter[str]:
    """Nodes that quantize, or that compute on integers by their definition, by operator."""
    return Counter(
        node.op_type
        for scope in graph.scopes()
        for node in scope.nodes
        if is_kind(node, "quantize", "integer") and not is_op(node, "DequantizeLinear")
    )
