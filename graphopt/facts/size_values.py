"""Sizes that a model computes from its own shapes, such as what a Reshape is told."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from graphopt.facts.axis_rules import Call
from graphopt.facts.evaluate import NotEvaluated, can_evaluate, evaluate
from graphopt.facts.operators import CONTRIB, is_kind, nest_of
from graphopt.facts.shapes import Dim, NodeTypes
from graphopt.graph.constant import constant_tensor
from graphopt.graph.node import DEFAULT_DOMAIN, attribute, is_op
from graphopt.graph.tensors import Array, element_count, to_array

__all__ = ["compute_sizes"]

_MOST_ELEMENTS = 64
"""Sizes and axes have a handful of elements; a mask is none."""
_KINDS = (TensorProto.INT64, TensorProto.INT32, TensorProto.FLOAT, TensorProto.BOOL)
_MOST_BYTES = 8 * _MOST_ELEMENTS


def compute_sizes(model: ModelProto) -> bool:
    """Put into the main graph as constants what its nodes make of shapes that are known.

    Shape inference follows such values through some operators only, and knows none of
    onnxruntime's own: their types are declared. The nodes are visited once, in their order.

    Args:
        model: Its inputs have the sizes of one run; edited.

    Returns:
        Whether anything was computed or declared.
    """
    versions = [o.version for o in model.opset_import if o.domain in DEFAULT_DOMAIN]
    opset = int(versions[-1]) if versions else 0
    sweep = NodeTypes(model)
    values: dict[str, Array] = {}
    for tensor in model.graph.initializer:
        if _is_small(tensor):
            values[tensor.name] = to_array(tensor)
    computed: dict[str, TensorProto] = {}
    left: list[NodeProto] = []
    declared: list[onnx.ValueInfoProto] = []
    for node in model.graph.node:
        made = _values(node, sweep.types, values, opset)
        for name, value in made.items():
            values[name] = value
            computed[name] = numpy_helper.from_array(value, name)
            sweep.add(computed[name])
        if not made:
            if not sweep.infer(node) and node.domain == CONTRIB:
                own = _own_types(node, sweep)
                sweep.types.update(own)
                declared += [onnx.ValueInfoProto(name=n, type=kind) for n, kind in own.items()]
            left.append(node)
    model.graph.value_info.extend(declared)
    if computed:
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        model.graph.initializer.extend(computed.values())
    return bool(computed or declared)


def _own_types(node: NodeProto, sweep: NodeTypes) -> dict[str, TypeProto]:
    """Types of what an operator of onnxruntime gives, where its axes follow from its inputs."""

    def shape(name: str) -> tuple[Dim, ...] | None:
        kind = sweep.types.get(name)
        if not name or kind is None or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)

    def constant(index: int) -> Array | None:
        tensor = sweep.values.get(node.input[index])
        return None if tensor is None or not _is_small(tensor) else to_array(tensor)

    reads = bool(node.input) and shape(node.input[0]) is not None
    if not reads or is_kind(node, "integer", "quantize"):
        return {}  # what type they give is not that of what they read
    inputs = tuple(map(shape, node.input))
    made = nest_of(Call(node, inputs, tuple(None for _ in node.output), constant, 1))
    first = sweep.types[node.input[0]].tensor_type.elem_type
    return {
        name: onnx.helper.make_tensor_type_proto(first, [made.length(axis) for axis in axes])
        for name, axes in zip(node.output, made.outputs, strict=True)
        if name and axes is not None
    }


def _is_small(tensor: TensorProto) -> bool:
    return tensor.data_type in _KINDS and element_count(tensor) <= _MOST_ELEMENTS


def _values(
    node: NodeProto, types: dict[str, TypeProto], values: dict[str, Array], opset: int
) -> dict[str, Array]:
    """What a node gives where that follows from shapes and small constants; else nothing."""
    if is_op(node, "Constant"):
        tensor = constant_tensor(node)
        return (
            {node.output[0]: to_array(tensor)} if tensor is not None and _is_small(tensor) else {}
        )
    if is_op(node, "Shape", "Size"):
        return _of_shape(node, types)
    if not can_evaluate(node) or not all(name in values for name in node.input if name):
        return {}
    fed = {name: values[name] for name in node.input if name}
    given = tuple((name, v.dtype, v.shape, v.tobytes()) for name, v in fed.items())
    found = _evaluated(node.SerializeToString(), given, opset)
    return {n: v for n, v in zip(node.output, found, strict=False) if n and v is not None}


@lru_cache(maxsize=4096)
def _evaluated(
    node: bytes, given: tuple[tuple[str, np.dtype[Any], tuple[int, ...], bytes], ...], opset: int
) -> tuple[Array | None, ...]:
    """The outputs of a node; the same nodes come again in every state of a model."""
    fed = {name: np.frombuffer(raw, kind).reshape(shape) for name, kind, shape, raw in given}
    try:
        return tuple(evaluate(NodeProto.FromString(node), fed, opset, _MOST_BYTES))
    except NotEvaluated:
        return ()


def _of_shape(node: NodeProto, types: dict[str, TypeProto]) -> dict[str, Array]:
    known = types.get(node.input[0])
    if known is None or not known.tensor_type.HasField("shape"):
        return {}
    dims = known.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return {}
    sizes = np.array([dim.dim_value for dim in dims], np.int64)
    if is_op(node, "Size"):
        return {node.output[0]: np.array(sizes.prod(), np.int64)}
    start, end = attribute(node, "start", 0), attribute(node, "end", len(sizes))
    return {node.output[0]: sizes[start:end]}
