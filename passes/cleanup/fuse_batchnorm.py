"""Pass ``fuse-batchnorm``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.graph.edit import only_reader
from graphopt.graph.graph import Constant, Graph, Scope, Use
from graphopt.graph.ops import Weight, attribute, is_op, weight_of
from graphopt.graph.shapes import Shapes
from graphopt.graph.values import drop_unread, set_values
from graphopt.numerics.batchnorm import scale_channels, scale_shift
from graphopt.pipeline.contract import Changes, Context, Pass
from graphopt.pipeline.registry import register

__all__ = ["FuseBatchnorm"]

Floats = NDArray[np.float64]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@register("fuse-batchnorm")
@dataclass(frozen=True, kw_only=True)
class FuseBatchnorm(Pass):
    """Move a BatchNormalization into the weights of the layer before or behind it.

        x -> Conv(W, b) -> BatchNormalization -> y    becomes    x -> Conv(kW, kb + s) -> y

    Works for Conv, ConvTranspose (grouped ones too), Gemm and MatMul, and for a constant Add
    between the layer and the normalization. A normalization *before* the layer is moved only
    where that is exact: without padding or without shift, since padding puts zeros behind the
    normalization. Weights that other nodes read too are copied. Computed in double, stored in the
    type of the weight. A normalization in training mode is left alone.
    Source: Jacob et al. 2018, Quantization and Training of Neural Networks, section 3.2.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for scope in list(graph.scopes()):
            for node in list(scope.nodes):
                if not is_op(node, "BatchNormalization"):
                    continue
                try:
                    changes.edit(node, _fuse(scope, node, graph.opset, context.shapes))
                except _Refused as err:
                    changes.skip(node, str(err))
        if not changes.edits and not changes.skips:
            changes.skip("model", "no BatchNormalization")
        return changes


class _Refused(Exception):  # noqa: N818 - no failure: the node simply stays
    """Why a normalization stays."""


@dataclass(frozen=True)
class _Affine:
    """The normalization as ``k * x + s`` a channel, each ``(channels,)``."""

    k: Floats
    s: Floats


@dataclass(frozen=True)
class _Layer:
    """A layer with the weight and the bias that it really applies, alpha and beta included."""

    scope: Scope
    node: NodeProto
    weight: Weight
    values: Floats
    bias: Floats

    @property
    def groups_out(self) -> int:
        return self.weight.groups if is_op(self.node, "ConvTranspose") else 1

    @property
    def groups_in(self) -> int:
        return self.weight.groups if is_op(self.node, "Conv") else 1


def _fuse(scope: Scope, node: NodeProto, opset: int, shapes: Shapes) -> str:
    """Fuse one normalization in either direction and say what was done; nothing is half done."""
    affine = _affine(scope, node, opset)
    try:
        done = _fuse_into_producer(scope, node, affine, shapes)
    except _Refused as first:
        try:
            done = _fuse_into_reader(scope, node, affine, shapes)
        except _Refused as second:
            raise _Refused(f"{first}; {second}") from second
    drop_unread(scope, list(node.input)[1:])
    return done


def _affine(scope: Scope, node: NodeProto, opset: int) -> _Affine:
    training = attribute(node, "training_mode", 0) if opset >= 14 else 0
    if training or (opset < 7 and not attribute(node, "is_test", 0)):
        raise _Refused("it is in training mode; export the model in evaluation mode")
    if opset < 9 and not attribute(node, "spatial", 1):
        raise _Refused("it normalizes each position by itself (spatial=0)")
    for name in list(node.output)[1:]:
        if name and (scope.uses(name) or name in scope.outputs):
            raise _Refused("its running statistics are read")
    gamma, beta, mean, var = (_fixed(scope, name).values for name in list(node.input)[1:5])
    k, s = scale_shift(gamma, beta, mean, var, attribute(node, "epsilon", 1e-5))
    if not (np.isfinite(k).all() and np.isfinite(s).all()):
        raise _Refused("its variance is negative or its parameters are not finite")
    return _Affine(k, s)


def _fixed(scope: Scope, name: str) -> Constant:
    """A constant that no caller can replace."""
    constant = scope.constant(name)
    if constant is None:
        raise _Refused(f"{name!r} is computed at run time")
    if constant.overridable:
        raise _Refused(f"{name!r} is an optional input; put freeze-initializers first")
    return constant


def _layer(scope: Scope, node: NodeProto) -> _Layer:
    """The layer of a node whose weight and bias are constants."""
    weight = weight_of(scope, node)
    if weight is None:
        raise _Refused(f"{node.op_type} has no constant float weight")
    _fixed(scope, node.input[weight.index])
    if is_op(node, "MatMul") and (weight.index != 1 or len(weight.constant.shape) != 2):
        raise _Refused("the weight of the MatMul is not a matrix on its right side")
    values = weight.constant.values.astype(np.float64)
    channels = weight.out_channels * (weight.groups if is_op(node, "ConvTranspose") else 1)
    bias = np.zeros(channels)
    if weight.bias_index is not None and any(list(node.input)[weight.bias_index :]):
        added = _fixed(scope, node.input[weight.bias_index])
        if added.shape not in ((channels,), (1, channels), (1,), (1, 1), ()):
            raise _Refused(f"the {node.op_type} adds {list(added.shape)}, not a value a channel")
        bias = bias + added.values.astype(np.float64).reshape(-1)
    if is_op(node, "Gemm"):
        values = values * attribute(node, "alpha", 1.0)
        bias = bias * attribute(node, "beta", 1.0)
    return _Layer(scope, node, weight, values, bias)


def _store(layer: _Layer, values: Floats, bias: Floats | None) -> str:
    """Give the layer its new weight and, unless it is a MatMul, bias; a note where it was shared.

    Raises:
        _Refused: The type of the weight cannot hold the new values; nothing is edited then.
    """
    scope, node, weight = layer.scope, layer.node, layer.weight
    kind = weight.constant.values.dtype
    with np.errstate(over="ignore"):
        stored = values.astype(kind)
        stored_bias = None if bias is None else bias.astype(kind)
    if not all(np.isfinite(part).all() for part in (stored, stored_bias) if part is not None):
        raise _Refused(f"the fused weights do not fit into {kind}")
    copied = set_values(scope, node, weight.index, stored)
    if stored_bias is not None and weight.bias_index is not None:
        if len(node.input) > weight.bias_index and node.input[weight.bias_index]:
            set_values(scope, node, weight.bias_index, stored_bias)
        else:
            name = scope.add_constant(f"{weight.constant.origin}_bias", stored_bias)
            scope.set_input(node, weight.bias_index, name)
    if is_op(node, "Gemm"):
        kept = [a for a in node.attribute if a.name not in ("alpha", "beta")]
        del node.attribute[:]
        node.attribute.extend(kept)
    return " (its weight is shared: copied)" if copied else ""


# into the layer before it


def _fuse_into_producer(scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes) -> str:
    add, found = None, _sole_producer(scope, node.input[0])
    if found is not None and is_op(found, "Add"):
        add = found
        makers = [_sole_producer(scope, name) for name in add.input]
        found = next((m for m in makers if m is not None and is_op(m, *_LAYERS)), None)
    if found is None or not is_op(found, *_LAYERS):
        raise _Refused("no Conv, ConvTranspose, Gemm or MatMul before it that serves it alone")
    layer = _layer(scope, found)
    if layer.bias.size != affine.k.size:
        raise _Refused("its channels are not those of the layer before it")
    if is_op(found, "MatMul") and not _is_matrix(shapes, found.output[0]):
        raise _Refused("the MatMul before it is not known to give a matrix")
    added = np.zeros(1) if add is None else _added(layer, add)
    values = scale_channels(layer.values, layer.weight.out_axis, affine.k, layer.groups_out)
    bias = affine.k * (layer.bias + added) + affine.s
    note = _store(layer, values, bias)
    if is_op(found, "MatMul"):
        _add_behind(layer, node if add is None else add, node.output[0], bias)
    else:
        found.output[0] = node.output[0]
    scope.remove([node] if add is None else [node, add])
    if add is not None:
        drop_unread(scope, add.input)
    return f"moved into the {found.op_type} before it{note}"


def _sole_producer(scope: Scope, name: str) -> NodeProto | None:
    """The node that computes ``name``, where only one place reads it."""
    return None if only_reader(scope, name) is None else scope.producer(name)


def _is_matrix(shapes: Shapes, name: str) -> bool:
    info = shapes.get(name)
    return info is not None and info.shape is not None and len(info.shape) == 2


def _added(layer: _Layer, add: NodeProto) -> Floats:
    """What an Add puts on each channel of the layer's output, ``(channels,)`` or ``(1,)``."""
    constant = _fixed(layer.scope, next(n for n in add.input if n != layer.node.output[0]))
    channels, spatial = layer.bias.size, len(layer.weight.constant.shape) - 2
    values: Floats = constant.values.astype(np.float64).reshape(-1)
    one_each = (channels, *[1] * spatial)
    if constant.shape not in (one_each, (1, *one_each)) and (
        values.size != 1 or len(constant.shape) > spatial + 2
    ):
        raise _Refused(f"the Add before it adds {list(constant.shape)}, not a value a channel")
    return values


def _add_behind(layer: _Layer, like: NodeProto, output: str, bias: Floats) -> None:
    """Put the shift behind a MatMul, which has no bias, with the name and place of a node."""
    scope, origin = layer.scope, layer.weight.constant.origin
    kind = layer.weight.constant.values.dtype
    name = scope.add_constant(f"{origin}_bias", bias.astype(kind))
    added = NodeProto(op_type="Add", name=like.name, doc_string=like.doc_string)
    added.metadata_props.extend(like.metadata_props)
    added.input.extend([layer.node.output[0], name])
    added.output.append(output)
    scope.add(added, before=like)


# into the layer behind it


def _fuse_into_reader(scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes) -> str:
    uses = scope.uses(node.output[0])
    if not uses or node.output[0] in scope.outputs:
        raise _Refused("nothing behind it but an output")
    if len(uses) > 1:
        raise _Refused("several nodes behind it")
    layer = _reader(scope, uses[0], affine)
    if is_op(layer.node, "MatMul") and not _is_matrix(shapes, node.input[0]):
        raise _Refused("the MatMul behind it is not known to read a matrix")
    axis, groups = layer.weight.in_axis, layer.groups_in
    values = scale_channels(layer.values, axis, affine.k, groups)
    bias = None
    if affine.s.any():
        lost = tuple(a for a in range(values.ndim) if a != layer.weight.out_axis)
        bias = layer.bias + scale_channels(layer.values, axis, affine.s, groups).sum(axis=lost)
    elif is_op(layer.node, "Gemm") and layer.weight.bias is not None:
        bias = layer.bias
    note = _store(layer, values, bias)
    scope.set_input(layer.node, 0, node.input[0])
    scope.remove([node])
    return f"moved into the {layer.node.op_type} behind it{note}"


def _reader(scope: Scope, use: Use, affine: _Affine) -> _Layer:
    """The layer that reads the normalization, where it can do the normalization exactly."""
    node, shifted = use.node, bool(affine.s.any())
    if use.scope is not scope or use.index != 0 or not is_op(node, *_LAYERS):
        raise _Refused("no Conv, ConvTranspose, Gemm or MatMul behind it")
    if is_op(node, "Gemm") and attribute(node, "transA", 0):
        raise _Refused("the Gemm behind it transposes its input")
    if is_op(node, "MatMul") and shifted:
        raise _Refused("the MatMul behind it has no bias to take the shift")
    if is_op(node, "ConvTranspose") and shifted:
        raise _Refused("the ConvTranspose behind it spreads a shift unevenly at the border")
    if is_op(node, "Conv") and shifted and _padded(node):
        raise _Refused("the Conv behind it pads with zeros, which the shift would change")
    layer = _layer(scope, node)
    if layer.values.shape[layer.weight.in_axis] * layer.groups_in != affine.k.size:
        raise _Refused("its channels are not those of the layer behind it")
    return layer


def _padded(node: NodeProto) -> bool:
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return auto != "VALID" and any(attribute(node, "pads", []))
