"""The loss of a task: which outputs are compared with what, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphopt.bridge.tensors import answer_from
from graphopt.bridge.training import losses
from graphopt.bridge.training.features import block_ends
from graphopt.bridge.training.judged import Judged, Shown
from graphopt.bridge.training.kinds import settled
from graphopt.bridge.training.logits import as_logits, in_form
from graphopt.bridge.training.scoring import ByLabels, ByTeacher, Scoring
from graphopt.bridge.training.strata import strata
from graphopt.contract.training import LossOptions
from graphopt.errors import ModelError, UsageError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.task import Task, TaskKind

__all__ = ["Criterion", "criterion", "measured"]

_BLOCKS = "blocks"
_LEAST_POWER = 1e-2
_LEAST_PACKED_POWER = 1e-8
"""A column counts by its own mean square, but not by less than this share of that of all."""
_MOST_COLUMNS = 4096
_BY_DISTANCE: Mapping[TaskKind, Literal["kl", "cosine"]] = {
    "classes": "kl",
    "binary": "kl",
    "multi-label": "kl",
    "embedding": "cosine",
}


@dataclass(frozen=True)
class Criterion:
    """The loss L = alpha * L_hard + beta * L_soft + gamma * L_features.

    Attributes:
        options: Weights and forms.
        tasks: What the student's outputs of floats mean, by name; where it has none, the scores in
            front of those that give only the class of the largest.
        judged: The output that labels speak of, and how it is held against them; None without.
        features: Inner tensors that are compared.
        shown: The places that labels leave in; None where all count.
        theirs: What the teacher's outputs mean, by the name of the student's.
        powers: Mean squares of what the teacher answered to the first samples, by tensor: of all
            values, or of each column along the axis of the task.
        scores: Tensors of ``tasks`` and ``judged`` that are no outputs.
    """

    options: LossOptions
    tasks: Mapping[str, Task]
    judged: tuple[str, Judged] | None
    features: tuple[str, ...]
    shown: Shown | None = None
    theirs: Mapping[str, Task] = field(default_factory=dict)
    powers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    scores: tuple[str, ...] = ()

    @property
    def taps(self) -> tuple[str, ...]:
        """The inner tensors that the student must hand out."""
        return tuple(dict.fromkeys((*self.features, *self.scores)))

    @property
    def asked(self) -> list[str]:
        """What the teacher must answer; nothing where it is not needed."""
        outputs = list(self.tasks) if self.options.beta else []
        return list(dict.fromkeys((*outputs, *self.features)))

    def loss(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            answers: The student's outputs and taps.
            wanted: The teacher's, as ``asked``.
            labels: Leading axis = samples; needed where ``alpha`` is not zero.
        """
        parts: list[Tensor] = []
        if self.options.beta:
            parts.append(self.options.beta * self._soft(answers, wanted, labels))
        if self.judged is not None and labels is not None:
            parts.append(self.options.alpha * self._hard(answers, labels))
        if self.features:
            near = [self._square(n, answers[n].float(), wanted[n].float()) for n in self.features]
            parts.append(self.options.gamma * torch.stack(near).mean())
        return torch.stack(parts).sum()

    def verdict(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        """What decides which weights are kept: the distance to the labels, else to the outputs.

        A model that starts as its own teacher has no soft loss, so that by the whole loss it would
        stay untrained whatever the labels say. Arguments as those of ``loss``.
        """
        if self.judged is not None and labels is not None:
            return self._hard(answers, labels)
        if self.options.beta:
            return self._soft(answers, wanted, labels)
        return self.loss(answers, wanted, labels)

    def _hard(self, answers: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        assert self.judged is not None
        name, judged = self.judged
        return judged.loss(answers[name], labels)

    def _soft(
        self, answers: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
    ) -> Tensor:
        parts: list[Tensor] = []
        for name, task in self.tasks.items():
            mine, other = answers[name].float(), wanted[name].float()
            tasks = task, self.theirs.get(name, task)
            if self.shown is None or self.shown.output != name or labels is None:
                parts.append(self._near(name, mine, other, tasks))
                continue
            assert task.axis is not None
            places = self.shown.places(labels)
            mine, other = (each.movedim(task.axis, -1)[places] for each in (mine, other))
            share = len(mine) / (len(labels) * self.shown.per_sample)
            rows = replace(tasks[0], axis=1), replace(tasks[1], axis=1)
            near = self._near(name, mine, other, rows) if len(mine) else mine.sum()
            parts.append(share * near)
        return torch.stack(parts).mean()

    def _near(self, name: str, answer: Tensor, wanted: Tensor, tasks: tuple[Task, Task]) -> Tensor:
        task, theirs = tasks
        form = self.distance(name)
        if form == "kl":
            mine, other = as_logits(answer, task), as_logits(wanted, theirs)
            binary = task.kind in ("binary", "multi-label")
            loss = losses.binary_divergence if binary else losses.divergence
            return loss(mine, other, self.options.temperature)
        if form == "cosine":
            return losses.cosine(answer, wanted, -1 if task.axis is None else task.axis)
        return self._square(name, answer, in_form(wanted, theirs, task.form), task.axis)

    def _square(self, name: str, answer: Tensor, wanted: Tensor, axis: int | None = None) -> Tensor:
        powers = answer.new_tensor(self.powers[name])
        if len(powers) > 1 and axis is not None:
            shape = [1] * answer.dim()
            shape[axis] = len(powers)
            powers = powers.reshape(shape)
        return losses.relative_square(answer, wanted, powers)

    def distance(self, name: str) -> Literal["kl", "cosine", "mse"]:
        """How an output is compared with the teacher's."""
        if self.options.soft != "auto":
            return self.options.soft
        return _BY_DISTANCE.get(self.tasks[name].kind, "mse")

    @property
    def scoring(self) -> Scoring | None:
        """What the held-out part is measured by, apart from the loss; None where nothing is."""
        if self.judged is not None:
            return ByLabels(*self.judged)
        if not self.options.beta:
            return None
        name = next((n for n, task in self.tasks.items() if task.scores), next(iter(self.tasks)))
        task, columns = self.tasks[name], len(self.powers.get(name, [0.0]))
        theirs = self.theirs.get(name, task)
        shown = self.shown if self.shown is not None and self.shown.output == name else None
        return ByTeacher(name, self.distance(name), task, theirs, columns, shown)

    def strata(self, labels: Array | None) -> NDArray[np.int64] | None:
        """The class of each sample, from all labels; None where there are no classes."""
        if self.judged is None or labels is None:
            return None
        return strata(self.judged[1], labels)


def criterion(
    options: LossOptions,
    student: Graph,
    teacher: Graph,
    tasks: Mapping[str, Task],
    judged: tuple[str, Judged] | None = None,
    shown: Shown | None = None,
) -> Criterion:
    """The loss for a student.

    Args:
        options: Weights and forms.
        student: The model to train.
        teacher: The model to learn from.
        tasks: What the student's outputs of floats mean.
        judged: The output that labels speak of, and how it is held against them.
        shown: The places that labels leave in; None where all count.

    Raises:
        ModelError: The teacher lacks scores of which the student gives only the largest.
        UsageError: A feature is missing in one of the models.
    """
    used = [*tasks, *([] if judged is None else judged[:1])]
    scores = tuple(dict.fromkeys(n for n in used if n not in student.main.outputs))
    for name in scores if options.beta else ():
        if name in tasks and teacher.main.producer(name) is None:
            raise ModelError(
                f"the teacher computes no tensor {name!r}, the scores of which the student gives "
                "only the largest; give the scores of both as outputs"
            )
    features = _features(options, student, teacher)
    return Criterion(options, tasks, judged, features, shown, scores=scores)


def measured(
    goal: Criterion,
    models: tuple[Graph, Graph],
    answers: Mapping[str, Tensor],
    wanted: Sequence[Mapping[str, Tensor]],
) -> Criterion:
    """The criterion after a look at what both models answer.

    Args:
        goal: Without powers, and without what the teacher's outputs mean.
        models: Student and teacher.
        answers: The student's outputs and taps for some samples.
        wanted: The teacher's, as ``goal.asked``, for the same and then for more samples.

    Raises:
        ModelError: A tensor of the teacher has another shape than the student's, or means
            something else.
    """
    first = wanted[0]
    for name, values in first.items():
        mine, theirs = list(answers[name].shape), list(values.shape)
        if mine != theirs:
            raise ModelError(
                f"tensor {name!r} has shape {theirs} in the teacher and {mine} in the student; "
                "they can only be compared where the shapes agree"
            )
    if goal.options.beta:
        ours, others = ({n: answer_from(held[n]) for n in goal.tasks} for held in (answers, first))
        tasks, theirs_mean = settled(models, (ours, others), goal.tasks)
        goal = replace(goal, tasks=tasks, theirs=theirs_mean)
    powers = {name: _powers(goal, name, [each[name] for each in wanted]) for name in first}
    return replace(goal, powers=powers)


def _powers(goal: Criterion, name: str, batches: Sequence[Tensor]) -> tuple[float, ...]:
    """Mean squares of the teacher's values, in the form of the student's."""
    task = goal.tasks.get(name)
    axis = None if task is None else task.axis
    if axis is not None:
        sizes = {values.shape[axis] for values in batches}
        axis = axis if len(sizes) == 1 and max(sizes) <= _MOST_COLUMNS else None
    sums, count = torch.zeros(1, dtype=torch.float64), 0
    for values in batches:
        held = values.double().cpu()
        if task is not None:
            held = in_form(held, goal.theirs.get(name, task), task.form)
        rows = held.reshape(-1, 1) if axis is None else _rows(held, axis)
        sums, count = sums + rows.square().sum(0), count + len(rows)
    each = sums / max(1, count)
    least = _LEAST_PACKED_POWER if task is not None and task.kind == "detections" else _LEAST_POWER
    return tuple(each.clamp_min(least * float(each.mean())).tolist())


def _rows(values: Tensor, axis: int) -> Tensor:
    """The values as ``(all, along the axis)``."""
    return values.movedim(axis, -1).reshape(-1, values.shape[axis])


def _features(options: LossOptions, student: Graph, teacher: Graph) -> tuple[str, ...]:
    if not options.gamma or not options.features:
        return ()
    found: Sequence[str] = options.features
    if _BLOCKS in found:
        found = block_ends(student, teacher)
        if not found:
            raise UsageError("features=blocks: the models share no residual sum; name tensors")
    for name in found:
        for graph, role in ((student, "student"), (teacher, "teacher")):
            if graph.main.producer(name) is None:
                raise UsageError(f"features: the {role} computes no tensor {name!r}")
    return tuple(found)
