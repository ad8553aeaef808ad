"""Some of the rows that a layer multiplies with its weight, and what is known of them together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.moments import Moments, MomentSums
from graphopt.numerics.spread import spread_ranks
from graphopt.observe.layer_input import LayerInput
from graphopt.observe.request import Folder, Rows, not_finite
from graphopt.observe.taps import Tap, Whole

__all__ = ["MOST_ROWS", "RowMoments", "SampledRows"]

A = TypeVar("A")

_MOST_SQUARED = 1e17
"""Sums of some thousand products of larger values are beyond float32."""

MOST_ROWS = 32768
"""A quarter of it costs the repair of a small residual network 0.8 points, four times as many gain
nothing."""
_LARGEST = 2**64 - 1
_SPARE = 1.25
"""So many more rows than wanted are held before the surplus goes."""
_FLOAT_BYTES = 4
_DOUBLE_BYTES = 8


@dataclass(frozen=True)
class SampledRows(LayerInput[NDArray[np.float32]]):
    """At most ``most`` rows: float32 ``(rows, groups, width)``, in order of sample and position.

    Which rows is decided by how many there are alone, not by chance, nor by how samples are
    batched: requests of tensors that have the same number of positions on each sample give rows
    that belong together, whatever the axis of the channels: what a Conv reads beside what it
    gives, ``[batch, time, channel]`` beside ``[batch * time, channel]``.

    Attributes:
        most: Rows over all samples.
    """

    most: int = MOST_ROWS

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[NDArray[np.float32]]:
        return _SampledRows(self, self.most, shape)

    def bytes(self, shape: tuple[int, ...]) -> int:
        groups, width = self.blocks(shape)
        return round(2 * _SPARE * self.most * groups * width * _FLOAT_BYTES) + _padded(self, shape)


@dataclass(frozen=True)
class RowMoments(LayerInput[Moments]):
    """Count, mean and covariance of about ``most`` rows, chosen as ``SampledRows`` does.

    Where samples have different sizes, their number is about right only on the average.

    Attributes:
        most: Rows over all samples.
    """

    most: int = MOST_ROWS

    def folder(self, shape: tuple[int, ...], per_run: int) -> Folder[Moments]:
        return _RowMoments(self, self.most, shape)

    def bytes(self, shape: tuple[int, ...]) -> int:
        groups, width = self.blocks(shape)
        positions = math.prod(shape) // max(1, shape[self.axis_of(shape, self.axis)])
        if self.window is not None:
            positions = shape[0] * math.prod(self.window.positions(shape[2:]))
        rows = 2 * min(self.most, positions) * groups * width * _FLOAT_BYTES  # of one run
        return 2 * groups * width * width * _DOUBLE_BYTES + rows + _padded(self, shape)


def _padded(request: LayerInput[A], shape: tuple[int, ...]) -> int:
    """Bytes of the tensor with what a window puts around it, the channels last."""
    if request.window is None:
        return 0
    around = math.prod(request.window.worked_on(shape[2:]))
    return 2 * math.prod(shape[:2]) * around * _FLOAT_BYTES


@dataclass
class _Choice:
    """Which rows of a run count: those of the lowest ranks.

    Attributes:
        most: Rows wanted over all runs.
        seen: Rows that went by.
        bound: Rows of higher rank do not count.
    """

    most: int
    seen: int = 0
    bound: int = _LARGEST

    def take(self, count: int, rows: Rows) -> tuple[NDArray[np.intp], NDArray[np.uint64]]:
        """Which of ``count`` rows of a run count, and their ranks."""
        if self.seen == 0 and count and rows.total:
            expected = count * max(rows.total, rows.real) / max(rows.real, 1)
            self.bound = min(math.ceil(2**64 * self.most / expected), _LARGEST)
        ranks = spread_ranks(self.seen, count)
        self.seen += count
        chosen = np.flatnonzero(ranks <= np.uint64(self.bound))
        return chosen, ranks[chosen]


class _RowFolder(Folder[A]):
    """Takes the chosen rows of each run."""

    def __init__(self, request: LayerInput[A], most: int, shape: tuple[int, ...]) -> None:
        self.request = request
        self.whole = Whole(request.tensor)
        self.taps = (self.whole,)
        self.blocks = request.blocks(shape)
        self.choice = _Choice(most)

    def chosen(
        self, arrays: Mapping[Tap, Array], rows: Rows
    ) -> tuple[NDArray[np.float32], NDArray[np.uint64]]:
        """Rows ``(rows, groups, width)`` of one run, and their ranks."""
        request, window = self.request, self.request.window
        values = request.without_filling(arrays[self.whole], rows)
        if not np.isfinite(values).all():
            raise not_finite(request.tensor, "NaN or infinite values")
        if np.abs(values).max(initial=0) > _MOST_SQUARED:
            raise not_finite(request.tensor, "values too large to be squared")
        request.same_width(request.blocks(values.shape), self.blocks)
        if window is not None:
            count = len(values) * math.prod(window.positions(values.shape[2:]))
            places, ranks = self.choice.take(count, rows)
            picked = window.at(values, places)
        else:
            flat = np.moveaxis(values, request.axis, -1).reshape(-1, self.blocks[1])
            places, ranks = self.choice.take(len(flat), rows)
            picked = flat[places]
        return picked.reshape(len(picked), *self.blocks), ranks


@dataclass
class _Held:
    """Rows of one run with their ranks."""

    rows: NDArray[np.float32]
    ranks: NDArray[np.uint64]


class _SampledRows(_RowFolder[NDArray[np.float32]]):
    def __init__(
        self, request: LayerInput[NDArray[np.float32]], most: int, shape: tuple[int, ...]
    ) -> None:
        super().__init__(request, most, shape)
        self.held: list[_Held] = []
        self.count = 0

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        self.held.append(_Held(*self.chosen(arrays, rows)))
        self.count += len(self.held[-1].rows)
        if self.count > _SPARE * self.choice.most:
            self._drop()

    def _drop(self) -> None:
        """Keep the ``most`` rows of the lowest rank."""
        most = self.choice.most
        if self.count <= most:
            return
        ranks = np.concatenate([each.ranks for each in self.held])
        self.choice.bound = int(np.partition(ranks, most - 1)[most - 1])
        for at, each in enumerate(self.held):
            stay = each.ranks <= np.uint64(self.choice.bound)
            self.held[at] = _Held(each.rows[stay], each.ranks[stay])
        self.count = most

    def result(self) -> NDArray[np.float32]:
        self._drop()
        together = np.empty((self.count, *self.blocks), np.float32)
        at = 0
        for each in self.held:
            together[at : at + len(each.rows)] = each.rows
            at += len(each.rows)
        return together


class _RowMoments(_RowFolder[Moments]):
    def __init__(self, request: LayerInput[Moments], most: int, shape: tuple[int, ...]) -> None:
        super().__init__(request, most, shape)
        self.sums = MomentSums(*self.blocks)

    def take(self, arrays: Mapping[Tap, Array], rows: Rows) -> None:
        self.sums.add(self.chosen(arrays, rows)[0])

    def result(self) -> Moments:
        return self.sums.result()
