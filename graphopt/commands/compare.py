"""Two models side by side: size, operations, answers and latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphopt.commands.measuring import try_out
from graphopt.commands.sources import Model, load, path_of
from graphopt.data import open_data
from graphopt.data.alike import alike
from graphopt.data.feeds import told_of
from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.data.source import Source
from graphopt.data.synthetic import SyntheticSamples
from graphopt.errors import DataError, ModelError, Need, NoKernel, NotRun
from graphopt.facts.quantized import has_fixed_ranges
from graphopt.facts.shapes import infer
from graphopt.graph.graph import Graph
from graphopt.graph.ports import compatible, described, fixed_batch
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

__all__ = ["compare"]

_READ = 8
"""Samples by whose answers outputs are read."""


def compare(
    a: Model,
    b: Model,
    data: Source | None = None,
    *,
    images: Mapping[str, Any] | None = None,
    threads: int = 0,
    seed: int = 0,
    ops_libraries: Sequence[str | Path] = (),
    trial: bool = True,
    progress: Progress | None = None,
) -> Comparison:
    """Run two models on the same samples and set B against A.

    Args:
        a: The model that is right by definition, in any form that ``graphopt.optimize`` takes.
        b: The model to judge.
        data: Samples, in any form that ``graphopt.optimize`` takes; random feeds without.
        images: Preprocessing of a folder of images.
        threads: Threads of onnxruntime; 0 for all cores.
        seed: Seed of random feeds.
        ops_libraries: Shared libraries with kernels of the models' own operators; their code runs.
        trial: Whether both are first loaded and run in a process of their own.
        progress: Told what is going on, how far it is and how far it goes.

    Returns:
        ``quality`` is None, and ``note`` says why, where random feeds do not fit the models.

    Raises:
        UsageError: What was given is no model.
        ModelError: A model cannot be loaded or run, or they have different inputs or outputs.
        DataError: The samples do not fit.
    """
    with Trial(trial) as attempt:
        first, second = load(a, ops_libraries), load(b, ops_libraries)
        _check_alike(first, second)
        judge = second if fixed_batch(second) else first
        samples: Samples = SyntheticSamples(judge, seed=seed)
        if data is not None:
            samples = open_data(data, judge, images)
        found = Comparison(
            a=describe(first, path_of(a)),
            b=describe(second, path_of(b)),
            quality=None,
            cosine={},
            latency_ratio=None,
            latency_spread=None,
            latency_clock=None,
            feeds=f"random, seed {seed}" if data is None else f"{samples.count} samples",
            note="random feeds; figures that count need samples" if data is None else "",
            needs=(Need.DATA,) if data is None else (),
        )
        try:
            feeds = next(iter(samples.feeds(batch=1)))[0]
            for graph in (first, second):
                try_out(attempt, graph, feeds, threads)
            attempt.close()
            found = replace(
                found,
                a=describe(first, path_of(a), sizes=sized_run(first, feeds, threads=threads)),
                b=describe(second, path_of(b), sizes=sized_run(second, feeds, threads=threads)),
            )
            source = "random" if data is None else "data"
            sessions = [Session(graph, threads=threads) for graph in (first, second)]
            seen = _seen(judge, sessions[0], samples)
            tasks = read_tasks(first, infer(first), [answers for answers, _ in seen.feeds])
            others = _seen(judge, sessions[1], samples)
            theirs = read_tasks(second, infer(second), [answers for answers, _ in others.feeds])
            tasks = in_two_forms(tasks, theirs)
            metric, told = _by_labels(samples, tasks, seen)
            held = None
            if metric is not None and samples.labels is not None:
                tasks |= {} if metric.task is None else {metric.task.output: metric.task}
                outputs = [session.outputs for session in sessions]
                held = metric_answers(metric, outputs, samples.labels, None)
            tally = Tally(
                judge.main.outputs,
                tasks,
                telling=data is not None,
                alike=alike(samples),
                clipped=has_fixed_ranges(second),
            )
            cosine = _judge(sessions, judge, samples, tally, held, progress)
            quality = tally.quality(source, None if data is None else tally.fresh())
            if held is not None:
                quality = replace(quality, metric=held.values()[0])
        except NoKernel as err:
            return replace(found, note=f"not run: {err}", needs=err.needs)
        except (DataError, NotRun) as err:
            if data is not None:
                raise
            if err.needs:
                return replace(found, note=f"not run: {err}", needs=err.needs)
            note = (
                f"not run: random feeds do not fit these models, or none do ({err}); "
                "samples would tell"
            )
            return replace(found, note=note)
    lacks = dict.fromkeys(s.stands_in_for for s in sessions)
    floats = [f"run in float32, since {why}" for why in lacks if why]
    told += told_of_forms(tasks, "A", "B")
    note = "; ".join([*floats, *filter(None, [found.note, *told, *told_of(samples)])])
    found = replace(found, quality=quality, cosine=cosine, note=note)
    return _timed(found, (first, second), sessions, samples, threads, progress)


def _timed(
    found: Comparison,
    graphs: tuple[Graph, Graph],
    sessions: list[Session],
    samples: Samples,
    threads: int,
    progress: Progress | None,
) -> Comparison:
    """Latency of both on the first sample, in turns."""
    feeds = next(iter(samples.feeds(batch=1)))[0]
    (a, b), _ = side_by_side(
        graphs,
        sessions,
        [feeds, feeds],
        threads=threads,
        light=room_beside(graphs, found.a.macs, None),
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


def _seen(judge: Graph, session: Session, samples: Samples) -> SeenAnswers:
    """What a model answers to the first samples."""
    feeds = with_rows(judge, FirstSamples(samples, _READ))
    return SeenAnswers([(session.run(feed), rows.full) for feed, rows in feeds])


def _by_labels(
    samples: Samples, tasks: Mapping[str, Task], seen: SeenAnswers
) -> tuple[TaskMetric | None, list[str]]:
    """What judges both models by labels, where there are some; and what should be told of them."""
    try:
        metric = find_metric(None, samples, tasks, seen)
    except DataError as err:
        return None, [f"no metric is measured: {err}"]
    return metric, [] if metric is None else list(metric.notes)


def _judge(
    sessions: list[Session],
    judge: Graph,
    samples: Samples,
    tally: Tally,
    held: MetricAnswers | None,
    progress: Progress | None,
) -> dict[str, float | None]:
    """Count the answers of both over all samples; gives the cosine of each output.

    ``judge`` is the one of the two models whose inputs say which batch both get.
    """
    apart = [name for name, task in tally.tasks.items() if task.other_form is not None]
    cosines = {name: _Cosine(undefined=name in apart) for name in judge.main.outputs}
    told = None if progress is None else lambda done, of: progress("compare", done, of)
    batch = feed_size(tally.tasks, held)
    for (right, answer), rows in answered(judge, sessions, samples, told, batch):
        tally.add(right, answer, rows)
        for number, each in enumerate((right, answer) if held is not None else ()):
            assert held is not None
            held.add(number, each, rows)
        for name, cosine in cosines.items():
            cosine.add(right[name], answer[name], rows)
    return {name: cosine.value for name, cosine in cosines.items()}


class _Cosine:
    """Cosine of the angle between two outputs, over all elements of all samples."""

    def __init__(self, *, undefined: bool = False) -> None:
        self.product = self.first = self.second = 0.0
        self.undefined = undefined

    def add(self, f: Any, g: Any, rows: Rows) -> None:
        """Count one pair; of outputs with a row per sample only the real rows."""
        if not is_numeric(f) or not is_numeric(g) or f.shape != g.shape:
            self.undefined = True
            return
        x, y = (rows.keep(value).astype(np.float64).ravel() for value in (f, g))
        self.product += float(x @ y)
        self.first += float(x @ x)
        self.second += float(y @ y)

    @property
    def value(self) -> float | None:
        """Between -1 and 1; None for zeros, for other types and for different shapes."""
        scale = math.sqrt(self.first * self.second)
        if self.undefined or not math.isfinite(scale) or scale == 0:
            return None
        return self.product / scale


def _check_alike(a: Graph, b: Graph) -> None:
    """Refuse models that cannot take the same feeds or give other outputs.

    Raises:
        ModelError: They differ; the message says in what.
    """
    ports = [{value.name: value for value in graph.required_inputs} for graph in (a, b)]
    for kind, first, second in (
        ("inputs", set(ports[0]), set(ports[1])),
        ("outputs", set(a.main.outputs), set(b.main.outputs)),
    ):
        if first != second:
            only = [", ".join(sorted(side)) or "none" for side in (first - second, second - first)]
            raise ModelError(
                f"the models have different {kind} and cannot be compared: "
                f"only in A: {only[0]}; only in B: {only[1]}"
            )
    for name, value in ports[0].items():
        words = [described(port) for port in (value, ports[1][name])]
        if not compatible(value, ports[1][name]):
            raise ModelError(f"input {name!r} is {words[0]} in A and {words[1]} in B")
