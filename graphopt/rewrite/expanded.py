"""Codes that a file has for a weight, in the form that a runtime expands once, as it loads."""

from __future__ import annotations

import numpy as np

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
    replaced = node.input[index]
    stored = codes.stored or home.add_constant(f"{name}_turned", codes.values)
    factor = home.add_constant(f"{name}_factor", _broadcast(codes))
    axis = picked_axis(scope, node, index)
    picked = None if axis is None else axis % codes.values.ndim
    if picked is not None and codes.axis in (None, picked):
        qdq.pick_entries(scope, node, stored, factor)
    else:
        scope.set_input(node, index, qdq.expand(scope, name, stored, factor, before=node))
    drop_unread(scope, [replaced])
    return True


def _broadcast(codes: GivenCodes) -> np.ndarray:
    """The scales in a shape that broadcasts to the codes."""
    if codes.axis is None:
        return codes.scale
    return codes.scale.reshape([-1 if at == codes.axis else 1 for at in range(codes.values.ndim)])
