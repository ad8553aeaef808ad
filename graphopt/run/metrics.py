"""What is measured with labels: figures of ours over the output that they fit, or a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphopt.callables import imported
from graphopt.data.samples import Samples
from graphopt.errors import DataError, Need, UsageError
from graphopt.graph.tensors import Array
from graphopt.options import near_miss
from graphopt.tasks.labels import Fitted, fit_labels
from graphopt.tasks.scoring import FIGURES, figures_of, shown
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
        foldered: Whether classes are subfolders, which are told of with the samples.
    """

    names: tuple[str, ...]
    fitted: Fitted
    foldered: bool = False

    @property
    def name(self) -> str:
        """Of the figure that decides."""
        return self.names[0]

    @property
    def notes(self) -> list[str]:
        """What should be told of the labels."""
        notes, fitted = list[str](), self.fitted
        if fitted.classes and not self.foldered:
            listed = ", ".join(fitted.classes[:_SHOWN])
            more = f", ... {fitted.classes[-1]}" if len(fitted.classes) > _SHOWN else ""
            word = ": the second is yes" if fitted.task.kind == "binary" else ""
            notes.append(
                f"labels: {len(fitted.classes)} classes in sorted order: {listed}{more}{word}"
            )
        if fitted.ignored is not None:
            share = float(np.mean(fitted.ignored))
            notes.append(f"labels: {share:.1%} say that they do not count, and are left out")
        return notes


@dataclass(frozen=True)
class FunctionMetric:
    """A function of the user's.

    Attributes:
        name: Its name.
        function: See ``MetricFunction``.
        apart: Outputs that it gets as a list, sample by sample.
        notes: What should be told.
    """

    name: str
    function: MetricFunction
    apart: frozenset[str] = frozenset()
    notes: Sequence[str] = ()


TaskMetric = LabelMetric | FunctionMetric


@dataclass(frozen=True)
class SeenAnswers:
    """What a model answered to some samples.

    Attributes:
        outputs: One array for each output that is one, the samples one after the other.
        rows: How many samples these are.
    """

    outputs: Mapping[str, Array]
    rows: int

    def fit(self, samples: Samples, tasks: Mapping[str, Task]) -> Fitted:
        """The labels of samples, as those of the output that they fit.

        Raises:
            DataError: They fit none.
        """
        assert samples.labels is not None
        return fit_labels(
            samples.labels, tasks, self.outputs, samples=samples.count, rows=self.rows
        )


_SHOWN = 12
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
        UsageError: No metric has that name, or there is no such function.
        DataError: The function's module raises on import, a metric is asked for and the
            evaluation data has no labels, or the labels fit no output, or not that metric.
    """
    labels = None if samples is None else samples.labels
    if samples is None or labels is None:
        if metric is None:
            return None
        message = "a metric needs evaluation samples with an array named 'labels'"
        raise DataError(message, Need.EVALUATION)
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


def _names(metric: str | None, fitted: Fitted) -> tuple[str, ...]:
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
