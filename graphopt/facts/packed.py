"""Codes of which a file keeps several in a byte, as onnxruntime's own operators read them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts.operators import find
from graphopt.graph.graph import Constant, Scope, Use
from graphopt.graph.node import attribute
from graphopt.numerics.packing import unpack_rows

__all__ = ["PackedCodes", "packed_codes", "packed_dims"]

_BITS = 4  # what MatMulNBits and GatherBlockQuantized have where they do not say

PackedCodes = tuple[NDArray[np.uint8], NDArray[Any]]
"""Codes of the shape ``(rows, length)``, and their zero points, which broadcast to them."""


def packed_dims(constant: Constant) -> tuple[int, int] | None:
    """Rows of codes and how many are in each; None where each has a byte or more of its own."""
    use = _packing(constant)
    return None if use is None else _sides(use.node, constant)


def packed_codes(constant: Constant) -> PackedCodes | None:
    """The codes of a constant, unpacked; None where each has a byte or more of its own.

    Zero points that are left out lie in the middle. Computed ones and floats count as that too.
    """
    use = _packing(constant)
    if use is None:
        return None
    bits, block = _bits(use.node), attribute(use.node, "block_size", 0)
    rows, length = _sides(use.node, constant)
    codes = unpack_rows(constant.values.reshape(rows, -1), bits)[:, :length]
    zero = _zero_points(use.scope, use.node)
    if zero is None or block < 1:
        return codes, np.array(1 << (bits - 1))
    points = np.repeat(unpack_rows(zero.reshape(rows, -1), bits), block, axis=1)
    return codes, points[:, :length]


def _packing(constant: Constant) -> Use | None:
    """The first place that reads several codes out of each byte of a constant."""
    if constant.data_type != TensorProto.UINT8 or not constant.shape:
        return None
    for use in constant.scope.uses(constant.origin):
        row = find(use.node)
        if row is not None and row.packed == use.index and _bits(use.node) in (2, 4):
            return use
    return None


def _bits(node: NodeProto) -> int:
    return int(attribute(node, "bits", _BITS))


def _sides(node: NodeProto, constant: Constant) -> tuple[int, int]:
    """How many rows there are, and how many codes in each."""
    rows = max(1, constant.shape[0])
    held = math.prod(constant.shape) // rows * (8 // _bits(node))
    return rows, min(held, int(attribute(node, "K", held)))


def _zero_points(scope: Scope, node: NodeProto) -> NDArray[np.uint8] | None:
    if len(node.input) < 4 or not node.input[3]:
        return None
    constant = scope.constant(node.input[3])
    if constant is None or constant.data_type != TensorProto.UINT8:
        return None
    values: NDArray[np.uint8] = constant.values
    return values
