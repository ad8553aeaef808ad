"""Convolutions: their pads may be uneven, and may be said in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, same_pads, spread
from graphopt.bridge.ops.table import op

_CONV = (None, torch.conv1d, torch.conv2d, torch.conv3d)
_TRANSPOSED = (None, torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)


def pad_spatial(x: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """``x`` with its spatial axes padded, cut where negative; begins first, then ends."""
    rank = len(pads) // 2
    turned = [size for axis in reversed(range(rank)) for size in (pads[axis], pads[rank + axis])]
    return functional.pad(x, turned, value=value)


@op("Conv", 1, 11, 22)
def conv(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,  # noqa: ARG001 - the weight says it
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Conv-22, with one to three spatial axes."""
    rank = w.dim() - 2
    strides = strides or [1] * rank
    dilations = dilations or [1] * rank
    if auto_pad != "NOTSET":
        pads = same_pads(auto_pad, x.shape[2:], w.shape[2:], strides, dilations)
    pads = pads or [0] * (2 * rank)
    if pads[:rank] != pads[rank:]:
        x, pads = pad_spatial(x, pads), [0] * rank
    convolve = _CONV[rank]
    assert convolve is not None
    return convolve(x, w, b, strides, pads[:rank], dilations, group)


@op("ConvTranspose", 1, 11, 22)
def conv_transpose(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,  # noqa: ARG001 - the weight says it
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """ConvTranspose-22: the whole result, then the pads cut off it."""
    rank = w.dim() - 2
    strides = strides or [1] * rank
    dilations = dilations or [1] * rank
    extra = output_padding or [0] * rank
    transpose = _TRANSPOSED[rank]
    assert transpose is not None
    whole = transpose(x, w, None, strides, [0] * rank, [0] * rank, group, dilations)
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [size * stride for size, stride in zip(x.shape[2:], strides, strict=True)]
    if output_shape is not None:
        wanted = output_shape[-rank:]
        cut = [
            size + more - want
            for size, more, want in zip(whole.shape[2:], extra, wanted, strict=True)
        ]
        small = [total // 2 for total in cut]
        large = [total - half for total, half in zip(cut, small, strict=True)]
        pads = [*small, *large] if auto_pad == "SAME_UPPER" else [*large, *small]
    pads = pads or [0] * (2 * rank)
    ends = [more - pad for more, pad in zip(extra, pads[rank:], strict=True)]
    y = pad_spatial(whole, [-pad for pad in pads[:rank]] + ends)
    return y if b is None else y + spread(b, 1, y.dim())


@op("DeformConv", 19, 22)
def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,  # noqa: ARG001 - the weight says it
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """DeformConv-22 with two spatial axes: sample at the moved places, then multiply."""
    count, channels, height, width = x.shape
    out, _, kh, kw = w.shape
    oh, ow = offset.shape[2:]
    pads, strides, dilations = pads or [0] * 4, strides or [1, 1], dilations or [1, 1]
    moved = offset.reshape(count * offset_group, kh, kw, 2, oh, ow)
    rows = _places(oh, strides[0], pads[0], kh, dilations[0], x)[:, None, :, None]
    columns = _places(ow, strides[1], pads[1], kw, dilations[1], x)[None, :, None, :]
    vertical = (2 * (moved[:, :, :, 0] + rows) + 1) / height - 1
    horizontal = (2 * (moved[:, :, :, 1] + columns) + 1) / width - 1
    grid = torch.stack([horizontal, vertical], -1).reshape(count * offset_group, -1, ow, 2)
    source = x.reshape(count * offset_group, channels // offset_group, height, width)
    samples = functional.grid_sample(source, grid, align_corners=False)
    samples = samples.reshape(count, offset_group, -1, kh * kw, oh, ow)
    if mask is not None:
        samples = samples * mask.reshape(count, offset_group, 1, kh * kw, oh, ow)
    samples = samples.reshape(count, group, -1, oh * ow)
    y = w.reshape(group, out // group, -1) @ samples
    y = y.reshape(count, out, oh, ow)
    return y if b is None else y + spread(b, 1, 4)


def _places(size: int, stride: int, pad: int, kernel: int, dilation: int, like: Tensor) -> Tensor:
    """Coordinates ``(kernel, size)`` in the input that each output place reads without offsets."""
    starts = torch.arange(size, device=like.device, dtype=like.dtype) * stride - pad
    steps = torch.arange(kernel, device=like.device, dtype=like.dtype) * dilation
    return steps[:, None] + starts


@op("CausalConvWithState", 27)
def causal_conv_with_state(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    past: Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """CausalConvWithState-27: depthwise over what came before, and the end of it to keep."""
    before = w.shape[2] - 1
    padded = functional.pad(x, [before, 0]) if past is None else torch.cat([past, x], 2)
    y = torch.conv1d(padded, w, b, groups=x.shape[1])
    if activation in ("silu", "swish"):
        y = functional.silu(y)
    return y, padded[:, :, padded.shape[2] - before :]


@op("Col2Im", 18, host=(1, 2))
def col2im(
    x: Tensor,
    image_shape: Tensor,
    block_shape: Tensor,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Col2Im-18: a transposed convolution with kernels of a single one."""
    image, block = dims(image_shape), dims(block_shape)
    rank, taps = len(image), math.prod(block)
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    pads = pads or [0] * (2 * rank)
    spans, extra = [], []
    for i, size in enumerate(image):
        free = size + pads[i] + pads[rank + i] - dilations[i] * (block[i] - 1) - 1
        spans.append(free // strides[i] + 1)
        extra.append(free % strides[i])
    return conv_transpose(
        x.reshape(-1, taps, *spans),
        torch.eye(taps, dtype=x.dtype, device=x.device).reshape(taps, 1, *block),
        dilations=dilations,
        output_padding=extra,
        pads=pads,
        strides=strides,
    ).reshape(x.shape[0], -1, *image)
