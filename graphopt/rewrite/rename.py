"""Other names for tensors of a whole model."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorAnnotation, TensorProto

from graphopt.graph.declared import Annotations
from graphopt.graph.graph import Graph, Scope

__all__ = ["rename_tensors"]


def rename_tensors(graph: Graph, names: Mapping[str, str]) -> None:
    """Give tensors of the main graph other names, inputs and outputs included.

    A tensor that has one of the new names already, and keeps it not, gets a fresh one; names may
    be swapped. Local functions have names of their own and stay as they are.

    Args:
        graph: Edited in place.
        names: Old name to new name; no two of the new ones are the same.
    """
    known = set(graph.names())
    renamed = dict(names)
    for new in names.values():
        if new not in names:
            claimed = graph.unique_name(new)
            if new in known:
                renamed[new] = claimed
    for scope in graph.scopes():
        _rename(scope, renamed)
        scope.touch()


def _rename(scope: Scope, names: Mapping[str, str]) -> None:
    """Names in a body are never those of another tensor around it, so all scopes are alike."""
    proto = scope.proto
    for value in (*proto.input, *proto.output):
        value.name = names.get(value.name, value.name)
    for name in [value.name for value in scope.value_infos]:
        scope.value_infos.rename(name, names.get(name, name))
    for sparse in proto.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    scope.annotations = Annotations(_renamed(each, names) for each in scope.annotations)
    for node in scope.nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    scope.initializers = {
        names.get(name, name): _named(tensor, names.get(name, name))
        for name, tensor in scope.initializers.items()
    }


def _renamed(annotation: TensorAnnotation, names: Mapping[str, str]) -> TensorAnnotation:
    """A copy that speaks of the new names."""
    copy = TensorAnnotation()
    copy.CopyFrom(annotation)
    copy.tensor_name = names.get(copy.tensor_name, copy.tensor_name)
    for entry in copy.quant_parameter_tensor_names:
        entry.value = names.get(entry.value, entry.value)
    return copy


def _named(tensor: TensorProto, name: str) -> TensorProto:
    """The tensor under a name: copies of a graph share messages, so a new one where it differs."""
    if tensor.name == name:
        return tensor
    renamed = TensorProto()
    renamed.CopyFrom(tensor)
    renamed.name = name
    return renamed
