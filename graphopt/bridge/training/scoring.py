"""How well a model does on samples: against labels, else against its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from graphopt.bridge.training.figures import F1, R2, Alike, Figure, MeanRecall, Share
from graphopt.bridge.training.judged import Judged, Shown
from graphopt.bridge.training.logits import as_logits, in_form
from graphopt.tasks.task import Task

__all__ = ["ByLabels", "ByTeacher", "Scoring"]


@dataclass(frozen=True)
class ByLabels:
    """Accuracy of classes and of yes or no, F1 of several labels, R2 of numbers.

    Where classes are weighed, each counts the same in the accuracy as well.

    Attributes:
        output: The output that labels speak of.
        judged: How it is held against them.
    """

    output: str
    judged: Judged

    @property
    def figure(self) -> Figure:
        """What is measured."""
        if self.judged.hard in ("mse", "huber"):
            return R2(self.judged.columns)
        if self.judged.task.kind == "multi-label":
            return F1(self.judged.columns)
        weights = self.judged.weights
        return Share("accuracy %") if weights is None else MeanRecall(len(weights))

    @property
    def decides(self) -> bool:
        """Whether the figure decides which weights are kept; squares would undo ``huber``."""
        return self.judged.hard != "huber"

    def counts(
        self,
        answers: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],  # noqa: ARG002 - labels are what is wanted
        labels: Tensor | None,
    ) -> list[float]:
        """What ``figure`` counts in a batch; arguments as those of ``Criterion.loss``."""
        assert labels is not None
        values, told = self.judged.values(answers[self.output]), self.judged.told(labels)
        counted = self.judged.counted(told)
        if self.judged.hard == "cross-entropy":
            values = values.argmax(-1)
        elif self.judged.hard == "binary-cross-entropy":
            values, told = values > 0, told > 0
        return _numbers(self.figure.counts(values, told, counted))


@dataclass(frozen=True)
class ByTeacher:
    """Agreement of decisions, cosine of embeddings, R2 of numbers.

    Attributes:
        output: The output that is compared.
        distance: How the loss compares it.
        task: What it means.
        theirs: What the teacher's means.
        columns: How many there are along the axis of the task; 1 where they are not told apart.
        shown: The places that labels leave in; None where all count.
    """

    output: str
    distance: Literal["kl", "cosine", "mse"]
    task: Task
    theirs: Task
    columns: int
    shown: Shown | None = None

    @property
    def decides(self) -> bool:
        """It does not: the distance to the teacher says more, and speaks of all outputs."""
        return False

    @property
    def figure(self) -> Figure:
        """What is measured."""
        if self.distance == "kl":
            return Share("agreement %")
        return Alike() if self.distance == "cosine" else R2(self.columns)

    def counts(
        self,
        answers: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        labels: Tensor | None,
    ) -> list[float]:
        """What ``figure`` counts in a batch; arguments as those of ``Criterion.loss``."""
        mine, other = answers[self.output].float(), wanted[self.output].float()
        if self.distance != "kl":
            other = in_form(other, self.theirs, self.task.form)
            return _numbers(self.figure.counts(self._moved(mine), self._moved(other)))
        mine, other = as_logits(mine, self.task), as_logits(other, self.theirs)
        if self.task.kind in ("binary", "multi-label"):
            return _numbers(self.figure.counts(mine > 0, other > 0))
        known = None if self.shown is None or labels is None else self.shown.places(labels)
        return _numbers(self.figure.counts(mine.argmax(-1), other.argmax(-1), known))

    def _moved(self, values: Tensor) -> Tensor:
        return values if self.task.axis is None else values.movedim(self.task.axis, -1)


Scoring = ByLabels | ByTeacher


def _numbers(counts: Tensor) -> list[float]:
    return [float(count) for count in counts.tolist()]
