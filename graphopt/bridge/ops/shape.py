"""Shapes: read, changed, joined, cut, repeated and padded."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from graphopt.bridge.ops.arguments import dims, positive
from graphopt.bridge.ops.table import op


@op("Identity", 1, 13, 14, 16, 19, 21, 23, 24, 25)
def identity(x: Tensor) -> Tensor:
    """Identity-25."""
    return x


@op("Shape", 1, 13, 15, 19, 21, 23, 24, 25, reads_shapes=True)
def shape(x: Tensor, *, start: int = 0, end: int | None = None) -> Tensor:
    """Shape-25; the result lies on the CPU."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64)


@op("Size", 1, 13, 19, 21, 23, 24, 25, reads_shapes=True)
def size(x: Tensor) -> Tensor:
    """Size-25; the result lies on the CPU."""
    return torch.tensor(x.numel(), dtype=torch.int64)


@op("Reshape", 5, 13, 14, 19, 21, 23, 24, 25, host=(1,))
def reshape(x: Tensor, shape: Tensor, *, allowzero: int = 0) -> Tensor:
    """Reshape-25: a zero copies the size of the input unless ``allowzero``."""
    wanted = dims(shape)
    if not allowzero and 0 in wanted:
        wanted = [size or x.shape[axis] for axis, size in enumerate(wanted)]
    return x.reshape(wanted)


@op("Flatten", 1, 9, 11, 13, 21, 23, 24, 25)
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """Flatten-25: to a matrix."""
    axis = positive(axis, x.dim())
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("Transpose", 1, 13, 21, 23, 24, 25)
def transpose(x: Tensor, *, perm: Sequence[int] | None = None) -> Tensor:
    """Transpose-25: reversed without ``perm``."""
    return x.permute(list(perm) if perm is not None else list(reversed(range(x.dim()))))


@op("Squeeze", 13, 21, 23, 24, 25, host=(1,))
def squeeze(x: Tensor, axes: Tensor | None = None) -> Tensor:
    """Squeeze-25: every axis of size one without ``axes``."""
    return x.squeeze() if axes is None else squeeze_11(x, axes=dims(axes))


@op("Squeeze", 1, 11)
def squeeze_11(x: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """Squeeze-11: axes as an attribute."""
    if axes is None:
        return x.squeeze()
    gone = {positive(axis, x.dim()) for axis in axes}
    for axis in gone:
        if x.shape[axis] != 1:
            raise ValueError(f"axis {axis} has size {x.shape[axis]} and cannot be removed")
    return x.reshape([length for axis, length in enumerate(x.shape) if axis not in gone])


@op("Unsqueeze", 13, 21, 23, 24, 25, host=(1,))
def unsqueeze(x: Tensor, axes: Tensor) -> Tensor:
    """Unsqueeze-25."""
    return unsqueeze_11(x, axes=dims(axes))


@op("Unsqueeze", 1, 11)
def unsqueeze_11(x: Tensor, *, axes: Sequence[int]) -> Tensor:
    """Unsqueeze-11: axes as an attribute."""
    rank = x.dim() + len(axes)
    for axis in sorted(positive(axis, rank) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@op("Concat", 4, 11, 13)
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """Concat-13."""
    return torch.cat(inputs, axis)


@op("Split", 18, host=(1,))
def split(
    x: Tensor,
    sizes: Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    outputs: int,
) -> tuple[Tensor, ...]:
    """Split-18: without sizes into equal parts, the last one smaller."""
    parts = num_outputs or outputs
    if sizes is not None:
        return tuple(torch.split(x, dims(sizes), axis))
    each = -(-x.shape[axis] // parts)
    lengths = [each] * (parts - 1)
    return tuple(torch.split(x, [*lengths, x.shape[axis] - sum(lengths)], axis))


@op("Split", 13, host=(1,))
def split_13(
    x: Tensor, sizes: Tensor | None = None, *, axis: int = 0, outputs: int
) -> tuple[Tensor, ...]:
    """Split-13: without sizes into equal parts."""
    return split(x, sizes, axis=axis, outputs=outputs)


@op("Split", 2, 11)
def split_11(
    x: Tensor,
    *,
    split: Sequence[int] | None = None,
    axis: int = 0,
    outputs: int,
) -> tuple[Tensor, ...]:
    """Split-11: sizes as an attribute."""
    lengths = list(split) if split else [x.shape[axis] // outputs] * outputs
    return tuple(torch.split(x, lengths, axis))


@op("Expand", 8, 13, host=(1,))
def expand(x: Tensor, shape: Tensor) -> Tensor:
    """Expand-13: broadcast both ways."""
    wanted = dims(shape)
    rank = max(len(wanted), x.dim())
    sizes = [1] * (rank - x.dim()) + list(x.shape)
    wanted = [1] * (rank - len(wanted)) + wanted
    return x.expand([a if b == 1 else b for a, b in zip(sizes, wanted, strict=True)])


@op("Tile", 6, 13, host=(1,))
def tile(x: Tensor, repeats: Tensor) -> Tensor:
    """Tile-13."""
    return x.repeat(dims(repeats))


@op("Pad", 11, 13, 18, 19, 21, 23, 24, 25, host=(1, 2, 3))
def pad(
    x: Tensor,
    pads: Tensor,
    value: Tensor | None = None,
    axes: Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """Pad-25: negative pads cut."""
    named = range(x.dim()) if axes is None else dims(axes)
    return _padded(x, dims(pads), list(named), mode, value)


@op("Pad", 2)
def pad_2(x: Tensor, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0) -> Tensor:
    """Pad-2: pads and value as attributes."""
    return _padded(x, pads, list(range(x.dim())), mode, value)


def _padded(
    x: Tensor, pads: Sequence[int], axes: list[int], mode: str, value: Tensor | float | None
) -> Tensor:
    """``x`` padded along ``axes``, begins before ends; the value keeps its gradient."""
    begins, ends = [0] * x.dim(), [0] * x.dim()
    for i, axis in enumerate(axes):
        begins[axis], ends[axis] = pads[i], pads[len(axes) + i]
    if mode == "constant":
        turned = [n for axis in reversed(range(x.dim())) for n in (begins[axis], ends[axis])]
        if isinstance(value, Tensor) and value.requires_grad:
            inside = functional.pad(torch.ones_like(x, dtype=torch.bool), turned)
            return torch.where(inside, functional.pad(x, turned), value.reshape(()))
        filled = value.item() if isinstance(value, Tensor) else value
        return functional.pad(x, turned, value=filled)
    for axis in range(x.dim()):
        if begins[axis] or ends[axis]:
            x = x.index_select(axis, _reflected(x, axis, begins[axis], ends[axis], mode))
    return x


def _reflected(x: Tensor, axis: int, begin: int, end: int, mode: str) -> Tensor:
    """Which elements stand along a padded axis."""
    length = x.shape[axis]
    places = torch.arange(-begin, length + end, device=x.device)
    if mode == "edge":
        return places.clamp(0, length - 1)
    if mode == "wrap":
        return places % length
    period = max(1, 2 * (length - 1))
    places = places % period
    return torch.where(places < length, places, period - places)


@op("DepthToSpace", 1, 11, 13, 28)
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """DepthToSpace-13."""
    n, c, h, w = x.shape
    b, inner = blocksize, c // blocksize**2
    if mode == "DCR":
        y = x.reshape(n, b, b, inner, h, w).permute(0, 3, 4, 1, 5, 2)
    else:
        y = x.reshape(n, inner, b, b, h, w).permute(0, 1, 4, 2, 5, 3)
    return y.reshape(n, inner, h * b, w * b)


@op("SpaceToDepth", 1, 13, 28)
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """SpaceToDepth-28; before that there was the order DCR only."""
    n, c, h, w = x.shape
    b = blocksize
    blocks = x.reshape(n, c, h // b, b, w // b, b)
    y = blocks.permute(0, 3, 5, 1, 2, 4) if mode == "DCR" else blocks.permute(0, 1, 3, 5, 2, 4)
    return y.reshape(n, c * b * b, h // b, w // b)


@op("CenterCropPad", 18, host=(1,))
def center_crop_pad(x: Tensor, shape: Tensor, *, axes: Sequence[int] | None = None) -> Tensor:
    """CenterCropPad-18: the odd element is cut, or zero, at the end."""
    begins, ends = [0] * x.dim(), [0] * x.dim()
    for axis, wanted in zip(axes if axes is not None else range(x.dim()), dims(shape), strict=True):
        more = wanted - x.shape[axis]
        half = abs(more) // 2
        begins[axis] = half if more > 0 else -half
        ends[axis] = more - begins[axis]
    return _padded(x, begins + ends, list(range(x.dim())), "constant", None)
