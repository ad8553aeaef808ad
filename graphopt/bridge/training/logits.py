"""Scores read as logits, however they are written."""

from __future__ import annotations

import torch
from torch import Tensor

from graphopt.tasks.task import Form, Task

__all__ = ["as_logits", "in_form"]

_LEAST_PROBABILITY = 1e-7


def as_logits(values: Tensor, task: Task) -> Tensor:
    """Scores as logits, the classes on the last axis where the task names their axis.

    Args:
        values: An output as the model gives it.
        task: What it means; what has no form is taken as it is.
    """
    found = _logits(values, task)
    if task.kind == "classes" and task.axis is not None:
        return found.movedim(task.axis, -1)
    return found


def in_form(values: Tensor, task: Task, form: Form | None) -> Tensor:
    """Scores written in another form, their axes where they were.

    Args:
        values: An output as the model gives it.
        task: What it means.
        form: What is wanted; None for what it is.
    """
    if form is None or form == task.form:
        return values
    logits = _logits(values, task)
    if form == "logits":
        return logits
    chances = logits.softmax(_axis(task)) if task.kind == "classes" else logits.sigmoid()
    return chances if form == "probabilities" else chances.clamp_min(_LEAST_PROBABILITY).log()


def _logits(values: Tensor, task: Task) -> Tensor:
    if task.form is None or task.form == "logits":
        return values
    if task.kind == "classes":
        if task.form == "log-probabilities":
            return values
        return values.clamp_min(_LEAST_PROBABILITY).log()
    chances = values.exp() if task.form == "log-probabilities" else values
    return torch.logit(chances, _LEAST_PROBABILITY)


def _axis(task: Task) -> int:
    return -1 if task.axis is None else task.axis
