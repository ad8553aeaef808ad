"""Training a graph: from samples and a teacher to weights that go back into the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from graphopt.bridge.module import GraphModule
from graphopt.bridge.tensors import from_torch
from graphopt.bridge.training.augment import Augment, pictures_of
from graphopt.bridge.training.batches import Batches
from graphopt.bridge.training.criterion import Criterion, LossOptions, criterion
from graphopt.bridge.training.history import History
from graphopt.bridge.training.hooks import Hook, KeepZeros
from graphopt.bridge.training.loop import Loop, Setting, Task, quiet_torch
from graphopt.bridge.training.options import TrainOptions
from graphopt.bridge.training.processes import Processes, processes
from graphopt.bridge.training.teacher import Teacher
from graphopt.data.inputs import model_inputs
from graphopt.data.samples import Samples
from graphopt.data.staged import StagedSamples, staged
from graphopt.errors import DataError, ModelError, PassError
from graphopt.graph.graph import Graph
from graphopt.graph.tensors import Array
from graphopt.runtime.scratch import scratch_folder

__all__ = ["train"]

_SAME = 1e-3


def train(
    module: GraphModule,
    student: Graph,
    teacher: Graph,
    samples: Samples,
    losses: LossOptions,
    options: TrainOptions,
    setting: Setting,
    hooks: Sequence[Hook] = (),
) -> History:
    """Train a module; it keeps the weights that did best on the held-out part of the samples.

    Args:
        module: Made by ``to_torch`` of ``student``; trained in place, left on the CPU.
        student: The graph that it computes.
        teacher: The graph whose answers are aimed at; not used where the loss needs none.
        samples: What to train on, with labels where the loss asks for them.
        losses: Parts of the loss.
        options: How to train.
        setting: Where to train.
        hooks: What acts on the weights beside the optimizer.

    Raises:
        DataError: The labels do not fit.
        ModelError: A model cannot run on the samples.
        PassError: There are too few samples, or nothing to train.
        SystemFailure: Disk full.
        UsageError: A checkpoint of another run, an unknown feature, an unknown device.
    """
    if not any(True for _ in module.parameters()):
        raise PassError("the model has no weights that could be trained")
    with (
        scratch_folder() as folder,
        staged(samples, folder) as data,
        quiet_torch(setting.threads),
        processes(setting.device) as team,
    ):
        batches = _batches(module, student, data, options, setting, team)
        goal = _criterion(module, student, teacher, batches, losses, data)
        _check_labels(goal, data, samples)
        zeros = [KeepZeros(module)] if options.keep_zeros else []
        fill = {} if not (options.flip or options.shift) else pictures_of(data.groups[0].arrays)
        task = Task(
            module,
            batches,
            goal,
            Teacher(teacher, goal.asked, threads=setting.threads, samples=samples.count)
            if goal.asked
            else None,
            Augment(flip=options.flip, shift=options.shift, fill=fill),
            [*hooks, *zeros],
        )
        mark = _fingerprint(task, options, setting, data, teacher) if setting.checkpoints else ""
        history = Loop(task, options, setting, team, mark).run()
        module.to("cpu")
    return history


def _batches(
    module: GraphModule,
    student: Graph,
    data: StagedSamples,
    options: TrainOptions,
    setting: Setting,
    team: Processes,
) -> Batches:
    joined = _joined(module, student, data)
    return Batches(
        data,
        size=options.batch,
        parts=options.accumulate,
        held_out=options.held_out,
        seed=setting.seed,
        joined=joined,
        share=(team.rank, team.world),
    )


def _joined(module: GraphModule, student: Graph, data: StagedSamples) -> frozenset[str] | None:
    """The inputs that are joined along their first axis; None where the model refuses that.

    A file may fix its batch to 1 although its nodes do not care, or leave it free although one of
    them reshapes to a fixed batch: two samples together must give what each gives alone.
    """
    inputs = {each.name: each for each in model_inputs(student)}
    free = {name for name, each in inputs.items() if each.shape is None or None is each.batch}
    group = max(data.groups, key=lambda each: len(each.numbers))
    moving = [name for name, array in group.arrays.items() if array.ndim > 1]
    names = frozenset(n for n in moving if n in free and inputs[n].shape != ()) or frozenset(moving)
    if data.per_feed != 1 or len(group.numbers) < 2:
        return None
    single = [{n: np.array(a[row]) for n, a in group.arrays.items()} for row in (0, 1)]
    both = {
        n: np.concatenate([each[n] for each in single]) if n in names else single[0][n]
        for n in single[0]
    }
    module.eval()
    with torch.no_grad():
        alone = [module(_tensors(feeds)) for feeds in single]
        try:
            together = module(_tensors(both))
        except ModelError:
            return None
    for name, values in together.items():
        wanted = torch.cat([each[name] for each in alone]) if values.dim() else values
        if wanted.shape != values.shape or not torch.allclose(
            wanted.double(), values.double(), rtol=_SAME, atol=_SAME
        ):
            return None
    return names


def _tensors(feeds: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}


def _criterion(
    module: GraphModule,
    student: Graph,
    teacher: Graph,
    batches: Batches,
    losses: LossOptions,
    data: StagedSamples,
) -> Criterion:
    module.eval()
    with torch.no_grad():
        answers = module(_tensors(batches.at(0)[0].feeds))
    found = {name: from_torch(tensor) for name, tensor in answers.items()}
    return criterion(losses, student, teacher, found, data.labels)


def _check_labels(goal: Criterion, data: StagedSamples, samples: Samples) -> None:
    if goal.judged is not None and data.labels is not None and len(data.labels) != samples.count:
        raise DataError(
            f"the training data has {len(data.labels)} labels for {samples.count} samples; "
            "training needs one each"
        )


def _fingerprint(
    task: Task, options: TrainOptions, setting: Setting, data: StagedSamples, teacher: Graph
) -> str:
    """Identifies a run: the model as it starts, the teacher, the data, how and with what seed."""
    total = hashlib.blake2b(digest_size=16)
    total.update(repr((options, task.criterion, setting.seed, setting.name)).encode())
    for name, tensor in task.module.state_dict().items():
        total.update(name.encode())
        total.update(from_torch(tensor).tobytes())
    for tensor in teacher.tensors():
        for chunk in teacher.chunks(tensor):
            total.update(chunk)
    total.update(data.digest().encode())
    return total.hexdigest()
