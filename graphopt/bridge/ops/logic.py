"""Comparisons, logic on booleans and bits, choices, and changes of type."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import Tensor

from graphopt.bridge.ops.table import op
from graphopt.bridge.tensors import SUB_BYTE, dtype_of

op("And", 7)(torch.logical_and)
op("Or", 7)(torch.logical_or)
op("Xor", 7)(torch.logical_xor)
op("Not", 1)(torch.logical_not)
op("Equal", 7, 11, 13, 19)(torch.eq)
op("Greater", 7, 9, 13)(torch.gt)
op("GreaterOrEqual", 12, 16)(torch.ge)
op("Less", 7, 9, 13)(torch.lt)
op("LessOrEqual", 12, 16)(torch.le)
op("BitwiseAnd", 18)(torch.bitwise_and)
op("BitwiseOr", 18)(torch.bitwise_or)
op("BitwiseXor", 18)(torch.bitwise_xor)
op("BitwiseNot", 18)(torch.bitwise_not)
op("IsNaN", 9, 13, 20)(torch.isnan)
op("Where", 9, 16)(torch.where)

_SATURATING = (
    TensorProto.FLOAT8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ,
    TensorProto.FLOAT8E5M2,
    TensorProto.FLOAT8E5M2FNUZ,
)


@op("IsInf", 10, 20)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """IsInf-20."""
    found = torch.zeros_like(x, dtype=torch.bool)
    if detect_negative:
        found = found | torch.isneginf(x)
    if detect_positive:
        found = found | torch.isposinf(x)
    return found


@op("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(x: Tensor, *, to: int, saturate: int = 1, round_mode: str = "up") -> Tensor:  # noqa: ARG001
    """Cast-25; integers below eight bits are held in eight, wrapped to their range."""
    dtype = dtype_of(to)
    if to in SUB_BYTE:
        low, high = SUB_BYTE[to]
        return ((x.to(torch.int64) - low) % (high - low + 1) + low).to(dtype)
    if to in _SATURATING and saturate:
        limit = torch.finfo(dtype).max
        return torch.clamp(x, -limit, limit).to(dtype)
    return x.to(dtype)


@op("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(x: Tensor, target: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:  # noqa: ARG001
    """CastLike-25."""
    return x.to(target.dtype)


@op("BitCast", 26)
def bit_cast(x: Tensor, *, to: int) -> Tensor:
    """BitCast-26."""
    return x.contiguous().view(dtype_of(to))
