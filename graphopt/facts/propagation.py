"""How many values ONNX's data propagation would carry along."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import onnx
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
)

from graphopt.graph.node import DEFAULT_DOMAIN, attribute

__all__ = ["propagates"]

_MOST_VALUES = 1 << 20
"""Shapes and indices have some ten values; a chain of Concat doubles them at each step."""

_DEEPEST = 50
"""Calls within calls that are followed; exports nest three or four."""


def propagates(model: ModelProto) -> bool:
    """Whether inference may follow the values of vectors, as ``data_prop`` does.

    It holds one entry for every element of a vector that is joined to another, whatever the type;
    only Concat makes more of what came in. Counted from above, linear in the nodes with functions
    unfolded; sizes of vectors that only inference tells are asked for where a Concat may join such
    ones.

    Args:
        model: Names of its bodies may repeat; the larger count holds. Its functions unfold to a
            bounded number of nodes.
    """
    version = max((o.version for o in model.opset_import if o.domain in DEFAULT_DOMAIN), default=1)
    sizes = dict(_vectors(model.graph))
    functions = {(function.domain, function.name): function for function in model.functions}
    counter = _Counter(version, functions, sizes)
    most = counter.most(model.graph.node)
    if most <= _MOST_VALUES and counter.guesses:
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return False
        counter = _Counter(version, functions, sizes | dict(_vectors(inferred.graph)))
        most = counter.most(model.graph.node)
    return most <= _MOST_VALUES


class _Counter:
    """Counts the values that tensors stand for.

    Args:
        version: Opset of the default domain.
        functions: Those of the model.
        sizes: Elements of the vectors that are known, by name.
        depth: Calls that this is inside of.
    """

    def __init__(
        self,
        version: int,
        functions: Mapping[tuple[str, str], FunctionProto],
        sizes: Mapping[str, int],
        depth: int = 0,
    ) -> None:
        self.version, self.functions, self.sizes = version, functions, sizes
        self.depth = depth
        self.guesses = False
        """Whether a Concat joins what may be vectors of unknown size."""
        self._counts: dict[str, int] = {}

    def most(self, nodes: Iterable[NodeProto]) -> int:
        """The most values that one tensor of some nodes and their bodies stands for."""
        most = 0
        for node in nodes:
            for body in _bodies(node):
                most = max(most, self.most(body.node))
            total = min(self._total(node), 2 * _MOST_VALUES)
            most = max(most, total)
            for name in node.output:
                if total:
                    self._counts[name] = max(self._counts.get(name, 0), total)
        return most

    def _called(self, function: FunctionProto, node: NodeProto) -> int:
        """The most values of a tensor in a call of a function; very many where calls nest deep."""
        if self.depth == _DEEPEST:
            return 2 * _MOST_VALUES
        sizes = dict(_made(function.node))
        inside = _Counter(self.version, self.functions, sizes, self.depth + 1)
        for formal, name in zip(function.input, node.input, strict=False):
            inside._counts[formal] = self._counts.get(name) or self.sizes.get(name, 1)
        most = inside.most(function.node)
        self.guesses |= inside.guesses
        return most

    def _total(self, node: NodeProto) -> int:
        """Values of a node's outputs; 0 where they are not followed."""
        function = self.functions.get((node.domain, node.op_type))
        if function is not None:
            return self._called(function, node)
        if node.domain not in DEFAULT_DOMAIN or not _carries(node.op_type, self.version):
            return 0
        if node.op_type in ("Shape", "Size"):
            return 1
        known = [self._counts.get(name) or self.sizes.get(name) for name in node.input if name]
        counts = [1 if count is None else count for count in known]
        if node.op_type != "Concat":
            return max(counts, default=1)
        self.guesses |= None in known and attribute(node, "axis", 1) in (0, -1)
        return sum(counts)


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    return (a.g for a in node.attribute if a.type == AttributeProto.GRAPH)


def _vectors(graph: GraphProto) -> Iterator[tuple[str, int]]:
    """Elements of each vector of a graph and its bodies whose size is said."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        if (size := _length(value)) is not None:
            yield value.name, size
    for tensor in graph.initializer:
        yield tensor.name, _elements(tensor)
    yield from _made(graph.node)


def _made(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, int]]:
    """The same of constant nodes and of bodies."""
    for node in nodes:
        for item in node.attribute:
            if item.type == AttributeProto.TENSOR and node.output:
                yield node.output[0], _elements(item.t)
            elif item.type == AttributeProto.GRAPH:
                yield from _vectors(item.g)


def _length(value: ValueInfoProto) -> int | None:
    dims = value.type.tensor_type.shape.dim
    if len(dims) == 1 and dims[0].HasField("dim_value"):
        return max(1, int(dims[0].dim_value))
    return 1 if len(dims) > 1 else None


def _elements(tensor: TensorProto) -> int:
    return max(1, int(tensor.dims[0])) if len(tensor.dims) == 1 else 1


@cache
def _carries(op_type: str, version: int) -> bool:
    try:
        schema = onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_data_propagation_function)
