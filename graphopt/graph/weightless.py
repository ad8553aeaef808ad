"""A model message without its large values, for tools that only look at structure."""

from __future__ import annotations

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from graphopt.errors import ModelError
from graphopt.graph import tensors
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import is_op
from graphopt.graph.order import sorted_nodes

__all__ = ["weightless"]

_KEPT_ELEMENTS = 1024  # shapes, axes and the like, which shape inference reads, are smaller


def weightless(graph: Graph, *, keep_dims: bool) -> ModelProto:
    """The model as one small message: tensors of more than 1024 elements hold no values.

    Args:
        graph: Left as it is.
        keep_dims: Emptied tensors keep their dimensions, which shape inference needs; without,
            they get dimensions ``[0]``, which makes them valid for the checker.
    """
    model = ModelProto()
    model.CopyFrom(graph.header)
    for tensor in tensors.walk(model):
        tensor.CopyFrom(_light(graph, tensor, keep_dims))
    _fill(graph.main, model.graph, keep_dims)
    return model


def _fill(scope: Scope, target: GraphProto, keep_dims: bool) -> None:
    for tensor in scope.initializers.values():
        target.initializer.append(_light(scope.graph, tensor, keep_dims))
    target.value_info.extend(scope.value_infos)
    for node in sorted_nodes(scope):
        written = target.node.add()
        _fill_node(scope.graph, node, written, keep_dims)
        for attribute in written.attribute:
            body = scope.children(node).get(attribute.name)
            if body is not None:
                _fill(body, attribute.g, keep_dims)


def _fill_node(graph: Graph, node: NodeProto, target: NodeProto, keep_dims: bool) -> None:
    """Copy a node; the value of a Constant node is never copied whole."""
    if not is_op(node, "Constant"):
        target.CopyFrom(node)
        return
    target.name, target.op_type, target.domain = node.name, node.op_type, node.domain
    target.input.extend(node.input)
    target.output.extend(node.output)
    for attribute in node.attribute:
        if attribute.type == AttributeProto.TENSOR and attribute.HasField("t"):
            light = _light(graph, attribute.t, keep_dims)
            target.attribute.add(name=attribute.name, type=attribute.type, t=light)
        else:
            target.attribute.append(attribute)


def _light(graph: Graph, tensor: TensorProto, keep_dims: bool) -> TensorProto:
    """The tensor itself, or a stand-in without values where it is large or cannot be read."""
    external = tensors.is_external(tensor)
    try:
        small = tensors.element_count(tensor) <= _KEPT_ELEMENTS
        if small and not external:
            return tensor
        if small:
            return tensors.from_array(tensor.name, graph.read(tensor))
        dims = list(tensor.dims)
    except ModelError:
        dims = []
    light = TensorProto(name=tensor.name, data_type=tensor.data_type)
    light.dims.extend(dims if keep_dims else [0])
    return light
