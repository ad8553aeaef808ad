"""Outputs of two models that mean the same and are written otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from graphopt.graph.tensors import Array
from graphopt.tasks.task import Form, Task

__all__ = ["as_probabilities", "in_two_forms", "of_the_other", "told_of_forms"]


def in_two_forms(theirs: Mapping[str, Task], ours: Mapping[str, Task]) -> dict[str, Task]:
    """What outputs mean, with the form of the model that is judged where it is another one.

    Args:
        theirs: What the outputs of the model mean that is right.
        ours: What those of the same names of the model that is judged do.
    """
    return {name: _beside(task, ours.get(name)) for name, task in theirs.items()}


def _beside(task: Task, other: Task | None) -> Task:
    if other is None or task.free_rows or not (task.scores or other.scores):
        return task
    form, another = _form(task), _form(other)
    if form is None or another is None or form == another:
        return task
    if not task.scores:  # what is not clear of the one is what the other says it is
        why = f"of the model that is judged: {other.why}"
        task = replace(task, kind=other.kind, axis=other.axis, form=form, why=why)
    return replace(task, other_form=another)


def _form(task: Task) -> Form | None:
    """How scores are written; sums of a layer that nothing names are logits, if they are scores."""
    return task.form or ("logits" if task.sums else None)


def told_of_forms(tasks: Mapping[str, Task], right: str, judged: str) -> list[str]:
    """What the user should know of outputs that two models write in different forms.

    Args:
        tasks: What the outputs mean.
        right: The model that is right, in words.
        judged: The one that is judged.
    """
    return [
        f"output {name!r} holds {task.form} of {right} and {task.other_form} of {judged}: both are "
        "compared as probabilities"
        for name, task in tasks.items()
        if task.other_form is not None
    ]


def of_the_other(task: Task) -> Task:
    """What an output means to the model that is judged."""
    return replace(task, form=task.other_form or task.form, other_form=None)


def as_probabilities(values: Array, task: Task) -> NDArray[np.float64]:
    """Scores as probabilities, however they are written.

    Args:
        values: An output as a model gives it.
        task: What it means to that model; scores.
    """
    scores = values.astype(np.float64)
    if task.form == "probabilities":
        return scores
    if task.form == "log-probabilities":
        return np.exp(scores)
    if task.kind != "classes":
        found: NDArray[np.float64] = expit(scores)
        return found
    axis = task.axis if task.axis is not None and task.axis < scores.ndim else scores.ndim - 1
    shares: NDArray[np.float64] = softmax(scores, axis=axis)
    return shares
