"""What is measured with labels: figures of ours over the output that they fit, or a function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from graphopt.callables import imported
from graphopt.data.samples import Samples
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph.tensors import Array
from graphopt.options import near_miss
from graphopt.tasks.box_labels import FittedBoxes, fit_boxes, holds_boxes
from graphopt.tasks.figures import FIGURES, figures_of, shown
from graphopt.tasks.labels import Fitted, fit_labels
from graphopt.tasks.scoring import filled_up
from graphopt.tasks.task import Task

__all__ = [
    "FunctionMetric",
    "LabelMetric",
    "MetricFunction",
    "SeenAnswers",
    "TaskMetric",
    "find_metric",
]

MetricFunction = Callable[[Sequence[Any], Array], float]
"""Takes what all samples gave for each output, in the model's order, and the labels as they are;
higher is better. An output is one array whose leading axis counts samples, or a list with what each
sample gave: where the number of its rows depends on the data, and sequences and maps."""


@dataclass(frozen=True)
class LabelMetric:
    """Figures of the output that the labels fit.

    Attributes:
        names: Of the figures; the first one decides.
        fitted: The output and its labels.
        foldered: Whether the labels are subfolders.
    """

    names: tuple[str, ...]
    fitted: Fitted | FittedBoxes
    foldered: bool = False

    @property
    def name(self) -> str:
        """Of the figure that decides."""
        return self.names[0]

    @property
    def task(self) -> Task:
        """What the output means that is judged."""
        return self.fitted.task

    @property
    def notes(self) -> list[str]:
        """What should be told of the labels; classes that are subfolders are with the samples."""
        if self.foldered and isinstance(self.fitted, Fitted):
            return replace(self.fitted, classes=()).notes
        return self.fitted.notes


@dataclass(frozen=True)
class FunctionMetric:
    """A function of the user's.

    Attributes:
        name: Its name.
        function: See ``MetricFunction``.
        apart: Outputs that it gets as a list, sample by sample.
        notes: What should be told.
        task: None, since it judges them all.
    """

    name: str
    function: MetricFunction
    apart: frozenset[str] = frozenset()
    notes: ClassVar[Sequence[str]] = ()
    task: ClassVar[None] = None


TaskMetric = LabelMetric | FunctionMetric


@dataclass(frozen=True)
class SeenAnswers:
    """What a model answered to the first samples.

    Attributes:
        feeds: Outputs by name, feed by feed, and how many samples each feed has.
    """

    feeds: Sequence[tuple[Mapping[str, Any], int]]

    def joined(self, labels: Array) -> dict[str, Array]:
        """One array an output, its samples one after the other.

        Where they are of different sizes, those of labels that are filled up, with zeros.
        """
        outputs = dict[str, Array]()
        for name in self.feeds[0][0]:
            parts = [answer[name] for answer, _ in self.feeds]
            arrays = [np.atleast_1d(part) for part in parts if isinstance(part, np.ndarray)]
            shapes = {array.shape[1:] for array in arrays}
            if len(arrays) < len(parts) or len({len(shape) for shape in shapes}) != 1:
                continue
            if len(shapes) > 1:
                most = _largest(shapes, labels.shape[1:])
                if most is None:
                    continue
                arrays = [filled_up(array, most) for array in arrays]
            outputs[name] = np.concatenate(arrays)
        return outputs

    def _of_one_size(self, name: str) -> bool:
        return len({np.shape(answer[name])[1:] for answer, _ in self.feeds}) == 1

    def fit(self, samples: Samples, tasks: Mapping[str, Task]) -> Fitted | FittedBoxes:
        """The labels of samples, as those of the outputs that they fit.

        Raises:
            DataError: They fit none.
        """
        labels, rows = samples.labels, sum(number for _, number in self.feeds)
        assert labels is not None
        answers = self.joined(labels)
        try:
            fitted = fit_labels(labels, tasks, answers, samples=samples.count, rows=rows)
            if fitted.ignored is None and not self._of_one_size(fitted.output):
                raise DataError(
                    f"labels of shape {list(labels.shape)} do not say what of them counts where "
                    f"output {fitted.output!r} is smaller; -100 does"
                )
            return fitted
        except DataError as err:
            if not holds_boxes(labels) or len(labels) != samples.count:
                raise
            try:
                return fit_boxes(labels, tasks, self.feeds)
            except DataError as also:
                raise DataError(f"{err}; and as boxes: {also}") from err


def _largest(
    shapes: Collection[tuple[int, ...]], labels: tuple[int, ...]
) -> tuple[int, ...] | None:
    """The size of samples of different sizes that labels are filled up to; None where none is."""
    sizes = [set(axis) for axis in zip(*shapes, strict=True)]
    varied = [n for n, axis in enumerate(sizes) if len(axis) > 1]
    if len(varied) != len(labels) or any(max(sizes[n]) > labels[i] for i, n in enumerate(varied)):
        return None
    most = [max(axis) for axis in sizes]
    for axis, size in zip(varied, labels, strict=True):
        most[axis] = size
    return tuple(most)


_LISTED = ("container",)


def find_metric(
    metric: str | MetricFunction | None,
    samples: Samples | None,
    tasks: Mapping[str, Task],
    seen: SeenAnswers | None,
) -> TaskMetric | None:
    """The metric asked for, or those that the labels suggest; None without labels.

    Args:
        metric: A name, ``module:function``, a function, or None.
        samples: Those of the evaluation.
        tasks: What the outputs mean.
        seen: What the reference answered to some of them; None where it cannot be run, so that
            nothing is measured.

    Raises:
        UsageError: No metric has that name, there is no such function, or nothing to evaluate on.
        DataError: The function's module raises on import, a metric is asked for and the
            evaluation data has no labels, or the labels fit no output, or not that metric.
    """
    labels = None if samples is None else samples.labels
    if samples is None or labels is None:
        if metric is None:
            return None
        if samples is None:
            raise UsageError("a metric needs evaluation samples with labels", Need.EVALUATION)
        raise DataError(
            "a metric needs labels, and the evaluation samples have none; add an array 'labels' "
            "(labels.npy in a folder)"
        )
    if isinstance(metric, str) and ":" not in metric and metric not in FIGURES:
        hint = near_miss(metric, FIGURES)
        raise UsageError(f"unknown metric {metric!r}{hint}; or module:function")
    if callable(metric) or (metric is not None and ":" in metric):
        function = metric if callable(metric) else imported(metric)
        name = metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")
        apart = {t.output for t in tasks.values() if t.free_rows or t.kind in _LISTED}
        return FunctionMetric(name, function, frozenset(apart))
    if seen is None:
        return None
    fitted = seen.fit(samples, tasks)
    return LabelMetric(_names(metric, fitted), fitted, bool(getattr(samples, "classes", ())))


def _names(metric: str | None, fitted: Fitted | FittedBoxes) -> tuple[str, ...]:
    names = shown(fitted)
    if metric is None:
        return names
    fitting = figures_of(fitted)
    if metric not in fitting:
        raise DataError(
            f"metric {metric!r} does not fit the labels, read as {fitted.how} of output "
            f"{fitted.output!r}: {fitted.task}; what fits: {', '.join(fitting)}"
        )
    return (metric, *(name for name in names if name != metric))
