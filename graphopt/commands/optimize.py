"""``graphopt optimize``: from an exported file to a smaller, faster, verified one.

``optimize`` below is the whole road; read it first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from graphopt import targets
from graphopt.commands.sources import Data, Model, load, path_of
from graphopt.contract import recipe
from graphopt.contract.passes import Pass
from graphopt.contract.preconditions import TrainingSamples
from graphopt.contract.recipe import Recipe
from graphopt.contract.spec import format_passes, parse_passes
from graphopt.data import open_data
from graphopt.data.samples import Samples
from graphopt.errors import UsageError
from graphopt.families.training import require_torch_for
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.graph.ports import fixed_batch
from graphopt.progress import Progress
from graphopt.rewrite.teacher import fitted
from graphopt.run import drive as runner
from graphopt.run import environment
from graphopt.run import proof as final
from graphopt.run.job import Job
from graphopt.run.metrics import MetricFunction, find_metric
from graphopt.run.preparation import make_probe
from graphopt.run.record import RunRecord, StartRecord
from graphopt.runtime import launch
from graphopt.search import planner as auto

__all__ = ["Result", "optimize"]


@dataclass(frozen=True)
class Result:
    """What ``optimize`` hands back.

    Attributes:
        graph: The optimized model.
        report: What was done and measured.
    """

    graph: Graph
    report: RunRecord

    @property
    def model(self) -> onnx.ModelProto:
        """The optimized model as a message; very large weights stay external references."""
        return self.graph.to_model()

    @property
    def limits_met(self) -> bool:
        """Whether every limit that was asked for is met."""
        return all(limit.met for limit in self.report.limits)

    def save(self, path: str | Path) -> None:
        """Write the model, whole or not at all; of several processes only the leading one does.

        Raises:
            SystemFailure: Disk full, no permission, no such folder.
        """
        if not launch.leads():
            return
        io.save(self.graph, Path(path))
        self.report.output = final.describe(
            self.graph,
            Path(path),
            None if self.report.output is None else self.report.output.latency_ms,
        )


def optimize(
    model: Model,
    passes: str | Pass | Sequence[Pass] | None = None,
    *,
    preset: str | None = None,
    recipe_file: str | Path | None = None,
    calibration: Data | None = None,
    training: Data | None = None,
    teacher: Model | None = None,
    evaluation: Data | None = None,
    metric: str | MetricFunction | None = None,
    target: str | None = None,
    max_drop: float | None = None,
    min_sqnr_db: float | None = None,
    images: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
    threads: int = 0,
    seed: int | None = None,
    device: str = "auto",
    checkpoints: str | Path | None = None,
    against_teacher: bool = False,
    strict: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Make a model smaller and faster and prove that it still answers right.

    Args:
        model: Path, serialized bytes, ``onnx.ModelProto``, ``onnx_graphsurgeon.Graph``,
            ``onnx_ir.Model`` or ``torch.onnx.ONNXProgram``; never modified.
        passes: Spec text, a pass or several; without it, ``preset`` or ``recipe_file``, and
            without these too the preset ``auto``.
        preset: Name of a preset.
        recipe_file: TOML file.
        calibration: Samples without labels: ``.npz``, folder, ``file.py:function``, arrays by
            input name, or a function that yields feeds.
        training: Samples to train on, with labels under the key ``labels`` where a pass needs
            them; by default the calibration samples.
        teacher: The model whose answers passes train towards; by default ``model`` itself. Its
            inputs and outputs have those of ``model`` as counterparts: by name, else in order.
        evaluation: Samples that judge the result; labels under the key ``labels``.
        metric: ``top1``, ``spearman``, ``module:function`` or a function of outputs and labels.
        target: ``host`` or the name of another target; by default the recipe's, else ``host``.
        max_drop: Most that the metric may fall.
        min_sqnr_db: Least SQNR of every output against ``model``, dB.
        images: Preprocessing of a folder of images: size, crop, mean, std, scale, layout, color.
        memory_limit: Bytes that the observation and the proof may take.
        threads: Threads of onnxruntime; 0 for all cores.
        seed: Seed of all random numbers.
        device: What training computes on: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        checkpoints: Folder in which the state of a training is kept; the same run goes on from it.
        against_teacher: Measure the result against the teacher instead of ``model``.
        strict: End at the first refused pass or broken limit.
        dry_run: Say what would be done and stop.
        progress: Told what is going on, how far it is and how far it goes, and a detail in words.

    Raises:
        GraphoptError: Bad input, in one line; see ``graphopt.errors``.
    """
    started = time.perf_counter()
    plan = _plan(passes, preset, recipe_file, target, max_drop, min_sqnr_db, images, seed)
    require_torch_for(plan.passes)
    _refuse_unused(
        plan,
        {
            "--train": training,
            "--teacher": None if against_teacher else teacher,
            "--checkpoints": checkpoints,
        },
    )
    graph = load(model)
    aim = graph if teacher is None else fitted(load(teacher), graph)
    feeder = aim if fixed_batch(aim) else graph
    calib = _samples(calibration, feeder, plan)
    judges = _samples(evaluation, feeder, plan)
    job = Job(
        graph=graph.copy(),
        reference=aim if against_teacher else graph,
        target=targets.find(plan.target),
        samples=calib,
        min_sqnr_db=plan.min_sqnr_db,
        memory_limit=memory_limit,
        threads=threads,
        seed=plan.seed,
        strict=strict,
        progress=progress,
        train=_samples(training, feeder, plan),
        teacher=aim,
        device=device,
        checkpoints=None if checkpoints is None else Path(checkpoints),
        start=graph if against_teacher else None,
    )
    record = RunRecord(
        command=plan_text(plan),
        environment=environment.describe(job.target, threads),
        input=final.describe(job.reference, path_of(teacher if against_teacher else model)),
        dry_run=dry_run,
        start=StartRecord(final.describe(graph, path_of(model)), None) if against_teacher else None,
    )
    if dry_run:
        record.passes = runner.dry_run(job, plan.passes or auto.cleanup_passes())
        record.messages += auto.intentions(job) if plan.auto else []
        return Result(graph, record)
    job.probe, note = make_probe(job, calib, judges)
    judge = find_metric(metric, judges)
    final.guard_metric(job, judges, judge, plan.max_drop)
    done = _run(job, plan, record)
    record.recipe = recipe.format_recipe(replace(plan, auto=False, passes=tuple(done)))
    if launch.leads():  # the clock of the one process should not hear the others
        final.prove(job, record, judges or calib, judge, plan, note)
    if done:
        final.embed_recipe(job.graph, record.recipe)
    record.peak_rss_bytes = environment.peak_rss_bytes()
    record.seconds = time.perf_counter() - started
    return Result(job.graph, record)


def _run(job: Job, plan: Recipe, record: RunRecord) -> Sequence[Pass]:
    """Run the passes of the plan, or of the planner's choice; gives those that did something."""
    if plan.auto:
        record.passes, record.candidates, done = auto.run(job, record.messages)
        return done
    record.passes = runner.run_passes(job, plan.passes)
    return [p for p, r in zip(plan.passes, record.passes, strict=True) if r.status == "done"]


def _refuse_unused(plan: Recipe, given: Mapping[str, Any]) -> None:
    """What only training uses must not be given in vain."""
    if not any(item.asks(TrainingSamples) for item in plan.passes):
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name} is given and no pass trains; add distill or another one")


def plan_text(plan: Recipe) -> str:
    """The plan in a line: ``auto`` or spec text."""
    return "auto" if plan.auto else format_passes(plan.passes)


def _plan(
    passes: str | Pass | Sequence[Pass] | None,
    preset: str | None,
    recipe_file: str | Path | None,
    target: str | None,
    max_drop: float | None,
    min_sqnr_db: float | None,
    images: Mapping[str, Any] | None,
    seed: int | None,
) -> Recipe:
    """What to run, from the one source that was given; single options go over the recipe's."""
    if sum(source is not None for source in (passes, preset, recipe_file)) > 1:
        raise UsageError("give one of passes (-p), preset (--preset) and recipe (--recipe)")
    if recipe_file is not None:
        plan = recipe.read_recipe(Path(recipe_file))
    elif passes is not None:
        plan = Recipe(passes=_listed(passes))
    else:
        plan = recipe.from_preset(preset or "auto")
    given: dict[str, Any] = {
        "target": target,
        "max_drop": max_drop,
        "min_sqnr_db": min_sqnr_db,
        "images": {**plan.images, **images} if images else None,
        "seed": seed,
    }
    return replace(plan, **{key: value for key, value in given.items() if value is not None})


def _listed(passes: str | Pass | Sequence[Pass]) -> tuple[Pass, ...]:
    """The passes given as spec text, as one or as several."""
    if isinstance(passes, str):
        return tuple(parse_passes(passes))
    items = (passes,) if isinstance(passes, Pass) else tuple(passes)
    for item in items:
        if not isinstance(item, Pass):
            raise UsageError(
                f"{item!r} is no pass; give spec text or passes, such as MaskWeights()"
            )
    return items


def _samples(source: Data | None, graph: Graph, plan: Recipe) -> Samples | None:
    return None if source is None else open_data(source, graph, plan.images)
