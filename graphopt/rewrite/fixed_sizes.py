"""Shapes of inputs set to numbers, and declared for all tensors that follow from them."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import TensorShapeProto, TypeProto, ValueInfoProto
from onnx.helper import make_tensor_value_info

from graphopt.facts.shapes import Shapes, undeclared
from graphopt.facts.sized import sized_values
from graphopt.graph.graph import Graph
from graphopt.rewrite.given_sizes import Shape, declared_shape

__all__ = ["declare_shapes", "fix_inputs"]


def fix_inputs(graph: Graph, shapes: Mapping[str, Shape]) -> None:
    """Declare the inputs of a graph with other shapes; what they share a name with stays."""
    for value in graph.main.proto.input:
        if value.name in shapes:
            _state(value.type, shapes[value.name])


def declare_shapes(graph: Graph, sizes: Mapping[str, int]) -> tuple[int, list[str]]:
    """Declare every tensor that a node makes as the fixed sizes of the inputs make it.

    What the file declared before is replaced where inference knows better.

    Args:
        graph: Edited.
        sizes: Numbers by the names that axes had, for what inference says nothing of.

    Returns:
        How many declarations are new or another than before, and the tensors that have no fixed
        shape all the same.
    """
    inputs = {
        value.name: [int(dim.dim_value) for dim in value.type.tensor_type.shape.dim]
        for value in graph.required_inputs
        if all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
        and value.type.tensor_type.HasField("shape")
    }
    shapes = sized_values(undeclared(graph), inputs)[0]
    changed, open_sizes = 0, list[str]()
    for value in graph.main.proto.output:
        changed += _restated(value, shapes, sizes)
    given_out = set(graph.main.outputs)
    for scope in graph.scopes():
        known = {value.name: value for value in scope.value_infos}
        for name in (name for node in scope.nodes for name in node.output if name):
            if scope is graph.main and shapes.static_shape(name) is None:
                open_sizes.append(name)
            if scope is graph.main and name in given_out:
                continue
            value = ValueInfoProto()
            if name in known:
                value.CopyFrom(known[name])
                if _restated(value, shapes, sizes):
                    scope.value_infos.retype(name, value.type)
                    changed += 1
            elif (made := _made(name, shapes)) is not None:
                scope.value_infos.extend([made])
                changed += 1
    return changed, open_sizes


def _made(name: str, shapes: Shapes) -> ValueInfoProto | None:
    """A declaration of a tensor; None where type or rank are not known."""
    info = shapes.get(name)
    if info is None or info.shape is None or not info.data_type:
        return None
    return make_tensor_value_info(name, info.data_type, info.shape)


def _restated(value: ValueInfoProto, shapes: Shapes, sizes: Mapping[str, int]) -> bool:
    """Give a declaration the shape that is known now; whether it was another one."""
    if not value.type.HasField("tensor_type"):
        return False
    before = value.type.SerializeToString()
    info, tensor = shapes.get(value.name), value.type.tensor_type
    declared = declared_shape(value)
    if declared is not None:
        declared = tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in declared)
    if info is not None and info.shape is not None:
        if declared is not None and len(declared) == len(info.shape):
            pairs = zip(info.shape, declared, strict=True)
            declared = tuple(a if isinstance(a, int) else b for a, b in pairs)
        else:
            declared = info.shape
        tensor.elem_type = tensor.elem_type or info.data_type
    if declared is not None:
        _state(value.type, declared)
    return bool(value.type.SerializeToString() != before)


def _state(kind: TypeProto, shape: Shape) -> None:
    """Set the dimensions of a type; an axis whose size stays keeps what else is said of it."""
    dims = kind.tensor_type.shape.dim
    old = [TensorShapeProto.Dimension.FromString(dim.SerializeToString()) for dim in dims]
    del dims[:]
    kind.tensor_type.shape.SetInParent()
    for at, size in enumerate(shape):
        dim = dims.add()
        if len(old) == len(shape) and old[at].denotation:
            dim.denotation = old[at].denotation
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size
