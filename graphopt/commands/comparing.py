"""What two models are measured to be beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.commands.measuring import try_out
from graphopt.data.alike import alike
from graphopt.data.feeds import told_of
from graphopt.data.first import FirstSamples
from graphopt.data.samples import Feeds, Samples
from graphopt.errors import DataError
from graphopt.facts.quantized import has_fixed_ranges
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.numerics.cosine import Cosine
from graphopt.observe.request import Rows
from graphopt.observe.run import with_rows
from graphopt.progress import Progress
from graphopt.report.findings import Comparison
from graphopt.run.evaluation import answered
from graphopt.run.measuring import MetricAnswers, feed_size, metric_answers
from graphopt.run.metrics import SeenAnswers, TaskMetric, find_metric
from graphopt.run.proof import describe
from graphopt.run.room import room_beside
from graphopt.run.sizing import sized_run
from graphopt.run.tally import Tally
from graphopt.runtime.session import Session
from graphopt.runtime.side_by_side import side_by_side
from graphopt.runtime.trial import Trial
from graphopt.tasks.apart import in_two_forms, told_of_forms
from graphopt.tasks.compare import is_numeric
from graphopt.tasks.reading import read_tasks
from graphopt.tasks.task import Task

__all__ = ["Pair", "with_answers", "with_latency", "with_sizes"]

_READ = 8
"""Samples by whose answers outputs are read."""


@dataclass(frozen=True)
class Pair:
    """Two models and what they are run on.

    Attributes:
        graphs: The one that is right, and the one that is judged.
        paths: Of both; None of what came from memory.
        judge: The one of the two whose inputs say which batch both get.
        samples: Of the user, or random feeds.
        given: Whether they are the user's.
        threads: Of the sessions; 0 for all cores.
    """

    graphs: tuple[Graph, Graph]
    paths: tuple[Path | None, Path | None]
    judge: Graph
    samples: Samples
    given: bool
    threads: int

    @cached_property
    def sessions(self) -> list[Session]:
        """A session of each.

        Raises:
            ModelError: onnxruntime cannot load one.
        """
        return [Session(graph, threads=self.threads) for graph in self.graphs]

    @cached_property
    def first(self) -> Feeds:
        """The first sample."""
        return next(iter(self.samples.feeds(batch=1)))[0]


def with_sizes(found: Comparison, pair: Pair, attempt: Trial) -> Comparison:
    """Both run once in another process, then described at the sizes of the first sample.

    Raises:
        ModelError: One cannot be run.
        DataError: The samples do not fit.
    """
    for graph in pair.graphs:
        try_out(attempt, graph, pair.first, pair.threads)
    attempt.close()
    a, b = (
        describe(graph, path, sizes=sized_run(graph, pair.first, threads=pair.threads))
        for graph, path in zip(pair.graphs, pair.paths, strict=True)
    )
    return replace(found, a=a, b=b)


def with_answers(found: Comparison, pair: Pair, progress: Progress | None) -> Comparison:
    """Answers and labels, over all samples.

    Raises:
        ModelError: One cannot be run.
        DataError: The samples do not fit.
    """
    seen = [_seen(pair, session) for session in pair.sessions]
    tasks = _tasks(pair, seen)
    metric, told = _by_labels(pair.samples, tasks, seen[0])
    held = None
    if metric is not None and pair.samples.labels is not None:
        tasks |= {} if metric.task is None else {metric.task.output: metric.task}
        outputs = [session.outputs for session in pair.sessions]
        held = metric_answers(metric, outputs, pair.samples.labels, None)
    tally = Tally(
        pair.judge.main.outputs,
        tasks,
        telling=pair.given,
        alike=alike(pair.samples),
        clipped=has_fixed_ranges(pair.graphs[1]),
    )
    cosine = _counted(pair, tally, held, progress)
    quality = tally.quality(
        "data" if pair.given else "random", tally.fresh() if pair.given else None
    )
    if held is not None:
        quality = replace(quality, metric=held.values()[0])
    lacks = dict.fromkeys(session.stands_in_for for session in pair.sessions)
    floats = [f"run in float32, since {why}" for why in lacks if why]
    told += [*told_of_forms(tasks, "A", "B"), *told_of(pair.samples)]
    note = "; ".join([*floats, *filter(None, [found.note, *told])])
    return replace(found, quality=quality, cosine=cosine, note=note)


def with_latency(found: Comparison, pair: Pair, progress: Progress | None) -> Comparison:
    """Latency of both on the first sample, in turns.

    Raises:
        ModelError: One cannot be run.
    """
    (a, b), _ = side_by_side(
        pair.graphs,
        pair.sessions,
        [pair.first, pair.first],
        threads=pair.threads,
        light=room_beside(pair.graphs, found.a.macs, None),
        progress=None if progress is None else lambda n, of: progress("measure", n, of),
    )
    return replace(
        found,
        a=replace(found.a, latency_ms=a.times.median_ms),
        b=replace(found.b, latency_ms=b.times.median_ms),
        latency_ratio=b.ratio.median,
        latency_spread=b.ratio.spread,
        latency_clock=b.ratio.clock,
    )


def _seen(pair: Pair, session: Session) -> SeenAnswers:
    """What a model answers to the first samples."""
    feeds = with_rows(pair.judge, FirstSamples(pair.samples, _READ))
    return SeenAnswers([(session.run(feed), rows.full) for feed, rows in feeds])


def _tasks(pair: Pair, seen: list[SeenAnswers]) -> dict[str, Task]:
    """What the outputs mean, each model read by its own."""
    theirs, ours = (
        read_tasks(graph, infer(graph), [answers for answers, _ in each.feeds])
        for graph, each in zip(pair.graphs, seen, strict=True)
    )
    return in_two_forms(theirs, ours)


def _by_labels(
    samples: Samples, tasks: Mapping[str, Task], seen: SeenAnswers
) -> tuple[TaskMetric | None, list[str]]:
    """What judges both models by labels, where there are some; and what should be told of them."""
    try:
        metric = find_metric(None, samples, tasks, seen)
    except DataError as err:
        return None, [f"no metric is measured: {err}"]
    return metric, [] if metric is None else list(metric.notes)


def _counted(
    pair: Pair, tally: Tally, held: MetricAnswers | None, progress: Progress | None
) -> dict[str, float | None]:
    """Count the answers of both over all samples; gives the cosine of each output."""
    cosines = {
        name: Cosine()
        for name in pair.judge.main.outputs
        if name not in tally.tasks or tally.tasks[name].other_form is None
    }
    told = None if progress is None else lambda done, of: progress("compare", done, of)
    batch = feed_size(tally.tasks, held)
    for _, answers, rows in answered(pair.judge, pair.sessions, pair.samples, told, batch):
        right, answer = answers
        tally.add(right, answer, rows)
        for number, each in enumerate(answers if held is not None else ()):
            assert held is not None
            held.add(number, each, rows)
        for name, cosine in cosines.items():
            _add(cosine, right[name], answer[name], rows)
    found = {name: cosine.value for name, cosine in cosines.items()}
    return {name: found.get(name) for name in pair.judge.main.outputs}


def _add(cosine: Cosine, f: Any, g: Any, rows: Rows) -> None:
    """Count one pair of answers; of outputs with a row per sample only the real rows."""
    if not is_numeric(f) or not is_numeric(g) or f.shape != g.shape:
        cosine.fail()
    else:
        cosine.add(np.asarray(rows.keep(f)), np.asarray(rows.keep(g)))
