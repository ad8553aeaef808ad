"""Codes that a file has for a weight, in the form that a runtime expands once, as it loads."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from graphopt.facts.codes import GivenCodes, given_codes
from graphopt.facts.layers import Layer, picked_axis
from graphopt.rewrite import qdq
from graphopt.rewrite.values import drop_unread

__all__ = ["expand_codes"]


def expand_codes(layer: Layer) -> bool:
    """Put Cast and Mul in place of the DequantizeLinear in front of a weight; the codes stay.

    A Gather or Slice reads the codes of a table and dequantizes only the entries that it picks.

    Returns:
        False, with nothing done, where the weight is no such codes, or their zero points are not 0.
    """
    if layer.weight.form != "dequantized":
        return False
    codes = given_codes(layer.weight)
    if codes is None or not codes.symmetric:
        return False
    scope, node, index = layer.scope, layer.node, layer.weight.index
    home, name = layer.weight.constant.scope, layer.weight.constant.origin
    replaced, order = node.input[index], layer.weight.order
    axis = codes.axis
    turned = None
    if codes.stored is None and order is not None and _shared(layer):
        turned, axis = order, None if axis is None else order[axis]
    stored = codes.stored
    if turned is not None:
        stored = name
    elif stored is None:
        stored = home.add_constant(f"{name}_turned", codes.values)
    factor = home.add_constant(f"{name}_factor", _broadcast(codes, axis))
    picked = picked_axis(scope, node, index)
    along = None if picked is None else picked % codes.values.ndim
    if turned is None and along is not None and codes.axis in (None, along):
        qdq.pick_entries(scope, node, stored, factor)
    else:
        floats = qdq.expand(scope, name, stored, factor, before=node)
        if turned is not None:
            output = f"{name}_transposed"
            floats = qdq.add_node(
                scope, "Transpose", [floats], output, before=node, perm=list(turned)
            )
        scope.set_input(node, index, floats)
    drop_unread(scope, [replaced])
    return True


def _shared(layer: Layer) -> bool:
    """Whether others read the codes of a weight too, which are int8 and need not be coded anew."""
    weight = layer.weight
    between = [(use.scope, use.node.output[0]) for use in weight.path]
    read = any(len(scope.uses(each)) > 1 for scope, each in between)
    read = read or len(weight.constant.scope.uses(weight.constant.origin)) > 1
    return read and weight.constant.data_type == TensorProto.INT8


def _broadcast(codes: GivenCodes, axis: int | None) -> np.ndarray:
    """The scales in a shape that broadcasts to codes with them along an axis."""
    if axis is None:
        return codes.scale
    return codes.scale.reshape([-1 if at == axis else 1 for at in range(codes.values.ndim)])
