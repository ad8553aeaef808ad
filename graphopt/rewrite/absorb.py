"""A layer with constant weights that takes up what an affine node beside it does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from graphopt.facts.layers import Layer, Refusal, layer
from graphopt.graph.graph import Constant, Scope
from graphopt.graph.node import is_op, set_attributes
from graphopt.rewrite.values import set_values

__all__ = ["absorber", "added_by", "fixed", "store"]

Floats = NDArray[np.float64]


def fixed(scope: Scope, node: NodeProto, name: str) -> Constant | Refusal:
    """A constant that no caller can replace; else why ``node``, which reads it, stays."""
    constant = scope.constant(name)
    if constant is None:
        return Refusal(node, "one of its parameters is computed at run time")
    if constant.overridable:
        reason = "one of its parameters is listed as an input; put freeze-initializers before"
        return Refusal(node, reason)
    return constant


def absorber(scope: Scope, node: NodeProto) -> tuple[Layer, Floats, Floats] | Refusal:
    """A layer with the weight and the bias that it really applies; see ``Layer.effective``.

    A layer whose weight or bias is not stored as floats is refused, and a MatMul that has its
    weight on the left or of another rank than 2.
    """
    one = layer(scope, node)
    if not isinstance(one, Layer):
        return one or Refusal(node, f"{node.op_type} has no weight")
    refusal = one.refusal("float")
    if refusal is None and is_op(node, "MatMul"):
        refusal = one.refusal("right", "matrix")
    if refusal is None and one.bias is not None and one.bias.form != "float":
        refusal = Refusal(node, "its bias is quantized already")
    effective = refusal or one.effective()
    return effective if isinstance(effective, Refusal) else (one, *effective)


def store(one: Layer, values: Floats | None, bias: Floats | None) -> str | Refusal:
    """Give the layer its new weight and, unless it is a MatMul, bias; a note where it was shared.

    What is None stays as it is. Where the type of the weight cannot hold the new values, nothing
    is edited.
    """
    scope, node, weight = one.scope, one.node, one.weight
    kind = weight.constant.values.dtype
    bias_kind = weight.dtype if one.bias is None else one.bias.constant.values.dtype
    with np.errstate(over="ignore"):
        stored = None if values is None else values.astype(kind)
        stored_bias = None if bias is None else bias.astype(bias_kind)
    for part in (stored, stored_bias):
        if part is not None and not np.isfinite(part.astype(np.float64)).all():
            return Refusal(node, f"its new weights do not fit into {part.dtype}")
    copied = stored is not None and set_values(weight, stored)
    if stored_bias is not None and not is_op(node, "MatMul"):
        if one.bias is not None:
            set_values(one.bias, stored_bias)
        else:
            name = scope.add_constant(f"{weight.constant.origin}_bias", stored_bias)
            scope.set_input(node, 2, name)
    if is_op(node, "Gemm"):
        set_attributes(node, drop=("alpha", "beta"))
    return " (its weight is shared: copied)" if copied else ""


def added_by(one: Layer, add: NodeProto) -> Floats | Refusal:
    """The constant that a node combines with the layer's output, ``(channels,)`` or ``(1,)``."""
    name = next(n for n in add.input if n != one.node.output[0])
    constant = fixed(one.scope, add, name)
    if isinstance(constant, Refusal):
        return constant
    spatial = len(one.weight.constant.shape) - 2
    values: Floats = constant.values.astype(np.float64).reshape(-1)
    one_each = (one.channels, *[1] * spatial)
    if constant.shape not in (one_each, (1, *one_each)) and (
        values.size != 1 or len(constant.shape) > spatial + 2
    ):
        reason = f"the Add before it adds {list(constant.shape)}, not a value a channel"
        return Refusal(add, reason)
    return values
