"""Answers against labels: which output they speak of, the loss, what rare classes weigh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphopt.bridge.training import losses
from graphopt.bridge.training.logits import as_logits
from graphopt.contract.training import LossOptions
from graphopt.errors import DataError, UsageError
from graphopt.graph.tensors import Array
from graphopt.tasks.label_values import IGNORED, LEFT_OUT
from graphopt.tasks.labels import Fitted, fit_labels
from graphopt.tasks.task import Task, TaskKind

__all__ = ["Judged", "Shown", "judged_by", "shown_by"]

HardLoss = Literal["cross-entropy", "binary-cross-entropy", "mse", "huber"]

_BY_KIND: Mapping[TaskKind, HardLoss] = {
    "classes": "cross-entropy",
    "binary": "binary-cross-entropy",
    "multi-label": "binary-cross-entropy",
}
_TO_DEVIATION = 1.4826
"""Standard deviation of normal errors over their median absolute deviation."""


@dataclass(frozen=True)
class Judged:
    """The output that labels speak of, and how it is held against them.

    Attributes:
        task: What it means; of classes and labels the axis counts in ``(samples, ...)``.
        hard: The distance.
        led: Whether the output's first axis counts samples; else it is of one sample.
        per_sample: Mean weight of all labels of a sample that count.
        weights: Of the classes by number; of yes-or-no labels first those of no, then of yes, in
            their order; None where all count the same.
        threshold: Of ``huber``.
        columns: How many labels or numbers there are along the axis of the task; 1 without one.
    """

    task: Task
    hard: HardLoss
    led: bool
    per_sample: float = 1.0
    weights: tuple[float, ...] | None = None
    threshold: float = 1.0
    columns: int = 1

    @property
    def of_output(self) -> Task:
        """What the output means as the model gives it."""
        axis = self.task.axis
        return replace(self.task, axis=axis if axis is None or self.led else axis - 1)

    def values(self, answer: Tensor) -> Tensor:
        """The output as logits or numbers, samples on the first axis, that of the task last."""
        found = as_logits(answer.float() if self.led else answer.float()[None], self.task)
        return found if self.task.kind == "classes" else self._moved(found)

    def told(self, labels: Tensor) -> Tensor:
        """The labels along the axes of ``values``; those of classes have no axis of classes."""
        return labels if self.task.kind == "classes" else self._moved(labels)

    def _moved(self, values: Tensor) -> Tensor:
        return values if self.task.axis is None else values.movedim(self.task.axis, -1)

    def counted(self, labels: Tensor) -> Tensor:
        """Which labels say something."""
        return ~labels.isnan() if labels.is_floating_point() else labels != IGNORED

    def loss(self, answer: Tensor, labels: Tensor) -> Tensor:
        """The mean loss of a batch; parts of a batch add up to it, whatever is left out of them.

        Args:
            answer: The output.
            labels: ``(samples, ...)``, as ``judged_by`` gives them.
        """
        values, wanted = self.values(answer), self.told(labels)
        counted = self.counted(wanted)
        wanted = torch.where(counted, wanted, torch.zeros_like(wanted))
        each = self._each(values, wanted)
        if self.weights is not None:
            each = each * self._weighed(each, wanted.to(torch.int64))
        each = torch.where(counted, each, torch.zeros_like(each))
        return each.sum() / (len(labels) * self.per_sample)

    def _each(self, values: Tensor, labels: Tensor) -> Tensor:
        if self.hard == "cross-entropy":
            return losses.cross_entropy(values, labels)
        if self.hard == "binary-cross-entropy":
            return losses.binary_cross_entropy(values, labels)
        if self.hard == "huber":
            return losses.huber(values, labels, self.threshold)
        return losses.square(values, labels)

    def _weighed(self, each: Tensor, labels: Tensor) -> Tensor:
        weights = torch.tensor(self.weights, dtype=each.dtype, device=each.device)
        if self.hard == "cross-entropy":
            return weights[labels]
        no, yes = weights.reshape(2, -1)
        return torch.where(labels > 0, yes, no)


@dataclass(frozen=True)
class Shown:
    """The places of an output of classes that labels do not mark as saying nothing.

    Attributes:
        output: Its name.
        per_sample: Mean number of such places in a sample.
    """

    output: str
    per_sample: float

    def places(self, labels: Tensor) -> Tensor:
        """Which places count, along the axes of the output but that of the classes."""
        return labels != IGNORED


def shown_by(output: str, judged: Judged, labels: Array) -> Shown | None:
    """What labels leave out of an output, padding above all; None where they leave out nothing.

    Args:
        output: Its name.
        judged: How it is held against the labels.
        labels: All of them, as ``judged_by`` gives them.
    """
    counted = labels != IGNORED
    if judged.task.kind != "classes" or not judged.led or labels.ndim == 1 or counted.all():
        return None
    return Shown(output, float(counted.sum()) / len(labels))


def judged_by(
    labels: Array | None,
    tasks: Mapping[str, Task],
    answers: Mapping[str, Array],
    options: LossOptions,
    rows: int | None = None,
) -> tuple[str, Judged, Array]:
    """The output that labels speak of, how it is held against them, and the labels for that.

    Args:
        labels: All of them, one for each sample; None without.
        tasks: Of the outputs that count.
        answers: Outputs for some samples.
        options: ``hard``, ``ignore`` and ``class_weights`` count.
        rows: Samples of ``answers``; None where leading axes count them.

    Returns:
        Name, ``Judged``, and labels ``(samples, ...)``: whole numbers with ``IGNORED``, or floats
        with NaN, where nothing is said.

    Raises:
        DataError: There are none, they fit no output, or all of them are to be ignored.
        UsageError: Classes are to be weighed and there are none.
    """
    if labels is None:
        raise DataError(
            "the training data has no labels; add an array 'labels' (labels.npy in a folder)"
        )
    marked, left_out = None, list(LEFT_OUT)
    if options.ignore is not None:
        marked, left_out = _marked(labels, options.ignore), [IGNORED]
        wide = labels if labels.dtype.kind == "f" else labels.astype(np.int64)
        labels = np.where(marked, wide.dtype.type(IGNORED), wide)
    words = {n: _as_said(task, answers[n], options.hard) for n, task in tasks.items()}
    fitted = fit_labels(labels, words, answers, rows=rows, left_out=left_out)
    judged = Judged(
        replace(fitted.task, axis=fitted.axis),
        _hard(options.hard, fitted.task),
        answers[fitted.output].ndim > len(fitted.shape),
    )
    if fitted.task.kind in _BY_KIND:
        values = np.asarray(fitted.labels, np.int64)
        counted = np.ones(values.shape, bool) if fitted.ignored is None else ~fitted.ignored
    else:
        values = np.asarray(fitted.labels, np.float32)
        values = (
            values if marked is None else np.where(marked.reshape(values.shape), np.nan, values)
        )
        counted = ~np.isnan(values)
    if not counted.any():
        raise DataError(f"all labels of the training data are {options.ignore}, to be ignored")
    if judged.task.kind != "classes" and judged.task.axis is not None:
        judged = replace(judged, columns=values.shape[judged.task.axis])
    if options.class_weights == "balanced":
        judged = replace(judged, weights=_balanced(judged, values, counted, fitted))
    total = _total(judged, values, counted)
    judged = replace(judged, per_sample=total / len(values))
    if judged.hard == "huber":
        judged = replace(judged, threshold=_spread(values[counted]))
    return fitted.output, judged, values


def _marked(labels: Array, ignore: int) -> NDArray[np.bool_]:
    """Which labels say nothing.

    Raises:
        UsageError: They are no numbers.
    """
    if labels.dtype.kind not in "iufb":
        raise UsageError(f"ignore={ignore}: labels of type {labels.dtype} are no numbers")
    return np.asarray(labels == ignore)


def _as_said(task: Task, answer: Array, hard: str) -> Task:
    """What an output means where the user names the loss."""
    if hard == "auto" or task.given:
        return task
    if hard in ("mse", "huber"):
        return replace(task, kind="regression", form=None, given=True)
    axis = task.axis if task.axis is not None else answer.ndim - 1
    kind: TaskKind = "classes"
    if hard == "binary-cross-entropy":
        one = task.kind == "binary" or answer.ndim < 2 or answer.shape[axis] == 1
        kind = "binary" if one else "multi-label"
    return replace(
        task,
        kind=kind,
        axis=None if kind == "binary" else axis,
        form=task.form or "logits",
        given=True,
    )


def _hard(hard: str, task: Task) -> HardLoss:
    if hard != "auto":
        return hard  # type: ignore[return-value]  # the other choices of the option
    return _BY_KIND.get(task.kind, "mse")


def _balanced(
    judged: Judged, labels: Array, counted: NDArray[np.bool_], fitted: Fitted
) -> tuple[float, ...]:
    """All over classes times count of each, so that every class has the same sum of weights."""
    if judged.hard == "cross-entropy":
        assert judged.task.axis is not None
        classes = fitted.shape[judged.task.axis - 1]
        counts = np.bincount(labels[counted].astype(np.int64), minlength=classes)
        present = int((counts > 0).sum())
    elif judged.hard == "binary-cross-entropy":
        columns = _columns(judged, labels), _columns(judged, counted)
        counts = np.stack([((columns[0] == value) & columns[1]).sum(0) for value in (0, 1)])
        present = 2
    else:
        raise UsageError("class_weights=balanced weighs classes, and the labels are numbers")
    sums = counts.sum(0)
    weights = np.where(counts > 0, sums / np.maximum(1, present * counts), 0.0)
    return tuple(float(weight) for weight in weights.reshape(-1))


def _columns(judged: Judged, labels: Array) -> Array:
    """Yes-or-no labels as ``(all, labels)``."""
    if judged.task.axis is None:
        return labels.reshape(-1, 1)
    moved = np.moveaxis(labels, judged.task.axis, -1)
    return moved.reshape(-1, moved.shape[-1])


def _total(judged: Judged, labels: Array, counted: NDArray[np.bool_]) -> float:
    """The sum of the weights of all labels that count."""
    if judged.weights is None:
        return float(counted.sum())
    weights = np.asarray(judged.weights)
    if judged.hard == "cross-entropy":
        return float(weights[labels[counted]].sum())
    columns, known = _columns(judged, labels), _columns(judged, counted)
    no, yes = weights.reshape(2, -1)
    return float((np.where(columns > 0, yes, no) * known).sum())


def _spread(values: Array) -> float:
    """The standard deviation that most of the numbers show; outliers do not count."""
    middle = np.median(values)
    spread = _TO_DEVIATION * float(np.median(np.abs(values - middle)))
    return spread or float(values.std()) or 1.0
