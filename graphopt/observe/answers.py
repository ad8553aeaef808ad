"""Answers to requests, built up from the taps of one run after another."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.numerics.histogram import Histogram
from graphopt.observe.reductions import Reduction, Sampled, SizeOf, Tap
from graphopt.observe.statistics import (
    ChannelAbsMax,
    ChannelMean,
    HistogramOf,
    MinMax,
    Statistic,
)

__all__ = ["Answer", "Rows", "answer_to"]

_FINE_RATIO = 16  # per-channel extremes are finished on the host if they are so much fewer


@dataclass(frozen=True)
class Rows:
    """How many leading rows of a feed are real samples.

    Attributes:
        real: Real samples.
        full: Rows of the feed.
        first: Whether this is the first feed.
    """

    real: int
    full: int
    first: bool

    def count(self, entries: int, leading: int | None) -> int:
        """How many of the first ``entries`` count, which lie in the order of a tensor's rows.

        Where the leading axis is not the batch, nobody can tell the filled-up rows apart: the
        feed is left out, unless it is the only one there is.

        Args:
            entries: Numbers taken of the tensor.
            leading: Size of its leading axis; None for a scalar.
        """
        if self.real >= self.full:
            return entries
        if leading == self.full:
            return entries * self.real // self.full
        return entries if self.first else 0

    def keep(self, values: Array) -> Array:
        """An output without the rows of samples that only fill up the feed.

        It stays whole where its leading axis is not as long as the feed, or it is no tensor.
        """
        if self.real < self.full and isinstance(values, np.ndarray) and values.ndim:
            return values[: self.real] if len(values) == self.full else values
        return values


class Answer(ABC):
    """One request that is being answered; ``taps`` is what it needs from each run."""

    def __init__(self, tensor: str) -> None:
        self.tensor = tensor
        self.taps: tuple[Tap, ...] = ()

    @abstractmethod
    def take(self, found: Mapping[Tap, Array], rows: Rows) -> None:
        """Take in what one run found.

        Raises:
            DataError: The tensor holds values that are not finite.
        """

    @abstractmethod
    def result(self) -> Any:
        """The answer, of the type that the request promises."""


def answer_to(request: Statistic, shape: tuple[int, ...], per_run: int) -> Answer:
    """The answer to build up for a request.

    Args:
        request: What is asked.
        shape: Of the tensor in the first run; later ones may differ in sizes.
        per_run: About how many values of a histogram's tensor to look at in one run.

    Raises:
        DataError: The axis asked for is not there.
    """
    if isinstance(request, MinMax):
        return _MinMax(request, shape)
    if isinstance(request, HistogramOf):
        return _Histogram(request, shape, per_run)
    if not -len(shape) <= request.axis < len(shape):
        raise DataError(
            f"tensor {request.tensor!r} of rank {len(shape)} has no axis {request.axis}"
        )
    if isinstance(request, ChannelMean):
        return _ChannelMean(request, shape)
    return _ChannelAbsMax(request, shape)


class _Extremes:
    """Minimum and maximum of a run, with the mean that shows a NaN, which they may hide."""

    def __init__(self, tensor: str, keep: tuple[int, ...], rank: int) -> None:
        self.tensor = tensor
        self.low = Reduction(tensor, "min", keep, rank)
        self.high = Reduction(tensor, "max", keep, rank)
        self.mean = Reduction(tensor, "mean", keep, rank)
        self.taps: tuple[Tap, ...] = (self.low, self.high, self.mean)

    def read(self, found: Mapping[Tap, Array]) -> tuple[Array, Array]:
        """Both, as arrays over the axes kept; where nothing was, ``inf`` and ``-inf``."""
        low, high = found[self.low], found[self.high]
        filled = low <= high
        if np.isinf(low[filled]).any() or np.isinf(high[filled]).any():
            raise _not_finite(self.tensor, "infinite values")
        if np.isnan(found[self.mean]).any():
            raise _not_finite(self.tensor, "NaN")
        return low, high


def _not_finite(tensor: str, what: str) -> DataError:
    return DataError(
        f"tensor {tensor!r} holds {what} on the samples; it cannot be measured (check the samples "
        "and the model, or leave out the layers that read it)"
    )


def _fine_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Axes that the graph keeps for the host to finish: onnxruntime then uses all threads."""
    leading = int(np.prod(shape[:2], dtype=np.int64))
    total = int(np.prod(shape, dtype=np.int64))
    return (0, 1) if len(shape) > 2 and leading * _FINE_RATIO <= total else ()


class _MinMax(Answer):
    def __init__(self, request: MinMax, shape: tuple[int, ...]) -> None:
        super().__init__(request.tensor)
        self.extremes = _Extremes(request.tensor, _fine_axes(shape), len(shape))
        self.taps = self.extremes.taps
        self.low, self.high = np.inf, -np.inf

    # Rows that repeat others do not move extremes.
    def take(self, found: Mapping[Tap, Array], rows: Rows) -> None:  # noqa: ARG002
        low, high = self.extremes.read(found)
        self.low = min(self.low, float(low.min(initial=np.inf)))
        self.high = max(self.high, float(high.max(initial=-np.inf)))

    def result(self) -> tuple[float, float]:
        return (self.low, self.high) if self.low <= self.high else (0.0, 0.0)


class _Histogram(Answer):
    def __init__(self, request: HistogramOf, shape: tuple[int, ...], per_run: int) -> None:
        super().__init__(request.tensor)
        size = int(np.prod(shape, dtype=np.int64))
        self.sampled = Sampled(request.tensor, _step(size, per_run))
        self.leading = shape[0] if shape else None
        self.extremes = _Extremes(request.tensor, _fine_axes(shape), len(shape))
        self.taps = (*self.extremes.taps, self.sampled)
        self.histogram = Histogram(request.bins)

    def take(self, found: Mapping[Tap, Array], rows: Rows) -> None:
        low, high = self.extremes.read(found)
        if not low.size or (least := float(low.min())) > (most := float(high.max())):
            return
        self.histogram.widen(least, most)
        values = found[self.sampled]
        self.histogram.add(values[: rows.count(len(values), self.leading)])

    def result(self) -> Histogram:
        return self.histogram


def _step(size: int, per_run: int) -> int:
    """A prime distance: one that divides a row's length would meet the same columns again."""
    step = -(-size // per_run)
    while any(step % divisor == 0 for divisor in range(2, int(step**0.5) + 1)):
        step += 1
    return max(step, 1)


class _ChannelMean(Answer):
    def __init__(self, request: ChannelMean, shape: tuple[int, ...]) -> None:
        super().__init__(request.tensor)
        self.axis = request.axis % len(shape)
        self.mean = Reduction(request.tensor, "mean", _kept(self.axis), len(shape))
        self.size = SizeOf(request.tensor)
        self.taps = (self.mean, self.size)
        self.sums: NDArray[np.float64] = np.zeros(shape[self.axis])
        self.count = 0

    def take(self, found: Mapping[Tap, Array], rows: Rows) -> None:
        means = found[self.mean].astype(np.float64)
        if not np.isfinite(means).all():
            raise _not_finite(self.tensor, "NaN or infinite values")
        sizes = found[self.size].tolist()
        if self.axis == 0:
            means = means[None]
            counted = rows.count(1, None)
            values = math.prod(sizes[1:])
        else:
            counted = rows.count(len(means), sizes[0])
            values = math.prod(sizes[1 : self.axis] + sizes[self.axis + 1 :])
        _check_channels(self.tensor, self.sums, means[0] if len(means) else self.sums)
        self.sums += means[:counted].sum(axis=0) * values
        self.count += counted * values

    def result(self) -> NDArray[np.float64]:
        return self.sums / max(self.count, 1)


class _ChannelAbsMax(Answer):
    def __init__(self, request: ChannelAbsMax, shape: tuple[int, ...]) -> None:
        super().__init__(request.tensor)
        self.axis = request.axis % len(shape)
        self.extremes = _Extremes(request.tensor, _kept(self.axis), len(shape))
        self.taps = self.extremes.taps
        self.peaks: NDArray[np.float32] = np.zeros(shape[self.axis], dtype=np.float32)

    # Rows that repeat others do not move extremes.
    def take(self, found: Mapping[Tap, Array], rows: Rows) -> None:  # noqa: ARG002
        low, high = self.extremes.read(found)
        peaks = np.where(low <= high, np.maximum(-low, high), 0)
        if self.axis:
            peaks = peaks.max(axis=0, initial=0)
        _check_channels(self.tensor, self.peaks, peaks)
        self.peaks = np.maximum(self.peaks, peaks, dtype=np.float32)

    def result(self) -> NDArray[np.float32]:
        return self.peaks


def _kept(axis: int) -> tuple[int, ...]:
    """The channels, and the rows of the batch, which may not all count."""
    return (0, axis) if axis else (0,)


def _check_channels(tensor: str, so_far: Array, new: Array) -> None:
    if so_far.shape != new.shape:
        raise DataError(
            f"tensor {tensor!r} has {len(so_far)} channels on one sample and {len(new)} on another"
        )
