"""Pooling, over windows and over everything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, same_pads
from graphopt.bridge.ops.convolution import pad_spatial
from graphopt.bridge.ops.table import op

_MAX = (None, functional.max_pool1d, functional.max_pool2d, functional.max_pool3d)
_AVERAGE = (None, functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d)
_SUM = (None, torch.conv1d, torch.conv2d, torch.conv3d)


@dataclass(frozen=True)
class _Windows:
    """Where the windows of a pooling lie.

    Attributes:
        kernel: Size of a window, its holes not counted.
        strides: Steps from window to window.
        dilations: Steps inside a window.
        pads: Begins, then ends, as the node says.
        sizes: Spatial shape of the output.
        reach: Begins, then ends, that make the last window fit exactly; may be negative.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]
    sizes: list[int]
    reach: list[int]

    @property
    def plain(self) -> bool:
        """Whether torch's own pooling gives the same: even pads, at most half a window."""
        rank = len(self.kernel)
        even = self.pads[:rank] == self.pads[rank:]
        half = all(2 * p <= k for p, k in zip(self.pads, self.kernel, strict=False))
        ends_within = all(r <= p for r, p in zip(self.reach[rank:], self.pads[rank:], strict=True))
        return even and half and ends_within


def _windows(
    shape: Sequence[int],
    kernel: Sequence[int],
    auto_pad: str,
    ceil_mode: int,
    dilations: Sequence[int] | None,
    pads: Sequence[int] | None,
    strides: Sequence[int] | None,
) -> _Windows:
    """The windows over a spatial ``shape``; with ``ceil_mode`` each starts inside or before it."""
    rank = len(kernel)
    strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
    if auto_pad != "NOTSET":
        pads = same_pads(auto_pad, shape, kernel, strides, dilations)
    pads = list(pads or [0] * (2 * rank))
    sizes, ends = [], []
    for i, size in enumerate(shape):
        covered = dilations[i] * (kernel[i] - 1) + 1
        free = size + pads[i] + pads[rank + i] - covered
        count = (math.ceil if ceil_mode else math.floor)(free / strides[i]) + 1
        if ceil_mode and (count - 1) * strides[i] >= size + pads[i]:
            count -= 1
        sizes.append(count)
        ends.append((count - 1) * strides[i] + covered - size - pads[i])
    return _Windows(list(kernel), strides, dilations, pads, sizes, pads[:rank] + ends)


@op("MaxPool", 1, 8, 10, 11, 12, 22)
def max_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """MaxPool-22; the places count over the whole tensor."""
    w = _windows(x.shape[2:], kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
    rank = len(w.kernel)
    pool = _MAX[rank]
    assert pool is not None
    if w.plain and outputs == 1 and x.dtype.is_floating_point:
        return torch.as_tensor(pool(x, w.kernel, w.strides, w.pads[:rank], w.dilations))
    padded = pad_spatial(x if x.dtype.is_floating_point else x.float(), w.reach, -math.inf)
    y, places = pool(padded, w.kernel, w.strides, 0, w.dilations, return_indices=True)
    if outputs == 1:
        return y.to(x.dtype)
    return y.to(x.dtype), _whole_tensor(places, padded.shape, x.shape, w.reach, storage_order)


def _whole_tensor(
    places: Tensor,
    padded: Sequence[int],
    shape: Sequence[int],
    reach: Sequence[int],
    storage_order: int,
) -> Tensor:
    """Places in one padded plane as places in the whole tensor; columns first if asked."""
    coordinates: list[Tensor] = []
    for axis in reversed(range(2, len(shape))):
        coordinates.insert(0, places % padded[axis] - reach[axis - 2])
        places = places // padded[axis]
    order = list(range(len(coordinates)))
    flat = torch.zeros_like(places)
    for axis in reversed(order) if storage_order else order:
        flat = flat * shape[axis + 2] + coordinates[axis]
    planes = torch.arange(shape[0] * shape[1], device=places.device) * math.prod(shape[2:])
    return flat + planes.reshape([shape[0], shape[1]] + [1] * len(order))


def _sums(x: Tensor, w: _Windows) -> Tensor:
    """The sum of each window, zeros beyond the edges: a convolution with ones."""
    convolve = _SUM[len(w.kernel)]
    assert convolve is not None
    planes = pad_spatial(x, w.reach).reshape(
        -1, 1, *(s + w.reach[i] + w.reach[len(w.kernel) + i] for i, s in enumerate(x.shape[2:]))
    )
    ones = torch.ones([1, 1, *w.kernel], dtype=x.dtype, device=x.device)
    sums = convolve(planes, ones, None, w.strides, 0, w.dilations)
    return sums.reshape(*x.shape[:2], *w.sizes)


@op("AveragePool", 7, 10, 11, 19, 22)
def average_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """AveragePool-22: pads count only if asked, what ``ceil_mode`` adds never does."""
    w = _windows(x.shape[2:], kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
    rank = len(w.kernel)
    pool = _AVERAGE[rank]
    if w.plain and set(w.dilations) == {1}:
        assert pool is not None
        return torch.as_tensor(
            pool(x, w.kernel, w.strides, w.pads[:rank], count_include_pad=bool(count_include_pad))
        )
    counted = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype, device=x.device)
    if count_include_pad:
        counted = pad_spatial(counted, w.pads, 1.0)
        ends = [r - p for r, p in zip(w.reach[rank:], w.pads[rank:], strict=True)]
        outer = _Windows(w.kernel, w.strides, w.dilations, w.pads, w.sizes, [0] * rank + ends)
        return _sums(x, w) / _sums(counted, outer)
    return _sums(x, w) / _sums(counted, w)


@op("LpPool", 2, 11, 18, 22)
def lp_pool(
    x: Tensor,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """LpPool-22."""
    w = _windows(x.shape[2:], kernel_shape, auto_pad, ceil_mode, dilations, pads, strides)
    return _sums(x.abs() ** p, w) ** (1 / p)


def _spatial(x: Tensor) -> list[int]:
    return list(range(2, x.dim()))


@op("GlobalAveragePool", 1, 22)
def global_average_pool(x: Tensor) -> Tensor:
    """GlobalAveragePool-22."""
    return x.mean(_spatial(x), keepdim=True)


@op("GlobalMaxPool", 1, 22)
def global_max_pool(x: Tensor) -> Tensor:
    """GlobalMaxPool-22."""
    return x.amax(_spatial(x), keepdim=True)


@op("GlobalLpPool", 2, 22)
def global_lp_pool(x: Tensor, *, p: int = 2) -> Tensor:
    """GlobalLpPool-22."""
    return torch.as_tensor(torch.linalg.vector_norm(x, p, _spatial(x), keepdim=True))


@op("MaxUnpool", 9, 11, 22, host=(2,))
def max_unpool(
    x: Tensor,
    places: Tensor,
    output_shape: Tensor | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """MaxUnpool-22: the places count over a tensor of the smallest shape that fits."""
    rank = len(kernel_shape)
    strides, pads = strides or [1] * rank, pads or [0] * (2 * rank)
    fitting = [
        (size - 1) * strides[i] + kernel_shape[i] - pads[i] - pads[rank + i]
        for i, size in enumerate(x.shape[2:])
    ]
    inferred = [*x.shape[:2], *fitting]
    flat = torch.zeros(math.prod(inferred), dtype=x.dtype, device=x.device)
    y = flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(inferred)
    if output_shape is None:
        return y
    wanted = dims(output_shape)[2:]
    return pad_spatial(y, [0] * rank + [w - f for w, f in zip(wanted, fitting, strict=True)])
