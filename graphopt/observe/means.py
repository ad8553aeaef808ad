"""Requests for means: by channel, of squares, by position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.observe.request import Folder, Request, Rows, not_finite, same_channels
from graphopt.observe.taps import Reduction, SizeOf, Tap, Whole, rows_and

__all__ = ["ChannelMean", "MeanOutput", "MeanSquare"]

_DOUBLE_BYTES = 8


@dataclass(frozen=True)
class ChannelMean(Request[NDArray[np.float64]]):
    """Mean over everything but ``axis``: float64 ``(channels,)``; 0 where there is nothing."""

    axis: int = 1

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        return _ChannelMean(self.tensor, shape, self.axis_of(shape, self.axis), squared=False)


@dataclass(frozen=True)
class MeanSquare(Request[NDArray[np.float64]]):
    """Mean of the squares over everything but ``axis``: float64 ``(channels,)``."""

    axis: int = 1

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        return _ChannelMean(self.tensor, shape, self.axis_of(shape, self.axis), squared=True)


@dataclass(frozen=True)
class MeanOutput(Request[NDArray[np.float64]]):
    """Mean over the samples at each position: float64, the shape without the axis of the batch."""

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        self.axis_of(shape, 0)
        return _MeanOutput(self.tensor, shape)

    def bytes(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[1:]) * _DOUBLE_BYTES


class _ChannelMean(Folder[NDArray[np.float64]]):
    def __init__(self, tensor: str, shape: tuple[int, ...], axis: int, *, squared: bool) -> None:
        self.tensor, self.axis = tensor, axis
        self.mean = Reduction(tensor, "mean", rows_and(axis), len(shape), squared)
        self.size = SizeOf(tensor)
        self.taps = (self.mean, self.size)
        self.sums: NDArray[np.float64] = np.zeros(shape[axis])
        self.count = 0

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        means = arrays[self.mean].astype(np.float64)
        if not np.isfinite(means).all():
            large = self.mean.squared and not np.isnan(means).any()
            what = "values that are infinite or too large to be squared" if large else None
            raise not_finite(self.tensor, what or "NaN or infinite values")
        sizes = arrays[self.size].tolist()
        if self.axis == 0:
            means = means[None]
            counted = rows.count(1, None)
            values = math.prod(sizes[1:])
        else:
            counted = rows.count(len(means), sizes[0])
            values = math.prod(sizes[1 : self.axis] + sizes[self.axis + 1 :])
        same_channels(self.tensor, self.sums, means[0] if len(means) else self.sums)
        self.sums += means[:counted].sum(axis=0) * values
        self.count += counted * values

    def result(self) -> NDArray[np.float64]:
        return self.sums / max(self.count, 1)


class _MeanOutput(Folder[NDArray[np.float64]]):
    def __init__(self, tensor: str, shape: tuple[int, ...]) -> None:
        self.whole = Whole(tensor)
        self.taps = (self.whole,)
        self.sums: NDArray[np.float64] = np.zeros(shape[1:])
        self.count = 0

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        values = arrays[self.whole]
        if values.shape[1:] != self.sums.shape:
            raise DataError(
                f"tensor {self.whole.tensor!r} has positions {list(self.sums.shape)} on one sample "
                f"and {list(values.shape[1:])} on another"
            )
        values = values[: rows.count(len(values), len(values))]
        if not np.isfinite(values).all():
            raise not_finite(self.whole.tensor, "NaN or infinite values")
        self.sums += values.sum(axis=0, dtype=np.float64)
        self.count += len(values)

    def result(self) -> NDArray[np.float64]:
        return self.sums / max(self.count, 1)
