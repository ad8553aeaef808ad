"""Pass ``fuse-batchnorm``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.batchnorm import scale_channels, scale_shift
from graphopt.rewrite.absorb import Layer, Refused, added_by, fixed, layer_of, store
from graphopt.rewrite.edit import only_reader
from graphopt.rewrite.values import drop_unread, read_by_one

__all__ = ["FuseBatchnorm"]

Floats = NDArray[np.float64]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div")


@register("fuse-batchnorm")
@dataclass(frozen=True, kw_only=True)
class FuseBatchnorm(Pass):
    """Move a BatchNormalization into the weights of the layer before or behind it.

        x -> Conv(W, b) -> BatchNormalization -> y    becomes    x -> Conv(kW, kb + s) -> y

    Works for Conv, ConvTranspose (grouped ones too), Gemm and MatMul, and for a constant Add
    between the layer and the normalization. An Add, Sub, Mul or Div by a constant of one value, or
    of one a channel, moves into the Conv or ConvTranspose right before it likewise: an exporter
    may write a bias so, and between quantized layers it would be computed in floats. A
    normalization *before* the layer is moved only
    where that is exact: without padding or without shift, since padding puts zeros behind the
    normalization. Weights that other nodes read too are copied. Computed in double, stored in the
    type of the weight. A normalization in training mode is left alone.
    Source: Jacob et al. 2018, Quantization and Training of Neural Networks, section 3.2.
    """

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for scope in list(graph.scopes()):
            for node in list(scope.nodes):
                if is_op(node, *_ELEMENTWISE):
                    done = _fuse_constant(scope, node)
                    if done:
                        changes.edit(node, done)
                if not is_op(node, "BatchNormalization"):
                    continue
                try:
                    changes.edit(node, _fuse(scope, node, graph.opset, context.shapes))
                except Refused as err:
                    changes.skip(node, str(err))
        if not changes.edits and not changes.skips:
            changes.skip("model", "no BatchNormalization")
        return changes


@dataclass(frozen=True)
class _Affine:
    """The normalization as ``k * x + s`` a channel, each ``(channels,)``."""

    k: Floats
    s: Floats


def _fuse(scope: Scope, node: NodeProto, opset: int, shapes: Shapes) -> str:
    """Fuse one normalization in either direction and say what was done; nothing is half done."""
    affine = _affine(scope, node, opset)
    try:
        done = _fuse_into_producer(scope, node, affine, shapes)
    except Refused as first:
        try:
            done = _fuse_into_reader(scope, node, affine, shapes)
        except Refused as second:
            raise Refused(f"{first}; {second}") from second
    drop_unread(scope, list(node.input)[1:])
    return done


def _affine(scope: Scope, node: NodeProto, opset: int) -> _Affine:
    training = attribute(node, "training_mode", 0) if opset >= 14 else 0
    if training or (opset < 7 and not attribute(node, "is_test", 0)):
        raise Refused("it is in training mode; export the model in evaluation mode")
    if opset < 9 and not attribute(node, "spatial", 1):
        raise Refused("it normalizes each position by itself (spatial=0)")
    for name in list(node.output)[1:]:
        if name and (scope.is_read(name) or scope.is_output(name)):
            raise Refused("its running statistics are read")
    gamma, beta, mean, var = (fixed(scope, name).values for name in list(node.input)[1:5])
    k, s = scale_shift(gamma, beta, mean, var, attribute(node, "epsilon", 1e-5))
    if not (np.isfinite(k).all() and np.isfinite(s).all()):
        raise Refused("its variance is negative or its parameters are not finite")
    return _Affine(k, s)


# into the layer before it


def _fuse_into_producer(scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes) -> str:
    add, found = None, _sole_producer(scope, node.input[0])
    if found is not None and is_op(found, "Add"):
        add = found
        makers = [_sole_producer(scope, name) for name in add.input]
        found = next((m for m in makers if m is not None and is_op(m, *_LAYERS)), None)
    if found is None or not is_op(found, *_LAYERS):
        raise Refused("no Conv, ConvTranspose, Gemm or MatMul before it that serves it alone")
    layer = layer_of(scope, found)
    if layer.bias.size != affine.k.size:
        raise Refused("its channels are not those of the layer before it")
    if is_op(found, "MatMul") and not _is_matrix(shapes, found.output[0]):
        raise Refused("the MatMul before it is not known to give a matrix")
    added = np.zeros(1) if add is None else added_by(layer, add)
    values = scale_channels(layer.values, layer.weight.out_axis, affine.k, layer.groups_out)
    bias = affine.k * (layer.bias + added) + affine.s
    note = store(layer, values, bias)
    if is_op(found, "MatMul"):
        _add_behind(layer, node if add is None else add, node.output[0], bias)
    else:
        scope.set_output(found, 0, node.output[0])
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


def _add_behind(layer: Layer, like: NodeProto, output: str, bias: Floats) -> None:
    """Put the shift behind a MatMul, which has no bias, with the name and place of a node."""
    scope, origin = layer.scope, layer.weight.constant.origin
    kind = layer.weight.constant.values.dtype
    name = scope.add_constant(f"{origin}_bias", bias.astype(kind))
    added = NodeProto(op_type="Add", name=like.name, doc_string=like.doc_string)
    added.metadata_props.extend(like.metadata_props)
    added.input.extend([layer.node.output[0], name])
    added.output.append(output)
    scope.add(added, before=like)


def _fuse_constant(scope: Scope, node: NodeProto) -> str | None:
    """Move a constant scale or shift into the Conv before it; None where there is no such thing.

    A weight that others read as well is not scaled: the copy would make the file larger.
    """
    constant = [scope.constant(name) is not None for name in node.input]
    if constant not in ([False, True], [True, False]):
        return None
    if constant[0] and is_op(node, "Sub", "Div"):
        return None
    found = _sole_producer(scope, node.input[constant.index(False)])
    if found is None or not is_op(found, "Conv", "ConvTranspose"):
        return None
    try:
        layer = layer_of(scope, found)
        value = np.broadcast_to(added_by(layer, node), layer.bias.shape)
        if is_op(node, "Add", "Sub"):
            note = store(layer, None, layer.bias + (value if is_op(node, "Add") else -value))
        elif not read_by_one(scope, layer.weight.constant):
            return None
        else:
            biased = len(found.input) > 2 and found.input[2]
            with np.errstate(all="ignore"):
                k = value if is_op(node, "Mul") else 1 / value
                scaled = scale_channels(layer.values, layer.weight.out_axis, k, layer.groups_out)
                bias = layer.bias * k if biased else None
            note = store(layer, scaled, bias)
    except Refused:
        return None
    scope.set_output(found, 0, node.output[0])
    scope.remove([node])
    drop_unread(scope, node.input)
    return f"moved into the {found.op_type} before it{note}"


# into the layer behind it


def _fuse_into_reader(scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes) -> str:
    uses = scope.uses(node.output[0])
    if not uses or scope.is_output(node.output[0]):
        raise Refused("nothing behind it but an output")
    if len(uses) > 1:
        raise Refused("several nodes behind it")
    layer = _reader(scope, uses[0], affine)
    if is_op(layer.node, "MatMul") and not _is_matrix(shapes, node.input[0]):
        raise Refused("the MatMul behind it is not known to read a matrix")
    axis, groups = layer.weight.in_axis, layer.groups_in
    values = scale_channels(layer.values, axis, affine.k, groups)
    bias = None
    if affine.s.any():
        lost = tuple(a for a in range(values.ndim) if a != layer.weight.out_axis)
        bias = layer.bias + scale_channels(layer.values, axis, affine.s, groups).sum(axis=lost)
    elif is_op(layer.node, "Gemm") and layer.weight.bias is not None:
        bias = layer.bias
    note = store(layer, values, bias)
    scope.set_input(layer.node, 0, node.input[0])
    scope.remove([node])
    return f"moved into the {layer.node.op_type} behind it{note}"


def _reader(scope: Scope, use: Use, affine: _Affine) -> Layer:
    """The layer that reads the normalization, where it can do the normalization exactly."""
    node, shifted = use.node, bool(affine.s.any())
    if use.scope is not scope or use.index != 0 or not is_op(node, *_LAYERS):
        raise Refused("no Conv, ConvTranspose, Gemm or MatMul behind it")
    if is_op(node, "Gemm") and attribute(node, "transA", 0):
        raise Refused("the Gemm behind it transposes its input")
    if is_op(node, "MatMul") and shifted:
        raise Refused("the MatMul behind it has no bias to take the shift")
    if is_op(node, "ConvTranspose") and shifted:
        raise Refused("the ConvTranspose behind it spreads a shift unevenly at the border")
    if is_op(node, "Conv") and shifted and _padded(node):
        raise Refused("the Conv behind it pads with zeros, which the shift would change")
    layer = layer_of(scope, node)
    if layer.values.shape[layer.weight.in_axis] * layer.groups_in != affine.k.size:
        raise Refused("its channels are not those of the layer behind it")
    return layer


def _padded(node: NodeProto) -> bool:
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return auto != "VALID" and any(attribute(node, "pads", []))
