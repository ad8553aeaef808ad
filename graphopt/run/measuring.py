"""What is measured with labels over the answers of models to all samples, within a bound."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import psutil

from graphopt.callables import foreign
from graphopt.errors import DataError, GraphoptError, Need
from graphopt.graph.tensors import Array
from graphopt.observe.request import Rows
from graphopt.run.metrics import FunctionMetric, LabelMetric, TaskMetric
from graphopt.run.quality import Metric
from graphopt.tasks.apart import of_the_other
from graphopt.tasks.box_labels import FittedBoxes
from graphopt.tasks.figures import LOWER_IS_BETTER, scoring
from graphopt.tasks.labels import Fitted
from graphopt.tasks.scoring import Scoring
from graphopt.tasks.task import Task

__all__ = ["BATCH", "MetricAnswers", "feed_size", "metric_answers", "run_bytes"]

BATCH = 16
"""Samples that are run together where nothing speaks against it."""
_DEFAULT_BYTES = 3 << 30


def run_bytes(memory_limit: int | None) -> int:
    """Bytes that running models may take: the limit, else 3 GB or half of what is free."""
    if memory_limit is not None:
        return memory_limit
    return min(_DEFAULT_BYTES, int(psutil.virtual_memory().available) // 2)


def metric_answers(
    metric: TaskMetric,
    outputs: Sequence[Sequence[str]],
    labels: Array,
    memory_limit: int | None,
) -> MetricAnswers:
    """What takes the answers of some models to one feed after another, the reference first.

    Args:
        metric: What is to be measured.
        outputs: Of each model, the names of its outputs in the order of the reference's.
        labels: Of all samples, as they came.
        memory_limit: Bytes that answers which are held may take; see ``run_bytes``.
    """
    if isinstance(metric, LabelMetric):
        return _Scored(metric, outputs)
    return _Held(metric, outputs, labels, memory_limit)


def feed_size(tasks: Mapping[str, Task], held: MetricAnswers | None) -> int:
    """Samples that a feed may join: one where an output or the metric would not tell them apart.

    Args:
        tasks: What the outputs mean.
        held: What takes the answers for the metric; None without one.
    """
    if any(task.pools_samples for task in tasks.values()):
        return 1
    return BATCH if held is None else held.batch


class MetricAnswers(ABC):
    """Answers of some models, of which a metric is made."""

    batch = BATCH
    """Samples that a feed may join."""

    @abstractmethod
    def add(self, model: int, answer: Mapping[str, Any], rows: Rows) -> None:
        """Take what one model answered to one feed.

        Args:
            model: Its number.
            answer: Its outputs.
            rows: What of them counts.

        Raises:
            DataError: Too much is held, or the metric cannot be computed.
        """

    @abstractmethod
    def values(self) -> list[Metric]:
        """The metric of each model but the first, beside that of the first.

        It is NaN of a model that has none.

        Raises:
            DataError: The metric cannot be computed.
        """


class _Scored(MetricAnswers):
    """Figures of ours: added up, nothing is held."""

    def __init__(self, metric: LabelMetric, outputs: Sequence[Sequence[str]]) -> None:
        self.metric = metric
        self.own = list(outputs[0])
        self.names = [dict(self._named(names)) for names in outputs]
        fitted = [metric.fitted, *(_to_the_other(metric.fitted) for _ in outputs[1:])]
        self.scores: list[Scoring | None] = [scoring(each) for each in fitted]
        if isinstance(metric.fitted, FittedBoxes) and metric.fitted.head.apart:
            self.batch = 1

    def _named(self, names: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Which output of a model is which of the reference: by name, else by its place."""
        for place, own in enumerate(self.own):
            if own in names or len(names) != len(self.own):
                yield own, names[0] if len(names) == 1 else own
            else:
                yield own, names[place]

    def add(self, model: int, answer: Mapping[str, Any], rows: Rows) -> None:
        """Take an answer; a model that answers in another shape has no figures."""
        score, names = self.scores[model], self.names[model]
        if score is None:
            return
        named = {own: answer.get(name) for own, name in names.items()}
        try:
            score.add(named, rows.real)
        except DataError as err:
            if model == 0:
                raise DataError(f"metric {self.metric.name!r}: {err}") from err
            self.scores[model] = None

    def values(self) -> list[Metric]:
        """The figure that decides, with the others beside it."""
        nothing = dict.fromkeys(self.metric.names, math.nan)
        before, *after = [nothing if each is None else each.figures() for each in self.scores]
        names = self.metric.names

        def figure(name: str, values: Mapping[str, float]) -> Metric:
            better = name not in LOWER_IS_BETTER
            return Metric(name, before[name], values[name], self.metric.fitted.output, better)

        return [
            replace(figure(names[0], each), beside=[figure(name, each) for name in names[1:]])
            for each in after
        ]


def _to_the_other(fitted: Fitted | FittedBoxes) -> Fitted | FittedBoxes:
    """Labels beside an output as the models mean it that are judged."""
    return replace(fitted, task=of_the_other(fitted.task))


class _Held(MetricAnswers):
    """Answers held for a function of the user's."""

    def __init__(
        self,
        metric: FunctionMetric,
        outputs: Sequence[Sequence[str]],
        labels: Array,
        memory_limit: int | None,
    ) -> None:
        self.metric, self.labels = metric, labels
        self.outputs = [list(names) for names in outputs]
        self.parts: list[list[list[Any]]] = [[[] for _ in names] for names in outputs]
        self.real = list[int]()
        self.left = run_bytes(memory_limit)
        self.batch = 1 if metric.apart else BATCH

    def add(self, model: int, answer: Mapping[str, Any], rows: Rows) -> None:
        """Hold an answer, without the rows that only fill it up."""
        if model == 0:
            self.real.append(rows.real)
        for name, parts in zip(self.outputs[model], self.parts[model], strict=True):
            values = rows.keep(answer[name])
            parts.append(values)
            self.left -= values.nbytes if isinstance(values, np.ndarray) else 0
        if self.left < 0:
            raise DataError(
                f"metric {self.metric.name!r}: the outputs for all samples take more memory than "
                "is allowed; give fewer evaluation samples",
                Need.MEMORY_LIMIT,
            )

    def values(self) -> list[Metric]:
        """What the function gives."""
        before, *after = [self._value(number) for number in range(len(self.parts))]
        return [Metric(self.metric.name, before, value) for value in after]

    def _value(self, model: int) -> float:
        with foreign(self._refusal):
            outputs = [
                self._joined(name, parts)
                for name, parts in zip(self.outputs[model], self.parts[model], strict=True)
            ]
            value: object = self.metric.function(outputs, self.labels.copy())  # it may write on it
            if isinstance(value, str | bytes):
                raise TypeError(f"it returned {type(value).__name__} where a number must be")
            number = float(value)  # type: ignore[arg-type]  # what is none is told of
        if math.isinf(number) or (math.isnan(number) and model == 0):
            raise self._refusal(f"it returned {number}")
        return number

    def _joined(self, name: str, parts: Sequence[Any]) -> Any:
        """What all samples gave for an output: one array, else a list."""
        arrays = [np.atleast_1d(each) for each in parts if isinstance(each, np.ndarray)]
        if name not in self.metric.apart and len(arrays) == len(parts):
            shapes = {array.shape[1:] for array in arrays}
            counts = {Fraction(len(a), n) for a, n in zip(arrays, self.real, strict=True)}
            if len(shapes) == len(counts) == 1:
                return np.concatenate(arrays)
        lists = [each for each in parts if isinstance(each, list)]
        if [len(each) for each in lists] == self.real:
            return [item for each in lists for item in each]
        return list(parts)

    def _refusal(self, what: str) -> GraphoptError:
        return DataError(
            f"metric {self.metric.name!r} cannot be computed from the outputs and labels: {what}"
        )
