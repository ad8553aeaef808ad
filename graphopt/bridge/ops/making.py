"""Tensors made from little: ranges, constants, one-hot vectors, windows, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, positive
from graphopt.bridge.ops.table import op
from graphopt.bridge.tensors import dtype_of

_LIKE_INPUT = 0


def _type(dtype: int, x: Tensor) -> torch.dtype:
    return x.dtype if dtype == _LIKE_INPUT else dtype_of(dtype)


@op("ConstantOfShape", 9, 20, 21, 23, 24, 25, host=(0,))
def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """ConstantOfShape-25: float zeros without a value."""
    filled = torch.zeros(1) if value is None else value
    return filled.reshape(()).to(shape.device).expand(dims(shape))


@op("Range", 11, 27, host=(0, 1, 2))
def range_(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:  # noqa: ARG001
    """Range-27."""
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(0, math.ceil((last - first) / step))
    made = first + step * torch.arange(count, device=start.device, dtype=torch.float64)
    if not start.dtype.is_floating_point:
        made = int(first) + int(step) * torch.arange(count, device=start.device)
    return made.to(start.dtype)


@op("EyeLike", 9, 22, reads_shapes=True)
def eye_like(x: Tensor, *, dtype: int = _LIKE_INPUT, k: int = 0) -> Tensor:
    """EyeLike-22; the result lies on the CPU."""
    rows, columns = x.shape
    places = torch.arange(columns) - torch.arange(rows)[:, None]
    return (places == k).to(_type(dtype, x))


@op("OneHot", 9, 11, 28, host=(1,))
def one_hot(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """OneHot-11: indices out of range give a row of off-values."""
    count = int(depth.item())
    axis = positive(axis, indices.dim() + 1)
    wanted = indices.long()
    wanted = torch.where(wanted < 0, wanted + count, wanted).unsqueeze(axis)
    shape = [1] * wanted.dim()
    shape[axis] = count
    hot = wanted == torch.arange(count, device=indices.device).reshape(shape)
    return torch.where(hot, values[1], values[0])


@op("MelWeightMatrix", 17, host=(0, 1, 2, 3, 4))
def mel_weight_matrix(
    num_mel_bins: Tensor,
    dft_length: Tensor,
    sample_rate: Tensor,
    lower_edge_hertz: Tensor,
    upper_edge_hertz: Tensor,
    *,
    output_datatype: int = 1,
) -> Tensor:
    """MelWeightMatrix-17: triangles between neighbouring frequencies of the mel scale."""
    bins, length, rate = int(num_mel_bins), int(dft_length), int(sample_rate)
    edges = [2595 * math.log10(1 + float(f) / 700) for f in (lower_edge_hertz, upper_edge_hertz)]
    step = (edges[1] - edges[0]) / (bins + 2)
    hertz = 700 * (10 ** ((edges[0] + step * np.arange(bins + 2)) / 2595) - 1)
    corners = ((length + 1) * hertz // rate).astype(np.int64)
    made = np.zeros((length // 2 + 1, bins))
    for i, (low, middle, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        if middle == low:
            made[middle, i] = 1
        for row in range(low, middle + 1) if middle > low else ():
            made[row, i] = (row - low) / (middle - low)
        for row in range(middle, high) if high > middle else ():
            made[row, i] = (high - row) / (high - middle)
    return torch.from_numpy(made).to(dtype_of(output_datatype))


def _window(size: Tensor, output_datatype: int, periodic: int, weights: Sequence[float]) -> Tensor:
    """A sum of cosines, ``weights[k] * cos(2 pi k n / N)``."""
    count = int(size.item())
    span = count if periodic else count - 1
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64) / span
    made = sum(weight * torch.cos(k * angle) for k, weight in enumerate(weights))
    return torch.as_tensor(made).to(dtype_of(output_datatype))


@op("HannWindow", 17, host=(0,))
def hann_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """HannWindow-17."""
    return _window(size, output_datatype, periodic, (0.5, -0.5))


@op("HammingWindow", 17, host=(0,))
def hamming_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """HammingWindow-17."""
    return _window(size, output_datatype, periodic, (25 / 46, -21 / 46))


@op("BlackmanWindow", 17, host=(0,))
def blackman_window(size: Tensor, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """BlackmanWindow-17."""
    return _window(size, output_datatype, periodic, (0.42, -0.5, 0.08))


@op("RandomNormal", 1, 22, random=True)
def random_normal(
    *, shape: Sequence[int], dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float = 0
) -> Tensor:
    """RandomNormal-22; torch's generator is the caller's to seed."""
    del seed
    return (mean + scale * torch.randn(list(shape))).to(dtype_of(dtype))


@op("RandomNormalLike", 1, 22, random=True)
def random_normal_like(
    x: Tensor, *, dtype: int = _LIKE_INPUT, mean: float = 0.0, scale: float = 1.0, seed: float = 0
) -> Tensor:
    """RandomNormalLike-22."""
    del seed
    return (mean + scale * torch.randn(x.shape, device=x.device)).to(_type(dtype, x))


@op("RandomUniform", 1, 22, random=True)
def random_uniform(
    *, shape: Sequence[int], dtype: int = 1, high: float = 1.0, low: float = 0.0, seed: float = 0
) -> Tensor:
    """RandomUniform-22."""
    del seed
    return (low + (high - low) * torch.rand(list(shape))).to(dtype_of(dtype))


@op("RandomUniformLike", 1, 22, random=True)
def random_uniform_like(
    x: Tensor, *, dtype: int = _LIKE_INPUT, high: float = 1.0, low: float = 0.0, seed: float = 0
) -> Tensor:
    """RandomUniformLike-22."""
    del seed
    return (low + (high - low) * torch.rand(x.shape, device=x.device)).to(_type(dtype, x))


@op("Bernoulli", 15, 22, random=True)
def bernoulli(x: Tensor, *, dtype: int = _LIKE_INPUT, seed: float = 0) -> Tensor:
    """Bernoulli-22."""
    del seed
    return torch.bernoulli(x).to(_type(dtype, x))


@op("Multinomial", 7, 22, random=True)
def multinomial(x: Tensor, *, dtype: int = 6, sample_size: int = 1, seed: float = 0) -> Tensor:
    """Multinomial-22: ``x`` holds logarithms of the shares."""
    del seed
    shares = functional.softmax(x, -1)
    return torch.multinomial(shares, sample_size, replacement=True).to(dtype_of(dtype))
