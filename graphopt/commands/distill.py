"""``graphopt distill``: a student trained towards its teacher, and measured against it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphopt.commands.measuring import means_of, with_judge
from graphopt.commands.reads import files_read, kept, model_read
from graphopt.commands.result import Origin, Result, finished
from graphopt.commands.settings import deadline
from graphopt.commands.sources import Data, Model, load, path_of
from graphopt.contract.patterns import check_patterns
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.data.source import Source
from graphopt.errors import UsageError
from graphopt.families.training import beyond_memory, pairs_of, require_torch_for
from graphopt.options import build
from graphopt.passes.train.distill import Distill
from graphopt.progress import Progress
from graphopt.rewrite.teacher import fitted
from graphopt.run.files import Written, refuse_overlaps
from graphopt.run.means import Means
from graphopt.run.metrics import MetricFunction
from graphopt.run.quality import Caveat
from graphopt.run.stage import Stage
from graphopt.runtime.trial import Trial
from graphopt.search.follow import follow
from graphopt.tasks.apart import told_of_forms
from graphopt.tasks.words import TasksGiven, split_tasks

__all__ = ["distill"]


def distill(
    student: Model,
    teacher: Model,
    data: Source,
    *,
    labels: bool = False,
    evaluation: Source | None = None,
    metric: str | MetricFunction | None = None,
    images: Mapping[str, Any] | None = None,
    tasks: TasksGiven | None = None,
    memory_limit: int | None = None,
    time_limit: float | None = None,
    threads: int = 0,
    seed: int = 0,
    device: str = "auto",
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    checkpoints: str | Path | None = None,
    writes: Sequence[Written] = (),
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Train a student until it answers like its teacher.

    The student may be the teacher after compression, or another model with inputs and outputs
    that fit: those of the same name belong together, else those that fit by type and shape, else in
    their order, and ``pair`` says otherwise. Further outputs of the teacher are left out, which the
    report says. Every figure of the report is against the teacher; ``report.start`` holds those of
    the untrained student.

    Args:
        student: In any form that ``graphopt.optimize`` takes; never modified.
        teacher: The same, of the model to learn from.
        data: Samples to train on, in any form that ``graphopt.optimize`` takes.
        labels: Learn from the labels of ``data`` as well, with the weight ``alpha``, 1 unless
            given.
        evaluation: Samples that judge the result; labels under the key ``labels``.
        metric: ``top1``, ``spearman``, ``module:function`` or a function of outputs and labels.
        images: Preprocessing of a folder of images.
        tasks: What outputs mean where they should not be read: ``scores=multi-label``.
        memory_limit: Bytes that the proof may take.
        time_limit: Seconds after which the training ends with the best weights so far.
        threads: Threads of torch and onnxruntime; 0 for all cores.
        seed: Seed of all random numbers.
        device: What to compute on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        ops_libraries: Shared libraries with kernels of the models' own operators; their code runs.
        trial: Whether both models are first loaded and run in a process of their own.
        checkpoints: Folder in which the state of the training is kept; the same run goes on from
            it.
        writes: Places that will be written afterwards; one that the run reads is refused.
        progress: Told what is going on, how far it is and how far it goes, and a detail in words.
        options: Those of the pass ``distill``, such as ``epochs``, ``lr`` or ``temperature``.

    Returns:
        The student as it was where no step of the training made it better; the report says so.

    Raises:
        GraphoptError: Bad input, or a loss that diverged before anything was gained.
    """
    started = time.perf_counter()
    trained, meant = _trained(options, labels=labels), split_tasks(tasks or {})
    plan = Recipe(passes=(trained,), seed=seed, images=dict(images or {}), tasks=meant)
    require_torch_for(plan.passes)
    machine = Machine(
        threads=threads,
        memory_limit=memory_limit,
        time_limit=time_limit,
        device=device,
        trial=trial,
    )
    with Trial(machine.trial) as attempt:  # it starts while the models are read
        graph = load(student, ops_libraries)
        check_patterns(plan.passes, graph)
        fit = fitted(load(teacher, ops_libraries), graph, pairs_of(plan.passes))
        goal = fit.graph
        samples = Data(training=data, evaluation=evaluation)
        models = [
            *model_read("the student", student, graph),
            *model_read("the teacher", teacher, goal),
        ]
        reads = files_read(models, plan, samples, metric=metric, checkpoints=checkpoints)
        refuse_overlaps(reads, [*writes, *kept(checkpoints)])
        means = means_of(
            plan,
            samples,
            Limits(strict=True),
            machine,
            reference=goal,
            teacher=goal,
            student=graph,
            checkpoints=None if checkpoints is None else Path(checkpoints),
            deadline=deadline(plan, machine, started),
            progress=progress,
        )
        means, caveat = with_judge(means, metric, attempt, None, plan.tasks, judged=graph)
    start = Origin(Stage(graph, means), path_of(student))
    reference = Origin(Stage(goal, means), path_of(teacher))
    result = _followed(plan, means, caveat, started, start=start, reference=reference)
    forms = told_of_forms(means.tasks, "the teacher", "the student")
    return replace(result, reads=reads).saying(
        [*fit.told, *beyond_memory(plan.passes, memory_limit), *forms]
    )


def _followed(
    plan: Recipe, means: Means, caveat: Caveat, started: float, *, start: Origin, reference: Origin
) -> Result:
    """The run itself, with its proof against the teacher."""
    choice = follow(plan, start.stage, means, start.stage)
    return finished(plan, choice, means, caveat, started=started, reference=reference, start=start)


def _trained(options: Mapping[str, Any], *, labels: bool) -> Distill:
    """The pass with its options.

    Raises:
        UsageError: There is no such option, a value is out of its bounds, or labels have no weight.
    """
    if labels:
        options = {"alpha": 1.0, **options}
    item = build(Distill, options)
    if labels and not options["alpha"]:
        raise UsageError("labels are asked for and alpha=0 gives them no weight; drop one of them")
    return item
