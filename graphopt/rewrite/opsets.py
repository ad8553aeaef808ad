"""Nodes rewritten so that a newer version of the default operator domain means the same.

Source: the change notes of each operator in the ONNX operator reference, opsets 7 to 25.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper

from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope
from graphopt.graph.node import DEFAULT_DOMAIN, attribute, in_default_domain, label, set_attributes

__all__ = ["NEWEST", "NotLifted", "lift"]

NEWEST = 25
"""Newest version that nodes can be lifted to."""


class NotLifted(Exception):  # noqa: N818 - the caller turns it into its own refusal
    """Which node cannot be rewritten, and why."""


def lift(graph: Graph, opset: int, shapes: Shapes) -> list[tuple[NodeProto, str]]:
    """Raise a model to a version of the default domain, bodies included; edits in place.

    Args:
        graph: A model of an older version without local functions.
        opset: The version wanted, at most ``NEWEST``.
        shapes: Types and ranks of the graph's tensors.

    Returns:
        The nodes that were rewritten and how; nodes whose meaning did not change are left alone.

    Raises:
        NotLifted: A node means something that the new version cannot say; the graph is then
            half rewritten.
    """
    old, done = graph.opset, []
    for scope in list(graph.scopes()):
        for node in list(scope.nodes):
            if not in_default_domain(node):
                continue
            before = node.SerializeToString()
            _lift_node(scope, node, old, opset, shapes)
            scope.touch(node)
            if node.SerializeToString() != before:
                done.append((node, f"rewritten for opset {opset}"))
    for item in graph.header.opset_import:
        if item.domain in DEFAULT_DOMAIN:
            item.version = opset
    least = helper.find_min_ir_version_for(list(graph.header.opset_import), ignore_unknown=True)
    graph.header.ir_version = max(graph.header.ir_version, least)
    return done


def _lift_node(scope: Scope, node: NodeProto, old: int, opset: int, shapes: Shapes) -> None:
    """Apply every change of meaning between the two versions, oldest first."""
    for version, op_types, change in _CHANGES:
        if old < version <= opset and node.op_type in op_types:
            try:
                change(scope, node, shapes)
            except NotLifted as err:
                raise NotLifted(f"{node.op_type} {label(node)!r}: {err}") from err
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError as err:
        raise NotLifted(
            f"{node.op_type} {label(node)!r}: opset {opset} has no such operator"
        ) from err
    unknown = [a.name for a in node.attribute if a.name not in schema.attributes]
    if unknown:
        raise NotLifted(
            f"{node.op_type} {label(node)!r}: opset {opset} has no attribute {unknown[0]!r}"
        )


# small edits


def _take(node: NodeProto, name: str, default: Any = None) -> Any:
    """Remove an attribute and hand back its value."""
    value = attribute(node, name, default)
    set_attributes(node, drop=[name])
    return value


def _feed(scope: Scope, node: NodeProto, index: int, part: str, values: Any) -> None:
    """Put a constant on an input that used to be an attribute."""
    name = scope.add_constant(f"{node.output[0]}_{part}", np.asarray(values))
    scope.set_input(node, index, name)


_Change = Callable[[Scope, NodeProto, Shapes], None]


def _int_list_to_input(name: str, index: int) -> _Change:
    """The change of an attribute of integers into an optional input."""

    def change(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
        values = _take(node, name)
        if values is not None:
            _feed(scope, node, index, name, np.array(values, np.int64))

    return change


def _float_type(shapes: Shapes, name: str) -> np.dtype[Any]:
    """Element type of a tensor that the operator's old version took as float."""
    info = shapes.get(name)
    if info is None or not info.data_type:
        raise NotLifted(f"the type of {name!r} is not known")
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(info.data_type))
    if kind.kind != "f":
        raise NotLifted(f"{name!r} is of type {kind}, the old version takes floats")
    return kind


# one function a change, in the order of the operator's name


def _batchnorm_spatial(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    if not _take(node, "spatial", 1):
        raise NotLifted("normalizes each position by itself (spatial=0)")


def _batchnorm_outputs(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    if any(list(node.output)[1:]):
        raise NotLifted("gives running statistics; export the model in evaluation mode")
    del node.output[1:]


def _broadcast(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    _take(node, "consumed_inputs")
    _take(node, "broadcast")
    if _take(node, "axis") is not None:
        raise NotLifted("broadcasts along an axis in the way of opset 6")


def _clip(scope: Scope, node: NodeProto, shapes: Shapes) -> None:
    low, high = _take(node, "min"), _take(node, "max")
    if low is None and high is None:
        return
    kind = _float_type(shapes, node.input[0])
    for index, (part, value) in enumerate((("min", low), ("max", high)), start=1):
        if value is not None:
            bound = np.finfo(kind)
            _feed(scope, node, index, part, np.array(np.clip(value, bound.min, bound.max), kind))


def _dropout(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    ratio = _take(node, "ratio")
    if ratio is not None:
        _feed(scope, node, 1, "ratio", np.array(ratio, np.float32))


def _evaluation_mode(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    _take(node, "consumed_inputs")
    if not _take(node, "is_test", 0):
        raise NotLifted("is in training mode; export the model in evaluation mode")


def _grid_sample(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    mode = _take(node, "mode")
    if mode is not None:
        set_attributes(node, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


def _pad(scope: Scope, node: NodeProto, shapes: Shapes) -> None:
    pads = _take(node, "pads")
    value = _take(node, "value", 0.0)
    if pads is None:
        raise NotLifted("has no pads")
    _feed(scope, node, 1, "pads", np.array(pads, np.int64))
    if value:
        _feed(scope, node, 2, "value", np.array(value, _float_type(shapes, node.input[0])))


def _resize(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    """Resize 10 and Upsample 9 both sample at ``x / scale``, the nearest one below."""
    node.op_type = "Resize"
    scales = node.input[1]
    del node.input[1:]
    node.input.extend(["", scales])
    set_attributes(node, coordinate_transformation_mode="asymmetric")
    if attribute(node, "mode", "nearest") == "nearest":
        set_attributes(node, nearest_mode="floor")


def _refuse(reason: str) -> _Change:
    def change(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
        raise NotLifted(reason)

    return change


def _roi_align(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    """Up to opset 15 there was no half pixel; from 16 on it is the default."""
    set_attributes(node, coordinate_transformation_mode="output_half_pixel")


def _scatter(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    node.op_type = "ScatterElements"


def _slice(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        values = _take(node, name)
        if values is not None:
            _feed(scope, node, index, name, np.array(values, np.int64))


def _softmax(scope: Scope, node: NodeProto, shapes: Shapes) -> None:
    """Up to opset 12 all axes from ``axis`` on are one; from 13 on ``axis`` is the only one."""
    axis = _take(node, "axis", 1)
    info = shapes.get(node.input[0])
    if info is not None and info.shape is not None:
        rank = len(info.shape)
        start = axis + rank if axis < 0 else axis
        if all(dim == 1 for dim in info.shape[start + 1 :]):
            set_attributes(node, axis=start)
            return
    data, result = node.input[0], node.output[0]
    unique = scope.graph.unique_name
    shape, flat, soft = (unique(f"{result}_{part}") for part in ("shape", "flat", "matrix"))
    named = {part: unique(f"{label(node)}_{part}") for part in ("shape", "flatten", "reshape")}
    scope.add(
        helper.make_node("Shape", [data], [shape], named["shape"]),
        helper.make_node("Flatten", [data], [flat], named["flatten"], axis=axis),
        before=node,
    )
    scope.set_input(node, 0, flat)
    scope.set_output(node, 0, soft)
    set_attributes(node, axis=-1)
    after = helper.make_node("Reshape", [soft, shape], [result], named["reshape"])
    scope.add(after, before=scope.following(node))


def _split(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    if len(node.input) < 2 or not node.input[1]:
        set_attributes(node, num_outputs=len(node.output))


def _topk(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    _feed(scope, node, 1, "k", np.array([_take(node, "k")], np.int64))


def _upsample(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    scales = _take(node, "scales")
    if scales is None:
        raise NotLifted("has no scales")
    _feed(scope, node, 1, "scales", np.array(scales, np.float32))


def _rounds_down(scope: Scope, node: NodeProto, shapes: Shapes) -> None:  # noqa: ARG001
    if attribute(node, "ceil_mode", 0):
        raise NotLifted("rounds its size up, which opset 22 defines otherwise at the border")


_CHANGES: list[tuple[int, tuple[str, ...], _Change]] = [
    (7, ("Add", "Sub", "Mul", "Div", "Pow", "Gemm", "PRelu"), _broadcast),
    (7, ("And", "Or", "Xor", "Equal", "Greater", "Less"), _broadcast),
    (7, ("BatchNormalization", "Dropout"), _evaluation_mode),
    (7, ("LSTM", "GRU", "RNN"), _refuse("has the outputs of an opset before 7")),
    (7, ("Upsample",), _refuse("has the scales of an opset before 7")),
    (9, ("BatchNormalization",), _batchnorm_spatial),
    (9, ("Upsample",), _upsample),
    (9, ("Scan",), _refuse("has the batch axis of opset 8")),
    (10, ("Slice",), _slice),
    (10, ("TopK",), _topk),
    (11, ("Clip",), _clip),
    (11, ("Pad",), _pad),
    (11, ("Resize", "Upsample"), _resize),
    (11, ("Scatter",), _scatter),
    (12, ("Dropout",), _dropout),
    (13, ("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    (13, ("Squeeze", "Unsqueeze", "ReduceSum"), _int_list_to_input("axes", 1)),
    (13, ("Split",), _int_list_to_input("split", 1)),
    (14, ("BatchNormalization",), _batchnorm_outputs),
    (16, ("RoiAlign",), _roi_align),
    (
        18,
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"),
        _int_list_to_input("axes", 1),
    ),
    (18, ("ReduceMax", "ReduceMean", "ReduceMin"), _int_list_to_input("axes", 1)),
    (18, ("ReduceProd", "ReduceSumSquare"), _int_list_to_input("axes", 1)),
    (18, ("Split",), _split),
    (20, ("GridSample",), _grid_sample),
    (20, ("DFT",), _refuse("has its axis as an attribute, as before opset 20")),
    (21, ("GroupNormalization",), _refuse("scales whole groups, as before opset 21")),
    (22, ("AveragePool", "MaxPool"), _rounds_down),
]
"""Version, operators, and what to do so that a node keeps its meaning from that version on."""
