"""A layer with constant weights that takes up what an affine node beside it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.ops import Weight, weight_of
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import attribute, is_op
from graphopt.rewrite.values import set_values

__all__ = ["Layer", "Refused", "added_by", "fixed", "layer_of", "store"]

Floats = NDArray[np.float64]


class Refused(Exception):  # noqa: N818 - no failure: the node simply stays
    """Why a node cannot be moved into a layer."""


@dataclass(frozen=True)
class Layer:
    """A layer with the weight and the bias that it really applies, alpha and beta included.

    ``values`` has the shape of the weight, ``bias`` is ``(channels,)``; both are in double.
    """

    scope: Scope
    node: NodeProto
    weight: Weight
    values: Floats
    bias: Floats

    @property
    def groups_out(self) -> int:
        """Groups that the axis of the output channels counts within."""
        return self.weight.groups if is_op(self.node, "ConvTranspose") else 1

    @property
    def groups_in(self) -> int:
        """Groups that the axis of the input channels counts within."""
        return self.weight.groups if is_op(self.node, "Conv") else 1


def fixed(scope: Scope, name: str) -> Constant:
    """A constant that no caller can replace.

    Raises:
        Refused: It is computed, or an optional input.
    """
    constant = scope.constant(name)
    if constant is None:
        raise Refused(f"{name!r} is computed at run time")
    if constant.overridable:
        raise Refused(f"{name!r} is an optional input; put freeze-initializers first")
    return constant


def layer_of(scope: Scope, node: NodeProto) -> Layer:
    """The layer of a node whose weight and bias are constants.

    Raises:
        Refused: They are not, or the bias has other values than one a channel.
    """
    weight = weight_of(scope, node)
    if weight is None:
        raise Refused(f"{node.op_type} has no constant float weight")
    fixed(scope, node.input[weight.index])
    if is_op(node, "MatMul") and (weight.index != 1 or len(weight.constant.shape) != 2):
        raise Refused("the weight of the MatMul is not a matrix on its right side")
    values = weight.constant.values.astype(np.float64)
    channels = weight.out_channels * (weight.groups if is_op(node, "ConvTranspose") else 1)
    bias = np.zeros(channels)
    if weight.bias_index is not None and any(list(node.input)[weight.bias_index :]):
        added = fixed(scope, node.input[weight.bias_index])
        if added.shape not in ((channels,), (1, channels), (1,), (1, 1), ()):
            raise Refused(f"the {node.op_type} adds {list(added.shape)}, not a value a channel")
        bias = bias + added.values.astype(np.float64).reshape(-1)
    if is_op(node, "Gemm"):
        values = values * attribute(node, "alpha", 1.0)
        bias = bias * attribute(node, "beta", 1.0)
    return Layer(scope, node, weight, values, bias)


def store(layer: Layer, values: Floats | None, bias: Floats | None) -> str:
    """Give the layer its new weight and, unless it is a MatMul, bias; a note where it was shared.

    What is None stays as it is.

    Raises:
        Refused: The type of the weight cannot hold the new values; nothing is edited then.
    """
    scope, node, weight = layer.scope, layer.node, layer.weight
    kind = weight.constant.values.dtype
    with np.errstate(over="ignore"):
        stored = None if values is None else values.astype(kind)
        stored_bias = None if bias is None else bias.astype(kind)
    if not all(np.isfinite(part).all() for part in (stored, stored_bias) if part is not None):
        raise Refused(f"the fused weights do not fit into {kind}")
    copied = stored is not None and set_values(scope, node, weight.index, stored)
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


def added_by(layer: Layer, add: NodeProto) -> Floats:
    """The constant that a node combines with the layer's output, ``(channels,)`` or ``(1,)``.

    Raises:
        Refused: It is not constant, or has other values than one for all or one a channel.
    """
    constant = fixed(layer.scope, next(n for n in add.input if n != layer.node.output[0]))
    channels, spatial = layer.bias.size, len(layer.weight.constant.shape) - 2
    values: Floats = constant.values.astype(np.float64).reshape(-1)
    one_each = (channels, *[1] * spatial)
    if constant.shape not in (one_each, (1, *one_each)) and (
        values.size != 1 or len(constant.shape) > spatial + 2
    ):
        raise Refused(f"the Add before it adds {list(constant.shape)}, not a value a channel")
    return values
