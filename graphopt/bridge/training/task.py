"""What is trained, on what, by what loss; and how it does on the held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphopt.bridge.module import GraphModule
from graphopt.bridge.training.augment import Augment
from graphopt.bridge.training.batches import HELD_OUT_GROUPS, Batch, Batches
from graphopt.bridge.training.best import Look
from graphopt.bridge.training.criterion import Criterion
from graphopt.bridge.training.hooks import Hook
from graphopt.bridge.training.objective import on_device
from graphopt.bridge.training.processes import Processes
from graphopt.bridge.training.teacher import Teacher

__all__ = ["TrainingTask", "held_out_look"]


@dataclass(frozen=True)
class TrainingTask:
    """What is trained, on what, by what loss.

    Attributes:
        module: Trained in place.
        batches: The samples.
        criterion: The loss.
        teacher: Answers what the criterion asks; None where it asks nothing.
        augment: Changes the pictures that are trained on.
        hooks: Act on the weights beside the optimizer.
        partial: Some step may leave weights without a gradient.
    """

    module: GraphModule
    batches: Batches
    criterion: Criterion
    teacher: Teacher | None
    augment: Augment
    hooks: Sequence[Hook]
    partial: bool = True

    def wanted(self, batch: Batch, device: torch.device, *, changed: bool) -> dict[str, Tensor]:
        """What the teacher answers to a batch; ``changed`` where its pictures are augmented."""
        if self.teacher is None:
            return {}
        return on_device(self.teacher(batch, changed=changed), device)

    def labels(self, batch: Batch, device: torch.device) -> Tensor | None:
        """Its labels; None without."""
        return None if batch.labels is None else on_device({"": batch.labels}, device)[""]


def held_out_look(task: TrainingTask, team: Processes) -> tuple[Look, float]:
    """Distance and counts over the held-out part in all processes, and the mean loss."""
    task.module.eval()
    distance = loss = count = 0.0
    criterion, scoring = task.criterion, task.criterion.scoring
    counts = np.zeros((HELD_OUT_GROUPS, 0 if scoring is None else scoring.figure.size))
    with torch.no_grad():
        for group, batch in task.batches.held_out():
            wanted = task.wanted(batch, team.device, changed=False)
            labels = task.labels(batch, team.device)
            answers = task.module(on_device(batch.feeds, team.device), taps=criterion.taps)
            weight = len(batch.numbers)
            distance += weight * float(criterion.verdict(answers, wanted, labels))
            loss += weight * float(criterion.loss(answers, wanted, labels))
            if scoring is not None:
                counts[group] += scoring.counts(answers, wanted, labels)
            count += weight
    distance, loss, count, *sums = team.total(distance, loss, count, *counts.ravel())
    groups = np.array(sums).reshape(counts.shape)[: task.batches.held_out_groups]
    return Look(distance / count, groups), loss / count
