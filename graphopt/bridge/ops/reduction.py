"""Reductions over axes, and the places of the largest elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from graphopt.bridge.ops.arguments import dims
from graphopt.bridge.ops.table import op

_Axes = list[int]
_Reduction = Callable[[Tensor, _Axes, bool], Tensor]


def _l1(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return x.abs().sum(axes, keep, dtype=x.dtype)


def _l2(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    if not x.dtype.is_floating_point:
        return x.double().square().sum(axes, keep).sqrt().to(x.dtype)
    return torch.as_tensor(torch.linalg.vector_norm(x, 2, axes, keep))


def _log_sum(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return x.sum(axes, keep).log()


def _log_sum_exp(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keep)


def _mean(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    if not x.dtype.is_floating_point:
        return x.double().mean(axes, keep).trunc().to(x.dtype)
    return x.mean(axes, keep)


def _prod(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keep, dtype=x.dtype)
    return x


def _sum(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return x.sum(axes, keep, dtype=x.dtype)


def _sum_square(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return x.square().sum(axes, keep, dtype=x.dtype)


def _extreme(x: Tensor, axes: _Axes, keep: bool, largest: bool) -> Tensor:
    """The largest or smallest element; of none, the end of the type's range."""
    if any(x.shape[axis] == 0 for axis in axes):
        shape = x.sum(axes, keep).shape
        if x.dtype == torch.bool:
            return torch.full(shape, not largest, dtype=x.dtype, device=x.device)
        if x.dtype.is_floating_point:
            end = -math.inf if largest else math.inf
        else:
            limits = torch.iinfo(x.dtype)
            end = limits.min if largest else limits.max
        return torch.full(shape, end, dtype=x.dtype, device=x.device)
    return x.amax(axes, keep) if largest else x.amin(axes, keep)


def _max(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return _extreme(x, axes, keep, True)


def _min(x: Tensor, axes: _Axes, keep: bool) -> Tensor:
    return _extreme(x, axes, keep, False)


def _by_attribute(reduction: _Reduction) -> Callable[..., Tensor]:
    """The form in which the axes are an attribute (before opset 18, ReduceSum before 13)."""

    def reduce(x: Tensor, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> Tensor:
        return reduction(x, list(axes or range(x.dim())), bool(keepdims))

    return reduce


def _by_input(reduction: _Reduction) -> Callable[..., Tensor]:
    """The form in which the axes are an input; without axes all, or none if the node says so."""

    def reduce(
        x: Tensor, axes: Tensor | None = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
    ) -> Tensor:
        named = [] if axes is None else dims(axes)
        if named or not noop_with_empty_axes:
            return reduction(x, named or list(range(x.dim())), bool(keepdims))
        # with no axis to reduce, what comes before and after the sum still happens
        return reduction(x.unsqueeze(0), [0], False)

    return reduce


_REDUCTIONS: dict[str, tuple[_Reduction, tuple[int, ...], tuple[int, ...]]] = {
    "ReduceL1": (_l1, (1, 11, 13), (18,)),
    "ReduceL2": (_l2, (1, 11, 13), (18,)),
    "ReduceLogSum": (_log_sum, (1, 11, 13), (18, 28)),
    "ReduceLogSumExp": (_log_sum_exp, (1, 11, 13), (18, 28)),
    "ReduceMax": (_max, (1, 11, 12, 13), (18, 20)),
    "ReduceMean": (_mean, (1, 11, 13), (18,)),
    "ReduceMin": (_min, (1, 11, 12, 13), (18, 20)),
    "ReduceProd": (_prod, (1, 11, 13), (18,)),
    "ReduceSum": (_sum, (1, 11), (13,)),
    "ReduceSumSquare": (_sum_square, (1, 11, 13), (18,)),
}
for _name, (_reduction, _old, _new) in _REDUCTIONS.items():
    op(_name, *_old)(_by_attribute(_reduction))
    op(_name, *_new, host=(1,))(_by_input(_reduction))


def _place(x: Tensor, axis: int, keepdims: int, select_last_index: int, largest: bool) -> Tensor:
    """Index of the largest or smallest element: the first one of equals, or the last."""
    if select_last_index:
        x = x.flip(axis)
    place = x.argmax if largest else x.argmin
    index = place(axis, keepdim=bool(keepdims))
    return x.shape[axis] - 1 - index if select_last_index else index


@op("ArgMax", 1, 11, 12, 13)
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """ArgMax-13."""
    return _place(x, axis, keepdims, select_last_index, True)


@op("ArgMin", 1, 11, 12, 13)
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """ArgMin-13."""
    return _place(x, axis, keepdims, select_last_index, False)


@op("TopK", 10, 11, 24, host=(1,))
def top_k(
    x: Tensor,
    k: Tensor,
    *,
    axis: int = -1,
    largest: int = 1,
    sorted: int = 1,  # noqa: A002, ARG001 - the attribute's name; sorted is one valid order
) -> tuple[Tensor, Tensor]:
    """TopK-24: of equal elements the first ones."""
    return _top(x, int(k.item()), axis, bool(largest))


@op("TopK", 1)
def top_k_1(x: Tensor, *, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """TopK-1: ``k`` as an attribute."""
    return _top(x, k, axis, True)


def _top(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), places.narrow(axis, 0, k)
