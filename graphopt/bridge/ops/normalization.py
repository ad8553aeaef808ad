"""Normalizations and Dropout: what may act differently while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import accumulating, positive, scalar
from graphopt.bridge.ops.table import TrainingSettings, op
from graphopt.bridge.tensors import dtype_of


@op("BatchNormalization", 7, 9, 14, 15)
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    settings: TrainingSettings,
    outputs: int,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
    training_mode: int = 0,
) -> Tensor | tuple[Tensor, ...]:
    """BatchNormalization-15; statistics of the batch if the file or the caller wants them.

    While training with batch statistics, ``mean`` and ``variance`` move in place, as a running
    mean with ONNX's momentum and torch's unbiased variance.
    """
    if not spatial:
        raise ValueError("statistics for each pixel (spatial=0) are not supported")
    if training_mode:
        return _training_mode(x, scale, b, mean, variance, epsilon, momentum)[:outputs]
    batch = settings.training and settings.batch_norm == "batch"
    y = functional.batch_norm(x, mean, variance, scale, b, batch, 1 - momentum, epsilon)
    return y if outputs == 1 else (y, mean, variance, mean, variance)[:outputs]


def _training_mode(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    momentum: float,
) -> tuple[Tensor, ...]:
    """Batch statistics, and the running ones as further outputs (variance of the population)."""
    axes = [0, *range(2, x.dim())]
    now = x.mean(axes)
    spread_now = x.var(axes, correction=0)
    y = functional.batch_norm(x, None, None, scale, b, training=True, eps=epsilon)
    running = mean * momentum + now * (1 - momentum)
    return y, running, variance * momentum + spread_now * (1 - momentum), now, spread_now


@op("InstanceNormalization", 6, 22)
def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-5) -> Tensor:
    """InstanceNormalization-22."""
    return functional.instance_norm(x, weight=scale, bias=b, eps=epsilon)


@op("LayerNormalization", 17)
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
    outputs: int,
) -> Tensor | tuple[Tensor, ...]:
    """LayerNormalization-17, with mean and 1 / deviation where the node names them."""
    axis = positive(axis, x.dim())
    shape = x.shape[axis:]
    if outputs == 1 and scale.shape == shape and (b is None or b.shape == shape):
        return functional.layer_norm(x, shape, scale, b, epsilon)
    axes = list(range(axis, x.dim()))
    stashed = x.to(dtype_of(stash_type))
    mean = stashed.mean(axes, keepdim=True)
    inverse = torch.rsqrt(stashed.var(axes, correction=0, keepdim=True) + epsilon)
    y = ((stashed - mean) * inverse).to(x.dtype) * scale
    return (y if b is None else y + b, mean, inverse)[:outputs]


@op("RMSNormalization", 23)
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> Tensor:
    """RMSNormalization-23."""
    axes = list(range(positive(axis, x.dim()), x.dim()))
    stashed = x.to(dtype_of(stash_type))
    inverse = torch.rsqrt(stashed.square().mean(axes, keepdim=True) + epsilon)
    return (stashed * inverse).to(x.dtype) * scale


@op("GroupNormalization", 21)
def group_normalization(
    x: Tensor,
    scale: Tensor,
    bias: Tensor,
    *,
    num_groups: int,
    epsilon: float = 1e-5,
    stash_type: int = 1,  # noqa: ARG001 - torch computes half precision in float32
) -> Tensor:
    """GroupNormalization-21: scale and bias for each channel."""
    return functional.group_norm(x, num_groups, scale, bias, epsilon)


@op("GroupNormalization", 18)
def group_normalization_18(
    x: Tensor, scale: Tensor, bias: Tensor, *, num_groups: int, epsilon: float = 1e-5
) -> Tensor:
    """GroupNormalization-18: scale and bias for each group."""
    each = x.shape[1] // num_groups
    return functional.group_norm(
        x, num_groups, scale.repeat_interleave(each), bias.repeat_interleave(each), epsilon
    )


@op("LRN", 1, 13)
def lrn(
    x: Tensor, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0
) -> Tensor:
    """LRN-13: over a window of ``size`` channels."""
    before = (size - 1) // 2
    pads = [0, 0] * (x.dim() - 2) + [before, size - 1 - before]
    squares = functional.pad(x.square(), pads).unfold(1, size, 1).sum(-1)
    return x / (bias + alpha / size * squares) ** beta


@op("LpNormalization", 1, 22)
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """LpNormalization-22: a vector of zeros stays one."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.as_tensor(x / torch.where(norm == 0, torch.ones_like(norm), norm))


@op("MeanVarianceNormalization", 9, 13)
def mean_variance_normalization(x: Tensor, *, axes: Sequence[int] = (0, 2, 3)) -> Tensor:
    """MeanVarianceNormalization-13."""
    axes = list(axes)
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


@op("Dropout", 12, 13, 22, host=(1,), random=True)
def dropout(
    x: Tensor,
    ratio: Tensor | None = None,
    training_mode: Tensor | None = None,  # noqa: ARG001 - the caller says whether it trains
    *,
    settings: TrainingSettings,
    outputs: int,
    seed: int = 0,  # noqa: ARG001 - torch's generator is the caller's to seed
) -> Tensor | tuple[Tensor, Tensor]:
    """Dropout-22; drops only while training, and only if the caller wants it."""
    return _dropped(x, scalar(ratio, 0.5), settings, outputs, torch.bool)


@op("Dropout", 7, 10, random=True)
def dropout_10(
    x: Tensor, *, settings: TrainingSettings, outputs: int, version: int, ratio: float = 0.5
) -> Tensor | tuple[Tensor, Tensor]:
    """Dropout-10; before that the mask has the type of the data."""
    return _dropped(x, ratio, settings, outputs, torch.bool if version == 10 else x.dtype)


def _dropped(
    x: Tensor, ratio: float, settings: TrainingSettings, outputs: int, mask_type: torch.dtype
) -> Tensor | tuple[Tensor, Tensor]:
    active = settings.training and settings.dropout
    if outputs == 1:
        return functional.dropout(x, ratio, active)
    keep = torch.ones_like(x, dtype=torch.bool)
    if active:
        keep = torch.rand_like(x, dtype=accumulating(x.dtype)) >= ratio
        x = torch.where(keep, x / (1 - ratio), torch.zeros_like(x))
    return x, keep.to(mask_type)
