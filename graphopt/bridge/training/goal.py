"""What a module is trained to: read from what it answers, from labels and from the user's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import torch

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import answer_from
from graphopt.bridge.training.criterion import Criterion, criterion
from graphopt.bridge.training.judged import Judged, judged_by, shown_by
from graphopt.bridge.training.kinds import float_tasks
from graphopt.bridge.training.objective import on_device
from graphopt.contract.training import LossOptions
from graphopt.data.staged import StagedGroup, StagedSamples
from graphopt.errors import DataError, ModelError, UsageError
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.tasks.decided import decided_scores
from graphopt.tasks.task import Task

__all__ = ["goal_of"]

_CPU = torch.device("cpu")
_SEEN = 16


def goal_of(
    module: GraphModule,
    models: tuple[Graph, Graph],
    data: StagedSamples,
    losses: LossOptions,
    words: Mapping[str, Task],
    count: int,
) -> tuple[Criterion, StagedSamples]:
    """The loss, and the samples with labels as it takes them, or without any.

    Args:
        module: Computes the student; left in evaluation mode, on the CPU.
        models: Student and teacher.
        data: What is trained on; its labels count where the loss asks for them.
        losses: Parts of the loss.
        words: What the user says of outputs.
        count: Number of samples before any was left out that fills no batch.

    Raises:
        DataError: Labels are asked for and there are none, not one for each, or they fit no output.
        ModelError: Nothing that the model gives is of floats, or the largest of such.
        UsageError: An option fits neither labels nor models.
    """
    group = max(data.groups, key=len)
    inner = decided_scores(models[0], infer(models[0]))
    scores = {task.output: task for task in inner.values()}
    seen = _seen(module, group, list(scores))
    found = float_tasks(models[0], seen, words)
    tasks = {name: task for name, task in found.items() if name not in inner} or dict(scores)
    if not tasks:
        raise ModelError(
            "the model has no output of floats, nor one that its main graph decides by the largest "
            "of scores (ArgMax, TopK) or by even odds (Greater); there is nothing to train it by: "
            "give its scores as an output"
        )
    named = dict.fromkeys((*tasks, *scores))
    answers, rows = _together([{n: each[n] for n in named} for each in seen], group.per_feed)
    if not losses.alpha:
        return _without_labels(models, data, losses, tasks, (answers, rows, count))
    if data.labels is not None and len(data.labels) != count:
        raise DataError(
            f"the training data has {len(data.labels)} labels for {count} samples; training "
            "needs one each"
        )
    name, judged, labels = _judged(data.labels, (tasks, scores), answers, losses, rows)
    if name in tasks:
        tasks[name] = judged.of_output
    shown = shown_by(name, judged, labels)
    goal = criterion(losses, *models, tasks, (name, judged), shown)
    return goal, replace(data, labels=labels)


def _judged(
    labels: Array | None,
    tasks: tuple[Mapping[str, Task], Mapping[str, Task]],
    answers: Mapping[str, Array],
    losses: LossOptions,
    rows: int,
) -> tuple[str, Judged, Array]:
    """What labels speak of: an output of floats, else scores of which the largest is given.

    Raises:
        DataError: See ``judged_by``.
        UsageError: See there.
    """
    outputs, scores = tasks
    try:
        return judged_by(labels, outputs, _of(answers, outputs), losses, rows)
    except DataError as err:
        if scores.keys() <= outputs.keys():
            where = "; ".join(f"{name!r}: {task.why}" for name, task in scores.items())
            raise DataError("; ".join(filter(None, (str(err), where)))) from err
        with suppress(DataError):
            return judged_by(labels, scores, _of(answers, scores), losses, rows)
        raise


def _of(answers: Mapping[str, Array], tasks: Mapping[str, Task]) -> dict[str, Array]:
    return {name: answers[name] for name in tasks}


def _without_labels(
    models: tuple[Graph, Graph],
    data: StagedSamples,
    losses: LossOptions,
    tasks: dict[str, Task],
    looked: tuple[Mapping[str, Array], int, int],
) -> tuple[Criterion, StagedSamples]:
    """The loss without labels; those that fit still say what an output means, and what is padding.

    Args:
        models: Student and teacher.
        data: What is trained on.
        losses: Parts of the loss.
        tasks: What the outputs mean; settled here.
        looked: Answers to some samples, how many these are, and how many there are in all.
    """
    answers, rows, count = looked
    unlabelled = replace(data, labels=None)
    if data.labels is None or len(data.labels) != count:
        return criterion(losses, *models, tasks), unlabelled
    try:
        plain = LossOptions(ignore=losses.ignore)
        name, judged, labels = judged_by(data.labels, tasks, _of(answers, tasks), plain, rows)
    except (DataError, UsageError):  # nobody asked for them
        return criterion(losses, *models, tasks), unlabelled
    tasks[name] = judged.of_output
    shown = shown_by(name, judged, labels)
    goal = criterion(losses, *models, tasks, shown=shown)
    return goal, unlabelled if shown is None else replace(data, labels=labels)


def _seen(module: GraphModule, group: StagedGroup, scores: Sequence[str]) -> list[dict[str, Array]]:
    """What the model answers to the first feeds, with inner tensors."""
    module.eval()
    found: list[dict[str, Array]] = []
    with torch.no_grad():
        for row in range(min(_SEEN, len(group))):
            feeds = {name: values[0, ...] for name, values in group.take([row]).items()}
            answers = module(on_device(feeds, _CPU), taps=scores)
            found.append({name: answer_from(tensor) for name, tensor in answers.items()})
    return found


def _together(seen: list[dict[str, Array]], per_feed: int) -> tuple[dict[str, Array], int]:
    """Answers to feeds as one, where each counts its samples first; and the samples in them."""
    first = seen[0]
    alike = all(
        values.shape == first[name].shape and values.shape[:1] == (per_feed,)
        for answers in seen
        for name, values in answers.items()
    )
    if not alike:
        return first, per_feed
    return {n: np.concatenate([each[n] for each in seen]) for n in first}, per_feed * len(seen)
