"""Outputs with as many rows as the data has: the rows are matched before they are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.observe.request import Rows
from graphopt.tasks.compare import Comparator, Numbers, Sampling, is_numeric
from graphopt.tasks.equal import EqualValues
from graphopt.tasks.matching import corners, match_boxes, match_equal, match_nearest
from graphopt.tasks.packed_rows import SHOWN, score_column
from graphopt.tasks.quality import FoundRows, OutputQuality
from graphopt.tasks.task import Columns, Task

__all__ = ["MatchedRows"]

_COORDINATES = 4


@dataclass
class _Sum:
    """Rows of the outputs that go together, so far."""

    expected: int = 0
    actual: int = 0
    matched: int = 0
    right: int = 0
    other_number: int = 0
    lists: int = 0
    batched: bool = False
    by: str = ""


class MatchedRows(Comparator):
    """Outputs whose rows depend on the data; those that always have as many belong together.

    Args:
        tasks: What the outputs mean.
        sampling: What the samples are like.
    """

    def __init__(self, tasks: Sequence[Task], sampling: Sampling) -> None:
        self.tasks = {task.output: task for task in tasks}
        self.inner: dict[str, Numbers | EqualValues] = {}
        self.sampling = sampling
        self.sums = {task.output: _Sum() for task in tasks}
        self.sets: list[list[str]] = [list(self.tasks)]
        self.faults: dict[str, str] = {}
        self.by_corners: bool | None = None
        self.samples = 0

    def add(self, right: Mapping[str, Any], answer: Mapping[str, Any], rows: Rows) -> None:
        """Count one feed; where rows lie behind an axis of samples, sample by sample."""
        places = dict[str, int]()
        for name, task in self.tasks.items():
            axis = _row_axis(task, right[name], answer[name])
            if fault := _unlike_rows(right[name], answer[name], axis):
                self.faults.setdefault(name, f"sample {self.samples}: {fault}")
            else:
                places[name] = axis
        apart = all(axis > 0 and len(right[name]) == rows.full for name, axis in places.items())
        for number in range(rows.real) if apart else (None,):
            ours, theirs = (
                {
                    name: _table(side[name], axis)
                    if number is None
                    else _table(side[name][number], axis - 1)
                    for name, axis in places.items()
                }
                for side in (right, answer)
            )
            self.sets = [part for each in self.sets for part in _apart(each, ours, theirs)]
            for names in self.sets:
                here = [name for name in names if name in ours]
                self._count(here, ours, theirs, batched=number is None and rows.full > 1)
        self.samples += rows.real

    def _count(
        self,
        names: Sequence[str],
        ours: Mapping[str, Array],
        theirs: Mapping[str, Array],
        *,
        batched: bool,
    ) -> None:
        """Match the rows of some outputs, and compare what is matched."""
        if not names:
            return
        shown = self._shown(names, ours, theirs)
        looked_at = [np.flatnonzero(scores >= SHOWN / 2) for scores in shown]
        ours = {name: ours[name][looked_at[0]] for name in names}
        theirs = {name: theirs[name][looked_at[1]] for name in names}
        first, second = (scores[at] >= SHOWN for scores, at in zip(shown, looked_at, strict=True))
        pairs, by = self._matched(names, ours, theirs)
        expected, actual = int(first.sum()), int(second.sum())
        matched, right = int(first[pairs[:, 0]].sum()), int(second[pairs[:, 1]].sum())
        pairs = pairs[first[pairs[:, 0]]]
        for name in names:
            sums = self.sums[name]
            sums.expected += expected
            sums.actual += actual
            sums.matched += matched
            sums.right += right
            sums.other_number += expected != actual
            sums.lists += 1
            sums.batched |= batched
            sums.by = sums.by or by
            self._compare(name, ours[name][pairs[:, 0]], theirs[name][pairs[:, 1]])

    def _compare(self, name: str, f: Array, g: Array) -> None:
        """Count the matched rows of one output."""
        if not f.size:
            return
        if name not in self.inner:
            self.inner[name] = self._comparator(self.tasks[name], f)
        inner = self.inner[name]
        if isinstance(inner, Numbers):
            inner.count(f, g, 1, apart=False)
        else:
            inner.count(f, g, 1)

    def _shown(
        self, names: Sequence[str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
    ) -> list[NDArray[np.float64]]:
        """Scores of the rows of both; of rows that are no list of the best ones, all the same."""
        found = None
        if all(self.tasks[name].sorted_rows for name in names):
            columns = ((name, score_column(ours[name])) for name in names)
            found = next(((name, c) for name, c in columns if c is not None), None)
        if found is None:
            return [np.ones(len(side[names[0]])) for side in (ours, theirs)]
        name, column = found
        return [side[name][:, column].astype(np.float64) for side in (ours, theirs)]

    def _comparator(self, task: Task, rows: Array) -> Numbers | EqualValues:
        """What compares the matched rows: columns lie along axis 1 now."""
        axis = 1 if rows.shape[1] > 1 else None
        task = replace(task, axis=axis)
        if not is_numeric(rows) or task.kind in ("indices", "mask", "texts"):
            return EqualValues(task)
        return Numbers(task, self.sampling)

    def _matched(
        self, names: Sequence[str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
    ) -> tuple[NDArray[np.intp], str]:
        """The pairs of rows, and what tells that they are the same."""
        keys = [name for name in names if ours[name].dtype.kind not in "fc"]
        labels = [name for name in keys if ours[name].shape[1] == 1]
        boxes = next((name for name in names if self._holds_boxes(name, ours[name])), None)
        if boxes is not None:
            pair = [side[boxes].astype(np.float64) for side in (ours, theirs)]
            if self.by_corners is None and len(pair[0]):
                self.by_corners = corners(pair[0])
            by_corners = self.by_corners is not False
            classes = _beside(labels, ours, theirs)
            by = "overlap of boxes" + (f" and {_quoted(labels)}" if labels else "")
            return match_boxes(pair[0], pair[1], classes, by_corners=by_corners), by
        for name in names:
            columns = self.tasks[name].columns
            if columns is not None and ours[name].shape[1] >= columns.box + _COORDINATES:
                return _by_columns(ours[name], theirs[name], columns)
        beside = _beside(keys, ours, theirs)
        if beside is not None and all(_distinct(side) for side in beside):
            return match_equal(*beside), f"the integers of {_quoted(keys)}"
        floats = [name for name in names if name not in keys]
        if not floats:
            assert beside is not None
            return match_equal(*beside), f"the values of {_quoted(keys)}"
        tables = [
            np.concatenate([side[name].astype(np.float64) for name in floats], axis=1)
            for side in (ours, theirs)
        ]
        return match_nearest(tables[0], tables[1], beside), "the nearest row"

    def _holds_boxes(self, name: str, rows: Array) -> bool:
        return (
            self.tasks[name].kind == "boxes"
            and rows.dtype.kind == "f"
            and rows.shape[1] == _COORDINATES
        )

    def found(self) -> dict[str, OutputQuality]:
        """The figures so far."""
        return {name: self._quality(name) for name in self.tasks}

    def _quality(self, name: str) -> OutputQuality:
        task, sums = self.tasks[name], self.sums[name]
        if name in self.faults:
            return OutputQuality(task.kind, fault=self.faults[name])
        if sums.expected == sums.actual == 0:
            return OutputQuality(task.kind, compared=False, reason="no rows on these samples")
        rows = FoundRows(**vars(sums))
        lost = 2 * (1 - min(rows.precision, rows.recall) / 100)
        inner = self.inner[name].quality() if name in self.inner else OutputQuality(task.kind)
        if not inner.compared:
            inner = OutputQuality(task.kind, not_finite=inner.not_finite)
        return replace(inner, rows=rows, error=min(1.0, lost))


def _by_columns(f: Array, g: Array, columns: Columns) -> tuple[NDArray[np.intp], str]:
    """Rows that hold box, score and class side by side, matched by box and class."""
    boxes = [
        side[:, columns.box : columns.box + _COORDINATES].astype(np.float64) for side in (f, g)
    ]
    whole = list(columns.whole)
    classes = (f[:, whole], g[:, whole]) if whole else None
    by = "overlap of boxes" + (" and class" if whole else "")
    return match_boxes(boxes[0], boxes[1], classes), by


def _row_axis(task: Task, f: Any, g: Any) -> int:
    """The axis of the rows: where both differ, else as the graph says, else the first long one."""
    if not isinstance(f, np.ndarray) or not isinstance(g, np.ndarray) or f.ndim != g.ndim:
        return 0
    differ = [n for n in range(f.ndim) if f.shape[n] != g.shape[n]]
    if len(differ) == 1:
        return differ[0]
    if task.rows_axis is not None and task.rows_axis < f.ndim:
        return task.rows_axis
    return 1 if f.ndim > 2 and f.shape[0] == 1 else 0


def _unlike_rows(f: Any, g: Any, axis: int) -> str:
    """What keeps two outputs from being compared row by row; else empty."""
    if not isinstance(f, np.ndarray) or not isinstance(g, np.ndarray):
        return "no tensor where the model before has one"
    differ = [n for n in range(min(f.ndim, g.ndim)) if f.shape[n] != g.shape[n] and n != axis]
    if f.ndim != g.ndim or f.ndim == 0 or differ:
        return f"shape {list(g.shape)} where the model before has {list(f.shape)}"
    return ""


def _table(values: Array, axis: int) -> Array:
    """Rows along the leading axis, all else as columns."""
    rows = np.moveaxis(values, axis, 0)
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def _apart(
    names: Sequence[str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> list[list[str]]:
    """Outputs that have as many rows as each other, in both."""
    found: dict[tuple[int, int] | None, list[str]] = {}
    for name in names:
        key = (len(ours[name]), len(theirs[name])) if name in ours else None
        found.setdefault(key, []).append(name)
    return list(found.values())


def _beside(
    names: Sequence[str], ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> tuple[Array, Array] | None:
    """Some outputs side by side; None without any."""
    if not names:
        return None
    first, second = (
        np.concatenate([side[name].astype(object) for name in names], axis=1)
        for side in (ours, theirs)
    )
    return first, second


def _distinct(rows: Array) -> bool:
    return len({tuple(row) for row in rows.tolist()}) == len(rows)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
