"""The output that labels speak of, and the labels in the form that fits it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graphopt.errors import DataError
from graphopt.graph.tensors import Array
from graphopt.tasks.label_advice import misfit
from graphopt.tasks.label_heads import Head, Reading, head_of
from graphopt.tasks.label_values import LEFT_OUT, LabelValues, read_values
from graphopt.tasks.task import Task, TaskKind

__all__ = ["Fitted", "fit_labels"]

_RANKS: Mapping[tuple[TaskKind, TaskKind], int] = {
    ("texts", "texts"): 0,
    ("classes", "classes"): 1,
    ("binary", "binary"): 1,
    ("multi-label", "multi-label"): 1,
    ("mask", "mask"): 1,
    ("indices", "indices"): 2,
    ("multi-label", "classes"): 3,
    ("regression", "classes"): 3,
    ("regression", "binary"): 3,
    ("regression", "multi-label"): 3,
    ("regression", "regression"): 4,
    ("boxes", "boxes"): 5,
}
"""What an output was read as and what labels make of it: the lowest one is meant."""
_MAPS: Sequence[TaskKind] = ("classes", "binary", "mask", "indices")
"""What maps of decisions make of an output."""
_LISTED = 12
"""Most classes that are listed by name."""
_COMPARED: Sequence[TaskKind] = ("embedding", "regression", "classes")
"""What rows of pairs may be, the likeliest first."""


@dataclass(frozen=True)
class Fitted:
    """Labels of one output, in one form for each kind of task.

    Attributes:
        output: Its name.
        task: What the output means, settled by the labels where it was not clear.
        labels: Of ``classes`` class numbers ``(samples, ...)``, as ``shape`` without the axis of
            the classes; of ``binary``, ``multi-label`` and ``mask`` 0 and 1, of ``indices``
            integers (all of the least signed type that holds them), of ``texts`` strings, of the
            others float32, all ``(samples, *shape)``; ``label_values.IGNORED`` where ``ignored``.
            Of pairs float32 ``(pairs,)``.
        shape: Of the output for one sample.
        axis: Of classes or labels in ``(samples, *shape)``; None where there is none.
        ignored: Which labels do not count, of the shape of ``labels``; None for none.
        classes: Names of the classes in the order of their numbers; empty where labels are
            numbers.
        pairs: Whether there is one label for each two samples that follow each other.
        how: What the labels were read as, a phrase.
        from_one: Whether the numbers of the classes were counted from 1.
        resized_from: Of maps: their size before they were read at the places of the output; empty
            where it is the same.
    """

    output: str
    task: Task
    labels: Array
    shape: tuple[int, ...]
    axis: int | None = None
    ignored: NDArray[np.bool_] | None = None
    classes: tuple[str, ...] = ()
    pairs: bool = False
    how: str = ""
    from_one: bool = False
    resized_from: tuple[int, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What should be told of the labels."""
        notes = list[str]()
        if self.classes:
            more = f", ... {self.classes[-1]}" if len(self.classes) > _LISTED else ""
            listed = f"{', '.join(self.classes[:_LISTED])}{more}"
            word = ": the second is yes" if self.task.kind == "binary" else ""
            notes.append(f"labels: {len(self.classes)} classes in sorted order: {listed}{word}")
        if self.from_one:
            counted = f"classes 0 to {self.width - 1}"
            meant = "no and yes" if self.task.kind in ("binary", "mask") else counted
            notes.append(f"labels: they count from 1; 1 to {self.width} are taken as {meant}")
        if self.resized_from:
            before, now = (
                " x ".join(str(size) for size in sizes if size != 1)
                for sizes in (self.resized_from, self.labels.shape[1:])
            )
            notes.append(
                f"labels: maps of {before} are read at the {now} places of {self.output!r}, "
                "nearest neighbour"
            )
        if self.ignored is not None:
            share = float(np.mean(self.ignored))
            notes.append(f"labels: {share:.1%} say that they do not count, and are left out")
        return notes

    @property
    def width(self) -> int:
        """How many classes or labels there are; 2 of a yes or no."""
        if self.task.kind in ("binary", "mask"):
            return 2
        return 1 if self.axis is None else self.shape[self.axis - 1]


def fit_labels(
    labels: Array,
    tasks: Mapping[str, Task],
    answers: Mapping[str, Any],
    *,
    samples: int | None = None,
    rows: int | None = None,
    left_out: Sequence[int] = LEFT_OUT,
) -> Fitted:
    """The output that labels speak of, and the labels in the form that fits it.

    Class numbers may be of any type (float and bool too), one-hot, or texts, which are numbered
    in sorted order; maps of them fit scores at each place. 0 and 1 (or -1 and 1, 0 and 255) fit
    scores of one yes or no, rows of them scores of several labels. What else fits by its shape are
    numbers. Axes of size 1 do not count; maps that fit but for their size are read at the places of
    the output, nearest neighbour. What the user said of an output holds; what is not clear
    is settled by the labels.

    Args:
        labels: Leading axis = samples, or pairs of them.
        tasks: What the outputs mean; only these are looked at.
        answers: Outputs for some samples.
        samples: How many there are in all; None for one a label.
        rows: Samples of ``answers``; None where their leading axes count them.
        left_out: Labels that do not count where they are no class.

    Raises:
        DataError: They fit no output, or several that mean different things.
    """
    heads = [
        head
        for name, task in tasks.items()
        if isinstance(answers.get(name), np.ndarray)
        and (head := head_of(name, task, answers[name], rows)) is not None
    ]
    values = read_values(labels, left_out)
    if samples is not None and 2 * len(labels) == samples:
        return _pairs(values, heads)
    if samples not in (None, len(labels)):
        raise DataError(f"{len(labels)} labels for {samples} samples; give one for each")
    readings = [(head, reading) for head in heads if (reading := head.read(values)) is not None]
    resized = not readings
    if resized:
        readings = [
            (head, reading)
            for head in heads
            if head.map_size is not None
            and (smaller := values.at(head.map_size)) is not None
            and (reading := head.read(smaller)) is not None
            and reading.kind in _MAPS
        ]
    if not readings:
        raise DataError(misfit(values, heads))
    ranks = [_rank(head, reading) for head, reading in readings]
    fits = [_fitted(*each) for each, r in zip(readings, ranks, strict=True) if r == min(ranks)]
    if resized:
        fits = [replace(fit, resized_from=values.shape) for fit in fits]
    return _agreed(fits, values)


def _rank(head: Head, reading: Reading) -> int:
    return -1 if head.task.given else _RANKS[head.task.kind, reading.kind]


def _fitted(head: Head, reading: Reading) -> Fitted:
    task, axis = head.task, reading.axis
    settled = (reading.kind, head.form(reading.kind))
    moved = axis not in (None, head.axis)
    if head.unclear or moved or (task.kind, task.form) != settled:
        kind, form = settled
        counted = None if axis is None else axis + int(head.led)
        task = replace(task, kind=kind, axis=counted, form=form, why=f"the labels: {reading.how}")
    return Fitted(
        head.name,
        task,
        reading.labels,
        head.shape,
        None if axis is None else axis + 1,
        reading.ignored,
        reading.classes,
        how=reading.how,
        from_one=reading.from_one,
    )


def _agreed(fits: Sequence[Fitted], values: LabelValues) -> Fitted:
    """The first of those that all mean the same, else of those with as many classes as seen."""
    exact = [fit for fit in fits if fit.labels.dtype.kind == "i" and _seen(fit) == fit.width]
    for group in (fits, exact):
        if group and len({(fit.task.kind, fit.width) for fit in group}) == 1:
            return group[0]
    listed = ", ".join(f"{fit.output!r} ({fit.task})" for fit in fits)
    raise DataError(f"labels of {values} fit several outputs: {listed}; say what these are")


def _seen(fit: Fitted) -> int:
    return int(fit.labels.max()) + 1


def _pairs(values: LabelValues, heads: Sequence[Head]) -> Fitted:
    """Labels of pairs of rows, which are held against their cosine."""
    fitting = [
        head
        for kind in _COMPARED
        for head in heads
        if head.task.kind == kind and prod(head.shape) > 1 and not head.task.free_rows
    ]
    if not fitting or prod(values.shape) != 1 or values.texts is not None:
        raise DataError(
            f"labels of {values}, one for each pair of samples, must be one number each, beside an "
            "output of vectors"
        )
    head = next((each for each in fitting if len(each.shape) == 1), fitting[0])
    labels = values.numbers.astype(np.float32).reshape(-1)
    how = "one number for each pair of samples"
    return Fitted(head.name, head.task, labels, head.shape, pairs=True, how=how)
