"""Figures of an output against its labels, from one feed's answers after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.numerics.class_counts import ClassCounts
from graphopt.tasks.labels import Fitted

__all__ = ["COUNTED", "Scoring", "filled_up", "label_scoring"]

_NEVER = -1
"""A decision that is none, since the answer is no number."""
COUNTED = ("accuracy", "f1", "iou", "precision", "recall")
"""Figures of decisions."""


class Scoring(ABC):
    """Sums over samples from which the figures of a model follow."""

    @abstractmethod
    def add(self, answer: Mapping[str, Any], real: int) -> None:
        """Count one feed.

        Args:
            answer: The outputs, by the names that they have in the reference.
            real: Samples of the feed that count; rows behind them only fill it up.

        Raises:
            DataError: An output is not of the shape that the labels were fitted to.
        """

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """The figures of that kind of output, by name."""


def filled_up(values: Array, shape: tuple[int, ...]) -> Array:
    """Values of samples that are smaller than others, with zeros up to a size.

    Args:
        values: ``(samples, ...)``.
        shape: Of one sample; no axis is shorter than it is.
    """
    lacking = [(0, most - own) for own, most in zip(values.shape[1:], shape, strict=True)]
    return np.pad(values, [(0, 0), *lacking])


class _OfLabels(Scoring):
    """Sums over samples from which the figures of one output follow.

    Args:
        fitted: Its labels.
    """

    def __init__(self, fitted: Fitted) -> None:
        self.fitted = fitted
        self.done = 0

    def add(self, answer: Mapping[str, Any], real: int) -> None:
        """Count one feed."""
        values, shape = answer.get(self.fitted.output), self.fitted.shape
        part = slice(self.done, self.done + real)
        if isinstance(values, np.ndarray):
            values = self._filled_up(values, part)
        size = prod(shape)
        if (
            not isinstance(values, np.ndarray)
            or values.shape[1:] not in (shape, shape[1:])
            or size == 0
            or values.size % size
            or values.size < real * size
        ):
            seen = list(values.shape) if isinstance(values, np.ndarray) else type(values).__name__
            raise DataError(
                f"output {self.fitted.output!r} is {seen}, where one sample has {list(shape)}"
            )
        self.take(values.reshape(-1, *shape)[:real], part)
        self.done += real

    def _filled_up(self, values: Array, part: slice) -> Array:
        """An output of fewer places than others, with zeros where no label counts."""
        shape, ignored = self.fitted.shape, self.fitted.ignored
        if ignored is None or values.ndim != len(shape) + 1 or values.shape[1:] == shape:
            return values
        if any(own > most for own, most in zip(values.shape[1:], shape, strict=True)):
            return values
        places = list(values.shape[1:])
        if self.fitted.task.kind == "classes":
            assert self.fitted.axis is not None
            if places.pop(self.fitted.axis - 1) != self.fitted.width:
                return values
        beyond = ignored[part].copy()
        beyond[(slice(None), *map(slice, places))] = True
        if not beyond.all():
            return values
        return filled_up(values, shape)

    @abstractmethod
    def take(self, rows: Array, part: slice) -> None:
        """Count the rows of the output that belong to a part of the samples."""


class _Counting(_OfLabels):
    """Decisions, counted by class."""

    def __init__(self, fitted: Fitted, counts: ClassCounts) -> None:
        super().__init__(fitted)
        self.counts = counts

    def counted(self, part: slice) -> NDArray[np.bool_]:
        """Which labels of a part count."""
        ignored = self.fitted.ignored
        if ignored is None:
            return np.ones(self.fitted.labels[part].shape, bool)
        kept: NDArray[np.bool_] = ~ignored[part]
        return kept

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        found = {name: 100 * float(getattr(self.counts, name)) for name in COUNTED}
        if self.fitted.task.kind == "classes":
            found["top1"] = found["accuracy"]
        return found


class _Classes(_Counting):
    """The largest score at each place."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted, ClassCounts.of(fitted.width))

    def take(self, rows: Array, part: slice) -> None:
        """Count the rows of a part."""
        assert self.fitted.axis is not None
        said = rows.argmax(axis=self.fitted.axis)
        if rows.dtype.kind == "f":
            said = np.where(np.isnan(rows).any(axis=self.fitted.axis), _NEVER, said)
        kept = self.counted(part)
        self.counts.add(said.reshape(kept.shape)[kept], self.fitted.labels[part][kept])


class _YesOrNo(_Counting):
    """Scores of one yes or no, or of several labels, against their threshold."""

    def __init__(self, fitted: Fitted) -> None:
        several = fitted.task.kind == "multi-label"
        super().__init__(fitted, ClassCounts.of(fitted.width if several else 1))

    def take(self, rows: Array, part: slice) -> None:
        """Count the rows of a part."""
        said = (rows > self.fitted.task.threshold).astype(np.int64)
        if rows.dtype.kind == "f":
            said = np.where(np.isnan(rows), _NEVER, said)
        self.counts.add_each(
            *map(self._columns, (said, self.fitted.labels[part], self.counted(part)))
        )

    def _columns(self, values: Array) -> Array:
        if self.fitted.axis is None or len(self.counts.right) == 1:
            return values.reshape(-1, 1)
        return np.moveaxis(values, self.fitted.axis, -1).reshape(-1, len(self.counts.right))


class _Same(_Counting):
    """Integers and texts that must be the same."""

    def __init__(self, fitted: Fitted) -> None:
        labels = fitted.labels
        self.known = np.unique(labels if fitted.ignored is None else labels[~fitted.ignored])
        super().__init__(fitted, ClassCounts.of(len(self.known)))

    def take(self, rows: Array, part: slice) -> None:
        """Count the rows of a part."""
        kept = self.counted(part)
        said = (
            rows.astype(self.known.dtype) if self.known.dtype.kind == "i" else rows.astype(np.str_)
        )
        self.counts.add(*(self._numbered(each[kept]) for each in (said, self.fitted.labels[part])))

    def _numbered(self, values: Array) -> Array:
        places = np.searchsorted(self.known, values).clip(max=len(self.known) - 1)
        return np.where(self.known[places] == values, places, _NEVER)


class _Numbers(_OfLabels):
    """Squared and absolute errors, by column."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted)
        columns = self._columns(fitted.labels)
        self.spread = ((columns - columns.mean(axis=0)) ** 2).mean(axis=0)
        self.squares, self.sizes = np.zeros((2, columns.shape[1]))
        self.count = 0

    def take(self, rows: Array, part: slice) -> None:
        """Count the rows of a part."""
        errors = self._columns(rows) - self._columns(self.fitted.labels[part])
        self.squares += (errors**2).sum(axis=0)
        self.sizes += abs(errors).sum(axis=0)
        self.count += len(errors)

    def figures(self) -> dict[str, float]:
        """The figures by name; ``r2`` is a mean over the columns whose labels differ."""
        squares, sizes = self.squares / self.count, self.sizes / self.count
        told = self.spread > 0
        explained = 1 - squares[told] / self.spread[told]
        r2 = float(100 * explained.mean()) if told.any() else float("nan")
        return {"r2": r2, "mse": float(squares.mean()), "mae": float(sizes.mean())}

    def _columns(self, values: Array) -> NDArray[np.float64]:
        if self.fitted.axis is None:
            return values.reshape(-1, 1).astype(np.float64)
        moved = np.moveaxis(values, self.fitted.axis, -1)
        return moved.reshape(-1, moved.shape[-1]).astype(np.float64)


class _Pairs(_OfLabels):
    """Cosines of rows ``2i`` and ``2i + 1`` against one number for each pair."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted)
        self.cosines = list[NDArray[np.float64]]()
        self.odd: NDArray[np.float64] | None = None

    def take(self, rows: Array, part: slice) -> None:  # noqa: ARG002 - labels come last
        """Count the rows of a part; an odd one waits for the next."""
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        if self.odd is not None:
            flat = np.concatenate([self.odd, flat])
        even = len(flat) // 2 * 2
        self.odd = flat[even:] if even < len(flat) else None
        left, right = flat[0:even:2], flat[1:even:2]
        norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
        self.cosines.append((left * right).sum(axis=1) / np.where(norms > 0, norms, 1))

    def figures(self) -> dict[str, float]:
        """Spearman's rho x 100."""
        from scipy.stats import spearmanr  # noqa: PLC0415 - takes half a second, seldom needed

        cosines = np.concatenate(self.cosines)
        return {"spearman": float(100 * spearmanr(cosines, self.fitted.labels).statistic)}


def label_scoring(fitted: Fitted) -> Scoring:
    """What adds up the figures of an output against its labels."""
    if fitted.pairs:
        return _Pairs(fitted)
    kind = fitted.task.kind
    if kind == "classes":
        return _Classes(fitted)
    if kind in ("binary", "mask", "multi-label"):
        return _YesOrNo(fitted)
    return _Same(fitted) if kind in ("indices", "texts") else _Numbers(fitted)
