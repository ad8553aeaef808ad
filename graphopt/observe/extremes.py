"""Requests for ranges and distributions of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.histogram import Histogram
from graphopt.observe.request import Folder, Request, Rows, not_finite, same_channels
from graphopt.observe.taps import Reduction, Sampled, Tap, rows_and

__all__ = ["ChannelAbsMax", "ChannelMin", "HistogramOf", "MinMax", "RowWidths"]

_FINE_RATIO = 16  # per-channel extremes are finished on the host if they are so much fewer
_BIN_BYTES = 8


@dataclass(frozen=True)
class MinMax(Request[tuple[float, float]]):
    """Smallest and largest value over all samples; ``(0, 0)`` if there is none."""

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[tuple[float, float]]:
        return _MinMax(self.tensor, shape)


@dataclass(frozen=True)
class HistogramOf(Request[Histogram]):
    """Distribution of the values over all samples.

    The ends are the exact minimum and maximum; the counts come from positions spread over the
    tensor, at a random start in each run, all of them where the tensor is small.
    """

    bins: int = 2048

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[Histogram]:
        return _Histogram(self, shape, per_run)

    def bytes(self, shape: tuple[int, ...]) -> int:
        return self.bins * _BIN_BYTES


@dataclass(frozen=True)
class ChannelAbsMax(Request[NDArray[np.float32]]):
    """Largest absolute value over everything but ``axis``: float32 ``(channels,)``."""

    axis: int = 1

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float32]]:
        return _ChannelAbsMax(self.tensor, shape, self.axis_of(shape, self.axis))


@dataclass(frozen=True)
class RowWidths(Request[NDArray[np.float64]]):
    """How wide rows are, a row being what lies along the last axis: float64 ``(rows, 2)``.

    Of rows spread over each run, without those of zeros: the square of the range of all values of
    the run, which has 0 in it as that of a quantization grid, and the square of twice the largest
    absolute value of the row, each over the mean square of the row.
    """

    most: int = 64
    """Rows of a run."""

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float64]]:
        self.axis_of(shape, -1)
        return _RowWidths(self.tensor, len(shape), self.most)


@dataclass(frozen=True)
class ChannelMin(Request[NDArray[np.float32]]):
    """Smallest value over everything but ``axis``: float32 ``(channels,)``; 0 if there is none."""

    axis: int = 1

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float32]]:
        return _ChannelMin(self.tensor, shape, self.axis_of(shape, self.axis))


class _Extremes:
    """Minimum and maximum of a run, with the mean that shows a NaN, which they may hide."""

    def __init__(self, tensor: str, keep: tuple[int, ...], rank: int) -> None:
        self.tensor = tensor
        self.low = Reduction(tensor, "min", keep, rank)
        self.high = Reduction(tensor, "max", keep, rank)
        self.mean = Reduction(tensor, "mean", keep, rank)
        self.taps: tuple[Tap, ...] = (self.low, self.high, self.mean)

    def read(self, arrays: Mapping[Tap, Array]) -> tuple[Array, Array]:
        """Both, as arrays over the axes kept; where nothing was, ``inf`` and ``-inf``."""
        low, high = arrays[self.low], arrays[self.high]
        filled = low <= high
        if np.isinf(low[filled]).any() or np.isinf(high[filled]).any():
            raise not_finite(self.tensor, "infinite values")
        if np.isnan(arrays[self.mean]).any():
            raise not_finite(self.tensor, "NaN")
        return low, high


def _fine_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes that the graph keeps for the host to finish: onnxruntime then uses all threads."""
    leading = int(np.prod(shape[:2], dtype=np.int64))
    total = int(np.prod(shape, dtype=np.int64))
    return (0, 1) if len(shape) > 2 and leading * _FINE_RATIO <= total else ()


class _MinMax(Folder[tuple[float, float]]):
    def __init__(self, tensor: str, shape: tuple[int, ...]) -> None:
        self.extremes = _Extremes(tensor, _fine_axes(shape), len(shape))
        self.taps = self.extremes.taps
        self.low, self.high = np.inf, -np.inf

    # Rows that repeat others do not move extremes.
    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        low, high = self.extremes.read(arrays)
        self.low = min(self.low, float(low.min(initial=np.inf)))
        self.high = max(self.high, float(high.max(initial=-np.inf)))

    def result(self) -> tuple[float, float]:
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)


class _Histogram(Folder[Histogram]):
    def __init__(self, request: HistogramOf, shape: tuple[int, ...], per_run: int) -> None:
        size = int(np.prod(shape, dtype=np.int64))
        self.sampled = Sampled(request.tensor, _step(size, per_run))
        self.leading = shape[0] if shape else None
        self.extremes = _Extremes(request.tensor, _fine_axes(shape), len(shape))
        self.taps = (*self.extremes.taps, self.sampled)
        self.histogram = Histogram(request.bins)

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        low, high = self.extremes.read(arrays)
        if not low.size or (least := float(low.min())) > (most := float(high.max())):
            return
        self.histogram.widen(least, most)
        values = arrays[self.sampled]
        self.histogram.add(values[: rows.count(len(values), self.leading)])

    def result(self) -> Histogram:
        return self.histogram


def _step(size: int, per_run: int) -> int:
    """A prime distance: one that divides a row's length would meet the same columns again."""
    step = -(-size // per_run)
    while any(step % divisor == 0 for divisor in range(2, int(step**0.5) + 1)):
        step += 1
    return max(step, 1)


class _ChannelAbsMax(Folder[NDArray[np.float32]]):
    def __init__(self, tensor: str, shape: tuple[int, ...], axis: int) -> None:
        self.axis = axis
        self.extremes = _Extremes(tensor, rows_and(axis), len(shape))
        self.taps = self.extremes.taps
        self.peaks: NDArray[np.float32] = np.zeros(shape[axis], dtype=np.float32)

    # Rows that repeat others do not move extremes.
    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        low, high = self.extremes.read(arrays)
        peaks = np.where(low <= high, np.maximum(-low, high), 0)
        if self.axis:
            peaks = peaks.max(axis=0, initial=0)
        same_channels(self.extremes.tensor, self.peaks, peaks)
        self.peaks = np.maximum(self.peaks, peaks, dtype=np.float32)

    def result(self) -> NDArray[np.float32]:
        return self.peaks


class _ChannelMin(Folder[NDArray[np.float32]]):
    def __init__(self, tensor: str, shape: tuple[int, ...], axis: int) -> None:
        self.axis = axis
        self.extremes = _Extremes(tensor, rows_and(axis), len(shape))
        self.taps = self.extremes.taps
        self.least: NDArray[np.float32] = np.full(shape[axis], np.inf, dtype=np.float32)

    # Rows that repeat others do not move extremes.
    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        low, _ = self.extremes.read(arrays)
        least = low.min(axis=0, initial=np.inf) if self.axis else low
        same_channels(self.extremes.tensor, self.least, least)
        self.least = np.minimum(self.least, least, dtype=np.float32)

    def result(self) -> NDArray[np.float32]:
        return np.where(np.isfinite(self.least), self.least, np.float32(0))


class _RowWidths(Folder[NDArray[np.float64]]):
    def __init__(self, tensor: str, rank: int, most: int) -> None:
        lead = tuple(range(rank - 1))
        self.extremes = _Extremes(tensor, lead, rank)
        self.square = Reduction(tensor, "mean", lead, rank, squared=True)
        self.taps = (*self.extremes.taps, self.square)
        self.most = most
        self.found: list[NDArray[np.float64]] = [np.zeros((0, 2))]

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        low, high = self.extremes.read(arrays)
        counted = rows.count(low.size, low.shape[0] if low.ndim else None)
        taken = np.stack([low, high, arrays[self.square]]).reshape(3, -1).astype(np.float64)
        least, most, power = taken[:, :counted]
        if not counted or not power.any():
            return
        whole = max(most.max(), 0.0) - min(least.min(), 0.0)
        row = 2 * np.maximum(-least, most)
        with np.errstate(divide="ignore", invalid="ignore"):
            widths = np.stack([np.full_like(row, whole), row], axis=1) ** 2 / power[:, None]
        widths = widths[np.isfinite(widths).all(axis=1)]
        self.found.append(widths[:: -(-len(widths) // self.most) or 1])

    def result(self) -> NDArray[np.float64]:
        return np.concatenate(self.found)
