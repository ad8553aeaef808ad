"""Quantization, and products of quantized tensors; what it does to gradients is training's matter.

Products of integers are summed in float64, which is exact for every layer that fits in memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from graphopt.bridge.ops.arguments import positive, spread
from graphopt.bridge.ops.convolution import conv
from graphopt.bridge.ops.table import op
from graphopt.bridge.tensors import SUB_BYTE, dtype_of

_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)


def fitted(values: Tensor, x: Tensor, axis: int, block_size: int) -> Tensor:
    """Scales or zero points shaped so that they broadcast over ``x``."""
    if values.numel() == 1 and values.dim() <= 1:
        return values.reshape(())
    axis = positive(axis, x.dim())
    if values.dim() == 1 and not block_size:
        return spread(values, axis, x.dim())
    return values.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])


@op("QuantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def quantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    input_types: tuple[int, ...] = (),
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Tensor:
    """QuantizeLinear-25: halves go to the even neighbour."""
    dtype = zero_point.dtype if zero_point is not None else dtype_of(output_dtype or 2)
    if precision:
        x, scale = x.to(dtype_of(precision)), scale.to(dtype_of(precision))
    scaled = x / fitted(scale, x, axis, block_size)
    if dtype in _FLOAT8:
        limit = torch.finfo(dtype).max
        return (scaled.clamp(-limit, limit) if saturate else scaled).to(dtype)
    whole = scaled.round()
    if zero_point is not None:
        whole = whole + fitted(zero_point, x, axis, block_size)
    limits = torch.iinfo(dtype)
    meant = input_types[2] if len(input_types) > 2 else output_dtype
    low, high = SUB_BYTE.get(meant or output_dtype, (limits.min, limits.max))
    return whole.clamp(low, high).to(dtype)


@op("DequantizeLinear", 10, 13, 19, 21, 23, 24, 25, 28)
def dequantize_linear(
    x: Tensor,
    scale: Tensor,
    zero_point: Tensor | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Tensor:
    """DequantizeLinear-25; the result has the type of the scale unless the node says another."""
    values = x.to(torch.float32)
    if zero_point is not None:
        values = values - fitted(zero_point, x, axis, block_size).to(torch.float32)
    dtype = dtype_of(output_dtype) if output_dtype else scale.dtype
    return (values * fitted(scale, x, axis, block_size)).to(dtype)


@op("DynamicQuantizeLinear", 11)
def dynamic_quantize_linear(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """DynamicQuantizeLinear-11."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    zero_point = (-low / scale).round().clamp(0, 255).to(torch.uint8)
    return quantize_linear(x, scale, zero_point), scale, zero_point


def _centred(x: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    """Integers minus their zero point, exact in float64."""
    values = x.to(torch.float64)
    if zero_point is None:
        return values
    if zero_point.dim() == 1 and zero_point.numel() > 1:
        return values - spread(zero_point, axis, x.dim())
    return values - zero_point


@op("MatMulInteger", 10)
def matmul_integer(
    a: Tensor, b: Tensor, a_zero_point: Tensor | None = None, b_zero_point: Tensor | None = None
) -> Tensor:
    """MatMulInteger-10."""
    rows = _centred(a, a_zero_point, a.dim() - 2)
    return (rows @ _centred(b, b_zero_point, b.dim() - 1)).to(torch.int32)


@op("ConvInteger", 10)
def conv_integer(
    x: Tensor,
    w: Tensor,
    x_zero_point: Tensor | None = None,
    w_zero_point: Tensor | None = None,
    **attributes: Any,
) -> Tensor:
    """ConvInteger-10: a Conv of what is above the zero points."""
    y = conv(_centred(x, x_zero_point, 1), _centred(w, w_zero_point, 0), **attributes)
    return y.to(torch.int32)


@op("QLinearConv", 10)
def qlinear_conv(
    x: Tensor,
    x_scale: Tensor,
    x_zero_point: Tensor,
    w: Tensor,
    w_scale: Tensor,
    w_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
    b: Tensor | None = None,
    **attributes: Any,
) -> Tensor:
    """QLinearConv-10; the bias counts in steps of x_scale * w_scale."""
    centred = _centred(x, x_zero_point, 1), _centred(w, w_zero_point, 0)
    sums = conv(*centred, None if b is None else b.to(torch.float64), **attributes)
    scale = x_scale * w_scale / y_scale
    scale = spread(scale, 1, x.dim()) if scale.dim() == 1 and scale.numel() > 1 else scale
    return _requantized(sums, scale, y_zero_point)


@op("QLinearMatMul", 10, 21)
def qlinear_matmul(
    a: Tensor,
    a_scale: Tensor,
    a_zero_point: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero_point: Tensor,
    y_scale: Tensor,
    y_zero_point: Tensor,
) -> Tensor:
    """QLinearMatMul-21."""
    rows = _centred(a, a_zero_point, a.dim() - 2)
    sums = rows @ _centred(b, b_zero_point, b.dim() - 1)
    if a_scale.dim() == 1 and a_scale.numel() > 1:
        a_scale = a_scale[:, None]
    return _requantized(sums, a_scale * b_scale / y_scale, y_zero_point)


def _requantized(sums: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    limits = torch.iinfo(zero_point.dtype)
    whole = (sums * scale).round() + zero_point
    return whole.clamp(limits.min, limits.max).to(zero_point.dtype)
