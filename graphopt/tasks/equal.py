"""Values that are equal or not: integers that number things, strings, masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.numerics.fresh import FEW, least_share
from graphopt.observe.request import Rows
from graphopt.tasks.compare import NOTHING, Comparator, Least, unlike
from graphopt.tasks.quality import OutputQuality
from graphopt.tasks.task import Task

__all__ = ["EqualValues"]

_MOST_VALUES = 256
"""Different values that are counted in search of the usual one."""
_MANY = 1 << 12


class EqualValues(Comparator):
    """Integers that number things, strings, masks: equal or not.

    Where one value makes up more than half of the output, what counts are the places that hold
    another, in one of the two: an empty mask is not right for being mostly empty.

    Args:
        task: What the output means.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.same = self.positions = self.samples = 0
        self.ours, self.theirs, self.both = Counter[Any](), Counter[Any](), Counter[Any]()
        self.answers: list[NDArray[np.int64]] = []
        self.held = 0
        self.fault = ""

    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count one feed; of outputs with a row per sample only the real rows."""
        name = self.task.output
        f, g = right[name], answer[name]
        if isinstance(f, np.ndarray) and f.size:
            if fault := unlike(f, g, numbers=False):
                self.fault = self.fault or f"sample {self.samples}: {fault}"
            else:
                apart = f.ndim > 0 and len(f) == rows.full
                self.count(rows.keep(f), rows.keep(g), rows.real if apart else 1)
        self.samples += rows.real

    def count(self, f: Array, g: Array, samples: int) -> None:
        """Count two arrays of one shape, of ``samples`` samples along the leading axis."""
        same = np.asarray(f == g)
        by_sample = same.reshape(samples, -1)
        if self.held < FEW:
            self.held += samples
            all_ = np.full(samples, by_sample.shape[1])
            self.answers.append(np.stack([by_sample.sum(axis=1), all_]))
        self.same += int(same.sum())
        self.positions += same.size
        for counter, values in ((self.ours, f), (self.theirs, g), (self.both, f[same])):
            for value, number in _counted(values):
                if value in counter or len(counter) < _MOST_VALUES:
                    counter[value] += number

    def found(self) -> dict[str, OutputQuality]:
        """The figures so far."""
        return {self.task.output: self.quality()}

    def quality(self) -> OutputQuality:
        """The figures so far."""
        kind = self.task.kind
        if self.fault:
            return OutputQuality(kind, fault=self.fault)
        if self.positions == 0:
            return OutputQuality(kind, compared=False, reason=NOTHING)
        differ = self.positions - self.same
        unusual = None
        error = differ / self.positions
        value, number = self.ours.most_common(1)[0]
        if 2 * number > self.positions:
            others = 2 * self.positions - number - self.theirs[value]
            error = differ / others if others else 0.0
            unusual = 100 * (1 - min(error, 1.0)) if others else None
        return OutputQuality(
            kind, agreement=100 * self.same / self.positions, unusual=unusual, error=error
        )

    def least(self) -> dict[str, Least]:
        """What fresh samples give at least."""
        if not self.answers:
            return {}
        share = least_share(*np.concatenate(self.answers, axis=1))
        least = Least(agreement=None if share is None else 100 * share)
        return {self.task.output: least}


def _counted(values: Array) -> list[tuple[Any, int]]:
    """Each value and how often it is there."""
    if values.dtype.kind == "O":
        return list(Counter(values.ravel().tolist()).items())
    if values.dtype.kind in "biu" and values.size > _MANY:
        low, high = int(values.min()), int(values.max())
        if low >= 0 and high < _MANY:  # counting is faster than sorting
            numbers = np.bincount(values.astype(np.int64, copy=False).ravel())
            return [(int(n), int(numbers[n])) for n in np.flatnonzero(numbers)]
    different, numbers = np.unique(values, return_counts=True)
    return list(zip(different.tolist(), numbers.tolist(), strict=True))
