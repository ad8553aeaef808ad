"""Boxes as labels: how they are written is told from those that a model finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.box_heads import Boxes, BoxHead, box_head
from graphopt.tasks.matching import corners, overlaps
from graphopt.tasks.task import Task, TaskKind

__all__ = ["FittedBoxes", "fit_boxes", "holds_boxes"]

_COORDINATES = 4
_NEAR = 0.5
"""Overlap from which two boxes are the same."""


def _of_corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes


def _of_corner_and_size(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _of_centre_and_size(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)


_FORMS: Mapping[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "two corners": _of_corners,
    "a corner and a size": _of_corner_and_size,
    "a centre and a size": _of_centre_and_size,
}
_ORDERS = {"": [0, 1, 2, 3], ", rows before columns": [1, 0, 3, 2]}


@dataclass(frozen=True)
class FittedBoxes:
    """Boxes that are there, beside the outputs of a detector.

    Attributes:
        head: The outputs.
        task: What the output of the boxes means.
        boxes: Those of each sample, as two corners.
        form: How the model writes them.
        ranked: Whether the model gives scores.
        how: What the labels were read as, a phrase.
    """

    head: BoxHead
    task: Task
    boxes: Sequence[Boxes]
    form: str
    ranked: bool
    how: str

    @property
    def output(self) -> str:
        """The output of the boxes."""
        return self.head.boxes

    @property
    def notes(self) -> list[str]:
        """What should be told of the labels."""
        return [f"labels: {self.how}"]

    def found(self, answer: Mapping[str, Any], samples: int) -> list[Boxes]:
        """What a model found in each sample, as two corners.

        Raises:
            DataError: The outputs do not fit each other.
        """
        every = self.head.found(answer, samples)
        return [Boxes(_FORMS[self.form](e.boxes), e.classes, e.scores) for e in every]


def holds_boxes(labels: Array) -> bool:
    """Whether labels look like boxes: ``(samples, most boxes, 4 or 5)`` numbers."""
    return labels.ndim == 3 and labels.shape[2] in (4, 5) and labels.dtype.kind in "fiu"


def fit_boxes(
    labels: Array,
    tasks: Mapping[str, Task],
    seen: Sequence[tuple[Mapping[str, Any], int]],
) -> FittedBoxes:
    """The detector's outputs, and the labels as two corners.

    A class stands before or behind the four numbers of a box; these are two corners, a corner and
    a size, or a centre and a size. That by which most boxes overlap some of the model's by half is
    meant. Rows whose four numbers are the same fill up.

    Args:
        labels: ``(samples, most boxes, 4 or 5)``.
        tasks: What the outputs mean.
        seen: Answers to the first samples, feed by feed, and how many samples each has.

    Raises:
        DataError: The model has no output of boxes, or no box overlaps.
    """
    head = box_head(tasks, *seen[0]) if seen else None
    if head is None:
        raise DataError("no output holds boxes, one row each, that were selected")
    found = [boxes for answer, samples in seen for boxes in head.found(answer, samples)]
    every = np.concatenate([each.boxes for each in found])
    form = "two corners" if corners(every) else "a centre and a size"
    ours = [_FORMS[form](each.boxes) for each in found]
    places = _columns(labels)
    if not places:
        raise DataError("rows of five hold no class number, neither first nor last")
    best, most = None, 0
    for columns, written, order in product(places, _FORMS, _ORDERS):
        read = _Reading(columns, written, order)
        hits = sum(_hits(read.boxes(rows), mine) for rows, mine in zip(labels, ours, strict=False))
        if hits > most:
            best, most = read, hits
    if best is None:
        raise DataError(
            f"no box of the labels overlaps one of output {head.boxes!r} by half; they must be in "
            "its unit"
        )
    task = tasks[head.boxes]
    if not task.given and task.kind == "regression":
        alone = found[0].scores is None or bool(head.scores)
        kind: TaskKind = "boxes" if alone else "detections"
        packed = None if alone else head.columns
        task = replace(task, kind=kind, columns=packed, why=f"the labels: {best.how}")
    boxes = [Boxes(best.boxes(rows), best.classes(rows)) for rows in labels]
    ranked = any(each.scores is not None for each in found)
    return FittedBoxes(head, task, boxes, form, ranked, best.how)


@dataclass(frozen=True)
class _Reading:
    """One way to read rows: where their numbers stand, and what they are."""

    columns: tuple[int, int | None]
    written: str
    order: str

    @property
    def how(self) -> str:
        return f"boxes of {self.written}{self.order}"

    def boxes(self, rows: Array) -> NDArray[np.float64]:
        first, _ = self.columns
        boxes = _told(rows, first)[:, first : first + _COORDINATES].astype(np.float64)
        return _FORMS[self.written](boxes[:, _ORDERS[self.order]])

    def classes(self, rows: Array) -> NDArray[np.int64] | None:
        first, place = self.columns
        if place is None:
            return None
        classes: NDArray[np.int64] = _told(rows, first)[:, place].astype(np.int64)
        return classes


def _told(rows: Array, first: int) -> Array:
    """The rows that do not only fill up."""
    boxes = rows[:, first : first + _COORDINATES]
    told: Array = rows[(boxes != boxes[:, :1]).any(axis=1)]
    return told


def _columns(labels: Array) -> list[tuple[int, int | None]]:
    """Where boxes begin, and where their class stands."""
    if labels.shape[2] == _COORDINATES:
        return [(0, None)]
    return [(first, place) for first, place in ((0, 4), (1, 0)) if _whole(labels[..., place])]


def _whole(values: Array) -> bool:
    return bool((values == np.floor(values)).all())


def _hits(labels: NDArray[np.float64], found: NDArray[np.float64]) -> int:
    if not len(labels) or not len(found) or not corners(labels):
        return 0
    return int((overlaps(labels, found) >= _NEAR).any(axis=1).sum())
