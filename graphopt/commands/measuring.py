"""What a command measures with: samples, the judge, the metric."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from graphopt import targets
from graphopt.commands.sources import Data
from graphopt.contract.recipe import Recipe
from graphopt.contract.settings import Limits, Machine
from graphopt.data import open_data
from graphopt.data.held_back import held_back
from graphopt.data.samples import Feeds, Samples
from graphopt.data.source import Source
from graphopt.errors import DataError, Need
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.ports import fixed_batch
from graphopt.run.judge import Judge, choose_judge, most_bytes
from graphopt.run.limits import check_limits
from graphopt.run.means import Means
from graphopt.run.metrics import LabelMetric, MetricFunction, SeenAnswers, find_metric
from graphopt.run.quality import Caveat
from graphopt.runtime.session import Session, thread_count
from graphopt.runtime.trial import Trial
from graphopt.tasks.apart import in_two_forms
from graphopt.tasks.possible import possible_tasks
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task
from graphopt.tasks.words import TasksGiven, parse_tasks

__all__ = ["means_of", "try_out", "with_judge"]

_READ = 8
"""Samples by whose answers the outputs of a model that is judged are read."""


def means_of(
    plan: Recipe,
    data: Data,
    limits: Limits,
    machine: Machine,
    *,
    reference: Graph,
    teacher: Graph,
    student: Graph,
    **rest: Any,
) -> Means:
    """What to measure with, the judge not chosen yet.

    Without evaluation samples some of the calibration samples are held back to judge by.

    Args:
        plan: Its target, limits, seed and preprocessing count.
        data: Where samples come from.
        limits: ``strict`` counts.
        machine: All but target and seed counts.
        reference: What results are measured against.
        teacher: What training aims at.
        student: What passes edit; samples must fit it and the teacher.
        rest: Further fields of ``Means``.

    Raises:
        DataError: Samples do not fit the inputs.
        UsageError: No target has that name.
    """
    feeder = teacher if fixed_batch(teacher) else student

    def samples(source: Source | None) -> Samples | None:
        if source is None:
            return None
        return open_data(source, feeder, plan.images, machine.memory_limit)

    calibration, evaluation = samples(data.calibration), samples(data.evaluation)
    parts = None
    if calibration is not None and evaluation is None:
        parts = held_back(calibration, plan.seed or 0)
    observed, held_out = parts or (calibration, None)
    return Means(
        reference=reference,
        target=targets.find(plan.target),
        machine=replace(machine, seed=plan.seed),
        limits=replace(
            limits,
            min_sqnr_db=plan.min_sqnr_db,
            min_agreement=plan.min_agreement,
            max_drop=plan.max_drop,
        ),
        calibration=observed,
        evaluation=evaluation,
        held_out=held_out,
        training=samples(data.training),
        teacher=teacher,
        **rest,
    )


def with_judge(
    means: Means,
    metric: str | MetricFunction | None,
    trial: Trial,
    other: Graph | None = None,
    given: TasksGiven | None = None,
    *,
    judged: Graph | None = None,
) -> tuple[Means, Caveat]:
    """The means with a judge and the metric, and what the judge cannot prove.

    Samples that no pass observes come first, so that nothing is chosen for being right on what it
    was calibrated on.

    Args:
        means: Without a judge.
        metric: Its name, or a function of outputs and labels.
        trial: Loads and runs models from outside before this process does.
        other: A further model from outside.
        given: What the user says of outputs.
        judged: The one that is judged, where it is from outside and not made of the reference.

    Raises:
        DataError: A metric is asked for and there are no labels.
        LimitError: A drop is limited and there is nothing to measure it with.
        ModelError: onnxruntime cannot run the model on the data given.
        UsageError: No metric has that name, or no output that of ``given``.
    """
    offered = [
        (means.evaluation, "eval"),
        (means.held_out, "held-out"),
        (means.calibration, "calib"),
        (means.training, "train"),
    ]
    judge, caveat = choose_judge(
        means.reference,
        offered,
        trial=trial,
        memory_limit=means.machine.memory_limit,
        threads=means.threads,
        seed=means.seed,
    )
    for graph in (other, judged):
        if graph is None or judge is None:
            continue
        feeds = judge.samples[0].feeds
        most = most_bytes(graph, means.machine.memory_limit)
        trial.run(graph, feeds, threads=thread_count(means.threads), most=most)
    if judge is not None and not caveat.note:
        caveat = _caveat(means)
    words = parse_tasks(given or {})
    tasks = _tasks(means.reference, judge, words)
    if judged is not None:
        answers = []
        if judge is not None:
            answers = judge.first(_READ).run(Session(judged, threads=means.threads))
        tasks = in_two_forms(tasks, read_tasks(judged, infer(judged), answers, words))
    means = replace(means, judge=judge, tasks=tasks)
    means, unfit = _with_labels(means, metric)
    if unfit:
        caveat = Caveat(f"no metric is measured: {unfit}", (Need.METRIC,))
    if judge is not None:
        means = replace(means, judge=judge.reading(means.tasks))
    check_limits(means, caveat)
    if judge is not None and judge.stands_in_for:
        note = f"the input was run in float32, since {judge.stands_in_for}"
        caveat = replace(caveat, note="; ".join(filter(None, [note, caveat.note])))
    return means, caveat


def _with_labels(means: Means, metric: str | MetricFunction | None) -> tuple[Means, str]:
    """The means with the metric and the tasks as the labels settle them; why there is no metric.

    Labels to train on settle them where there are none to judge by, or these fit nothing.

    Raises:
        DataError: A metric was asked for; see ``find_metric``.
        UsageError: See there.
    """
    judge, found, unfit = means.judge, None, ""
    feeds = [] if judge is None else [(each.answers, each.rows.full) for each in judge.samples]
    seen = SeenAnswers(feeds) if feeds else None
    try:
        found = find_metric(metric, means.evaluation, means.tasks, seen)
    except DataError as err:
        if metric is not None:
            raise
        unfit = str(err)
    learned = _learned(means, seen)
    notes = [] if found is None else list(found.notes)
    notes += [] if learned is None else [f"to train on, {note}" for note in learned.notes]
    settled = dict(means.tasks)
    for fitted in (learned, found):
        if fitted is not None and fitted.task is not None:
            settled[fitted.task.output] = fitted.task
    return replace(means, metric=found, tasks=settled, label_notes=tuple(notes)), unfit


def _learned(means: Means, seen: SeenAnswers | None) -> LabelMetric | None:
    """What labels to train on are held against; None where they fit nothing."""
    training = means.training
    if training is None or training.labels is None or seen is None:
        return None
    with suppress(DataError):  # whoever trains says so
        found = find_metric(None, training, means.tasks, seen)
        return found if isinstance(found, LabelMetric) else None
    return None


def _tasks(reference: Graph, judge: Judge | None, given: Mapping[str, Task]) -> dict[str, Task]:
    """What each output of the reference means.

    Raises:
        UsageError: The user says what cannot be.
    """
    answers = [] if judge is None else [sample.answers for sample in judge.samples]
    shapes = infer(reference)
    words = possible_tasks(reference, shapes, answers, given)
    return read_tasks(reference, shapes, answers, words)


def _caveat(means: Means) -> Caveat:
    """What the reader should know where calibration samples judge the result."""
    if means.evaluation is not None or means.calibration is None:
        return Caveat()
    observed = means.calibration.count
    if means.held_out is None:
        note = (
            f"measured on the {observed} samples that the passes observed, of which none could be "
            "held back; figures that count need others"
        )
    else:
        held = means.held_out.count
        note = (
            f"{held} of the {held + observed} calibration samples were held back to judge by; "
            "with others to judge by, the passes observe all"
        )
    return Caveat(note, (Need.EVALUATION,))


def try_out(trial: Trial, graph: Graph, feeds: Feeds, threads: int, *, as_is: bool = False) -> None:
    """Have a model loaded and run once before this process does, where no memory limit is set.

    Raises:
        ModelError: See ``Trial.run``; what takes too much can be run without the trial.
    """
    trial.run(
        graph,
        feeds,
        threads=thread_count(threads),
        most=most_bytes(graph, None),
        lever=Need.NO_TRIAL,
        as_is=as_is,
    )
