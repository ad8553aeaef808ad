"""Element types and shapes of tensors: inferred, declared and observed, each tensor on its own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

from graphopt.facts.propagation import propagates
from graphopt.graph.calls import MOST_UNFOLDED, nested, unfolded
from graphopt.graph.declared import ValueInfos
from graphopt.graph.graph import Graph
from graphopt.graph.weightless import weightless

__all__ = ["Dim", "NodeTypes", "Shapes", "TensorInfo", "infer", "proven", "undeclared"]

_REFUSALS = (onnx.shape_inference.InferenceError, onnx.checker.ValidationError)

_DATA_TYPES = frozenset(TensorProto.DataType.values())

logger = logging.getLogger(__name__)

Dim = int | str | None
"""A size, the name of a symbolic size, or nothing known."""


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor.

    Attributes:
        data_type: ONNX element type; 0 (``UNDEFINED``) where unknown.
        shape: Its dimensions; None where even the rank is unknown.
    """

    data_type: int
    shape: tuple[Dim, ...] | None


class Shapes:
    """What is known of each tensor by name, names inside bodies included."""

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = dict(infos)

    def __contains__(self, name: str) -> bool:
        return name in self._infos

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def get(self, name: str) -> TensorInfo | None:
        """What is known of ``name``; None if nothing is."""
        return self._infos.get(name)

    def static_shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of ``name`` where every dimension has a fixed size, else None."""
        info = self._infos.get(name)
        if info is None or info.shape is None:
            return None
        sizes = tuple(dim for dim in info.shape if isinstance(dim, int))
        return sizes if len(sizes) == len(info.shape) else None


def infer(graph: Graph, observed: Mapping[str, TensorInfo] | None = None) -> Shapes:
    """Everything that can be known of the graph's tensors.

    ONNX shape inference, types declared in the file and types seen in a real run are merged per
    tensor; a node that defeats inference costs its own outputs only. Inferred sizes win over
    declared ones. An observed size fills what is unknown and corrects a wrong number, but does
    not replace a symbolic size: it holds for the sample that was run. Where two bodies use one
    name for different things, only what both have in common is known.

    Args:
        graph: Left as it is.
        observed: Types of tensors of the main graph in one real run.
    """
    model = weightless(graph, keep_dims=True)
    infos = _collect(_inferred(model).graph)
    for name, declared in _collect(model.graph).items():
        infos[name] = _merge(infos.get(name), declared)
    for name, seen in (observed or {}).items():
        infos[name] = _observe(infos.get(name), seen)
    return Shapes(infos)


def proven(graph: Graph) -> Shapes:
    """What follows from inputs and weights alone, and so holds for every run.

    Declarations of tensors between inputs and outputs are not believed: they go stale when a
    model is given a free batch after export, and what is folded on their word would be wrong.
    """
    return infer(undeclared(graph))


def undeclared(graph: Graph) -> Graph:
    """A copy that says nothing of the shapes of its tensors but those of its inputs."""
    bare = graph.copy()
    for scope in bare.scopes():
        scope.value_infos = ValueInfos()
        for value in scope.proto.output:
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.ClearField("shape")
    return bare


def _inferred(model: ModelProto) -> ModelProto:
    """The model with inferred types; on failure those of nodes inferred one by one.

    Inference goes through a function once for each call: where that is too much, nothing is
    known of what functions compute.
    """
    if model.functions and unfolded(model, nested(model.graph.node)).nodes > MOST_UNFOLDED:
        del model.functions[:]
    for data_prop in (True, False) if propagates(model) else (False,):
        try:
            return onnx.shape_inference.infer_shapes(model, data_prop=data_prop)
        except (*_REFUSALS, RuntimeError, ValueError) as err:
            logger.debug("shape inference (data_prop=%s) failed: %s", data_prop, err)
    _infer_nodes(model)
    return model


def _infer_nodes(model: ModelProto) -> None:
    """Add to the model what each node of the main graph gives on its own."""
    sweep = NodeTypes(model)
    for node in model.graph.node:
        for name, found in sweep.infer(node).items():
            model.graph.value_info.add(name=name, type=found)


class NodeTypes:
    """Infers the nodes of a main graph one by one, in their order.

    Attributes:
        types: What is known of tensors by name, filled as nodes are inferred.
        values: Constants by name, small ones of which may decide on shapes.
    """

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self._versions = {item.domain: item.version for item in model.opset_import}
        self._imports = [onnx.helper.make_opsetid(d, v) for d, v in self._versions.items()]
        self.types = {value.name: value.type for value in _declared(graph)}
        self.values = {tensor.name: tensor for tensor in graph.initializer}
        for tensor in graph.initializer:
            self.add(tensor)

    def add(self, tensor: TensorProto) -> None:
        """Take note of a constant."""
        self.values[tensor.name] = tensor
        made = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
        self.types[tensor.name] = made

    def infer(self, node: NodeProto) -> dict[str, TypeProto]:
        """Types of a node's outputs; empty where its operator or inputs are not known."""
        if any(name and name not in self.types for name in node.input):  # onnx: KeyError
            return {}
        try:
            version = self._versions.get(node.domain, 0)
            schema = onnx.defs.get_schema(node.op_type, version, node.domain)
            found: dict[str, TypeProto] = onnx.shape_inference.infer_node_outputs(
                schema,
                node,
                {name: self.types[name] for name in node.input if name in self.types},
                {name: self.values[name] for name in node.input if name in self.values},
                opset_imports=self._imports,
            )
        except (*_REFUSALS, onnx.defs.SchemaError, RuntimeError, ValueError) as err:
            logger.debug("no types for the outputs of %s: %s", node.name or node.op_type, err)
            return {}
        self.types.update(found)
        return found


def _declared(graph: GraphProto) -> Iterable[ValueInfoProto]:
    return (*graph.input, *graph.value_info, *graph.output)


def _collect(graph: GraphProto) -> dict[str, TensorInfo]:
    """Types by name in a graph and, below it, in the bodies of its nodes."""
    infos: dict[str, TensorInfo] = {}
    for tensor in graph.initializer:
        infos[tensor.name] = TensorInfo(tensor.data_type, tuple(tensor.dims))
    for sparse in graph.sparse_initializer:
        infos[sparse.values.name] = TensorInfo(sparse.values.data_type, tuple(sparse.dims))
    for value in _declared(graph):
        info = _info(value.type)
        if info is not None and value.name not in infos:
            infos[value.name] = info
        elif info is not None:
            infos[value.name] = _merge(infos[value.name], info)
    inner: dict[str, TensorInfo] = {}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                for name, info in _collect(attribute.g).items():
                    inner[name] = _common(inner[name], info) if name in inner else info
    return {**inner, **infos}


def _info(kind: TypeProto) -> TensorInfo | None:
    """A dense or sparse tensor type; None for sequences, maps and optionals."""
    if kind.HasField("tensor_type"):
        tensor = kind.tensor_type
    elif kind.HasField("sparse_tensor_type"):
        tensor = kind.sparse_tensor_type
    else:
        return None
    data_type = tensor.elem_type if tensor.elem_type in _DATA_TYPES else 0
    if not tensor.HasField("shape"):
        return TensorInfo(data_type, None)
    dims: list[Dim] = []
    for dim in tensor.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            dims.append(dim.dim_param or None)
    return TensorInfo(data_type, tuple(dims))


def _merge(first: TensorInfo | None, second: TensorInfo) -> TensorInfo:
    """``first``, with gaps filled from ``second``."""
    if first is None:
        return second
    data_type = first.data_type or second.data_type
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return TensorInfo(data_type, second.shape if first.shape is None else first.shape)
    pairs = zip(first.shape, second.shape, strict=True)
    return TensorInfo(data_type, tuple(_finer(a, b) for a, b in pairs))


def _finer(first: Dim, second: Dim) -> Dim:
    """A number before a symbol before nothing."""
    if isinstance(first, int) or second is None:
        return first
    return second if isinstance(second, int) or first is None else first


def _observe(known: TensorInfo | None, seen: TensorInfo) -> TensorInfo:
    """What was seen, with the symbols of what was known."""
    if known is None or known.shape is None or seen.shape is None:
        return seen if seen.shape is not None or known is None else known
    if len(known.shape) != len(seen.shape):
        return seen
    pairs = zip(known.shape, seen.shape, strict=True)
    return TensorInfo(seen.data_type, tuple(a if isinstance(a, str) else b for a, b in pairs))


def _common(first: TensorInfo, second: TensorInfo) -> TensorInfo:
    """What holds for both of two tensors of one name."""
    data_type = first.data_type if first.data_type == second.data_type else 0
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return TensorInfo(data_type, None)
    pairs = zip(first.shape, second.shape, strict=True)
    return TensorInfo(data_type, tuple(a if a == b else None for a, b in pairs))
