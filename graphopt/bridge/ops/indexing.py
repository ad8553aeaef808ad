"""Elements picked by index, and put back by index."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, positive
from graphopt.bridge.ops.table import op

_REDUCE = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


@op("Gather", 1, 11, 13)
def gather(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """Gather-13; rows of a matrix as an embedding look-up."""
    size = x.shape[axis]
    indices = torch.where(indices < 0, indices + size, indices)
    if axis == 0 and x.dim() == 2 and x.dtype.is_floating_point:
        return functional.embedding(indices, x)
    axis = positive(axis, x.dim())
    picked = x.index_select(axis, indices.reshape(-1))
    return picked.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


@op("GatherElements", 11, 13)
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """GatherElements-13."""
    return torch.take_along_dim(_cut(x, indices, axis), _counted(x, indices, axis), axis)


def _counted(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Indices along ``axis`` as int64, counted from the front."""
    return torch.where(indices < 0, indices + x.shape[axis], indices).long()


def _cut(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """``x`` cut to the shape of ``indices`` along all other axes."""
    axis = positive(axis, x.dim())
    return x[tuple(slice(n if i != axis else None) for i, n in enumerate(indices.shape))]


@op("GatherND", 12, 13)
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """GatherND-13."""
    indices = indices.long()
    batch = [
        torch.arange(size, device=x.device).reshape(
            [-1 if i == axis else 1 for i in range(indices.dim() - 1)]
        )
        for axis, size in enumerate(x.shape[:batch_dims])
    ]
    return x[(*batch, *indices.unbind(-1))]


@op("GatherND", 11)
def gather_nd_11(x: Tensor, indices: Tensor) -> Tensor:
    """GatherND-11: without batch axes."""
    return gather_nd(x, indices)


@op("Scatter", 9, 11)
def scatter(x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0) -> Tensor:
    """Scatter-11."""
    return scatter_elements(x, indices, updates, axis=axis)


@op("ScatterElements", 11, 13, 16, 18)
def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """ScatterElements-18."""
    places = _counted(x, indices, axis)
    if reduction == "none":
        return x.scatter(axis, places, updates)
    return x.scatter_reduce(axis, places, updates, _REDUCE[reduction], include_self=True)


@op("ScatterND", 11, 13, 16, 18)
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """ScatterND-18: over flat places, so that every reduction has its gradient."""
    depth = indices.shape[-1]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=x.device)
    for axis in range(depth):
        index = indices[..., axis].long()
        flat = flat * x.shape[axis] + torch.where(index < 0, index + x.shape[axis], index)
    rest = x.shape[depth:]
    rows = x.reshape(x.shape[:depth].numel(), rest.numel())
    places = flat.reshape(-1, 1).expand(-1, rest.numel())
    values = updates.reshape(-1, rest.numel())
    return scatter_elements(rows, places, values, reduction=reduction).reshape(x.shape)


@op("TensorScatter", 24)
def tensor_scatter(
    past: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """TensorScatter-24: a piece written into each sample's cache at its own place."""
    axis = positive(axis, past.dim())
    steps = torch.arange(update.shape[axis], device=past.device)
    if write_indices is not None:
        steps = steps + write_indices.reshape(-1, 1)
    else:
        steps = steps.expand(past.shape[0], -1)
    if mode == "circular":
        steps = steps % past.shape[axis]
    shape = [1] * past.dim()
    shape[0], shape[axis] = steps.shape
    return past.scatter(axis, steps.reshape(shape).expand(update.shape), update)


@op("Slice", 10, 11, 13, host=(1, 2, 3, 4))
def slice_(
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    """Slice-13."""
    begins = dims(starts)
    named = list(range(len(begins))) if axes is None else dims(axes)
    strides = [1] * len(begins) if steps is None else dims(steps)
    for begin, end, axis, step in zip(begins, dims(ends), named, strides, strict=True):
        first, last, by = slice(begin, end, step).indices(x.shape[axis])
        if by > 0:
            x = x[(slice(None),) * positive(axis, x.dim()) + (slice(first, last, by),)]
        else:
            x = x.index_select(axis, torch.arange(first, last, by, device=x.device))
    return x


@op("Slice", 1)
def slice_1(
    x: Tensor, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> Tensor:
    """Slice-1: everything as attributes."""
    for begin, end, axis in zip(starts, ends, axes or range(len(starts)), strict=True):
        x = x[(slice(None),) * positive(axis, x.dim()) + (slice(begin, end),)]
    return x


@op("NonZero", 9, 13, by_data=True)
def non_zero(x: Tensor) -> Tensor:
    """NonZero-13."""
    return torch.nonzero(x).t()


@op("Compress", 9, 11, 28, by_data=True)
def compress(x: Tensor, condition: Tensor, *, axis: int | None = None) -> Tensor:
    """Compress-11."""
    kept = torch.nonzero(condition).reshape(-1)
    return x.reshape(-1)[kept] if axis is None else x.index_select(axis, kept)


@op("Unique", 11, 28, by_data=True)
def unique(
    x: Tensor,
    *,
    axis: int | None = None,
    sorted: int = 1,  # noqa: A002 - the attribute's name
    outputs: int,
) -> Tensor | tuple[Tensor, ...]:
    """Unique-11; unsorted means in the order of first appearance."""
    whole = x.reshape(-1) if axis is None else x
    along = 0 if axis is None else axis
    values, inverse, counts = torch.unique(
        whole, return_inverse=True, return_counts=True, dim=along
    )
    places = torch.arange(inverse.shape[0], device=x.device)
    first = torch.full_like(counts, inverse.shape[0]).scatter_reduce(
        0, inverse, places, "amin", include_self=True
    )
    if not sorted:
        order = first.argsort()
        values, first, counts = values.index_select(along, order), first[order], counts[order]
        inverse = order.argsort()[inverse]
    return (values, first, inverse, counts)[:outputs] if outputs > 1 else values


@op("ReverseSequence", 10, 28)
def reverse_sequence(
    x: Tensor, lengths: Tensor, *, batch_axis: int = 1, time_axis: int = 0
) -> Tensor:
    """ReverseSequence-10: the first ``lengths[b]`` steps of each sample the other way round."""
    steps = torch.arange(x.shape[time_axis], device=x.device)[:, None]
    places = torch.where(steps < lengths, lengths - 1 - steps, steps)
    places = places if batch_axis == 1 else places.t()
    shape = [*places.shape, *[1] * (x.dim() - 2)]
    return x.gather(time_axis, places.reshape(shape).expand(x.shape))


@op("Trilu", 14, host=(1,))
def trilu(x: Tensor, k: Tensor | None = None, *, upper: int = 1) -> Tensor:
    """Trilu-14."""
    diagonal = 0 if k is None else int(k.item())
    return torch.triu(x, diagonal) if upper else torch.tril(x, diagonal)
