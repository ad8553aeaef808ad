"""The end of a run: the proof against the input model, limits, audit, recipe in the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graphopt.analysis.audit import Audit, audit
from graphopt.contract.recipe import METADATA_KEY, Recipe
from graphopt.data.first import FirstSamples
from graphopt.data.samples import Samples
from graphopt.errors import LimitError, ModelError
from graphopt.facts import cost, shapes
from graphopt.graph import io
from graphopt.graph.graph import Graph
from graphopt.run import layer_figures as layers
from graphopt.run.job import Job
from graphopt.run.judge import evaluate
from graphopt.run.metrics import NamedMetric
from graphopt.run.record import (
    LimitRecord,
    ModelRecord,
    PassRecord,
    Quality,
    RunRecord,
)
from graphopt.runtime import latency
from graphopt.runtime.session import Session

__all__ = ["describe", "embed_recipe", "guard_metric", "prove"]

_TRAIN_SAMPLES = 1000
"""Samples to judge on of those that were trained on, where there are no others."""
_LAYER_SAMPLES = 4
"""Samples for the SQNR of single layers; each layer's result has many elements."""


def describe(graph: Graph, path: Path | None, latency_ms: float | None = None) -> ModelRecord:
    """A model in figures; those of its file where ``path`` is one."""
    on_disk = path is not None and path.is_file()
    return ModelRecord(
        path=None if path is None else str(path),
        sha256=io.sha256(path) if path is not None and on_disk else "",
        bytes=io.file_bytes(path) if path is not None and on_disk else io.size(graph),
        params=cost.params(graph),
        macs=cost.total_macs(graph, shapes.infer(graph)),
        nodes=sum(len(scope.nodes) for scope in graph.scopes()),
        latency_ms=latency_ms,
    )


def guard_metric(
    job: Job, samples: Samples | None, metric: NamedMetric | None, max_drop: float | None
) -> None:
    """Let every lossy pass be rolled back that lowers the metric by more than ``max_drop``.

    Raises:
        LimitError: A drop is limited and there is nothing to measure it with.
    """
    if max_drop is None:
        return
    if samples is None or metric is None:
        raise LimitError("--max-drop needs --eval DATA with labels, and a metric for them")

    def drop(graph: Graph) -> float:
        (quality,) = evaluate(
            job.reference, [graph], samples, metric, source="eval", threads=job.threads
        )
        assert quality.metric is not None
        fall = quality.metric.before - quality.metric.after
        return math.inf if math.isnan(fall) else fall

    job.drop, job.max_drop = drop, max_drop


def prove(
    job: Job,
    record: RunRecord,
    samples: Samples | None,
    metric: NamedMetric | None,
    plan: Recipe,
    note: str,
) -> None:
    """Fill the record with quality, latency, audit and limits of the graph as it is now."""
    record.output = describe(job.graph, None)
    if job.probe is None:
        record.quality = Quality(sqnr_db={}, note=note)
        record.limits = _limits(record, plan)
        return
    graphs = [job.graph] if job.start is None else [job.graph, job.start]
    record.quality, *before = [replace(q, note=note) for q in _judged(job, graphs, samples, metric)]
    if before and record.start is not None:
        record.start = replace(record.start, quality=before[0])
    _time(job, record)
    record.audit = _audited(job, record)
    feeds = [sample.feeds for sample in job.probe.samples[:_LAYER_SAMPLES]]
    record.layers, notes = layers.describe(job.reference, job.graph, feeds, threads=job.threads)
    record.messages += notes
    record.limits = _limits(record, plan)
    record.messages += _losses(record)


def _judged(
    job: Job, graphs: Sequence[Graph], samples: Samples | None, metric: NamedMetric | None
) -> list[Quality]:
    """Closeness of graphs to the reference, on the best samples that there are."""
    assert job.probe is not None
    source = "calib" if samples is job.samples else "eval"
    if samples is None and job.probe.source == "train" and job.train is not None:
        samples, source = FirstSamples(job.train, _TRAIN_SAMPLES), "train"
    if samples is None:
        return [job.probe.compare(job.probe.run(graph)) for graph in graphs]
    progress = job.progress
    return evaluate(
        job.reference,
        graphs,
        samples,
        metric,
        source=source,
        threads=job.threads,
        progress=None if progress is None else lambda n, of: progress("evaluate", n, of),
    )


def _losses(record: RunRecord) -> list[str]:
    """What got worse in bytes or in time, so that nothing gets worse unsaid."""
    losses, other = [], "the input" if record.start is None else "its teacher"
    output, ratio, spread = record.output, record.latency_ratio, record.latency_spread
    if output is not None and output.bytes > record.input.bytes:
        sizes = f"{output.bytes} bytes against {record.input.bytes}"
        losses.append(f"the result is larger than {other}: {sizes}")
    if ratio is not None and spread is not None and ratio > 1 + spread:
        losses.append(f"the result is slower than {other} on this machine: {ratio:.2f}x the time")
    return losses


def _time(job: Job, record: RunRecord) -> None:
    """Latency of input and output, interleaved, at the batch of one sample."""
    assert job.probe is not None and record.output is not None
    feeds = job.probe.samples[0].feeds
    sessions = [Session(graph, threads=job.threads) for graph in (job.reference, job.graph)]
    times = latency.measure(sessions, [feeds, feeds])
    ratio = latency.ratio(times[1], times[0])
    record.latency_ratio, record.latency_spread = ratio.median, ratio.spread
    record.input = _timed(record.input, times[0].median_ms)
    record.output = _timed(record.output, times[1].median_ms)


def _timed(model: ModelRecord, milliseconds: float) -> ModelRecord:
    return replace(model, latency_ms=milliseconds)


def _audited(job: Job, record: RunRecord) -> Audit | None:
    """The audit, with the reasons that the passes gave for what they left alone."""
    reasons = {skip.node: skip.reason for item in record.passes for skip in item.skipped}
    try:
        return audit(job.graph, reasons)
    except ModelError as err:
        record.messages.append(f"no audit: {err}")
        return None


def _limits(record: RunRecord, plan: Recipe) -> list[LimitRecord]:
    """Every limit asked for, with what was measured.

    A limit for which passes were rolled back is not met by what was asked: the figure is then
    that of the passes, while the written model, without them, keeps the limit.
    """
    quality = record.quality
    assert quality is not None
    limits: list[LimitRecord] = []
    if plan.min_sqnr_db is not None:
        broken = _rolled_back(record, "min-sqnr")
        known = [item.sqnr_db for item in broken if item.sqnr_db is not None]
        worst = min(known, default=quality.worst_db)
        met = not broken and worst is not None and worst >= plan.min_sqnr_db
        limits.append(LimitRecord("min_sqnr_db", plan.min_sqnr_db, worst, met))
    if plan.max_drop is not None:
        drop = None if quality.metric is None else quality.metric.before - quality.metric.after
        met = drop is not None and drop <= plan.max_drop and not _rolled_back(record, "max-drop")
        limits.append(LimitRecord("max_drop", plan.max_drop, drop, met))
    return limits


def _rolled_back(record: RunRecord, limit: str) -> list[PassRecord]:
    """The passes whose effect a limit cost."""
    return [
        item
        for item in record.passes
        if item.status == "rolled back" and item.reason.startswith(limit)
    ]


def embed_recipe(graph: Graph, text: str) -> None:
    """Store the recipe that reproduces the run in the model's metadata, over an older one."""
    for entry in graph.header.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = text
            return
    graph.header.metadata_props.add(key=METADATA_KEY, value=text)
