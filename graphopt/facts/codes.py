"""Codes that a file has for a weight already, as the node that reads them sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto

from graphopt.facts.expansion import spread_over
from graphopt.facts.layers import Layer
from graphopt.facts.operands import Operand
from graphopt.facts.quantized import is_dequantized
from graphopt.graph.graph import Scope
from graphopt.graph.node import attribute, is_op

__all__ = ["GivenCodes", "given_codes", "stored_small"]

_MIDDLE = 128


@dataclass(frozen=True)
class GivenCodes:
    """A weight as 8-bit codes.

    Attributes:
        values: int8 or uint8, in the shape that the node reads.
        scale: float32, above zero: rank 0, or ``(channels,)`` along ``axis``.
        zero_point: Of the type of the codes and the shape of ``scale``.
        axis: Axis of the scales in what the node reads; None for one scale.
        stored: Name of the constant that holds these very values; None where they are turned or
            coded anew.
    """

    values: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int | None
    stored: str | None

    @property
    def symmetric(self) -> bool:
        """Whether they are int8 with zero point 0."""
        return self.values.dtype == np.int8 and not self.zero_point.any()


def given_codes(weight: Operand) -> GivenCodes | None:
    """The codes behind a DequantizeLinear, or behind Cast and Mul, with any Transpose done.

    uint8 codes around 128 are handed back as int8 around 0, which are the same numbers.

    Returns:
        None where a weight is stored otherwise, or its codes have not 8 bits, one scale for each
        block, zero points that a Sub takes off, or scales that are no float32 above zero.

    Raises:
        ModelError: A node between has constants that do not fit.
    """
    constant = weight.constant
    if weight.form not in ("dequantized", "expanded") or weight.order is None:
        return None
    centred = any(is_op(use.node, "Sub") for use in weight.path)
    if centred or constant.data_type not in (TensorProto.INT8, TensorProto.UINT8):
        return None
    values, turned = constant.values, False
    scale = zero = None
    for use in weight.path:
        node = use.node
        if is_op(node, "Transpose"):
            perm = attribute(node, "perm", []) or None
            values, turned = np.ascontiguousarray(values.transpose(perm)), True
            if scale is not None and scale.ndim:
                scale = scale.transpose(perm)
            if zero is not None and zero.ndim:
                zero = zero.transpose(perm)
        elif is_op(node, "DequantizeLinear", "Mul"):
            made = _scale(use.scope, node, use.index, values.shape)
            if scale is not None or made is None:
                return None
            scale, zero = made
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        return None
    along = [axis for axis, length in enumerate(scale.shape) if length > 1]
    if len(along) > 1:
        return None
    axis = along[0] if along else None
    shape = (-1,) if along else ()
    zeros = np.zeros((), values.dtype) if zero is None else zero.astype(values.dtype)
    zeros = np.broadcast_to(zeros, np.broadcast_shapes(zeros.shape, scale.shape))
    if zeros.shape != scale.shape:
        return None
    if values.dtype == np.uint8 and (zeros == _MIDDLE).all():
        values, turned = (values.astype(np.int16) - _MIDDLE).astype(np.int8), True
        zeros = np.zeros(zeros.shape, np.int8)
    stored = None if turned else constant.origin
    return GivenCodes(values, scale.reshape(shape), zeros.reshape(shape), axis, stored)


def _scale(
    scope: Scope, node: NodeProto, index: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[Any] | None] | None:
    """Scale and zero point of codes of that shape, both of their rank or of rank 0."""
    held = scope.constant(node.input[1 - index])
    if held is None or held.data_type != TensorProto.FLOAT:
        return None
    if is_op(node, "Mul"):
        scale = held.values
        if scale.size == 1:
            return scale.reshape(()), None
        if scale.ndim > len(shape):
            return None
        return scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape), None
    if attribute(node, "block_size", 0):
        return None
    point = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    try:
        zero = None if point is None else spread_over(node, point.values, shape)
        return spread_over(node, held.values, shape), zero
    except ValueError:
        return None


def stored_small(layer: Layer) -> bool:
    """Whether only the weight of a layer is stored as codes, and what it reads is float."""
    small = layer.weight.form in ("dequantized", "expanded", "codebook")
    return small and not is_dequantized(layer.scope, layer.data)
