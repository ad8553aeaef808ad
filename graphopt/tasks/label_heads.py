"""One output, and the ways in which labels can speak of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from graphopt.graph.tensors import Array
from graphopt.tasks.label_values import IGNORED, LabelValues, Marked
from graphopt.tasks.task import Form, Task, TaskKind

__all__ = ["Head", "Reading", "columns", "head_of", "same_places", "without"]

_NEAR = 1e-3
"""How exactly shares sum to one."""


@dataclass(frozen=True)
class Reading:
    """Labels read as those of an output.

    Attributes:
        kind: What they make of the output.
        labels: See ``graphopt.tasks.labels.Fitted``.
        ignored: Which are left out; None for none.
        how: What they were read as, a phrase.
        axis: Of classes and labels, in the shape of one sample.
        classes: Names of the classes, of texts.
        from_one: Whether the numbers of the classes were counted from 1.
    """

    kind: TaskKind
    labels: Array
    ignored: NDArray[np.bool_] | None
    how: str
    axis: int | None = None
    classes: tuple[str, ...] = ()
    from_one: bool = False


_Way = Callable[[LabelValues], Reading | None]


@dataclass(frozen=True)
class Head:
    """An output as labels see it.

    Attributes:
        name: Its name.
        task: What it was read as.
        answer: Some of its values.
        shape: Of one sample.
        led: Whether its first axis counts samples.
    """

    name: str
    task: Task
    answer: Array
    shape: tuple[int, ...]
    led: bool

    @property
    def axis(self) -> int | None:
        """The axis of classes in the shape of one sample."""
        if self.task.axis is None:
            lonely = not self.led and len(self.shape) == 1 and self.task.kind == "regression"
            return 0 if lonely else None
        axis = self.task.axis - int(self.led)
        return axis if 0 <= axis < len(self.shape) else None

    @property
    def unclear(self) -> bool:
        """Whether labels may settle what it is."""
        return self.task.kind == "regression" and not self.task.given

    @property
    def map_size(self) -> tuple[int, int] | None:
        """Height and width where it decides at each place of a map; None where it does not."""
        if self.axis is not None and (self.unclear or self.task.kind == "classes"):
            places = without(self.shape, self.axis)
        elif self.task.kind in ("binary", "mask", "indices"):
            places = tuple(size for size in self.shape if size != 1)
        else:
            return None
        return (places[0], places[1]) if len(places) == 2 else None

    def read(self, values: LabelValues) -> Reading | None:
        """The labels as those of this output, in the surest way; None where they fit none."""
        by_kind: Mapping[TaskKind, Sequence[_Way]] = {
            "classes": [self._numbers, self._one_hot, self._shares],
            "binary": [self._yes_or_no],
            "multi-label": [self._several, *([] if self.task.given else [self._numbers])],
            "regression": [self._values],
            "boxes": [self._values],
            "indices": [self._same],
            "mask": [self._yes_or_no],
            "texts": [self._texts],
        }
        ways = by_kind.get(self.task.kind, [])
        if self.unclear:
            ways = [self._numbers, self._yes_or_no, self._one_hot, self._several, self._values]
        readings = (way(values) for way in ways if not self.task.free_rows)
        return next((reading for reading in readings if reading is not None), None)

    def form(self, kind: TaskKind) -> Form | None:
        """How its scores are written, once it is of a kind."""
        if kind not in ("classes", "binary", "multi-label"):
            return None
        within = self.answer.size > 0 and bool(((self.answer >= 0) & (self.answer <= 1)).all())
        shares = within and not self.task.sums
        return self.task.form or ("probabilities" if shares else "logits")

    def _numbers(self, values: LabelValues) -> Reading | None:
        """Numbers of classes, one for each place."""
        if self.axis is None:
            return None
        guessed = self.unclear or (self.task.form == "logits" and not self.task.given)
        others = [n for n in range(len(self.shape)) if n != self.axis] if guessed else []
        for axis in (self.axis, *others):
            width, rest = self.shape[axis], without(self.shape, axis)
            if width < 2 or not same_places(rest, values.shape):
                continue
            named = values.named(width)
            if (marked := named.below(width)) is not None:
                labels, ignored = _laid(marked, rest)
                how = "texts" if named.classes else "class numbers"
                return Reading("classes", labels, ignored, how, axis, named.classes)
        return self._numbers_from_one(values)

    def _numbers_from_one(self, values: LabelValues) -> Reading | None:
        """Numbers of classes that count from 1, where that is certain."""
        width, rest = self.shape[self._class_axis], without(self.shape, self._class_axis)
        marked = values.from_one(width) if width > 1 and same_places(rest, values.shape) else None
        if marked is None:
            return None
        labels, ignored = _laid(marked, rest)
        how = "class numbers from 1"
        return Reading("classes", labels, ignored, how, self.axis, from_one=True)

    def _yes_or_no(self, values: LabelValues) -> Reading | None:
        """0 and 1 for each value of an output of one column, or of a mask."""
        kind = self.task.kind
        if kind == "regression" and columns(self.shape, self.axis) > 1:
            return None
        kind = "mask" if kind == "mask" else "binary"
        if values.shape[-1:] == (2,) and same_places(self.shape, values.shape[:-1]):
            second = values.second_of_two
            how = "one-hot rows, the second is yes"
            return None if second is None else Reading(kind, _placed(second, self.shape), None, how)
        if not same_places(self.shape, values.shape):
            return None
        values = values.named(2)
        marked = values.below(2)
        from_one = marked is None and not self.unclear
        if from_one:
            marked = values.from_one(2)
        if marked is None:
            return None
        labels, ignored = _laid(marked, self.shape)
        return Reading(kind, labels, ignored, "yes or no", None, values.classes, from_one)

    def _one_hot(self, values: LabelValues) -> Reading | None:
        """Rows of zeros with a single one."""
        laid = self._aligned(values)
        if laid is None or not values.whole or not ((laid == 0) | (laid == 1)).all():
            return None
        if not (laid.sum(axis=1 + self._class_axis) == 1).all():
            return None
        return self._largest(laid, "one-hot rows")

    def _shares(self, values: LabelValues) -> Reading | None:
        """Rows that sum to one, of which the largest is taken."""
        laid = self._aligned(values)
        if laid is None or (laid < 0).any():
            return None
        if not np.allclose(laid.sum(axis=1 + self._class_axis), 1, atol=_NEAR):
            return None
        return self._largest(laid, "the largest of shares")

    def _several(self, values: LabelValues) -> Reading | None:
        """0 and 1 for each of several labels, or texts that list those that are 1."""
        alone = self.axis is not None and same_places(without(self.shape, self.axis), ())
        width = self.shape[self._class_axis] if alone else 0
        listed = values.listed(width, words=not self.unclear) if alone else None
        if listed is not None:
            rows, names = _placed(listed[0], self.shape), listed[1]
            how = "texts that list labels"
            return Reading("multi-label", rows, None, how, self.axis, names)
        marked = values.below(2)
        if marked is None or self._aligned(values) is None:
            return None
        labels, ignored = marked[0], marked[1]
        if ignored is not None:
            ignored = self._as_laid(ignored)
        laid = self._as_laid(labels)
        assert laid is not None
        return Reading("multi-label", laid, ignored, "rows of 0 and 1", self.axis)

    def _values(self, values: LabelValues) -> Reading | None:
        """Numbers as they are."""
        if values.texts is not None or not same_places(self.shape, values.shape):
            return None
        labels = _placed(values.numbers.astype(np.float32), self.shape)
        return Reading(self.task.kind, labels, None, "numbers", self.axis)

    def _same(self, values: LabelValues) -> Reading | None:
        """The integers that the output gives."""
        marked = values.known() if same_places(self.shape, values.shape) else None
        if marked is None:
            return None
        labels, ignored = _laid(marked, self.shape)
        return Reading("indices", labels, ignored, "whole numbers")

    def _texts(self, values: LabelValues) -> Reading | None:
        """The texts that the output gives."""
        texts = values.texts
        if texts is None and values.whole and all(_is_whole(text) for text in self.answer.flat):
            texts = values.numbers.astype(np.str_)
        if texts is None or not same_places(self.shape, values.shape):
            return None
        ignored = _placed(values.numbers == IGNORED, self.shape) if values.classes else None
        if ignored is not None and not ignored.any():
            ignored = None
        return Reading("texts", _placed(texts, self.shape), ignored, "texts")

    @property
    def _class_axis(self) -> int:
        assert self.axis is not None
        return self.axis

    def _largest(self, laid: Array, how: str) -> Reading:
        labels = laid.argmax(axis=1 + self._class_axis).astype(np.int64)
        return Reading("classes", labels, None, how, self.axis)

    def _aligned(self, values: LabelValues) -> Array | None:
        """Labels of the output's own shape; None where they are not, or nothing lies along it."""
        if self.axis is None or self.shape[self.axis] < 2:
            return None
        if values.texts is not None:
            return None
        return self._as_laid(values.numbers)

    def _as_laid(self, labels: Array) -> Array | None:
        """An array of the output's shape, its channels first or last."""
        if same_places(self.shape, labels.shape[1:]):
            return _placed(labels, self.shape)
        last = (*without(self.shape, self._class_axis), self.shape[self._class_axis])
        if labels.shape[1:] == last:
            return np.moveaxis(labels, -1, 1 + self._class_axis)
        return None


def head_of(name: str, task: Task, answer: Array, rows: int | None) -> Head | None:
    """An output as labels see it; None where it does not say which values belong to a sample.

    Args:
        name: Of the output.
        task: What it was read as.
        answer: Its values for some samples.
        rows: How many; None where its first axis counts them.
    """
    shape = answer.shape
    if shape and rows in (None, shape[0]):
        return Head(name, task, answer, shape[1:], led=True)
    if rows in (None, 1):
        return Head(name, task, answer, shape, led=False)
    if not shape or shape[0] % rows:
        return None
    return Head(name, task, answer, (shape[0] // rows, *shape[1:]), led=False)


def _placed(labels: Array, shape: tuple[int, ...]) -> Array:
    return labels.reshape(len(labels), *shape)


def _laid(marked: Marked, shape: tuple[int, ...]) -> Marked:
    labels, ignored = marked
    return _placed(labels, shape), None if ignored is None else _placed(ignored, shape)


def without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A shape without one of its axes."""
    return shape[:axis] + shape[axis + 1 :]


def same_places(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether shapes are the same but for axes of size 1."""
    return [n for n in first if n != 1] == [n for n in second if n != 1]


def columns(shape: tuple[int, ...], axis: int | None) -> int:
    """Values along an axis; all of them without one."""
    return prod(shape) if axis is None else shape[axis]


def _is_whole(text: object) -> bool:
    return str(text).removeprefix("-").isdecimal()
