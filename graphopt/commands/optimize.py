"""``graphopt optimize``: from an exported file to a smaller, faster, verified one.

``optimize`` below is the whole road; read it first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Unpack

from graphopt.commands.measuring import means_of, with_judge
from graphopt.commands.reads import files_read, kept, model_read
from graphopt.commands.result import Origin, Result, finished, looked_at
from graphopt.commands.settings import Passes, Settings, deadline, grouped, planned, refuse_unused
from graphopt.commands.sources import Data, Model, load, path_of
from graphopt.contract.patterns import check_patterns
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.errors import Need, UsageError
from graphopt.families.training import beyond_memory, pairs_of, require_torch, require_torch_for
from graphopt.graph.graph import Graph
from graphopt.progress import Progress
from graphopt.rewrite.teacher import FittedTeacher, fitted
from graphopt.run.files import Written, refuse_overlaps
from graphopt.run.means import Means
from graphopt.run.metrics import MetricFunction
from graphopt.run.sequence import dry_run as looks
from graphopt.run.stage import Stage
from graphopt.runtime.trial import Trial
from graphopt.search.follow import follow
from graphopt.search.planner import cleanup_passes, intentions

__all__ = ["Result", "optimize"]


def optimize(
    model: Model,
    passes: Passes | None = None,
    *,
    preset: str | None = None,
    recipe_file: str | Path | None = None,
    data: Data | None = None,
    limits: Limits | None = None,
    machine: Machine | None = None,
    metric: str | MetricFunction | None = None,
    teacher: Model | None = None,
    checkpoints: str | Path | None = None,
    dry_run: bool = False,
    writes: Sequence[Written] = (),
    progress: Progress | None = None,
    **settings: Unpack[Settings],
) -> Result:
    """Make a model smaller and faster and prove that it still answers right.

    Args:
        model: Path, serialized bytes or a model in memory; never modified.
        passes: Spec text, a pass or several, where functions from model to model are passes too;
            without it, ``preset`` or ``recipe_file``, and without these the preset ``auto``.
        preset: Name of a preset.
        recipe_file: TOML file.
        data: Calibration, training and evaluation samples.
        limits: What the result must hold.
        machine: Where the model is to run and the work is done.
        metric: ``top1``, ``spearman``, ``module:function`` or a function of outputs and labels.
        teacher: The model whose answers passes train towards; by default ``model`` itself. Its
            inputs and outputs have those of ``model`` as counterparts: by name, else in order.
        checkpoints: Folder in which the state of a training is kept; the same run goes on from it.
        dry_run: Say what would be done and stop.
        writes: Places that will be written afterwards; one that the run reads is refused.
        progress: Told what is going on, how far it is and how far it goes, and a detail in words.
        settings: Single fields of ``data``, ``limits`` and ``machine``, such as ``calibration``,
            ``max_drop`` or ``threads``; they go before those.

    Raises:
        GraphoptError: Bad input, in one line; see ``graphopt.errors``.
    """
    started = time.perf_counter()
    data, limits, machine = grouped(data, limits, machine, settings)
    plan = planned(passes, preset, recipe_file, data, limits, machine)
    ends = deadline(plan, machine, started, trains=data.training is not None)
    require_torch_for(plan.passes)
    refuse_unused(plan, {"training": data.training, "teacher": teacher, "checkpoints": checkpoints})
    if plan.auto and data.training is not None:
        require_torch("auto with samples to train on")
    with Trial(machine.trial and not dry_run) as trial:  # it starts while the model is read
        graph = load(model, machine.ops_libraries)
        check_patterns(plan.passes, graph)
        fed = reduce(lambda state, item: item.fed(state), plan.passes, graph)
        fit = _teacher(teacher, graph, plan, machine)
        goal = fit.graph
        models = [*model_read("the model", model, graph), *model_read("the teacher", teacher, goal)]
        reads = files_read(
            models, plan, data, recipe_file=recipe_file, metric=metric, checkpoints=checkpoints
        )
        refuse_overlaps(reads, [*writes, *kept(checkpoints)])
        means = means_of(
            plan,
            data,
            limits,
            machine,
            reference=fed,
            teacher=fed if goal is graph else goal,
            student=fed,
            checkpoints=None if checkpoints is None else Path(checkpoints),
            deadline=ends,
            progress=progress,
        )
        if dry_run:
            return _looked_at(plan, Origin(Stage(graph, means), path_of(model)), means)
        other = None if goal is graph else goal
        means, caveat = with_judge(means, metric, trial, other, plan.tasks)
    origin = Origin(Stage(graph, means), path_of(model))
    choice = follow(plan, origin.stage, means)
    result = finished(plan, choice, means, caveat, started=started, reference=origin)
    return replace(result, reads=reads).saying(
        [*fit.told, *beyond_memory(plan.passes, machine.memory_limit)]
    )


def _teacher(teacher: Model | None, graph: Graph, plan: Recipe, machine: Machine) -> FittedTeacher:
    """The model that passes train towards."""
    pairs = pairs_of(plan.passes)
    if teacher is None:
        if pairs:
            raise UsageError("pair: there is no other teacher", Need.TEACHER)
        return FittedTeacher(graph)
    return fitted(load(teacher, machine.ops_libraries), graph, pairs)


def _looked_at(plan: Recipe, origin: Origin, means: Means) -> Result:
    """What would be done, without a run of the model."""
    records = looks(origin.stage, means, plan.passes or cleanup_passes())
    messages = intentions(origin.stage, means) if plan.auto else []
    return looked_at(plan, origin, means, records, messages)
