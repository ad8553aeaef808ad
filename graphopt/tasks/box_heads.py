"""The outputs of a detector that belong together: boxes, their classes and their scores."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.task import Columns, Task

__all__ = ["BoxHead", "Boxes", "box_head"]

_COORDINATES = 4
_LAYOUTS: Mapping[int, Columns] = {
    4: Columns(0),
    5: Columns(0, 4),
    6: Columns(0, 4, (5,)),
    7: Columns(1, 6, (0, 5)),
}
"""By the columns of a row what they hold where their values do not say it. Rows of seven begin with
the number of the sample."""
_MOST_ROWS = 1000
"""More boxes than that are what a selection starts from, not what was found."""
_COUNTS = re.compile(r"num|count|valid", re.IGNORECASE)


@dataclass(frozen=True)
class Boxes:
    """What was found in one sample, or is there.

    Attributes:
        boxes: ``(rows, 4)``, in whatever form.
        classes: ``(rows,)`` numbers; None where there are none.
        scores: ``(rows,)``; None where there are none.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None

    def __getitem__(self, rows: Any) -> Boxes:
        classes = None if self.classes is None else self.classes[rows]
        return Boxes(self.boxes[rows], classes, None if self.scores is None else self.scores[rows])


@dataclass(frozen=True)
class BoxHead:
    """Names of the outputs; empty where there is none.

    Attributes:
        boxes: Rows of four numbers, beside a score and a class or without.
        columns: What these rows hold.
        classes: Class numbers, apart from the boxes.
        scores: One score a row, or one for each class.
        count: How many rows of a sample were found.
        apart: Whether an answer is that of one sample.
    """

    boxes: str
    columns: Columns
    classes: str = ""
    scores: str = ""
    count: str = ""
    apart: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        """All names that there are."""
        return tuple(filter(None, (self.boxes, self.classes, self.scores, self.count)))

    def found(self, answer: Mapping[str, Any], samples: int) -> list[Boxes]:
        """What was found in each of the samples of an answer.

        Raises:
            DataError: The outputs do not fit each other.
        """
        rows = _rows(answer.get(self.boxes), samples)
        if rows is None:
            raise DataError(f"output {self.boxes!r} does not hold boxes of {samples} samples")
        beside = {
            name: self._beside(answer, name, rows) for name in (self.classes, self.scores) if name
        }
        counts = np.full(samples, rows.shape[1])
        if self.count:
            counts = np.asarray(answer[self.count]).reshape(-1)[:samples].astype(np.int64)
        return [
            self._of_one(rows[n], {name: each[n] for name, each in beside.items()}, int(counts[n]))
            for n in range(samples)
        ]

    def _beside(self, answer: Mapping[str, Any], name: str, rows: Array) -> Array:
        columns = _columns(np.asarray(answer.get(name)), rows.shape[:2])
        if columns is None:
            raise DataError(f"outputs {self.boxes!r} and {name!r} have other numbers of rows")
        return columns

    def _of_one(self, rows: Array, beside: Mapping[str, Array], count: int) -> Boxes:
        first, score, label = self.columns.box, self.columns.score, self.columns.label
        boxes = rows[:, first : first + _COORDINATES].astype(np.float64)
        scores = None if score is None else rows[:, score].astype(np.float64)
        classes = None if label is None else rows[:, label].astype(np.int64)
        if self.scores:
            each = beside[self.scores].astype(np.float64)
            scores = each.max(axis=1)
            classes = each.argmax(axis=1) if each.shape[1] > 1 else None
        if self.classes:
            classes = beside[self.classes][:, 0].astype(np.int64)
        told = np.isfinite(boxes).all(axis=1) & (boxes != boxes[:, :1]).any(axis=1)
        return Boxes(boxes, classes, scores)[told & (np.arange(len(boxes)) < count)]


def box_head(tasks: Mapping[str, Task], answer: Mapping[str, Any], samples: int) -> BoxHead | None:
    """The outputs of a detector; None where there is no output of boxes.

    Args:
        tasks: What the outputs mean.
        answer: Outputs for some samples.
        samples: How many.
    """
    for name in sorted(tasks, key=lambda name: tasks[name].kind not in ("boxes", "detections")):
        task, rows = tasks[name], _rows(answer.get(name), samples)
        clear = task.kind in ("boxes", "detections") or (
            task.kind == "regression" and not task.given
        )
        if rows is None or not clear or rows.shape[2] not in _LAYOUTS:
            continue
        if task.free_rows or rows.shape[1] <= _MOST_ROWS:
            return _with_others(name, rows, tasks, answer)
    return None


def _with_others(
    name: str, rows: Array, tasks: Mapping[str, Task], answer: Mapping[str, Any]
) -> BoxHead:
    """What lies beside boxes, row by row."""
    columns = tasks[name].columns or _LAYOUTS[rows.shape[2]]
    classes = scores = count = ""
    for other, task in tasks.items():
        values = answer.get(other)
        if other == name or not isinstance(values, np.ndarray):
            continue
        beside = _columns(values, rows.shape[:2])
        if beside is None:
            counted = values.size == len(rows) and values.dtype.kind in "iu"
            count = other if counted and _COUNTS.search(other) else count
        elif task.kind == "indices" and beside.shape[2] == 1:
            classes = classes or (other if columns.label is None else "")
        elif values.dtype.kind == "f" and task.kind not in ("boxes", "embedding"):
            scores = scores or (other if columns.score is None else "")
    return BoxHead(name, columns, classes, scores, count, apart=answer[name].ndim == 2)


def _rows(values: Any, samples: int) -> Array | None:
    """Boxes as ``(samples, rows, columns)``; None where they are none."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        return None
    if values.ndim == 2 and samples == 1:
        return values[None]
    if values.ndim == 3 and len(values) == samples:
        return values
    return None


def _columns(values: Array, rows: tuple[int, ...]) -> Array | None:
    """What lies beside boxes as ``(samples, rows, columns)``; None where it does not."""
    samples, count = rows
    if values.shape == rows:
        return values[:, :, None]
    if values.ndim == 3 and values.shape[:2] == rows:
        return values
    if samples == 1 and values.shape[:1] == (count,) and values.ndim in (1, 2):
        return values[None, :, None] if values.ndim == 1 else values[None]
    return None
