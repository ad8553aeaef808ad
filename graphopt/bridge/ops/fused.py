"""Operators of onnxruntime that its optimizer fuses others to; all are of version 1."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.activation import hard_sigmoid, leaky_relu
from graphopt.bridge.ops.convolution import conv
from graphopt.bridge.ops.linear import gemm
from graphopt.bridge.ops.normalization import layer_normalization, rms_normalization
from graphopt.bridge.ops.table import RUNTIME_DOMAIN, op

_DEFAULT_SLOPE = 0.01

op("LayerNormalization", 1)(layer_normalization)  # what onnxruntime writes below opset 17
op("SimplifiedLayerNormalization", 1)(rms_normalization)
op("SimplifiedLayerNormalization", 1, domain=RUNTIME_DOMAIN)(rms_normalization)


@op("Gelu", 1, domain=RUNTIME_DOMAIN)
def gelu_by_erf(x: Tensor) -> Tensor:
    """Gelu as it is defined: x times the normal distribution function."""
    return functional.gelu(x)


@op("BiasGelu", 1, domain=RUNTIME_DOMAIN)
def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of a sum."""
    return functional.gelu(x + bias)


@op("FastGelu", 1, domain=RUNTIME_DOMAIN)
def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by tanh."""
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@op("QuickGelu", 1, domain=RUNTIME_DOMAIN)
def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """Gelu by a sigmoid."""
    return x * torch.sigmoid(alpha * x)


@op("GatherBlockQuantized", 1, domain=RUNTIME_DOMAIN)
def gather_block_quantized(
    codes: Tensor,
    indices: Tensor,
    scales: Tensor,
    zero_points: Tensor | None = None,
    *,
    bits: int = 4,
    block_size: int = 128,
    gather_axis: int = 0,
    quantize_axis: int = 1,
) -> Tensor:
    """Rows of a matrix of codes, several to a byte, as floats; no gradient passes to the codes.

    Raises:
        ValueError: It is no matrix of which rows are looked up, or each code has a byte.
    """
    plain = codes.dim() == 2 and gather_axis == 0 and quantize_axis in (1, -1)
    if not plain or codes.dtype != torch.uint8 or bits not in (2, 4):
        raise ValueError("only rows of a matrix of packed codes of 2 or 4 bits are read")

    def unpacked(values: Tensor) -> Tensor:
        parts = [(values >> (bits * at)) & ((1 << bits) - 1) for at in range(8 // bits)]
        return torch.stack(parts, -1).flatten(-2)

    rows = indices.long()
    steps = unpacked(codes[rows]).to(scales.dtype)
    blocks = scales[rows]
    if zero_points is None:
        middle = torch.full_like(blocks, 1 << (bits - 1))
    else:
        middle = unpacked(zero_points[rows])[..., : blocks.shape[-1]].to(scales.dtype)
    length = steps.shape[-1]
    spread = [each.repeat_interleave(block_size, -1)[..., :length] for each in (middle, blocks)]
    return (steps - spread[0]) * spread[1]


@op("FusedMatMul", 1, domain=RUNTIME_DOMAIN)
@op("TransposeMatMul", 1, domain=RUNTIME_DOMAIN)
def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's name
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Tensor:
    """A product of operands that are transposed before, times a number."""
    left, right = _turned(a, transA, transBatchA), _turned(b, transB, transBatchB)
    return alpha * torch.matmul(left, right)


def _turned(x: Tensor, last: int, batch: int) -> Tensor:
    """The first axis in front of the last one, and the last two exchanged, where asked."""
    if batch and x.dim() > 2:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if last and x.dim() > 1 else x


@op("FusedGemm", 1, domain=RUNTIME_DOMAIN)
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,  # noqa: ARG001 - of no activation that is fused
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803 - the attribute's name
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """Gemm and an activation."""
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    numbers = [each for each in (activation_alpha, activation_beta) if each is not None]
    return _activated(y, activation, numbers)


@op("FusedConv", 1, domain=RUNTIME_DOMAIN)
def fused_conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    z: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Conv, a sum and an activation."""
    y = conv(
        x,
        w,
        b,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return _activated(y if z is None else y + z, activation, activation_params)


def _activated(y: Tensor, activation: str, numbers: Sequence[float]) -> Tensor:
    """An activation by its name, with its attributes in order."""
    if activation == "LeakyRelu":
        return leaky_relu(y, alpha=numbers[0] if numbers else _DEFAULT_SLOPE)
    if activation == "HardSigmoid":
        return hard_sigmoid(y, **dict(zip(("alpha", "beta"), numbers, strict=False)))
    if activation == "Clip":
        low, high = numbers
        return y.clamp(low, high)
    plain = {"": torch.clone, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh}
    if activation not in plain:
        raise ValueError(f"activation {activation!r} is not supported in training")
    return plain[activation](y)


@op("SkipLayerNormalization", 1, domain=RUNTIME_DOMAIN)
def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    beta: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    outputs: int,
    epsilon: float = 1e-12,
) -> Tensor | tuple[Tensor | None, ...]:
    """LayerNormalization of a sum; the sum itself is the fourth output."""
    total = _sum(x, skip, bias)
    y = functional.layer_norm(total, gamma.shape, gamma, beta, epsilon)
    return y if outputs == 1 else (y, *_moments(total, epsilon), total)[:outputs]


@op("SkipSimplifiedLayerNormalization", 1, domain=RUNTIME_DOMAIN)
def skip_rms_normalization(
    x: Tensor,
    skip: Tensor,
    gamma: Tensor,
    bias: Tensor | None = None,
    *,
    outputs: int,
    epsilon: float = 1e-12,
) -> Tensor | tuple[Tensor | None, ...]:
    """RMSNormalization of a sum; the sum itself is the fourth output."""
    total = _sum(x, skip, bias)
    inverse = torch.rsqrt(total.square().mean(-1, keepdim=True) + epsilon)
    y = total * inverse * gamma
    return y if outputs == 1 else (y, torch.zeros_like(inverse), inverse, total)[:outputs]


def _sum(x: Tensor, skip: Tensor, bias: Tensor | None) -> Tensor:
    total = x + skip
    return total if bias is None else total + bias


def _moments(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    mean = x.mean(-1, keepdim=True)
    return mean, torch.rsqrt(x.var(-1, correction=0, keepdim=True) + epsilon)


@op("EmbedLayerNormalization", 1, domain=RUNTIME_DOMAIN)
def embed_layer_normalization(
    ids: Tensor,
    segments: Tensor | None,
    words: Tensor,
    places: Tensor,
    kinds: Tensor | None,
    gamma: Tensor,
    beta: Tensor,
    mask: Tensor | None = None,
    place_ids: Tensor | None = None,
    *,
    outputs: int,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,  # noqa: ARG001 - says no more than the mask does
) -> Tensor | tuple[Tensor, ...]:
    """LayerNormalization of the sum of three tables' rows; then the ones of the mask, the sum."""
    if place_ids is None:
        place_ids = torch.arange(ids.shape[1], device=ids.device)[None]
    total = words[ids.long()] + places[place_ids.long()]
    if segments is not None and kinds is not None:
        total = total + kinds[segments.long()]
    y = functional.layer_norm(total, gamma.shape, gamma, beta, epsilon)
    shown = ids.new_zeros(len(ids)) if mask is None else (mask == 1).sum(1)
    return y if outputs == 1 else (y, shown.to(torch.int32), total)[:outputs]
