"""Training a graph: from samples and a teacher to weights that go back into the file."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import from_torch
from graphopt.bridge.training.augment import Augment, pictures_of
from graphopt.bridge.training.batches import Batches
from graphopt.bridge.training.criterion import Criterion, measured
from graphopt.bridge.training.goal import goal_of
from graphopt.bridge.training.hooks import Hook, KeepZeros
from graphopt.bridge.training.joining import joinable
from graphopt.bridge.training.loop import Loop
from graphopt.bridge.training.objective import on_device
from graphopt.bridge.training.processes import processes
from graphopt.bridge.training.setting import quiet_torch
from graphopt.bridge.training.task import TrainingTask
from graphopt.bridge.training.teacher import Teacher
from graphopt.contract.curves import TrainingCurves
from graphopt.contract.training import LossOptions, Training, TrainOptions
from graphopt.data.inputs import model_inputs
from graphopt.data.samples import Samples
from graphopt.data.staged import StagedSamples, staged
from graphopt.errors import DataError, PassError
from graphopt.graph.graph import Graph
from graphopt.runtime.scratch import scratch_folder

__all__ = ["train"]

logger = logging.getLogger(__name__)

_CPU = torch.device("cpu")
_HALF = (torch.float16, torch.bfloat16)
_FOR_MEAN = 256
_LOOKS = 256
"""Samples by which the teacher's outputs are known in general."""


def train(
    module: GraphModule,
    student: Graph,
    training: Training,
    losses: LossOptions,
    options: TrainOptions,
    hooks: Sequence[Hook] = (),
) -> TrainingCurves:
    """Train a module; it keeps the weights that did best on the held-out part of the samples.

    Args:
        module: Made by ``to_torch`` of ``student``; trained in place, left on the CPU.
        student: The graph that it computes.
        training: What to train on, with labels where the loss asks for them, where, and towards
            which teacher; that is not used where the loss needs none.
        losses: Parts of the loss.
        options: How to train; what is stored of a training with others is not taken up.
        hooks: What acts on the weights beside the optimizer.

    Raises:
        DataError: The labels do not fit, or the samples do not fill the batch of the model.
        ModelError: A model cannot run on the samples, or teacher and student answer otherwise.
        PassError: There are too few samples, or nothing to train.
        SystemFailure: Disk full.
        UsageError: A checkpoint of another run, an unknown feature, an unknown device.
    """
    _check_weights(module)
    _check_batch(student, training.samples)
    team = processes(training.device)
    training = replace(training, threads=team.threads(training.threads))
    samples, teacher = training.samples, training.teacher
    zeros = [KeepZeros(module)] if options.keep_zeros else []
    with (
        scratch_folder() as folder,
        staged(samples, folder) as stored,
        quiet_torch(training.threads, team.device),
    ):
        models = student, teacher
        goal, data = goal_of(module, models, stored, losses, training.tasks, samples.count)
        joined = joinable(module, student, data)
        if joined is None and module.freeze_statistics():
            logger.info("%s: samples go one by one; statistics are frozen", options.name)
        batches = Batches(
            data,
            size=options.batch,
            parts=options.accumulate,
            held_out=options.held_out,
            seed=training.seed,
            joined=joined,
            share=(team.rank, team.world),
            strata=goal.strata(data.labels),
        )
        asked = None
        if goal.asked:
            asked = Teacher(
                teacher, goal.asked, threads=training.threads, samples=samples.count, joined=joined
            )
        goal, partial = _looked_at(module, models, goal, asked, batches)
        augment = _augment(options, data)
        task = TrainingTask(module, batches, goal, asked, augment, [*hooks, *zeros], partial)
        mark = _fingerprint(task, options, training, data) if training.checkpoints else ""
        history = Loop(task, options, training, team, mark).run()
        module.to(_CPU)
    return history


def _check_weights(module: GraphModule) -> None:
    """There are weights, of a type in which small gradients are not lost."""
    if not any(True for _ in module.parameters()):
        raise PassError("the model has no weights that could be trained")
    for name, weight in module.weights():
        if weight.dtype in _HALF:
            kind = str(weight.dtype).removeprefix("torch.")
            raise PassError(
                f"weight {name!r} is of {kind}, in which small gradients are lost; put "
                "convert-to-float32 before"
            )


def _check_batch(student: Graph, samples: Samples) -> None:
    batches = [each.batch for each in model_inputs(student) if each.required and each.shape]
    batch = batches[0] if batches else None
    if batch is not None and samples.count < batch:
        raise DataError(
            f"the model takes batches of {batch} and there are {samples.count} samples; training "
            "needs at least one full batch"
        )


def _augment(options: TrainOptions, data: StagedSamples) -> Augment:
    fill = {}
    if options.flip or options.shift:
        group = data.groups[0]
        fill = pictures_of(group.take(range(min(_FOR_MEAN, len(group)))))
    return Augment(flip=options.flip, shift=options.shift, fill=fill)


def _looked_at(
    module: GraphModule,
    models: tuple[Graph, Graph],
    goal: Criterion,
    teacher: Teacher | None,
    batches: Batches,
) -> tuple[Criterion, bool]:
    """The criterion after a first look, and whether some weight may be without a gradient.

    Raises:
        ModelError: Teacher and student give tensors of other shapes, or of other meanings.
        PassError: The loss depends on none of the weights.
    """
    example = batches.example()
    wanted: Mapping[str, Tensor] = {}
    answers = module.eval()(on_device(example.feeds, _CPU), taps=goal.taps)
    if teacher is not None:
        told = [on_device(teacher(each, changed=True), _CPU) for each in batches.examples(_LOOKS)]
        goal = measured(goal, models, answers, told)
        wanted = told[0]
    labels = None if example.labels is None else on_device({"": example.labels}, _CPU)[""]
    loss = goal.loss(answers, wanted, labels)
    if not loss.requires_grad:
        raise PassError("the loss depends on none of the weights that are trained")
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    branches = sum(1 for _ in models[0].scopes()) > 1
    return goal, branches or any(gradient is None for gradient in found)


def _fingerprint(
    task: TrainingTask, options: TrainOptions, training: Training, data: StagedSamples
) -> str:
    """Identifies a run: the model as it starts, the teacher, the data, how and with what seed."""
    total = hashlib.blake2b(digest_size=16)
    hooks = [hook.identity for hook in task.hooks]
    total.update(repr((options, task.criterion, training.seed, hooks)).encode())
    for name, tensor in task.module.state_dict().items():
        total.update(name.encode())
        total.update(from_torch(tensor).tobytes())
    for tensor in training.teacher.tensors():
        for chunk in training.teacher.chunks(tensor):
            total.update(chunk)
    total.update(data.digest().encode())
    return total.hexdigest()
