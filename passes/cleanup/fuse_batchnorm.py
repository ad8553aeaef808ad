"""Pass ``fuse-batchnorm``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.contract.examples import Example
from graphopt.contract.passes import Changes, Context, Pass
from graphopt.contract.registry import register
from graphopt.facts.layers import Layer, Refusal
from graphopt.facts.operators import LINEAR
from graphopt.facts.shapes import Shapes
from graphopt.graph.graph import Graph, Scope, Use
from graphopt.graph.node import attribute, is_op
from graphopt.numerics.batchnorm import scale_channels, scale_shift
from graphopt.rewrite.absorb import absorber, added_by, fixed, store
from graphopt.rewrite.edit import only_reader
from graphopt.rewrite.values import drop_unread

__all__ = ["FuseBatchnorm"]

Floats = NDArray[np.float64]
_NONE_BEFORE = "no Conv, ConvTranspose, Gemm or MatMul before it that serves it alone"


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

    widens_halves: ClassVar[bool] = True
    rounds_halves: ClassVar[bool] = True

    def run(self, graph: Graph, context: Context) -> Changes:
        changes = Changes()
        for scope in list(graph.scopes()):
            for node in list(scope.nodes):
                if is_op(node, "Add", "Sub", "Mul", "Div"):
                    done = _fuse_constant(scope, node)
                    if done:
                        changes.edit(node, done)
                if not is_op(node, "BatchNormalization"):
                    continue
                found = _fuse(scope, node, graph.opset, context.shapes)
                if isinstance(found, Refusal):
                    changes.skip(node, found.reason)
                else:
                    changes.edit(node, found)
        if not changes.edits and not changes.skips:
            changes.skip("model", "no BatchNormalization")
        return changes

    @classmethod
    def examples(cls) -> Sequence[Example]:
        return [Example("cnn"), Example("mlp"), Example("float16")]


@dataclass(frozen=True)
class _Affine:
    """The normalization as ``k * x + s`` a channel, each ``(channels,)``."""

    k: Floats
    s: Floats


def _fuse(scope: Scope, node: NodeProto, opset: int, shapes: Shapes) -> str | Refusal:
    """Fuse one normalization in either direction and say what was done; nothing is half done."""
    affine = _affine(scope, node, opset)
    if isinstance(affine, Refusal):
        return affine
    done = _fuse_into_producer(scope, node, affine, shapes)
    if isinstance(done, Refusal):
        second = _fuse_into_reader(scope, node, affine, shapes)
        if isinstance(second, Refusal):
            return Refusal(node, f"{done.reason}; {second.reason}")
        done = second
    drop_unread(scope, list(node.input)[1:])
    return done


def _affine(scope: Scope, node: NodeProto, opset: int) -> _Affine | Refusal:
    training = attribute(node, "training_mode", 0) if opset >= 14 else 0
    if training or (opset < 7 and not attribute(node, "is_test", 0)):
        return Refusal(node, "it is in training mode; export the model in evaluation mode")
    if opset < 9 and not attribute(node, "spatial", 1):
        return Refusal(node, "it normalizes each position by itself (spatial=0)")
    for name in list(node.output)[1:]:
        if name and (scope.is_read(name) or scope.is_output(name)):
            return Refusal(node, "its running statistics are read")
    constants = []
    for name in list(node.input)[1:5]:
        constant = fixed(scope, node, name)
        if isinstance(constant, Refusal):
            return constant
        constants.append(constant.values)
    gamma, beta, mean, var = constants
    k, s = scale_shift(gamma, beta, mean, var, attribute(node, "epsilon", 1e-5))
    if not (np.isfinite(k).all() and np.isfinite(s).all()):
        return Refusal(node, "its variance is negative or its parameters are not finite")
    return _Affine(k, s)


# into the layer before it


def _fuse_into_producer(
    scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes
) -> str | Refusal:
    add, found = None, _sole_producer(scope, node.input[0])
    if found is not None and is_op(found, "Add"):
        add = found
        makers = [_sole_producer(scope, name) for name in add.input]
        found = next((m for m in makers if m is not None and is_op(m, *LINEAR)), None)
    if found is None or not is_op(found, *LINEAR):
        return Refusal(node, _NONE_BEFORE)
    absorbing = absorber(scope, found)
    if isinstance(absorbing, Refusal):
        return absorbing
    layer, values, bias = absorbing
    if layer.channels != affine.k.size:
        return Refusal(node, "its channels are not those of the layer before it")
    if is_op(found, "MatMul") and not _is_matrix(shapes, found.output[0]):
        return Refusal(node, "the MatMul before it is not known to give a matrix")
    if add is not None and (layer.bias is None or layer.bias.node is not add):
        added = added_by(layer, add)
        if isinstance(added, Refusal):
            return added
        bias = bias + added
    values = scale_channels(values, layer.read_axes[0], affine.k, layer.groups_out)
    bias = affine.k * bias + affine.s
    note = store(layer, values, bias)
    if isinstance(note, Refusal):
        return note
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
    name = scope.add_constant(f"{origin}_bias", bias.astype(layer.weight.dtype))
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
    absorbing = absorber(scope, found)
    if isinstance(absorbing, Refusal):
        return None
    layer, values, bias = absorbing
    added = added_by(layer, node)
    if isinstance(added, Refusal) or not (is_op(node, "Add", "Sub") or layer.weight.alone):
        return None
    value = np.broadcast_to(added, bias.shape)
    if is_op(node, "Add", "Sub"):
        note = store(layer, None, bias + (value if is_op(node, "Add") else -value))
    else:
        with np.errstate(all="ignore"):
            k = value if is_op(node, "Mul") else 1 / value
            scaled = scale_channels(values, layer.read_axes[0], k, layer.groups_out)
            note = store(layer, scaled, bias * k if layer.adds else None)
    if isinstance(note, Refusal):
        return None
    scope.set_output(found, 0, node.output[0])
    scope.remove([node])
    drop_unread(scope, node.input)
    return f"moved into the {found.op_type} before it{note}"


# into the layer behind it


def _fuse_into_reader(
    scope: Scope, node: NodeProto, affine: _Affine, shapes: Shapes
) -> str | Refusal:
    uses = scope.uses(node.output[0])
    if not uses or scope.is_output(node.output[0]):
        return Refusal(node, "nothing behind it but an output")
    if len(uses) > 1:
        return Refusal(node, "several nodes behind it")
    absorbing = _reader(scope, uses[0], affine)
    if isinstance(absorbing, Refusal):
        return absorbing
    layer, before, added = absorbing
    if is_op(layer.node, "MatMul") and not _is_matrix(shapes, node.input[0]):
        return Refusal(node, "the MatMul behind it is not known to read a matrix")
    out_axis, axis = layer.read_axes
    values = scale_channels(before, axis, affine.k, layer.groups_in)
    bias = None
    if affine.s.any():
        lost = tuple(a for a in range(values.ndim) if a != out_axis)
        bias = added + scale_channels(before, axis, affine.s, layer.groups_in).sum(axis=lost)
    elif is_op(layer.node, "Gemm") and layer.bias is not None:
        bias = added
    note = store(layer, values, bias)
    if isinstance(note, Refusal):
        return note
    scope.set_input(layer.node, 0, node.input[0])
    scope.remove([node])
    return f"moved into the {layer.node.op_type} behind it{note}"


def _reader(scope: Scope, use: Use, affine: _Affine) -> tuple[Layer, Floats, Floats] | Refusal:
    """The layer that reads the normalization, where it can do the normalization exactly."""
    node, shifted = use.node, bool(affine.s.any())
    if use.scope is not scope or use.index != 0 or not is_op(node, *LINEAR):
        return Refusal(node, "no Conv, ConvTranspose, Gemm or MatMul behind it")
    if is_op(node, "Gemm") and attribute(node, "transA", 0):
        return Refusal(node, "the Gemm behind it transposes its input")
    if is_op(node, "MatMul") and shifted:
        return Refusal(node, "the MatMul behind it has no bias to take the shift")
    if is_op(node, "ConvTranspose") and shifted:
        return Refusal(node, "the ConvTranspose behind it spreads a shift unevenly at the border")
    if is_op(node, "Conv") and shifted and _padded(node):
        return Refusal(node, "the Conv behind it pads with zeros, which the shift would change")
    found = absorber(scope, node)
    if not isinstance(found, Refusal) and found[0].in_channels != affine.k.size:
        return Refusal(node, "its channels are not those of the layer behind it")
    return found


def _padded(node: NodeProto) -> bool:
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return True
    return auto != "VALID" and any(attribute(node, "pads", []))
