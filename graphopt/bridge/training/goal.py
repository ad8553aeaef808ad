"""What a module is trained to: read from what it answers, from labels and from the user's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import answer_from
from graphopt.bridge.training.criterion import Criterion, criterion
from graphopt.bridge.training.judged import judged_by
from graphopt.bridge.training.kinds import float_tasks
from graphopt.bridge.training.objective import on_device
from graphopt.contract.training import LossOptions
from graphopt.data.staged import StagedGroup, StagedSamples
from graphopt.errors import DataError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
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
        ModelError: No output is of floats.
        UsageError: An option fits neither labels nor models.
    """
    group = max(data.groups, key=len)
    seen = _seen(module, group)
    tasks = float_tasks(models[0], seen, words)
    if not losses.alpha:
        return criterion(losses, *models, tasks), replace(data, labels=None)
    if data.labels is not None and len(data.labels) != count:
        raise DataError(
            f"the training data has {len(data.labels)} labels for {count} samples; training "
            "needs one each"
        )
    answers, rows = _together([{n: each[n] for n in tasks} for each in seen], group.per_feed)
    name, judged, labels = judged_by(data.labels, tasks, answers, losses, rows)
    tasks[name] = judged.of_output
    return criterion(losses, *models, tasks, (name, judged)), replace(data, labels=labels)


def _seen(module: GraphModule, group: StagedGroup) -> list[dict[str, Array]]:
    """What the model answers to the first feeds."""
    module.eval()
    found: list[dict[str, Array]] = []
    with torch.no_grad():
        for row in range(min(_SEEN, len(group))):
            feeds = {name: values[0, ...] for name, values in group.take([row]).items()}
            answers = module(on_device(feeds, _CPU))
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
